"""The process of one reader or one writer: a request as JSON on standard input, an answer as JSON on standard output.

`main` is called with the arguments "read" or "write" and the name of the format; see `unirms.processes.command`.
"""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from unirms import errors
from unirms.checkpoints.checkpoint import Checkpoint, Config, Outgoing
from unirms.checkpoints.formats import Known, known
from unirms.errors import CheckpointError, FrameworkMissingError, UnirmsError
from unirms.processes import serve, stop
from unirms.registry import framework

_SETTINGS: Final = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Request(BaseModel):
    """What a reader or a writer is to do.

    Attributes:
        path: the file to read or to write.
        spool: for a reader: an empty folder.
        config: for a reader: what the optimizer computes, where somebody has said it.
        content: for a writer: what the file is to hold.
        like: for a writer: a file whose structure is kept.
    """

    model_config = _SETTINGS

    path: Path
    spool: Path = Path()
    config: Config = None
    content: Outgoing | None = None
    like: Path | None = None


class Problem(BaseModel):
    """An error of unirms on its way to the other process.

    Attributes:
        kind: the name of its class.
        problems: its sentences.
    """

    model_config = _SETTINGS

    kind: str
    problems: tuple[str, ...]

    @classmethod
    def of(cls, error: UnirmsError) -> Problem:
        """Return an error as data."""
        return cls(kind=type(error).__name__, problems=tuple(getattr(error, "problems", ())) or (str(error),))

    def error(self) -> UnirmsError:
        """Return the error again; one that takes more than sentences as a `CheckpointError`."""
        sentence = "; ".join(self.problems)
        if self.kind in {"ConfigError", "StateError"}:
            made: UnirmsError = getattr(errors, self.kind)(self.problems)
        elif self.kind in {"FrameworkMissingError", "UnknownNameError", "UnsupportedError"}:
            made = getattr(errors, self.kind)(sentence)
        else:
            made = CheckpointError(sentence)
        return made


class Answer(BaseModel):
    """What has become of a request.

    Attributes:
        checkpoint: of a reader: what the file holds.
        rounded: of a writer: kind and name of each tensor in which a cast has changed a value.
        problem: why there is neither.
    """

    model_config = _SETTINGS

    checkpoint: Checkpoint | None = None
    rounded: tuple[tuple[str, str], ...] = ()
    problem: Problem | None = None


_DONE: Final = {"read": "read", "write": "written"}


def answer(verb: str, chosen: Known, request: Request) -> Answer:
    """Return what becomes of a request; an error of unirms or of the system is an answer, any other is raised."""
    try:
        try:
            return read(chosen, request) if verb == "read" else write(chosen, request)
        except ImportError as error:
            raise missing(chosen, error) from error
        except OSError as error:
            raise CheckpointError(f"{request.path} cannot be {_DONE[verb]}: {error.strerror or error}") from error
    except UnirmsError as error:
        return Answer(problem=Problem.of(error))


def read(chosen: Known, request: Request) -> Answer:
    """Return what a file holds."""
    reader = chosen.load().read
    # Two formats do not tell their slots apart without a config; the readers of the others take none.
    told = {"config": request.config} if "config" in inspect.signature(reader).parameters else {}
    return Answer(checkpoint=reader(request.path, request.spool, **told))


def write(chosen: Known, request: Request) -> Answer:
    """Write a file, and return what has been rounded for it."""
    assert request.content is not None
    chosen.load().write(request.path, request.content, request.like)
    moving = [(kind, name, one) for kind, found in request.content.tensors.items() for name, one in found.items()]
    return Answer(rounded=tuple((kind, name) for kind, name, one in moving if one.rounded))


def missing(chosen: Known, error: ImportError) -> UnirmsError:
    """Return the error of unirms for a module that does not load."""
    if isinstance(error, UnirmsError) or not chosen.framework:
        return (
            error
            if isinstance(error, UnirmsError)
            else CheckpointError(f"the format {chosen.name} does not load: {error}")
        )
    wanted = framework(chosen.framework)
    return FrameworkMissingError(f"{wanted.title} does not load here ({error}); install it with: {wanted.pip}")


def main() -> None:
    """Read a request, write the answer; the arguments are "read" or "write" and the name of the format."""
    out = serve()
    chosen = known(sys.argv[2])
    os.environ.update(framework(chosen.framework).environment if chosen.framework else ())
    request = Request.model_validate_json(sys.stdin.buffer.read())
    out.write(answer(sys.argv[1], chosen, request).model_dump_json())
    stop(out)
