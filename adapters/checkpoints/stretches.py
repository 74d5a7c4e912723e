"""The bytes of a stretch of a file, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unirms.checkpoints.naming import plain
from unirms.checkpoints.tensors import PIECE_BYTES
from unirms.errors import CheckpointError


def pieces_of(path: Path, offset: int, length: int) -> Iterator[bytes]:
    """Yield the bytes of a file from an offset on, up to `PIECE_BYTES` at a time.

    Raises:
        CheckpointError: the file is shorter, or cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            while length > 0:
                piece = file.read(min(length, PIECE_BYTES))
                if not piece:
                    raise CheckpointError(f"{plain(str(path))} is damaged: it ends in the middle of a tensor")
                length -= len(piece)
                yield piece
    except OSError as error:
        raise CheckpointError(f"{plain(str(path))} cannot be read: {error.strerror}") from None
