"""The one list of the file formats of states: what they are called, how they are told, where their code is."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from unirms.checkpoints.checkpoint import Checkpoint, Outgoing
from unirms.errors import CheckpointError, did_you_mean


class Format(Protocol):
    """What a module of a format has. Both functions run in a process of their own, which may load a framework."""

    def read(self, path: Path, spool: Path) -> Checkpoint:
        """Return what a file holds; no tensor need be read for it.

        Args:
            path: the file, or the folder, or the prefix of several files.
            spool: an empty folder for tensors that do not lie in the file as raw bytes: they are written there.

        Raises:
            CheckpointError: the file is damaged, foreign or refused. Nothing that it says is executed or imported.
        """
        ...

    def write(self, path: Path, content: Outgoing, like: Path | None) -> None:
        """Write a file, piece by piece.

        Args:
            path: in an otherwise empty folder, under its last name; the caller moves all that is written there.
            content: what it is to hold.
            like: a file of the same format whose structure and other contents are kept; None: none.

        Raises:
            CheckpointError: this cannot be written, or `like` is no such file.
            StateError: a tensor has a NaN, or a value that its dtype cannot hold.
        """
        ...


@dataclass(frozen=True)
class Known:
    """One format.

    Attributes:
        name: its name on the command line.
        call: what makes such files.
        module: where its `read` and `write` are.
        framework: the framework that makes such files, in the registry; "" for unirms's own.
        suffixes: of its files; empty for folders and prefixes.
        folder: whether it is a folder, or a prefix of several files in one.
        default: whether it is the format of its framework unless another is named or told from the file.
        needs_like: whether it can only be written with the structure of another file.
        go_on: the lines of Python that load such a file, each with what it is for: "" for the optimizer, "weights" for
            a `model`, "schedule" for a scheduler, "plateau" for the place of a plateau that loading does not set.
            `{build}` stands for the line that makes the `optimizer`, `{path}` for the file, `{stem}` for the file
            without its suffix, and `{plateau}` for that place.
        has_plateau: whether a file has room for the counts of a plateau.
    """

    name: str
    call: str
    module: str
    framework: str = ""
    suffixes: tuple[str, ...] = ()
    folder: bool = False
    default: bool = False
    needs_like: bool = False
    go_on: tuple[tuple[str, str], ...] = ()
    has_plateau: bool = True

    def load(self) -> Any:
        """Return the module, loading what it needs."""
        return import_module(self.module)


_ADAPTERS: Final = "unirms.adapters.checkpoints"

_BUILD: Final = ("", "{build}")
_KERAS_BUILD: Final = ("", "optimizer.build(model.trainable_variables)")

FORMATS: Final[dict[str, Known]] = {
    known.name: known
    for known in (
        Known(
            "unirms",
            "OptimizerState.save",
            "unirms.checkpoints.states",
            suffixes=(".safetensors",),
            default=True,
            go_on=(
                ("", 'state = unirms.OptimizerState.load("{path}")'),
                ("", "unirms.restore(optimizer, state)  # of unirms.build(state.config, …); model=model for weights"),
            ),
        ),
        Known(
            "torch",
            "torch.save",
            f"{_ADAPTERS}.torch.saved",
            "torch",
            (".pt", ".pth", ".bin"),
            default=True,
            go_on=(
                ("", 'saved = torch.load("{path}", weights_only=True)'),
                ("weights", 'model.load_state_dict(saved["model"])'),
                _BUILD,
                ("", 'optimizer.load_state_dict(saved.get("optimizer", saved))'),
                ("schedule", 'unirms.lr_scheduler(optimizer).load_state_dict(saved["scheduler"])'),
            ),
        ),
        Known(
            "torch-dcp",
            "torch.distributed.checkpoint",
            f"{_ADAPTERS}.torch.distributed",
            "torch",
            folder=True,
            go_on=(
                ("", "from torch.distributed.checkpoint import load, state_dict"),
                _BUILD,
                ("", "held, kept = state_dict.get_state_dict(model, optimizer)"),
                ("weights", 'load({{"model": held, "optimizer": kept}}, checkpoint_id="{path}")'),
                ("state alone", 'load({{"optimizer": kept}}, checkpoint_id="{path}")'),
                ("", "state_dict.set_state_dict(model, optimizer, model_state_dict=held, optim_state_dict=kept)"),
                ("schedule", "unirms.lr_scheduler(optimizer).go_to({step})"),
            ),
        ),
        Known(
            "keras",
            "model.save",
            f"{_ADAPTERS}.keras.saved",
            "keras",
            (".keras",),
            needs_like=True,
            go_on=(("", 'model = keras.models.load_model("{path}")'), ("", "optimizer = model.optimizer")),
        ),
        Known(
            "keras-weights",
            "model.save_weights",
            f"{_ADAPTERS}.keras.saved",
            "keras",
            (".h5",),
            default=True,
            needs_like=True,
            go_on=(
                _BUILD,
                _KERAS_BUILD,
                ("", "model.compile(optimizer, model.loss)"),
                ("", 'model.load_weights("{path}")'),
            ),
        ),
        Known(
            "tf-checkpoint",
            "tf.train.Checkpoint",
            f"{_ADAPTERS}.tensorflow.checkpoint",
            "keras",
            folder=True,
            needs_like=True,
            go_on=(
                _BUILD,
                _KERAS_BUILD,
                ("", 'status = tf.train.Checkpoint(model=model, optimizer=optimizer).restore("{path}")'),
                ("", "status.assert_nontrivial_match()  # as of the keywords with which the other was saved"),
            ),
            has_plateau=False,
        ),
        Known(
            "tf1",
            "tf.compat.v1.train.Saver",
            f"{_ADAPTERS}.tensorflow.tf1",
            "keras",
            folder=True,
            go_on=(("", 'tf.compat.v1.train.Saver().restore(session, "{path}")'),),
            has_plateau=False,
        ),
        Known(
            "mindspore",
            "mindspore.save_checkpoint",
            f"{_ADAPTERS}.mindspore.saved",
            "mindspore",
            (".ckpt",),
            default=True,
            go_on=(
                ("", 'saved = mindspore.load_checkpoint("{path}")'),
                ("weights", "mindspore.load_param_into_net(model, saved)"),
                _BUILD,
                ("", "mindspore.load_param_into_net(optimizer, saved)"),
                ("plateau", "unirms.lr_scheduler(optimizer).load_state_dict({plateau})"),
            ),
        ),
        Known(
            "paddle",
            "paddle.save",
            f"{_ADAPTERS}.paddle.saved",
            "paddle",
            (".pdopt", ".pdparams", ".pdckpt"),
            default=True,
            go_on=(
                ("", 'saved = paddle.load("{path}")'),
                ("weights", 'model.set_state_dict(saved.get("model") or paddle.load("{stem}.pdparams"))'),
                _BUILD,
                ("", 'optimizer.set_state_dict(saved.get("opt", saved))'),
            ),
        ),
    )
}


def known(name: str) -> Known:
    """Return the format of that name.

    Raises:
        CheckpointError: there is none.
    """
    if name not in FORMATS:
        raise CheckpointError(f"{name!r} is not a format of states; {did_you_mean(name, FORMATS)}")
    return FORMATS[name]
