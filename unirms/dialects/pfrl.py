"""PFRL: PyTorch's class with epsilon under the root (`pfrl.optimizers.RMSpropEpsInsideSqrt`)."""

from dataclasses import replace

from unirms.dialects.base import apart, carries
from unirms.dialects.torch import DIALECT as TORCH

DIALECT = replace(
    TORCH,
    name="pfrl",
    target="pfrl.optimizers.RMSpropEpsInsideSqrt",
    package="pfrl",
    spellings=("pfrl.optimizers.rmsprop_eps_inside_sqrt.RMSpropEpsInsideSqrt",),
    framework="",
    aliases=(),
    docs="https://pfrl.readthedocs.io/en/latest/optimizers.html",
    arguments=(
        apart("params", None, "the parameters"),
        carries("lr", "learning_rate", 0.01),
        carries("alpha", "rho", 0.99),
        carries("eps", "epsilon", 1e-8),
        carries("weight_decay", "weight_decay", 0.0),
        carries("momentum", "momentum", 0.0),
        carries("centered", "centered", False),
    ),
    snippet=replace(
        TORCH.snippet,
        imports=("from pfrl.optimizers import RMSpropEpsInsideSqrt",),
        name="RMSpropEpsInsideSqrt",
    ),
    fixed={**TORCH.fixed, "epsilon_placement": "inside_sqrt"},
    remarks=("PFRL 0.4 overrides step() of torch.optim.RMSprop and ignores its newer arguments, maximize among them.",),
)
