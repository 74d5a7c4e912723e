"""MindSpore's checkpoints: `mindspore.save_checkpoint` of an optimizer, of a network, or of both in one cell.

A file has names and tensors, and nothing of what is done with them. An optimizer's Parameters are ``global_step``,
``learning_rate`` and the slots, called as the weight with a prefix; where the optimizer is part of a cell, all of them,
the weights too, have the cell's prefix in front.
"""

from __future__ import annotations

from pathlib import Path

from unirms.checkpoints.checkpoint import Checkpoint
from unirms.checkpoints.tensors import Stored
from unirms.config import RMSPropConfig
from unirms.moving.planning import uses
from unirms.state import GRADIENT_SUM, WEIGHTS

from ..spool import Spool
from .names import MICRO_STEP, PREFIXES, STEP
from .reading import File, stored
from .wire import entries
from .writing import write

__all__ = ["read", "write"]


def read(path: Path, spool: Path, config: RMSPropConfig | None = None) -> Checkpoint:
    """Return what a checkpoint holds.

    MindSpore always has a momentum buffer, and its experimental class a mean gradient: where nobody says the config,
    neither `config` nor the file, they stand here whether they are in use or not. A rate in float32 is read as its
    shortest decimal: 0.01 was meant, not 0.009999999776.

    Args:
        path: the file.
        spool: an empty folder for tensors that come in slices, as those of more than 512 MiB do.
        config: what the optimizer computes, where somebody has said it.

    Raises:
        CheckpointError: the file is damaged, encrypted or foreign.
    """
    found, _ = entries(path)
    file = File.of(path, found)
    own, put = file.own(), Spool(spool)
    meant = config or own.config
    tensors: dict[str, dict[str, Stored]] = {kind: {} for kind in (*PREFIXES, WEIGHTS)}
    for (kind, name), entry in file.places.items():
        if meant is None or uses(meant.for_parameter(name)).get(kind, True):
            tensors[kind][name] = stored(entry, path, put)
    step = file.count(STEP)
    micro_step = file.count(MICRO_STEP) or 0
    if micro_step == 0:  # the sums of an update that is done are zeros
        tensors[GRADIENT_SUM] = {}
    return Checkpoint(
        format="mindspore",
        parameters=file.parameters,
        tensors={kind: held for kind, held in tensors.items() if held},
        notes=tuple(file.notes),
        step=step,
        micro_step=micro_step,
        learning_rate=file.rate(step or 0, put),
        plateau=own.plateau,
        config=own.config,
    )
