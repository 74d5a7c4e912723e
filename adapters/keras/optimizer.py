"""`UniRMSProp`: a subclass of `keras.optimizers.RMSprop` that computes every field of a config.

The constraint that shapes this module: `UniRMSProp.variables` are the stock class's, in its order, so that weights of a
stock optimizer load into ours and back; and everything else must survive `get_config`, because a saved model keeps
nothing but that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from unirms.config import RMSPropConfig
from unirms.errors import UnirmsError, UnsupportedError
from unirms.grouping import Member, members
from unirms.reference import Hyperparameters, bias_correction
from unirms.schedules import BaseSchedule, Plateau

from ..checkpoints.keras import statement
from . import plateau, preparing
from .rule import averaged, rmsprop
from .schedules import UniRMSSchedule
from .variables import Untracked, names_of, number

# Slot of unirms -> attribute in which the stock class keeps its variables.
SLOTS = {"mean_square": "_velocities", "mean_gradient": "_average_gradients", "momentum": "_momentums"}
_AROUND = ("use_ema", "ema_momentum", "gradient_accumulation_steps", "ema_overwrite_frequency")


@keras.saving.register_keras_serializable(package="unirms")
class UniRMSProp(keras.optimizers.RMSprop):
    """RMSprop with every field of an `RMSPropConfig`, in the place of `keras.optimizers.RMSprop`.

    It has the stock class's variables, so callbacks, `set_weights` and checkpoints work, and models compiled with it
    are saved and loaded without `custom_objects` once this module is imported. The learning rate is read at every
    step; the other hyperparameters too when running eagerly, while a traced `tf.function` keeps those it was traced
    with, as with the stock class.

    With gradient accumulation the schedule counts updates, where the stock class counts gradients. A parameter that
    has a gradient in some calls only is updated if it has one in the last, or if its sum is not 0. The average of the
    weights is Keras's: `fit` ends by putting it into the model.

    `non_finite="raise"` raises `NonFiniteGradientError` eagerly and TensorFlow's InvalidArgumentError in a
    `tf.function`; XLA has no errors, so that tracing a function for it raises `UnsupportedError`. Accumulation (as
    Keras's own), `non_finite="skip"` and `sparse="lazy"` work on one replica only.

    Args:
        config: the meaning, as a config or as its plain data. A schedule in it becomes a `UniRMSSchedule`.
        learning_rate: a schedule, a callable or a number in place of the config's learning rate.
        names: the parameters' names in the order of `build`, for patterns; None takes the variables' paths.
        name: the optimizer's name.
        around: Keras's words for the average of the weights and for gradient accumulation, in place of the config's
            (`use_ema`, `ema_momentum`, `gradient_accumulation_steps`), and its `ema_overwrite_frequency`.

    Raises:
        ConfigError: `config` is not one.
        UnsupportedError: the names are not those of the parameters that it is built on, or a group matches none.
    """

    _learning_rate: Any

    def __init__(
        self,
        config: RMSPropConfig | Mapping[str, Any],
        *,
        learning_rate: Any = None,
        names: Sequence[str] | None = None,
        name: str | None = None,
        **around: Any,
    ) -> None:
        config = _with_around(RMSPropConfig.model_validate(config), around)
        rate = _own_rate(config) if learning_rate is None else learning_rate
        steps = config.gradient_accumulation_steps
        super().__init__(
            learning_rate=rate,
            rho=config.rho,
            momentum=config.momentum,
            epsilon=config.epsilon,
            centered=config.centered,
            weight_decay=config.weight_decay or None,
            # The base class scales the loss by it in `fit`, and divides the gradients as the reference does.
            loss_scale_factor=None if config.loss_scale == 1 else config.loss_scale,
            use_ema=config.ema_decay > 0,
            ema_momentum=config.ema_decay,
            ema_overwrite_frequency=around.get("ema_overwrite_frequency"),
            gradient_accumulation_steps=None if steps == 1 else steps,
            name=name,
        )
        self.config = config
        self._given_names = None if names is None else Untracked(tuple(names))
        # TensorFlow's checkpoints hold the learning rate in Keras's float type, so a double goes beside it.
        first = 0.0 if callable(rate) else rate
        double = keras.Variable(
            first, dtype="float64", trainable=False, aggregation="only_first_replica", name="exact_learning_rate"
        )
        self._exact_rate = Untracked(double)

    @keras.optimizers.RMSprop.learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        """Change the learning rate: a number, a schedule or a callable."""
        keras.optimizers.RMSprop.learning_rate.fset(self, learning_rate)
        if isinstance(self._learning_rate, keras.Variable):
            self._exact_rate.value.assign(learning_rate)

    def _get_current_learning_rate(self) -> Any:
        """Return the rate of the next update: a schedule counts updates, not gradients."""
        held = self._learning_rate
        if isinstance(held, keras.optimizers.schedules.LearningRateSchedule):
            return held(self.iterations)
        return super()._get_current_learning_rate()

    def exact_rate(self) -> Any:
        """Return the double behind the learning rate that Keras holds, as a float64 tensor.

        It is the number that was given, and not its rounding to Keras's float type; unless somebody has written into
        that variable itself (a checkpoint, `set_weights`, `learning_rate.assign`), which then counts, as a schedule
        does.
        """
        held = ops.cast(self.learning_rate, "float64")
        if not isinstance(self._learning_rate, keras.Variable):
            return held
        exact = ops.convert_to_tensor(self._exact_rate.value)
        rounded = ops.cast(ops.cast(exact, self._learning_rate.dtype), "float64")
        return ops.where(rounded == held, exact, held)

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> dict[str, Any]:
        """Return what TensorFlow saves: the double as well in an exported function, which needs all that it reads."""
        children: dict[str, Any] = super()._trackable_children(save_type, **kwargs)
        exact = {"exact_learning_rate": self._exact_rate.value.value} if save_type == "savedmodel" else {}
        return children | exact

    def build(self, var_list: Sequence[Any]) -> None:
        """Make the slots, as the stock class does, and name the parameters."""
        if self.built:
            return
        variables = list(var_list)
        names = tuple(names_of(variables)) if self._given_names is None else self._given_names.value
        if len(names) != len(variables):
            raise UnsupportedError(f"it has {len(names)} parameter names, and is built on {len(variables)} parameters")
        self._names = Untracked(names)
        self._members = Untracked((self._live(), members(self.config, names)))
        super(keras.optimizers.RMSprop, self).build(variables)
        self._velocities = self._slots(variables, "velocity", lambda config: True)
        self._momentums = self._slots(variables, "momentum", lambda config: config.momentum > 0)
        self._average_gradients = self._slots(variables, "average_gradient", lambda config: config.centered)

    def _slots(self, variables: Sequence[Any], name: str, needed: Callable[[RMSPropConfig], bool]) -> list[Any]:
        """Return a slot for each parameter that needs one and None for the others; nothing if none does."""
        wanted = [needed(member.config) for member in self.live_members()]
        if not any(wanted):
            return []
        pairs = zip(variables, wanted, strict=True)
        return [self.add_optimizer_variables([v], name)[0] if needs else None for v, needs in pairs]

    def add_variable_from_reference(
        self, reference_variable: Any, name: str | None = None, initializer: Any = "zeros"
    ) -> Any:
        """Return a slot for a parameter; the mean square starts where the config says, the average at the weights."""
        # Not `assign` after `build`: in a traced function that would start the slot again at every call. Nor
        # `initializers.Constant`, which rounds the value to float32 for float64 variables.
        starts = {
            "velocity": lambda shape, dtype: ops.full(shape, self.config.initial_mean_square, dtype),
            "average": lambda shape, dtype: ops.cast(reference_variable, dtype),
        }
        return super().add_variable_from_reference(
            reference_variable, name, initializer=starts.get(str(name), initializer)
        )

    @property
    def parameter_names(self) -> list[str]:
        """The names of the parameters that it is built on, in order."""
        return list(self._names.value)

    def live_members(self) -> list[Member]:
        """Return what holds for each parameter now, in order."""
        live, found = self._members.value
        if live != self._live():
            found = members(self.live_config(), self._names.value)
            self._members.value = (self._live(), found)
        return list(found)

    def _live(self) -> tuple[Any, ...]:
        return (self.rho, self.epsilon, self.momentum, self.centered, self.weight_decay)

    def _slots_of(self, index: int, config: RMSPropConfig) -> dict[str, Any]:
        """Return the slots of a parameter that its config uses."""
        slots = {"mean_square": self._velocities[index]}
        if config.centered:
            slots["mean_gradient"] = self._average_gradients[index]
        if config.momentum > 0:
            slots["momentum"] = self._momentums[index]
        return slots

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Make an update with these gradients, or gather them for one.

        Raises:
            NonFiniteGradientError: one has an infinity or a NaN, and the config says `non_finite="raise"`.
        """
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if len(grads) == len(variables):
            lazy = self.config.sparse == "lazy"
            pairs = zip(grads, variables, strict=True)
            grads = [preparing.gradient(grad, variable, lazy=lazy) for grad, variable in pairs]
        super().apply(grads, trainable_variables)

    def _backend_apply_gradients(self, grads: Sequence[Any], trainable_variables: Sequence[Any]) -> None:
        """Take unscaled gradients: gather them, or check and prepare them and update the parameters."""
        indices = [self._get_variable_index(variable) for variable in trainable_variables]
        gathered = dict(zip(indices, self._all_reduced(grads, trainable_variables), strict=True))
        steps = self.gradient_accumulation_steps
        if not steps:
            self._update(gathered)
            return
        sums = [ops.convert_to_tensor(variable) for variable in self._accumulated_gradients]
        for index, grad in gathered.items():
            sums[index] = sums[index] + tf.cast(grad, sums[index].dtype)
        last = tf.equal((ops.convert_to_tensor(self._iterations) + 1) % steps, 0)
        tf.cond(last, lambda: self._update_with_means(sums, indices), lambda: self._gather(sums, indices))

    def _all_reduced(self, grads: Sequence[Any], variables: Sequence[Any]) -> list[Any]:
        """Return the gradients summed over all replicas: before clipping, so that a norm is that of the sum."""
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return list(grads)
        preparing.refuse_replicas(self.config)
        return [grad for grad, _ in self._all_reduce_sum_gradients(list(zip(grads, variables, strict=True)))]

    def _gather(self, sums: Sequence[Any], indices: Iterable[int]) -> None:
        for index in indices:
            self._accumulated_gradients[index].assign(sums[index])

    def _update_with_means(self, sums: Sequence[Any], indices: Sequence[int]) -> None:
        """Update the parameters with the means of what is gathered."""
        steps = self.gradient_accumulation_steps
        # A variable that its gradient overwrites has no slots: None.
        known = [index for index, slot in enumerate(self._velocities) if slot is not None]
        means = {index: sums[index] / tf.cast(steps, sums[index].dtype) for index in known}
        self._update(means, {index: tf.reduce_any(sums[index] != 0) for index in known if index not in indices})

    def _update(self, grads: Mapping[int, Any], only_if: Mapping[int, Any] | None = None) -> None:
        """Update the parameters at these indices, unless the gradients are not finite; some of them only if."""
        names = self._names.value
        named = {names[index]: grad for index, grad in grads.items()}
        if self.config.non_finite == "skip":
            fine = tf.reduce_all(list(preparing.finite(named).values()))
            tf.cond(fine, lambda: self._move(named, only_if or {}), self._forget)
        elif self.config.non_finite == "raise":
            with tf.control_dependencies(preparing.raise_unless_finite(named)):
                self._iterations.assign_add(0)  # so that the count that follows waits for the check
                self._move(named, only_if or {})
        else:
            self._move(named, only_if or {})

    def _forget(self) -> None:
        """Drop the gradients of this update: those that are counted, and the one that Keras is about to count."""
        self._iterations.assign_sub(self.gradient_accumulation_steps or 1)
        self._gather_again()

    def _gather_again(self) -> None:
        if self.gradient_accumulation_steps:
            self._backend_reset_gradient_accumulators()

    def _move(self, named: Mapping[str, Any], only_if: Mapping[int, Any]) -> None:
        """Update the parameters and the averages."""
        ready = preparing.prepared(self.config, named)
        places = {name: index for index, name in enumerate(self._names.value)}
        always = [(grad, places[name]) for name, grad in ready.items() if places[name] not in only_if]
        self._update_steps(always)
        for name, grad in ready.items():
            if places[name] in only_if:
                pair = (grad, places[name])
                tf.cond(only_if[places[name]], lambda pair=pair: self._update_steps([pair]), lambda: None)
        if self.use_ema:
            self._update_model_variables_moving_average(self._trainable_variables)
            self._overwrite_with_average()
        self._gather_again()

    def _update_steps(self, pairs: Sequence[tuple[Any, int]]) -> None:
        """Call `update_step` with each gradient and its variable, wherever `tf.distribute` keeps that."""
        variables = [self._trainable_variables[index] for _, index in pairs]
        raw = [variable.value if isinstance(variable, keras.Variable) else variable for variable in variables]
        tf.__internal__.distribute.interim.maybe_merge_call(
            self._distributed_tf_update_step,
            self._distribution_strategy,
            [(grad, variable) for (grad, _), variable in zip(pairs, raw, strict=True)],
            self.exact_rate(),
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable and its slots, with a gradient that is prepared and the learning rate as a double."""
        index = self._get_variable_index(variable)
        member = self.live_members()[index]
        config, slots = member.config, self._slots_of(index, member.config)
        before = {slot: ops.convert_to_tensor(value) for slot, value in slots.items()}
        weight, values = ops.convert_to_tensor(variable), preparing.values_of(gradient)
        rows = gradient.indices if isinstance(gradient, preparing.Rows) else None
        if rows is not None:  # a row that occurs several times is computed as often, to the same numbers
            weight, values = tf.gather(weight, rows), tf.gather(values, rows)
            before = {slot: tf.gather(value, rows) for slot, value in before.items()}
        moved, renewed = rmsprop(
            weight,
            tf.cast(values, weight.dtype),
            before,
            config=config,
            scalars=self._scalars(member, variable, learning_rate),
        )
        for slot, value in renewed.items():
            self.assign(slots[slot], value if rows is None else tf.IndexedSlices(value, rows))
        self.assign(variable, moved if rows is None else tf.IndexedSlices(moved, rows))

    def _scalars(self, member: Member, variable: Any, learning_rate: Any) -> Hyperparameters:
        config, correction = member.config, 1.0
        if config.bias_correction:
            correction = bias_correction(config.rho, ops.cast(self.iterations, "float64") + 1.0)
        return Hyperparameters.live(
            learning_rate if member.rate_factor == 1 else learning_rate * member.rate_factor,
            config.rho,
            config.epsilon,
            config.momentum,
            config.weight_decay if self._use_weight_decay(variable) else 0.0,
            correction=correction,
        )

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Do nothing: `update_step` decays, in every mode."""

    def _update_model_variables_moving_average(self, trainable_variables: Sequence[Any]) -> None:
        """Renew the average of each variable after an update."""
        begun = ops.convert_to_tensor(self.iterations) > self.config.ema_start
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            if average is not None:
                mean, weight = ops.convert_to_tensor(average), ops.convert_to_tensor(variable)
                average.assign(averaged(mean, weight, self.ema_momentum, begun=begun))

    def _overwrite_with_average(self) -> None:
        """Put the average into the weights every so many updates, if Keras was told so."""
        if self.ema_overwrite_frequency:
            tf.cond(
                tf.equal((ops.convert_to_tensor(self.iterations) + 1) % self.ema_overwrite_frequency, 0),
                lambda: self._overwrite_model_variables_with_average_value(self._trainable_variables),
                lambda: None,
            )

    def save_own_variables(self, store: Any) -> None:
        """Write the variables as the stock class does, and beside them what they belong to, for `unirms migrate`."""
        from . import ADAPTER

        super().save_own_variables(store)
        attributes = getattr(getattr(store, "_h5_entry_group", None), "attrs", None)
        if attributes is None or not self.built:
            return
        try:
            config = ADAPTER.config_of(self)
        except UnirmsError:  # a schedule of the user's own, which no config says
            return
        statement.say(attributes, config, self.parameter_names, plateau.state_of(self))

    def live_config(self) -> RMSPropConfig:
        """Return the config with the hyperparameters that the optimizer holds now, but the first learning rate."""
        return self.config.replace(
            rho=self.rho,
            epsilon=self.epsilon,
            momentum=self.momentum,
            nesterov=self.config.nesterov and self.momentum > 0,
            centered=self.centered,
            weight_decay=self.weight_decay or 0.0,
            loss_scale=self.loss_scale_factor or 1.0,
            ema_decay=self.ema_momentum if self.use_ema else 0.0,
        )

    def get_config(self) -> dict[str, Any]:
        """Return plain data, from which `from_config` makes the same optimizer without its state."""
        base = super().get_config()
        # Keras renames the variables of a model that it loads ("net/out/bias" comes back as "out/bias"), so names go
        # along wherever a pattern may need them.
        patterns = self.config.no_weight_decay or self.config.groups
        needed = self._given_names is not None or (self.built and patterns)
        is_number = isinstance(self._learning_rate, keras.Variable)
        return {
            **{key: base[key] for key in ("name", "ema_overwrite_frequency")},
            "learning_rate": number(self.exact_rate()) if is_number else base["learning_rate"],
            "names": self.parameter_names if needed else None,
            # Its learning rate stands above; a schedule need not be there twice, but a plateau is not in the rate.
            "config": self.live_config().replace(learning_rate=_plateau_or_number(self.config)).model_dump(mode="json"),
        }


def _own_rate(config: RMSPropConfig) -> Any:
    """Return the learning rate of a config in Keras's words: a number, or a schedule in double."""
    rate = config.learning_rate
    if config.has_constant_rate or not isinstance(rate, BaseSchedule):
        return config.initial_learning_rate
    return UniRMSSchedule(rate)


def _plateau_or_number(config: RMSPropConfig) -> Any:
    rate = config.learning_rate
    return rate if isinstance(rate, Plateau) else config.initial_learning_rate


def _with_around(config: RMSPropConfig, around: Mapping[str, Any]) -> RMSPropConfig:
    """Return the config with what Keras's own words for averaging and accumulation say."""
    unknown = [name for name in around if name not in _AROUND]
    if unknown:
        raise TypeError(f"UniRMSProp takes no {unknown[0]}=; besides a config it takes {', '.join(_AROUND)}")
    changes: dict[str, Any] = {}
    if around.get("use_ema"):
        changes["ema_decay"] = around.get("ema_momentum", 0.99)
    if around.get("gradient_accumulation_steps"):
        changes["gradient_accumulation_steps"] = around["gradient_accumulation_steps"]
    return config.replace(**changes) if changes else config
