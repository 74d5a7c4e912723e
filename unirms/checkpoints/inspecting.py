"""What a file holds, opened by the process of its format, and the statistics of its tensors."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unirms.checkpoints import calling, recognizing, sharing
from unirms.checkpoints.calling import Interpreters
from unirms.checkpoints.checkpoint import Checkpoint
from unirms.checkpoints.formats import Known
from unirms.checkpoints.tensors import Stored
from unirms.config import RMSPropConfig
from unirms.errors import CheckpointError
from unirms.state import Array


@contextmanager
def inspect(
    path: str | Path,
    *,
    format: str | None = None,
    config: RMSPropConfig | None = None,
    interpreters: Interpreters | None = None,
) -> Iterator[Checkpoint]:
    """Give what a file holds; its tensors can be read within the block.

    Args:
        path: the file, or the folder, or the prefix of several files.
        format: its format, or the framework that made it; told by the file itself unless given.
        config: what the optimizer computes, for the formats that do not tell their slots apart without it.
        interpreters: framework -> its Python, where it is not this one.

    Raises:
        CheckpointError: it is damaged, foreign or refused.
        UnknownNameError: no such format or framework.
        FrameworkMissingError: it cannot be read without a framework that does not load.
    """
    with opened(Path(path), recognizing.of_source(Path(path), format), config, interpreters) as held:
        yield held


@contextmanager
def opened(
    path: Path, chosen: Known, config: RMSPropConfig | None = None, interpreters: Interpreters | None = None
) -> Iterator[Checkpoint]:
    """Give what a file of a format holds; see `inspect`."""
    # What a reader copies lies beside nothing of the user's: the file's own folder may be read-only.
    try:
        folder = tempfile.TemporaryDirectory(prefix="unirms-")
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"no folder for temporary files can be made ({reason}); let TMPDIR name one") from None
    with folder as spool:
        held = calling.read(chosen, path, Path(spool), config, interpreters)
        tensors = [one for found in held.tensors.values() for one in found.values()]
        sharing.check(path, tensors, Path(spool))
        yield held


@dataclass(frozen=True)
class Statistics:
    """What stands in a tensor.

    Attributes:
        norm: the Euclidean norm of the finite elements; infinite where no float64 holds it.
        least: the least of them; None where there is none, and of complex elements.
        most: the largest.
        nan: elements that are not a number.
        infinite: elements that are infinite.
    """

    norm: float
    least: float | None
    most: float | None
    nan: int
    infinite: int


def statistics(stored: Stored) -> Statistics:
    """Return what stands in a tensor, read piece by piece.

    Raises:
        CheckpointError: the file is shorter than the tensor, or cannot be read.
    """
    norm, nan, infinite = 0.0, 0, 0
    least, most = math.inf, -math.inf
    for piece in stored.pieces():
        finite = np.isfinite(piece)
        values = piece if finite.all() else piece[finite]
        lost = np.count_nonzero(np.isnan(piece))
        nan += int(lost)
        infinite += int(piece.size - values.size - lost)
        parts = values.view(values.real.dtype) if values.dtype.kind == "c" else values
        norm = math.hypot(norm, _norm(parts.astype(np.float64, copy=False)))
        if values.size and values.dtype.kind != "c":
            least, most = min(least, float(values.min())), max(most, float(values.max()))
    empty = least > most
    return Statistics(norm, None if empty else least, None if empty else most, nan, infinite)


def _norm(values: Array) -> float:
    """Return the Euclidean norm, of values as well whose squares no float64 holds."""
    largest = float(np.abs(values).max(initial=0.0))
    # Within these bounds a square is far from both ends of float64, and so is a sum of 1e20 of them.
    scale = 1.0 if 1e-130 < largest < 1e130 else largest or 1.0
    scaled = values if scale == 1.0 else values / scale
    return math.sqrt(float(np.dot(scaled, scaled))) * scale
