"""PFRL: PyTorch's class with epsilon under the root (`pfrl.optimizers.RMSpropEpsInsideSqrt`).

Recorded runs of 0.4.0 are in the corpus.
"""

from dataclasses import replace

from unirms.dialects.base import REQUIRED, apart, carries, refuses
from unirms.dialects.behaviour import Groups
from unirms.dialects.torch import DIALECT as TORCH
from unirms.dialects.torch import GROUP_NOTES, UNCHECKED_IN_GROUPS

ARGUMENTS = (
    apart("params", REQUIRED, "the parameters"),
    carries("lr", "learning_rate", 0.01),
    carries("alpha", "rho", 0.99),
    carries("eps", "epsilon", 1e-8),
    carries("weight_decay", "weight_decay", 0.0),
    carries("momentum", "momentum", 0.0),
    carries("centered", "centered", False),
)
_UNREAD = "PFRL's step does not look at it"

DIALECT = replace(
    TORCH,
    name="pfrl",
    target="pfrl.optimizers.RMSpropEpsInsideSqrt",
    package="pfrl",
    spellings=("pfrl.optimizers.rmsprop_eps_inside_sqrt.RMSpropEpsInsideSqrt",),
    framework="",
    aliases=(),
    docs="https://pfrl.readthedocs.io/en/latest/optimizers.html",
    # Its constructor is PyTorch's.
    arguments=(
        *ARGUMENTS,
        apart("capturable", False, _UNREAD),
        apart("foreach", None, _UNREAD),
        refuses("maximize", False, _UNREAD),
        apart("differentiable", False, _UNREAD),
    ),
    snippet=replace(
        TORCH.snippet,
        imports=("from pfrl.optimizers import RMSpropEpsInsideSqrt",),
        name="RMSpropEpsInsideSqrt",
    ),
    fixed={**TORCH.fixed, "epsilon_placement": "inside_sqrt"},
    behaviour=replace(
        TORCH.behaviour,
        groups=Groups(
            names={argument.name: argument.name for argument in ARGUMENTS if argument.fields},
            notes=GROUP_NOTES,
            unchecked=UNCHECKED_IN_GROUPS,
        ),
    ),
    remarks=("PFRL 0.4 overrides step() of torch.optim.RMSprop and ignores its newer arguments, maximize among them.",),
)
