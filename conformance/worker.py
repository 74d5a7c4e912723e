"""The process of one framework: tasks in on standard input, results out on standard output, a line of JSON each.

python -m unirms.conformance.worker torch < tasks.json
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from unirms.errors import FrameworkMissingError
from unirms.processes import serve, stop
from unirms.registry import adapter, framework

from .cases import Case, cases
from .drivers import Driver, driver
from .judge import judge
from .port import port
from .results import Done, Failure, Hello, Message
from .resuming import Held, go_on, leave
from .resumptions import Resumption, leavings
from .training import CONFIGS, Digits, train


class Tasks(BaseModel):
    """What a worker has to do.

    Attributes:
        load_only: load the framework, say hello, stop.
        cases: run the cases of the matrix; `pattern` keeps those whose id contains it.
        port: run the plain port.
        digits: train on this.
        leave: leave trainings half done in this folder; none where it is empty.
        resume: of these, go on with those whose target the framework is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    load_only: bool = False
    cases: Literal["all", "none"] = "all"
    pattern: str = ""
    port: bool = True
    digits: Digits | None = None
    leave: str = ""
    resume: tuple[Resumption, ...] = ()


def work(name: str, tasks: Tasks) -> Iterator[Message]:
    """Yield the results of a framework, one after the other."""
    try:
        adapter(name)
    except FrameworkMissingError as error:
        yield Failure(framework=name, reason=str(error))
        return
    hello = Hello(framework=name, versions=versions(name), python=platform.python_version())
    if tasks.load_only:
        yield hello
    else:
        runs = driver(name)
        chosen = chosen_cases(runs, tasks)
        to_leave = list(enumerate(leavings(name, runs.modes))) if tasks.leave else []
        to_resume = [one for one in tasks.resume if one.target == name]
        yield hello.model_copy(update={"cases": len(chosen) + len(to_leave) + len(to_resume)})
        if tasks.port:
            yield port(name, runs)
        if tasks.digits is not None:
            yield from (train(config, tasks.digits, name, runs) for config in CONFIGS)
        yield from (judge(case, name, runs) for case in chosen)
        yield from (leave(left, runs, _folder(tasks.leave, name, index)) for index, left in to_leave)
        held: Held = {}
        yield from (go_on(one, runs, held=held) for one in to_resume)
    yield Done(framework=name)


def chosen_cases(runs: Driver, tasks: Tasks) -> list[Case]:
    """Return the cases that the tasks ask for."""
    return [case for case in cases(runs.modes, runs.sparse) if tasks.pattern in case.id] if tasks.cases == "all" else []


def _folder(parent: str, *names: object) -> Path:
    folder = Path(parent, *map(str, names))
    folder.mkdir(parents=True)
    return folder


def versions(name: str) -> dict[str, str]:
    """Return the versions of the distributions of a framework that are installed here."""
    found = {}
    for package in framework(name).packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Read tasks, write results; a framework is named by the first argument."""
    results = serve()
    os.environ.update(framework(sys.argv[1]).environment)
    tasks = Tasks.model_validate_json(sys.stdin.buffer.read())
    for message in work(sys.argv[1], tasks):
        results.write(message.model_dump_json() + "\n")
        results.flush()
    stop(results)


if __name__ == "__main__":
    main()
