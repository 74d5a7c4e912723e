"""PyTorch: `torch.optim.RMSprop`, unchanged in its numbers since 1.9 (recorded runs of 1.9.1 are in the corpus)."""

from unirms.dialects.base import REQUIRED, Dialect, apart, carries
from unirms.dialects.behaviour import Behaviour, Groups, refusing
from unirms.dialects.schedules.torch import CLASSES
from unirms.dialects.snippet import Exemption, Grouping, Snippet

UNCHECKED_IN_GROUPS = ("lr", "alpha", "eps", "momentum", "weight_decay")
GROUP_NOTES = {"param_names": "not about the update: the names of the parameters"}

# `0.0 <= value` in the constructor; `grad.add(param, alpha=True)` fails at the first step.
BEHAVIOUR = Behaviour(
    refused=refusing(
        ("lr alpha eps momentum weight_decay", ("negative", "NaN", "text", "None")),
        ("weight_decay", ("bool",)),
    ),
    groups=Groups(notes=GROUP_NOTES, unchecked=UNCHECKED_IN_GROUPS),
    others=("torch.optim.rmsprop.rmsprop",),
)

SNIPPET = Snippet(
    imports=("import torch",),
    name="torch.optim.RMSprop",
    parameters="model.parameters()",
    exemption=Exemption(
        before="named = list(model.named_parameters())",
        parameters="""\
[
    {"params": [p for n, p in named if not exempt(n)]},
    {"params": [p for n, p in named if exempt(n)], "weight_decay": 0.0},
]""",
    ),
    grouping=Grouping(
        before="""\
groups = {}
for name, parameter in model.named_parameters():
    own = settings(name)
    group = groups.setdefault(tuple(own.items()), {"params": [], **own})
    group["params"].append(parameter)
"""
    ),
    # Complete, because PyTorch takes any entry for an initialised state and fails on a missing one.
    seeding="""\
for parameter in model.parameters():
    optimizer.state[parameter] = {
        "step": torch.zeros(()),
        "square_avg": torch.full_like(parameter, $start),
        "momentum_buffer": torch.zeros_like(parameter),  # if momentum
        "grad_avg": torch.zeros_like(parameter),  # if centered
    }
""",
    seeding_imports=("import torch",),
    schedule_imports=("import torch",),
    stepping="# Call scheduler.step() once after each optimizer.step().",
    reporting="# Call scheduler.step(metric) after each measurement of the metric.",
)

DIALECT = Dialect(
    name="torch",
    target="torch.optim.RMSprop",
    package="torch",
    spellings=("torch.optim.rmsprop.RMSprop",),
    framework="torch",
    aliases=("pytorch",),
    docs="https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html",
    arguments=(
        apart("params", REQUIRED, "the parameters"),
        carries("lr", "learning_rate", 0.01),
        carries("alpha", "rho", 0.99),
        carries("eps", "epsilon", 1e-8),
        carries("weight_decay", "weight_decay", 0.0),
        carries("momentum", "momentum", 0.0),
        carries("centered", "centered", False),
        apart("capturable", False, "CUDA graphs; the same numbers"),
        apart("foreach", None, "which kernels run; the same numbers in float32 and float64"),
        carries("maximize", "maximize", False),
        apart("differentiable", False, "autograd through the step; the same numbers"),
    ),
    schedulers=CLASSES,
    snippet=SNIPPET,
    fixed={
        "epsilon_placement": "outside_sqrt",
        "lr_in_momentum": False,
        "initial_mean_square": 0.0,
        "negative_variance": "propagate",
        "weight_decay_mode": "l2",
    },
    exempts=True,
    behaviour=BEHAVIOUR,
)
