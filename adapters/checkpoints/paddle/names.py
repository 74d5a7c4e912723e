"""What the accumulators and the entries of Paddle's state dictionaries are called, live and in files."""

from __future__ import annotations

import re
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
# What the optimizer computes, and the user's names of its parameters: a dictionary with these two keys.
CONFIG: Final = "unirms_config"
CONFIG_TEXT: Final = "config"
CONFIG_NAMES: Final = "names"

RATE: Final = re.compile(r"learning_rate_\d+")
"""The variable of a static graph that holds the rate of its last run; it counts as a parameter of the program."""
SCHEDULER: Final = "LR_Scheduler"
"""Where a scheduler is, by the attributes of its class: "last_epoch" and "last_lr" of all of them."""
MASTER_WEIGHTS: Final = "master_weights"
NAME_TABLE: Final = "StructuredToParameterName@@"
"""What `paddle.save` adds to a flat state dictionary: the key of each tensor -> the tensor's own name."""
SLICES: Final = "UnpackBigParamInfor@@"
"""What it adds where protocols 2 and 3 cut a tensor of more than 1 GiB: key -> "OriginShape" and "slices"."""

OPTIMIZER: Final = ".pdopt"
MODEL: Final = ".pdparams"
"""The suffixes of a pair of files of one name."""
