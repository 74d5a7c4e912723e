"""Safetensors files with an index: tensors that do not fit into one file, or should not.

``name.safetensors`` becomes ``name-00001-of-00003.safetensors`` and so on, and ``name.safetensors.index.json`` says
which tensor is in which: the form of Hugging Face, see https://huggingface.co/docs/transformers/big_models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from unirms.checkpoints import safetensors
from unirms.checkpoints.naming import plain
from unirms.checkpoints.paths import check, is_file
from unirms.checkpoints.safetensors import Entry
from unirms.checkpoints.tensors import Stored
from unirms.errors import CheckpointError

SUFFIX: Final = ".index.json"
"""What follows the name of the one file in that of an index."""

_SHARD: Final = re.compile(r"-\d{5,}-of-\d{5,}\.safetensors")
_NO_NAME: Final = re.compile(r"\.{0,2}|.*[/\\:\0].*", re.DOTALL)
"""What a text has, or is, that is not the name of a file beside another."""


def files(path: Path) -> list[Path]:
    """Return the files under the name of one: itself, its index, and what is there and called like its shards."""
    stem = re.sub(r"([*?[])", r"[\1]", path.stem)
    shards = [
        shard for shard in path.parent.glob(f"{stem}-*.safetensors") if _SHARD.fullmatch(shard.name[len(path.stem) :])
    ]
    return [path, path.with_name(path.name + SUFFIX), *shards]


def write(path: Path, entries: Sequence[Entry], metadata: Mapping[str, str], most: int | None) -> None:
    """Write one file, or several with an index where a file would have more than `most` bytes of tensors.

    Every file has all of the metadata.

    Raises:
        CheckpointError: see `unirms.checkpoints.safetensors.write`.
        OSError: a file cannot be written.
    """
    shards = list(_shards(entries, most))
    if len(shards) == 1:
        safetensors.write(path, entries, metadata)
        return
    names = [f"{path.stem}-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        safetensors.write(path.with_name(name), shard, metadata)
    index = {
        "metadata": {"total_size": sum(entry.bytes for entry in entries), **metadata},
        "weight_map": {entry.name: name for name, shard in zip(names, shards, strict=True) for entry in shard},
    }
    path.with_name(path.name + SUFFIX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def read(path: Path, key: str) -> tuple[dict[str, Stored], dict[str, Any]]:
    """Return where each tensor lies in a file, or in all files of an index, and the metadata.

    Args:
        path: the file, or the index, or the index without its suffix.
        key: of the metadata; all files of an index must say the same under it.

    Raises:
        CheckpointError: a file cannot be read, is damaged, or is another than the index says.
    """
    index = path if path.name.endswith(SUFFIX) else path.with_name(path.name + SUFFIX)
    if index != path and (is_file(path) or not is_file(index)):
        return safetensors.read(path)
    metadata, weight_map = _index(index)
    stored: dict[str, Stored] = {}
    for file in dict.fromkeys(weight_map.values()):
        found, own = safetensors.read(index.with_name(file))
        if own.get(key) != metadata.get(key):
            raise CheckpointError(f"{index.with_name(file)} belongs to another state than {index.name}")
        for name, one in found.items():
            if weight_map.get(name) != file:
                raise CheckpointError(f"{index} is damaged: {plain(name)!r} is in {file}, where it says otherwise")
            stored[name] = one
    missing = [name for name in weight_map if name not in stored]
    if missing:
        raise CheckpointError(f"{index} is damaged: {plain(missing[0])!r} is not in {weight_map[missing[0]]}")
    return stored, metadata


def metadata(path: Path) -> Mapping[str, Any]:
    """Return the metadata of a file or of an index.

    Raises:
        CheckpointError: it cannot be read, or is damaged.
    """
    return _index(path)[0] if path.name.endswith(SUFFIX) else safetensors.read(path)[1]


def _shards(entries: Sequence[Entry], most: int | None) -> Iterator[list[Entry]]:
    """Yield the tensors of each file: as many, in order, as have no more than `most` bytes together, or one."""
    shard: list[Entry] = []
    held = 0
    for entry in entries:
        if most is not None and shard and held + entry.bytes > most:
            yield shard
            shard, held = [], 0
        shard.append(entry)
        held += entry.bytes
    yield shard


def _index(index: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the metadata of an index, and the file of each tensor."""
    try:
        check(index)
        if index.stat().st_size > safetensors.LONGEST_HEADER:
            raise CheckpointError(f"{index} is no index: it is longer than {safetensors.LONGEST_HEADER} bytes")
        text = index.read_bytes()
        safetensors.refuse_bomb(text)
        content = json.loads(text, object_pairs_hook=safetensors.without_doubles)
    except OSError as error:
        raise CheckpointError(f"{index} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{index} is damaged: {plain(str(error))}") from None
    parts = [content.get(key) if isinstance(content, dict) else None for key in ("metadata", "weight_map")]
    metadata, weight_map = (part if isinstance(part, dict) else None for part in parts)
    if metadata is None or weight_map is None:
        raise CheckpointError(f"{index} is damaged: an index has metadata and a weight_map")
    for file in weight_map.values():
        if not isinstance(file, str) or _NO_NAME.fullmatch(file):
            raise CheckpointError(f"{index}: {plain(repr(file))} is not the name of a file beside it")
    return metadata, weight_map
