"""PaddlePaddle: `UniRMSProp`, a subclass of `paddle.optimizer.RMSProp` that computes every axis of a config.

The constraints that shape this module: Paddle keeps options of parameter groups on the parameters themselves, where
every other optimizer obeys them, so that the exact class has none of Paddle's groups and does not look there; and
clips and checks look at all gradients of a step together, so that nothing is updated before Paddle has shown them all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import paddle

from unirms import grouping, reference
from unirms.config import RMSPropConfig
from unirms.errors import NonFiniteGradientError, UnsupportedError
from unirms.grouping import Member, with_rate
from unirms.preparation import non_finite_sentence
from unirms.reference import Hyperparameters, bias_correction

from ..checkpoints.paddle.names import (
    AVERAGE,
    CONFIG,
    CONFIG_NAMES,
    CONFIG_TEXT,
    GRADIENT_SUM,
    MICRO_STEP,
    SCHEDULER,
    SLOTS,
    STEP,
)
from . import graph, preparing
from .operations import InPlace
from .preparing import Ready
from .progress import Progress, UpdateLR, learning_rate_of
from .rule import mean_of_weights, rmsprop, rmsprop_of_rows
from .schedules import rate_of, updates_of

_OPS = InPlace()
LIVE: Final = {"rho": "_rho", "epsilon": "_epsilon", "momentum": "_momentum", "centered": "_centered"}
"""Field of the config -> attribute of the stock class that is read at every step."""


class UniRMSProp(paddle.optimizer.RMSProp):
    """RMSProp with every axis of an `RMSPropConfig`, in the place of `paddle.optimizer.RMSProp`.

    Works in dynamic mode and in static graphs. Accumulators have the stock class's names, so its checkpoints load; the
    state dictionary has besides what the stock class does not keep: the completed updates under "unirms_step", running
    means of the weights under "<parameter>_unirms_average", in the middle of a gradient accumulation
    "unirms_micro_step" and "<parameter>_unirms_gradient_sum", and the config under "unirms_config", by which a file
    says what it is. Learning rate, schedulers and `set_lr` work as in the stock class; a parameter's rate is the
    present one times the factor of its group in the config.

    With gradient accumulation, call `step` and `clear_grad` after every micro-batch; the scheduler of a config may be
    stepped as often, and waits for the update. A scheduler of your own is yours to step after each update.

    A learning rate, regularizer or `need_clip` that a parameter carries, from a `ParamAttr` or from another optimizer
    with parameter groups, is not looked at: the config says all. A step in which a `paddle.amp.GradScaler` has found an
    overflow is none: nothing is updated, gathered or counted.

    Args:
        config: the meaning; rho, epsilon, momentum and centered become the stock class's attributes of that name.
        parameters: the parameters; None stands for all of the program, in a static graph only.
        names: the names that the config's patterns match, by Paddle's name of the parameter, where they differ.
        scheduler: a `paddle.optimizer.lr.LRScheduler` in the place of the config's learning rate; without it, a
            schedule of the config gets one.
        name: prefix of the accumulators' names, as in the stock class.

    Raises:
        UnsupportedError: Paddle's parameter groups, or a group of the config that matches no parameter.
    """

    def __init__(
        self,
        config: RMSPropConfig,
        parameters: Iterable[Any] | None = None,
        *,
        names: Mapping[str, str] | None = None,
        scheduler: Any = None,
        name: str | None = None,
    ) -> None:
        parameters = None if parameters is None else list(parameters)
        if any(isinstance(parameter, dict) for parameter in parameters or ()):
            raise UnsupportedError(
                "paddle: UniRMSProp takes no parameter groups of Paddle's, which other optimizers over the same "
                "parameters obey too; say them in the config's groups"
            )
        self.config = config
        self.progress = Progress()
        super().__init__(
            scheduler or learning_rate_of(config, self.progress),
            **{field: getattr(config, field) for field in LIVE},
            parameters=parameters,
            name=name,
        )
        self._due: list[tuple[Any, Any]] = []
        self._averages: dict[str, Any] = {}
        self._gathered: dict[str, Any] = {}
        self._members: tuple[Any, dict[str, Member]] = (None, {})
        # In order, because a copy of a parameter has another of Paddle's names.
        renamed = names or {}
        self._labels = [renamed.get(parameter.name, parameter.name) for parameter in parameters or ()]
        if parameters:
            self.members()
        # The type of the learning rate's variable in a static graph, which must hold it for every parameter.
        if any(parameter.dtype == paddle.float64 for parameter in parameters or ()):
            self._dtype = paddle.float64

    def every_parameter(self) -> list[Any]:
        """Return all parameters, those without a gradient included."""
        if self._parameter_list is not None:
            return list(self._parameter_list)
        found = paddle.static.default_main_program().global_block().all_parameters()
        return [parameter for parameter in found if not parameter.stop_gradient]

    def key(self, name: str) -> str:
        """Return the full name of an accumulator or a count of this optimizer."""
        return f"{self._name}_{name}" if self._name else name

    def live_config(self) -> RMSPropConfig:
        """Return the config with the hyperparameters that the optimizer has now, but for the learning rate."""
        live = {field: getattr(self, attribute) for field, attribute in LIVE.items()}
        if all(getattr(self.config, field) == value for field, value in live.items()):
            return self.config
        return self.config.replace(**live, nesterov=self.config.nesterov and self._momentum > 0)

    def members(self) -> dict[str, Member]:
        """Return what holds for each parameter, by Paddle's name, with the hyperparameters that the optimizer has now.

        Raises:
            UnsupportedError: a group of the config matches no parameter.
        """
        every = self.every_parameter()
        present = (every[0].name, len(every), *(getattr(self, attribute) for attribute in LIVE.values()))
        if self._members[0] != present:
            names = [parameter.name for parameter in every]
            found = grouping.members(self.live_config(), self._labels or names)
            self._members = present, dict(zip(names, found, strict=True))
        return self._members[1]

    def average_of(self, parameter: Any) -> Any:
        """Return the running mean of a parameter, a tensor or a graph's variable; None before the first update."""
        variables = self._accumulators.get(self.key(AVERAGE), self._averages)
        return variables.get(parameter.name) if self.progress.read("updates") else None

    def gathered_of(self, parameter: Any) -> Any:
        """Return the sum of a parameter's gradients since the last update; None where there is none."""
        variables = self._accumulators.get(self.key(GRADIENT_SUM), self._gathered)
        return variables.get(parameter.name) if self.progress.read("micro_step") else None

    def state_dict(self) -> dict[str, Any]:
        """Return the accumulators, the counts, the scheduler's state if there is one, and what the optimizer is."""
        gathered = self.progress.micro_step
        counts = {STEP: self.progress.updates} | ({MICRO_STEP: gathered} if gathered else {})
        return {
            **super().state_dict(),
            **self._stated(),
            **{f"{name}_{self.key(AVERAGE)}": mean for name, mean in self._averages.items()},
            **{f"{name}_{self.key(GRADIENT_SUM)}": total for name, total in self._gathered.items()},
            **{self.key(name): paddle.to_tensor([count], dtype="int64") for name, count in counts.items()},
        }

    def set_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state dictionary of this or of the stock class; before the first step too.

        Raises:
            UnsupportedError: it has no count of updates (the stock class keeps none), and bias correction needs one.
        """
        state = self._in_own_names(state_dict)
        counts = {name: state.pop(self.key(name), None) for name in (STEP, MICRO_STEP)}
        if state and counts[STEP] is None and self.config.bias_correction:
            raise UnsupportedError(
                f"paddle: the state has no {self.key(STEP)!r}, the number of updates so far, which bias_correction "
                "needs; add it as an array of one integer"
            )
        self._averages, self._gathered = (self._taken(state, name) for name in (AVERAGE, GRADIENT_SUM))
        super().set_state_dict(state)
        if counts[STEP] is not None:
            self.progress.updates = _integer(counts[STEP])
        elif SCHEDULER in state:  # of the stock class, whose scheduler is the only one that counts
            self.progress.updates = updates_of(self._learning_rate)
        self.progress.micro_step = 0 if counts[MICRO_STEP] is None else _integer(counts[MICRO_STEP])
        if isinstance(self._learning_rate, UpdateLR):
            self._learning_rate.align()

    load_state_dict = set_state_dict

    def _stated(self) -> dict[str, Any]:
        """Return the config and the user's names for a state dictionary; nothing where no config says the scheduler.

        A dictionary of plain text in a dictionary is what `paddle.save` writes beside tensors as it is, and what the
        stock class passes over.
        """
        try:
            config = with_rate(self.live_config(), rate_of(self._learning_rate))
        except UnsupportedError:
            return {}
        names = {name: member.name for name, member in self.members().items()}
        text = json.dumps(config.model_dump(mode="json"))
        return {self.key(CONFIG): {CONFIG_TEXT: text, CONFIG_NAMES: names}}

    def _in_own_names(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Return a state dictionary in Paddle's present names of the parameters, where it says the user's.

        Paddle numbers its names in the order in which a process makes layers, and other processes make other ones.
        """
        state = dict(state_dict)
        said = state.pop(self.key(CONFIG), {}).get(CONFIG_NAMES, {})
        here = {member.name: name for name, member in self.members().items()}
        if not set(said.values()) <= set(here):
            return state
        found = {}
        for key, value in state.items():
            name = key
            while name and name not in said:
                name = name.rpartition("_")[0]
            found[f"{here[said[name]]}{key.removeprefix(name)}" if name else key] = value
        return found

    def _taken(self, state: dict[str, Any], name: str) -> dict[str, Any]:
        """Return copies of what a state has of one of our own accumulators, by parameter, and take it out."""
        keys = {param.name: f"{param.name}_{self.key(name)}" for param in self.every_parameter()}
        return {param: paddle.to_tensor(np.array(state.pop(key))) for param, key in keys.items() if key in state}

    def append_regularization_ops(self, parameters_and_grads: Any, regularization: Any = None) -> Any:
        """Return the gradients as they are: weight decay is in the update rule."""
        return parameters_and_grads

    def _add_accumulator(self, name: str, param: Any, **kwargs: Any) -> Any:
        if name == SLOTS["mean_square"]:
            kwargs["fill_value"] = self.config.initial_mean_square
        return super()._add_accumulator(name, param, **kwargs)

    def _create_accumulators(self, block: Any, parameters: Sequence[Any]) -> None:
        # Called once before the gradients of a step, or of a graph, are shown.
        self._due = []
        super()._create_accumulators(block, parameters)

    def _append_optimize_op(self, block: Any, param_and_grad: tuple[Any, Any]) -> None:
        self._due.append(param_and_grad)

    def _finish_update(self, block: Any, parameters_and_grads: Any) -> None:
        # Called once after all gradients were shown; of a step with an overflow of scaled gradients, none are.
        due, self._due = self._due, []
        if not paddle.in_dynamic_mode():
            graph.extend(self, due)
        elif not self._get_auxiliary_var("found_inf"):
            self._step(block, due)

    def _step(self, block: Any, due: Sequence[tuple[Any, Any]]) -> None:
        """Make one step in dynamic mode: gather, and update where that completes the gradients of an update."""
        params = {param.name: param for param, _ in due}
        ready = {param.name: preparing.received(_OPS, self.config, grad, param) for param, grad in due}
        if self.config.gradient_accumulation_steps > 1:
            if self.progress.micro_step + 1 < self.config.gradient_accumulation_steps:
                self._gather(ready)
                return
            ready = self._means(ready)
            params = {param.name: param for param in self.every_parameter() if param.name in ready}
            # A parameter that had a gradient only in a micro-step before the state was loaded has none of them yet.
            self._create_accumulators(block, list(params.values()))
        goes_on = self._goes_on(ready)
        self._gathered, self.progress.micro_step = {}, 0
        if goes_on:
            self._update(params, ready)

    def _gather(self, ready: Mapping[str, Ready]) -> None:
        for name, grad in ready.items():
            before = self._gathered.get(name)
            # A copy, because the gradient itself is cleared in its place.
            self._gathered[name] = paddle.assign(grad.values) if before is None else before + grad.values
        self.progress.micro_step += 1

    def _means(self, ready: Mapping[str, Ready]) -> dict[str, Ready]:
        """Return the means over the micro-steps, this one included; what was gathered stays as it is."""
        sums = dict(self._gathered)
        for name, grad in ready.items():
            sums[name] = sums[name] + grad.values if name in sums else grad.values
        steps = float(self.config.gradient_accumulation_steps)
        return {name: Ready(_OPS.over(total, steps)) for name, total in sums.items()}

    def _goes_on(self, ready: Mapping[str, Ready]) -> bool:
        if self.config.non_finite == "propagate":
            return True
        wrong = [name for name, grad in ready.items() if not bool(preparing.is_finite(grad.values))]
        if wrong and self.config.non_finite == "raise":
            members = self.members()
            raise NonFiniteGradientError(non_finite_sentence([members[name].name for name in wrong]))
        return not wrong

    def _update(self, params: Mapping[str, Any], ready: Mapping[str, Ready]) -> None:
        decay = reference.ema_decay(self.config, self.progress.updates + 1)
        if decay > 0:
            self._begin_averages()
        self.progress.updates += 1
        members = self.members()
        scalars: dict[tuple[int | None, float], Hyperparameters] = {}
        for name, grad in preparing.prepared(_OPS, self.config, ready, members).items():
            param, member = params[name], members[name]
            key = member.group, member.config.weight_decay  # which fix all the others
            if key not in scalars:
                scalars[key] = self._scalars_of(member)
            slots = {slot: self._get_accumulator(accumulator, param) for slot, accumulator in SLOTS.items()}
            if grad.rows is None:
                rmsprop(_OPS, param, grad.values, slots, member.config, scalars[key])
            else:
                rmsprop_of_rows(grad.rows, param, grad.values, slots, member.config, scalars[key])
        if self.config.ema_decay > 0:
            self._average(decay)

    def _scalars_of(self, member: Member) -> Hyperparameters:
        config = member.config
        return Hyperparameters.live(
            self.get_lr() * member.rate_factor,
            config.rho,
            config.epsilon,
            config.momentum,
            config.weight_decay,
            correction=bias_correction(config.rho, self.progress.updates) if config.bias_correction else 1.0,
        )

    def _begin_averages(self) -> None:
        """Make the running means that are not there, as after loading a state without them: the weights before."""
        for param in self.every_parameter():
            if param.name not in self._averages:
                self._averages[param.name] = paddle.assign(param)

    def _average(self, decay: float) -> None:
        for param in self.every_parameter():
            mean = self._averages.get(param.name)
            if mean is None:
                self._averages[param.name] = paddle.assign(param)
            else:
                _OPS.write(mean, mean_of_weights(_OPS, mean, param, decay) if decay > 0 else param)


def _integer(count: Any) -> int:
    return int(np.asarray(count).reshape(()))
