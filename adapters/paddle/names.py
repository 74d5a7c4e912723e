"""PaddlePaddle: what the accumulators and the entries of a state dictionary are called."""

from __future__ import annotations

from typing import Final

# Slot of unirms -> name of Paddle's accumulator; the tensor is called <parameter>_<accumulator>_<number>.
SLOTS: Final = {"mean_square": "mean_square", "mean_gradient": "mean_grad", "momentum": "momentum"}
# What the stock class has not: in dynamic mode <parameter>_<this> in the state dictionary, in a static graph an
# accumulator.
AVERAGE: Final = "unirms_average"
GRADIENT_SUM: Final = "unirms_gradient_sum"
# Completed updates, and gradients gathered since: in the state dictionary, or a variable of a static graph.
STEP: Final = "unirms_step"
MICRO_STEP: Final = "unirms_micro_step"
# Field of the config -> attribute of the stock class that is read at every step.
LIVE: Final = {"rho": "_rho", "epsilon": "_epsilon", "momentum": "_momentum", "centered": "_centered"}
