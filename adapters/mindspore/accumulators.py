"""MindSpore: the accumulators of an optimizer, read and written.

The constraint: in PyNative mode a compiled update keeps the memory of its Parameters. `Parameter.set_data`, and with it
``mindspore.load_param_into_net``, gives a Parameter other memory, which the update does not see: training stops without
a word. Only `ops.assign` writes where the update reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import mindspore
import numpy as np
from mindspore import Tensor, ops
from mindspore.experimental import optim as experimental

from unirms.errors import StateError
from unirms.state import Array, OptimizerState

from ..checkpoints.mindspore.names import LAST_STEP
from . import plateau
from .optimizer import UniRMSProp
from .stock import names_of

# Slot of unirms -> the attribute with its Parameters, one for each parameter.
_OWN: Final = {"mean_square": "ms", "mean_gradient": "mg", "momentum": "moment"}
_EXPERIMENTAL: Final = {"mean_square": "mean_square", "mean_gradient": "mean_grad", "momentum": "moment"}


def read(optimizer: Any) -> OptimizerState:
    """Return copies of the accumulators in use; those of `experimental.RMSprop` come with step 0: it does not count."""
    slots: dict[str, dict[str, Array]] = {}
    for slot, name, param, used in _slots(optimizer):
        if used:
            slots.setdefault(slot, {})[name] = array_of(param)
    if isinstance(optimizer, experimental.RMSprop):
        return OptimizerState.of(0, slots)
    done = int(optimizer.global_step.asnumpy()[0])
    driven = plateau.plateau_of(optimizer) is not None
    place = plateau.scheduler_of(optimizer).state if driven else None  # type: ignore[union-attr]
    gathered = optimizer.gathered_now() if isinstance(optimizer, UniRMSProp) else ({}, 0)
    return OptimizerState.of(done, slots, *gathered, place)


def write(optimizer: Any, state: OptimizerState) -> None:
    """Put a state into an optimizer, also where `load_param_into_net` has stopped it.

    A slot without use (MindSpore's `moment` is always there) becomes zero. A plateau of which the state says nothing
    begins anew. `experimental.RMSprop` has no counter for the step.

    Raises:
        StateError: there are more steps than MindSpore counts. Nothing has been written.
    """
    counted = not isinstance(optimizer, experimental.RMSprop)
    if counted and state.step > LAST_STEP:
        raise StateError([f"the state has made {state.step} updates, and MindSpore counts no more than {LAST_STEP}"])
    arrays = state.slots()
    for slot, name, param, used in _slots(optimizer):
        assign(param, arrays[slot][name] if used else np.zeros(param.shape))
    if isinstance(optimizer, UniRMSProp) and optimizer.gathers:
        for name, param in zip(names_of(optimizer), optimizer.gradient_sum, strict=True):
            assign(param, state.gradient_sum.get(name, np.zeros(param.shape)))
        assign(optimizer.micro_step, np.array(state.micro_step))
    if counted:
        assign(optimizer.global_step, np.array([state.step]))
        _put_plateau(optimizer, state)
    if mindspore.get_context("mode") == mindspore.PYNATIVE_MODE:
        compile_anew(optimizer)


def compile_anew(optimizer: Any) -> None:
    """Have the next call compile the update with the Parameters as they are now.

    In PyNative mode, `set_data` in the middle of a training has parted the old one from them for ever.
    """
    optimizer._create_time += 1  # a part of the key under which MindSpore (2.10) looks for a compiled update


def array_of(value: Any) -> Array:
    """Return a copy of a Tensor; bfloat16 comes as float32."""
    wide = value.astype(mindspore.float32) if value.dtype == mindspore.bfloat16 else value
    copied: Array = wide.asnumpy().copy()
    return copied


def assign(value: Any, array: Array) -> None:
    """Write an array into a Parameter, or a Tensor, in its dtype, where compiled functions see it."""
    whole = Tensor(np.array(array, order="C"))  # of an array that is mapped from a file, a copy
    new = whole if whole.dtype == value.dtype else whole.astype(value.dtype)
    if value.dtype == mindspore.bfloat16:  # of which Assign has no kernel on CPU
        value.copy_(new)
    else:
        ops.assign(value, new)


def _put_plateau(optimizer: Any, state: OptimizerState) -> None:
    found = plateau.plateau_of(optimizer)
    scheduler = plateau.scheduler_of(optimizer)
    if found is not None and scheduler is not None:
        scheduler.load_state_dict(vars(state.plateau or found[0].begin()))


def _slots(optimizer: Any) -> Iterator[tuple[str, str, Any, bool]]:
    """Yield every slot that the optimizer has: which, of which parameter, its Parameter, and whether it is in use."""
    own: dict[str, str] = _EXPERIMENTAL if isinstance(optimizer, experimental.RMSprop) else _OWN
    uses = {"mean_gradient": _centered(optimizer), "momentum": _with_momentum(optimizer)}
    always = [True] * len(optimizer.parameters)
    for slot, attribute in own.items():
        held = getattr(optimizer, attribute, None)  # nn.RMSProp has no `mg` unless it is centered
        if held is not None:
            for name, param, used in zip(names_of(optimizer), held, uses.get(slot, always), strict=True):
                yield slot, name, param, used
    if isinstance(optimizer, UniRMSProp) and optimizer.averages:
        for name, param in zip(names_of(optimizer), optimizer.average, strict=True):
            yield "average", name, param, True


def _centered(optimizer: Any) -> Sequence[bool]:
    if isinstance(optimizer, UniRMSProp):
        return [member.config.centered for member in optimizer.members]
    if isinstance(optimizer, experimental.RMSprop):
        return [group["centered"] for group in optimizer.param_groups for _ in group["params"]]
    return [optimizer.centered] * len(optimizer.parameters)


def _with_momentum(optimizer: Any) -> Sequence[bool]:
    if isinstance(optimizer, UniRMSProp):
        return [member.config.momentum > 0 for member in optimizer.members]
    if isinstance(optimizer, experimental.RMSprop):
        return [group["momentum"] > 0 for group in optimizer.param_groups for _ in group["params"]]
    return [optimizer.momentum > 0] * len(optimizer.parameters)
