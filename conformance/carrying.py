"""The way from one framework to another: all sources leave their trainings, files are migrated, all targets go on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from unirms.checkpoints.migrating import migrate
from unirms.checkpoints.recognizing import of_source
from unirms.errors import UnirmsError

from .results import Message
from .resume_report import Resumed
from .resumptions import Migration, live, migrations, through_files
from .settings import SETTINGS
from .spelling import between, spelling
from .worker import Tasks

Start = Callable[[Sequence[str], Tasks], Iterator[Message]]
"""start(frameworks, tasks) -> the messages of their processes, as `unirms.conformance.runner.run` yields them."""


def carried(
    start: Start, tasks: Tasks, resumed: Resumed, interpreters: Mapping[str, str] | None = None
) -> Iterator[Message]:
    """Yield the messages of two rounds: first of all tasks and of the sources, then of the targets.

    Args:
        start: starts the processes of a round.
        tasks: what else there is to do.
        resumed: where the caller puts the messages, and what is planned is written down.
        interpreters: the Python of a framework, where it is not this one.
    """
    with tempfile.TemporaryDirectory(prefix="unirms-") as name:
        folder = Path(name)
        yield from start(resumed.frameworks, tasks.model_copy(update={"leave": str(folder / "left")}))
        migrated = _migrated(folder / "migrated", resumed, interpreters)
        resumed.planned = [*live(resumed.there), *through_files(migrated)]
        targets = {one.target for one in resumed.planned}
        round_two = Tasks(cases="none", port=False, resume=tuple(resumed.planned))
        yield from start([target for target in resumed.frameworks if target in targets], round_two)


def _migrated(folder: Path, resumed: Resumed, interpreters: Mapping[str, str] | None) -> dict[Migration, str]:
    """Return the migrated checkpoints; a sentence on each that was not goes to `resumed`."""
    wanted = migrations(resumed.there)
    found = {}
    # Each has a reader and a writer, one after the other, in a process of its own.
    with ThreadPoolExecutor(2) as pool:
        places = [folder / str(number) for number in range(len(wanted))]
        for migration, result in zip(wanted, pool.map(partial(_migrate, interpreters), wanted, places), strict=True):
            if isinstance(result, UnirmsError):
                resumed.not_migrated.append(f"{migration.label}: {type(result).__name__}: {result}")
            else:
                found[migration] = result
    return found


def _migrate(interpreters: Mapping[str, str] | None, migration: Migration, folder: Path) -> str | UnirmsError:
    """Return the target's own checkpoint, or why there is none."""
    source, fresh = migration.source, migration.fresh
    place = folder / Path(fresh.checkpoint).name
    folder.mkdir(parents=True)
    try:
        migrate(
            source.checkpoint,
            place,
            source_format=source.framework,
            target_format=of_source(Path(fresh.fresh), fresh.framework).name,
            names=between(spelling(source.framework), spelling(fresh.framework)),
            config=SETTINGS[source.setting].config(source.framework),
            weights=True,
            like=fresh.fresh,
            policy=SETTINGS[source.setting].policy,
            interpreters=interpreters,
        )
    except UnirmsError as error:
        return error
    return str(place)
