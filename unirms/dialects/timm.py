"""timm: `RMSpropTF`, TensorFlow 1's form in PyTorch. Recorded runs of 1.0.31 are in the corpus."""

from dataclasses import replace

from unirms.dialects.base import REQUIRED, Dialect, apart, carries, converts, refuses
from unirms.dialects.behaviour import Behaviour, Groups, refusing
from unirms.dialects.torch import DIALECT as TORCH
from unirms.dialects.torch import GROUP_NOTES, UNCHECKED_IN_GROUPS

DIALECT = Dialect(
    name="timm",
    target="timm.optim.RMSpropTF",
    package="timm",
    spellings=("timm.optim.rmsprop_tf.RMSpropTF",),
    docs="https://huggingface.co/docs/timm/reference/optimizers#timm.optim.RMSpropTF",
    arguments=(
        apart("params", REQUIRED, "the parameters"),
        carries("lr", "learning_rate", 0.01),
        carries("alpha", "rho", 0.9),
        carries("eps", "epsilon", 1e-10),
        carries("weight_decay", "weight_decay", 0.0),
        carries("momentum", "momentum", 0.0),
        carries("centered", "centered", False),
        converts(
            "decoupled_decay",
            ("weight_decay_mode",),
            False,
            lambda value: {"weight_decay_mode": "decoupled" if value else "l2"},
            lambda config: config.weight_decay_mode == "decoupled",
        ),
        refuses("corrected_weight_decay", False, "it scales the decay by lr / max_lr"),
        carries("lr_in_momentum", "lr_in_momentum", True),
        refuses("caution", False, "it masks updates whose sign differs from the gradient's"),
        apart("foreach", None, "which kernels run; the same numbers"),
    ),
    schedulers=TORCH.schedulers,
    snippet=replace(TORCH.snippet, imports=("from timm.optim import RMSpropTF",), name="RMSpropTF"),
    fixed={
        "epsilon_placement": "inside_sqrt",
        "initial_mean_square": 1.0,
        "negative_variance": "propagate",
    },
    exempts=True,
    # `float(value) < 0` lets NaN through; text passes it as well and fails at the first step.
    behaviour=Behaviour(
        refused=refusing(
            ("lr alpha eps momentum weight_decay", ("negative", "text", "None")),
            ("alpha", ("NaN",)),
            ("weight_decay", ("bool",)),
        ),
        misread={("momentum", "NaN"): "it computes without momentum"},
        groups=Groups(
            notes={**GROUP_NOTES, "max_lr_snapshot": "refused: it acts with corrected_weight_decay only"},
            unchecked=UNCHECKED_IN_GROUPS,
        ),
    ),
)
