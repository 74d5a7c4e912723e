"""The safetensors format: tensors in a file are found here and written as a stream.

A file is the length of its header in eight bytes, the header as JSON, and the raw elements of all tensors, without a
gap. Source: https://github.com/huggingface/safetensors, whose own reader checks each header first. Its writer takes
only what is in memory as a whole.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from unirms.checkpoints.naming import plain
from unirms.checkpoints.paths import check
from unirms.checkpoints.tensors import SIZES, Stored
from unirms.errors import CheckpointError

CODES: Final = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}
"""The format's own names of dtypes; it has none for complex128, and had none for complex64 before release 0.7."""
DTYPES: Final = {code: dtype for dtype, code in CODES.items()}

PARTS: Final = {"complex64": "float32", "complex128": "float64"}
"""The dtype of the real and the imaginary parts, which stand side by side as a last axis of two."""

LONGEST_HEADER: Final = 100_000_000
"""Bytes of a header that the library reads, `MAX_HEADER_SIZE` in its safetensors/src/tensor.rs."""
MOST_MARKS: Final = 3_000_000
"""Brackets and commas of a header, each of which may become an object of 250 bytes. A tensor of a few axes has ten, and
the largest models have some 100,000 parameters: a file has room for three tensors of each, and there may be shards."""
ALIGNMENT: Final = 8
"""The elements begin at a multiple of it, so that arrays can be mapped where they are."""


@dataclass(frozen=True)
class Entry:
    """A tensor that is to be written.

    Attributes:
        name: its name in the file.
        dtype: a key of `unirms.checkpoints.tensors.SIZES`.
        shape: the lengths of its axes.
        data: gives its little-endian bytes, piece by piece.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Callable[[], Iterator[memoryview]]

    @property
    def bytes(self) -> int:
        """How many bytes it takes."""
        return math.prod(self.shape) * SIZES[self.dtype]


def read(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """Return where each tensor lies, in the order of the file, and the metadata.

    Dtypes that no state has are called as the format calls them.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or is no safetensors file.
    """
    header, start = _header(path)
    metadata = header.pop("__metadata__", None) or {}
    stored = {
        name: Stored(
            path=str(path),
            offset=start + told["data_offsets"][0],
            dtype=DTYPES.get(told["dtype"], told["dtype"]),
            shape=tuple(told["shape"]),
        )
        for name, told in header.items()
    }
    return dict(sorted(stored.items(), key=lambda item: item[1].offset)), metadata


def write(path: Path, entries: Sequence[Entry], metadata: Mapping[str, str]) -> None:
    """Write a file in a stream; only a piece of a tensor is in memory at a time.

    Tensors of wider elements come first, so that all are aligned.

    Raises:
        CheckpointError: the header would be longer than readers take, or a tensor gives too few or too many bytes.
        OSError: the file cannot be written.
    """
    ordered = sorted(entries, key=lambda entry: -SIZES[PARTS.get(entry.dtype, entry.dtype)])
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for entry in ordered:
        parts = (2,) if entry.dtype in PARTS else ()
        header[entry.name] = {
            "dtype": CODES[PARTS.get(entry.dtype, entry.dtype)],
            "shape": [*entry.shape, *parts],
            "data_offsets": [end, end := end + entry.bytes],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    if _marks(text) > MOST_MARKS:
        raise CheckpointError(f"{path.name} would have {len(ordered)} tensors, too many for a file; save it in shards")
    if len(text) > LONGEST_HEADER:
        raise CheckpointError(f"{path.name} would have a header of {len(text)} bytes; readers take {LONGEST_HEADER}")
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in ordered:
            written = sum(file.write(piece) for piece in entry.data())
            if written != entry.bytes:
                raise CheckpointError(f"{entry.name!r} has {written} bytes where its shape says {entry.bytes}")


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a file that the library finds sound, and where its elements begin."""
    from safetensors import SafetensorError, safe_open

    try:
        check(path)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= LONGEST_HEADER else b""
        refuse_bomb(text)
        with safe_open(path, framework="np"):
            pass
        header = json.loads(text, object_pairs_hook=without_doubles)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except (SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged, or no safetensors file: {plain(str(error))}") from None
    return header, 8 + length


def refuse_bomb(text: bytes) -> None:
    """Raise for JSON that would take far more memory than it is long.

    Raises:
        ValueError: it has more brackets and commas than the header of any model.
    """
    marks = _marks(text)
    if marks > MOST_MARKS:
        raise ValueError(f"{marks} brackets and commas are more than any model needs ({MOST_MARKS})")


def _marks(text: bytes) -> int:
    return sum(map(text.count, (b"{", b"[", b",")))


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a mapping; of a name that stands twice, two readers could take one each."""
    data = dict(pairs)
    if len(data) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{name!r} stands in it twice")
    return data
