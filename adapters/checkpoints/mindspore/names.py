"""What the Parameters of MindSpore's optimizers are called, live and in files; no MindSpore is needed here."""

from __future__ import annotations

from typing import Final

STEP: Final = "global_step"
RATE: Final = "learning_rate"
LAST_STEP: Final = 2**31 - 1
"""MindSpore counts the updates in an int32."""

# What the stock class has not: the gradients that are gathered and how many, and the means of the weights.
MICRO_STEP: Final = "micro_step"
GRADIENT_SUM: Final = "gradient_sum"
AVERAGE: Final = "average"

PREFIXES: Final = {
    "mean_square": "mean_square.",
    "mean_gradient": "mean_grad.",
    "momentum": "moment.",
    "average": f"{AVERAGE}.",
    "gradient_sum": f"{GRADIENT_SUM}.",
}
"""What MindSpore, and for the last two `UniRMSProp`, puts before the name of a weight for that of a slot of it."""
