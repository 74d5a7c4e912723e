"""RMSProps that people have trained with, as files of unirms; the parity report runs each for 300 updates.

`dqn` is an example of what names hide: its paper's "gradient momentum 0.95" is the decay of the mean gradient (rho),
and it has no momentum at all.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from unirms.config import RMSPropConfig
from unirms.files import load

NAMES: Final = ("dqn", "impala", "a2c", "efficientnet")


@cache
def recipe(name: str) -> RMSPropConfig:
    """Return the config of one of `NAMES`."""
    return load(Path(__file__).with_name(f"{name}.yaml"))
