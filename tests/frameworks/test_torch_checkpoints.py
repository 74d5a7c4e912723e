"""PyTorch's files of training runs: what users save is read, what is written loads, and what is neither is refused."""

import dataclasses
import io
import itertools
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import metadata as official
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

import unirms
from torch_runs import CONFIGS, DTYPES, EXACTS, FULL, RATE, STOCKS, Run, same
from unirms import RMSPropConfig
from unirms.adapters.checkpoints import pickles
from unirms.adapters.checkpoints.torch import dicts, distributed
from unirms.adapters.checkpoints.torch import files as torch_files
from unirms.adapters.checkpoints.torch import saved as plain
from unirms.adapters.checkpoints.torch import saving as torch_saving
from unirms.checkpoints.checkpoint import Outgoing
from unirms.checkpoints.inspecting import inspect
from unirms.checkpoints.migrating import migrate
from unirms.checkpoints.tensors import Moving
from unirms.errors import CheckpointError, StateError
from unirms.moving.moves import Move

NATIVE = {"lr": 0.01, "momentum": 0.9, "centered": True}


@pytest.fixture
def spool(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


def whole(run):
    """Return what a tutorial saves."""
    scheduler = unirms.lr_scheduler(run.optimizer)
    return {
        "epoch": 3,
        "model": {name: param.detach() for name, param in run.params.items()},
        "optimizer": run.optimizer.state_dict(),
        **({"scheduler": scheduler.state_dict()} if scheduler else {}),
    }


def load(run, saved):
    """Take over what was saved, by PyTorch's own means."""
    with torch.no_grad():
        for name, param in run.params.items():
            param.copy_(saved["model"][name])
    run.optimizer.load_state_dict(saved["optimizer"])
    if "scheduler" in saved:
        unirms.lr_scheduler(run.optimizer).load_state_dict(saved["scheduler"])
    return run


def outgoing(found, **changes):
    """Return what a file holds as what is to be written."""
    tensors = {
        kind: {name: Moving(source=one, move=Move(kind, name, name, one.dtype)) for name, one in of.items()}
        for kind, of in found.tensors.items()
    }
    fields = {name: getattr(found, name) for name in Outgoing.model_fields if name not in {"tensors", "stock"}}
    return Outgoing(**{**fields, "tensors": tensors, **changes})


def equal(left, right):
    """Return whether two states are the same to the bit, in any order of names."""
    counts = [(one.step, one.micro_step, one.learning_rate, one.plateau, one.config) for one in (left, right)]
    flat = [
        {(kind, name): np.asarray(array) for kind, of in one.tensors().items() for name, array in of.items()}
        for one in (left, right)
    ]
    return counts[0] == counts[1] and same(*flat)


def module(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 2), torch.nn.BatchNorm2d(3), torch.nn.Flatten(), torch.nn.Linear(12, 2)
    )


def trained(optimizer_of, net=None, steps=3):
    net = net or module()
    optimizer = optimizer_of(net)
    for number in range(steps):
        optimizer.zero_grad()
        net(torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(number))).square().mean().backward()
        optimizer.step()
    return net, optimizer


def stock(net):
    return torch.optim.RMSprop(net.parameters(), **NATIVE)


def named(net):
    return torch.optim.RMSprop(net.named_parameters(), **NATIVE)


# Reading and writing


@pytest.mark.parametrize("steps", [0, 20])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_file_holds_the_state_and_goes_on(name, steps, tmp_path, spool):
    run = Run(CONFIGS[name]).steps(0, steps)
    state = unirms.state_of(run.optimizer, model=run.params)
    torch.save(whole(run), tmp_path / "a.pt")
    found = plain.read(tmp_path / "a.pt", spool)
    assert bool(found.notes) == (steps == 0 and "seeded" not in name)
    start = {"initial_mean_square": 0.0} if name == "stock seeded" else {}  # the class has no word for it
    assert equal(found.state(), dataclasses.replace(state, config=state.config.replace(**start)))
    plain.write(tmp_path / "b.pt", outgoing(found), None)
    plain.write(tmp_path / "c.pt", outgoing(found), tmp_path / "a.pt")
    run.steps(steps, steps + 20)
    for file in ("b.pt", "c.pt"):
        saved = torch.load(tmp_path / file, weights_only=True)
        assert saved.get("epoch") == (3 if file == "c.pt" else None)
        resumed = load(Run(CONFIGS[name], seed=5), saved)
        assert same(resumed.steps(steps, steps + 20).everything(), run.everything())


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype, tmp_path, spool):
    run = Run(EXACTS["gathered"], dtype=dtype).steps(0, 20)
    torch.save(whole(run), tmp_path / "a.pt")
    found = plain.read(tmp_path / "a.pt", spool)
    assert {one.dtype for of in found.tensors.values() for one in of.values()} == {dtype}
    assert equal(found.state(), unirms.state_of(run.optimizer, model=run.params))
    assert not list(spool.iterdir())
    plain.write(tmp_path / "b.pt", outgoing(found), None)
    resumed = load(Run(EXACTS["gathered"], dtype=dtype, seed=5), torch.load(tmp_path / "b.pt", weights_only=True))
    assert same(resumed.steps(20, 40).everything(), run.steps(20, 40).everything())


SAVES = {
    "bare": lambda net, optimizer: optimizer.state_dict(),
    "tutorial": lambda net, optimizer: {
        "epoch": 1,
        "model_state_dict": net.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "loss": torch.tensor(0.5),
    },
    "lightning": lambda net, optimizer: {
        "state_dict": net.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        "callbacks": {"EarlyStopping": {"wait_count": 0, "best_score": torch.tensor(1.0)}},
    },
    "nested": lambda net, optimizer: {"trainer": {"optim": {"opt": optimizer.state_dict()}}, "net": net.state_dict()},
    "parameters": lambda net, optimizer: {
        "model": dict(net.named_parameters()),
        "optimizer": optimizer.state_dict(),
        "ids": {1, 2},
        "size": torch.Size([3]),
        "dtype": torch.float32,
        "z": 1 + 2j,
    },
    "tuple": lambda net, optimizer: (net.state_dict(), optimizer.state_dict(), 7),
}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("make", [stock, named])
@pytest.mark.parametrize("way", SAVES)
def test_all_ways_in_which_users_save(way, make, old, tmp_path, spool):
    net, optimizer = trained(make)
    torch.save(SAVES[way](net, optimizer), tmp_path / "a.pth", _use_new_zipfile_serialization=not old)
    found = plain.read(tmp_path / "a.pth", spool)
    unnamed = make is stock and way == "bare"
    names = [name for name, _ in net.named_parameters()]
    assert list(found.parameters) == (["0", "1", "2", "3", "4", "5"] if unnamed else names)
    assert (found.step, found.learning_rate) == (3, 0.01)
    assert found.config == RMSPropConfig.from_native("torch", **NATIVE)
    state = found.state()
    for name, param in zip(found.parameters, net.parameters(), strict=True):
        for slot, key in (
            ("mean_square", "square_avg"),
            ("momentum", "momentum_buffer"),
            ("mean_gradient", "grad_avg"),
        ):
            np.testing.assert_array_equal(state.slots()[slot][name], optimizer.state[param][key])
        if way != "bare":
            np.testing.assert_array_equal(state.weights[name], param.detach())
    if way not in {"bare", "parameters"}:
        np.testing.assert_array_equal(state.weights["1.running_var"], net[1].running_var)
    assert not list(spool.iterdir())
    if not (way == "tuple" and old):  # written anew with all else that it held
        plain.write(tmp_path / "b.pth", outgoing(found), tmp_path / "a.pth")
        left, right = (torch.load(tmp_path / file, weights_only=True) for file in ("a.pth", "b.pth"))
        assert dump(left) == dump(right)


def dump(data):
    """Return all that is in the data, comparable."""
    if isinstance(data, torch.Tensor):
        return ("tensor", data.dtype, tuple(data.shape), data.detach().numpy().tobytes())
    if isinstance(data, dict):
        return [(key, dump(value)) for key, value in sorted(data.items(), key=lambda item: str(item[0]))]
    if isinstance(data, (list, tuple)):
        return [dump(value) for value in data]
    return data


def test_written_files_are_those_of_pytorch(tmp_path, spool):
    net, optimizer = trained(named)
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    plain.write(tmp_path / "b.pt", outgoing(plain.read(tmp_path / "a.pt", spool)), None)
    with zipfile.ZipFile(tmp_path / "b.pt") as archive:
        assert archive.testzip() is None
    for mapped in (False, True):
        saved = torch.load(tmp_path / "b.pt", weights_only=True, mmap=mapped)
        again, resumed = module(1), None
        again.load_state_dict(saved["model"])  # strict: with the counts of the batch normalization
        resumed = named(again)
        resumed.load_state_dict(saved["optimizer"])
        assert dump(again.state_dict()) == dump(net.state_dict())
        assert dump(resumed.state_dict()) == dump(optimizer.state_dict())
    assert torch_files.read(tmp_path / "b.pt").records["0"].offset % 64 == 0


def test_what_is_alone_is_written_bare(tmp_path, spool):
    _, optimizer = trained(named)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    plain.write(tmp_path / "b.pt", outgoing(plain.read(tmp_path / "a.pt", spool)), None)
    assert dump(torch.load(tmp_path / "b.pt", weights_only=True)) == dump(optimizer.state_dict())


def test_the_stock_class_is_written_when_it_is_to_go_on(tmp_path, spool):
    run = Run(FULL.replace(nesterov=True)).steps(0, 3)
    torch.save(whole(run), tmp_path / "a.pt")
    found = plain.read(tmp_path / "a.pt", spool)
    plain.write(tmp_path / "b.pt", outgoing(found), None)
    plain.write(tmp_path / "c.pt", outgoing(found, config=FULL, stock=True), None)
    saved = [torch.load(tmp_path / file, weights_only=True)["optimizer"] for file in ("b.pt", "c.pt")]
    assert "unirms" in saved[0]
    assert "unirms" not in saved[1]
    assert plain.read(tmp_path / "c.pt", spool).config == FULL


def test_slots_in_other_memory_formats_are_copied_to_the_spool(tmp_path, spool):
    net, optimizer = trained(named, module().to(memory_format=torch.channels_last))
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    state = plain.read(tmp_path / "a.pt", spool).state()
    assert list(spool.iterdir())
    held = next(iter(optimizer.state.values()))
    assert not held["square_avg"].is_contiguous() or held["square_avg"].shape[1] == 1
    for name, param in net.named_parameters():
        np.testing.assert_array_equal(state.momentum[name], optimizer.state[param]["momentum_buffer"])
        np.testing.assert_array_equal(state.weights[name], param.detach())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_transposed_and_shared_tensors(dtype, tmp_path, spool):
    made = torch.arange(24.0).to(getattr(torch, dtype))
    model = {
        "t": made[:12].reshape(3, 4).t(),
        "part": made[12:18],
        "steps": made[::3],
        "tied": made[12:18],
        "empty": made[:0],
        "turned": made.reshape(2, 3, 4).permute(2, 0, 1),
        "count": torch.tensor(3),
    }
    for old in (False, True):
        torch.save(model, tmp_path / "a.pt", _use_new_zipfile_serialization=not old)
        found = plain.read(tmp_path / "a.pt", spool)
        assert list(found.tensors["weights"]) == ["t", "part", "steps", "empty", "turned"]
        for name, array in found.state().weights.items():
            np.testing.assert_array_equal(array, (model[name].float() if dtype == "bfloat16" else model[name]).numpy())


def test_tensors_that_are_still_to_be_conjugated_are_refused(tmp_path, spool):
    torch.save({"w": torch.ones(2, dtype=torch.complex64).conj()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="conjugated or negated later; save a copy"):
        plain.read(tmp_path / "a.pt", spool)


def test_a_folder_that_lost_its_config_says_so(tmp_path, spool):
    net, optimizer = net_of(EXACTS["gathered"])
    go(net, optimizer, 0, 5)
    save(distributed, get_state_dict(net, optimizer)[1], tmp_path / "a")
    found = distributed.read(tmp_path / "a", spool)
    assert found.config is None
    assert "whose config is not in it" in found.notes[0]
    assert set(found.tensors) == {"mean_square", "mean_gradient", "momentum", "average", "gradient_sum"}


def test_tied_weights_stay_tied(tmp_path, spool):
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    net[1].weight = net[0].weight
    optimizer = named(net)
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    found = plain.read(tmp_path / "a.pt", spool)
    assert list(found.tensors["weights"]) == list(found.parameters) == ["0.weight", "0.bias", "1.bias"]
    changed = tmp_path / "ones"
    np.ones(9, np.float32).tofile(changed)
    weights = {**found.tensors["weights"]}
    weights["0.weight"] = weights["0.weight"].model_copy(update={"path": str(changed), "offset": 0})
    found = found.model_copy(update={"tensors": {**found.tensors, "weights": weights}})
    plain.write(tmp_path / "b.pt", outgoing(found), tmp_path / "a.pt")
    saved = torch.load(tmp_path / "b.pt", weights_only=True)["model"]
    assert (saved["0.weight"] == 1).all()
    assert (saved["1.weight"] == 1).all()


@pytest.mark.parametrize("keys", [("model", "optimizer"), ("state_dict", "optimizer_states")])
def test_the_keys_of_a_checkpoint_to_keep_are_said_where_they_are_others(keys, tmp_path):
    net = torch.nn.Linear(2, 3)
    optimizer = unirms.build(RMSPropConfig(), "torch", net)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    unirms.state_of(optimizer, model=net).save(tmp_path / "a.safetensors")
    torch.save({keys[0]: net.state_dict(), keys[1]: [optimizer.state_dict()]}, tmp_path / "like.pt")
    done = migrate(tmp_path / "a.safetensors", tmp_path / "b.pt", weights=True, like=tmp_path / "like.pt")
    said = [note for note in done.notes if "has its parts under 'optimizer_states', 'state_dict'" in note]
    assert len(said) == (keys != ("model", "optimizer"))
    again = migrate(tmp_path / "a.safetensors", tmp_path / "c.pt", weights=True)
    assert not any("parts under" in note for note in again.notes)


def test_names_are_left_open_where_the_weights_do_not_tell(tmp_path, spool):
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    for chosen, said in (
        (list(net.parameters()), "by order and shapes"),
        ([net[0].weight, net[0].bias], "not the same in number"),
        ([net[1].bias, net[0].weight], "not the same in number"),
        ([{"params": [net[0].weight]}, {"params": [net[0].bias], "lr": 0.5}], "several groups"),
    ):
        optimizer = torch.optim.RMSprop(chosen)
        net(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
        found = plain.read(tmp_path / "a.pt", spool)
        assert said in "; ".join(found.notes)
        assert ("0.weight" in found.parameters) == (said == "by order and shapes")


def test_groups_without_names_are_read_by_number(tmp_path, spool):
    net = torch.nn.Linear(2, 3)
    optimizer = torch.optim.RMSprop([{"params": [net.weight]}, {"params": [net.bias], "lr": 0.5, "momentum": 0.3}])
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    found = plain.read(tmp_path / "a.pt", spool)
    assert found.config.for_parameter("1") == RMSPropConfig.from_native("torch", lr=0.5, momentum=0.3)
    assert found.config.for_parameter("0") == RMSPropConfig.from_native("torch")
    assert list(found.tensors["momentum"]) == ["1"]


def test_parameters_that_were_never_updated_are_at_their_start(tmp_path, spool):
    run = Run(EXACTS["seed and corrected"]).steps(0, 3, left_out=("a.bias",))
    torch.save(whole(run), tmp_path / "a.pt")
    found = plain.read(tmp_path / "a.pt", spool)
    assert equal(found.state(), unirms.state_of(run.optimizer, model=run.params))
    assert "'a.bias': never updated" in found.notes[0]
    torch.save(run.optimizer.state_dict(), tmp_path / "b.pt")
    found = plain.read(tmp_path / "b.pt", spool)
    assert "no weights tell the shape" in found.notes[0]
    assert "a.bias" in found.parameters
    assert "a.bias" not in found.tensors["mean_square"]


def test_a_counter_and_a_rate_of_any_kind(tmp_path, spool):
    _, optimizer = trained(named)
    saved = optimizer.state_dict()
    for step in (3, 3.0, torch.tensor(3), torch.tensor([3.0], dtype=torch.float64), torch.tensor(3.0).bfloat16()):
        for entry in saved["state"].values():
            entry["step"] = step
        saved["param_groups"][0]["lr"] = torch.tensor(0.25)
        torch.save(saved, tmp_path / "a.pt")
        found = plain.read(tmp_path / "a.pt", spool)
        assert (found.step, found.learning_rate) == (3, 0.25)
    for entry in saved["state"].values():
        del entry["step"]
    torch.save(saved, tmp_path / "a.pt")
    assert plain.read(tmp_path / "a.pt", spool).step is None


def test_a_momentum_that_the_groups_do_not_use_is_left_out(tmp_path, spool):
    _, optimizer = trained(named)
    saved = optimizer.state_dict()
    saved["param_groups"][0]["momentum"] = 0.0
    torch.save(saved, tmp_path / "a.pt")
    found = plain.read(tmp_path / "a.pt", spool)
    assert "momentum" not in found.tensors
    assert found.notes == ("its momentum is left out, since its groups do not use it",)


def test_a_schedule_between_the_two_steps_is_still_one(tmp_path, spool):
    run = Run(EXACTS["average"].replace(learning_rate=RATE)).steps(0, 6)
    for count in (6, 5):  # before the scheduler's step, too
        unirms.lr_scheduler(run.optimizer).go_to(count)
        for saved in (whole(run), run.optimizer.state_dict()):
            torch.save(saved, tmp_path / "a.pt")
            found = plain.read(tmp_path / "a.pt", spool)
            assert found.config.learning_rate == RATE
            assert found.learning_rate == RATE.value(6)


def test_a_scheduler_of_pytorch_leaves_its_rate(tmp_path, spool):
    _, optimizer = trained(named)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    optimizer.step()
    scheduler.step()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, tmp_path / "a.pt")
    found = plain.read(tmp_path / "a.pt", spool)
    assert found.config.learning_rate == found.learning_rate == 0.005
    assert "does not say which class" in found.notes[0]


def test_nan_states_can_be_read_and_are_not_written(tmp_path, spool):
    _, optimizer = trained(named)
    next(iter(optimizer.state.values()))["square_avg"].fill_(np.nan)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    found = plain.read(tmp_path / "a.pt", spool)
    assert np.isnan(found.state().mean_square["0.weight"]).all()
    with pytest.raises(StateError, match=r"mean_square of '0\.weight' has 24 values that are NaN"):
        plain.write(tmp_path / "b.pt", outgoing(found), None)


def test_weights_alone(tmp_path, spool):
    torch.save(module().state_dict(), tmp_path / "a.pt")
    found = plain.read(tmp_path / "a.pt", spool)
    assert found.parameters == ()
    assert list(found.tensors) == ["weights"]


def test_rmsprop_of_timm_is_told_by_its_groups(tmp_path, spool):
    _, optimizer = trained(named)
    saved = optimizer.state_dict()
    group = saved["param_groups"][0]
    for key in ("capturable", "differentiable", "maximize"):
        del group[key]
    group |= {"decoupled_decay": False, "lr_in_momentum": True, "corrected_weight_decay": False, "caution": False}
    torch.save(saved, tmp_path / "a.pt")
    assert plain.read(tmp_path / "a.pt", spool).config == RMSPropConfig.from_native(
        "timm", alpha=0.99, eps=1e-8, **NATIVE
    )


def test_other_optimizers_are_refused(tmp_path, spool):
    net = module()
    refused = {
        "no RMSProp: its groups have .*betas": torch.optim.Adam(net.parameters()).state_dict(),
        "states of 2 optimizers": [stock(net).state_dict(), stock(net).state_dict()],
        "no state of an optimizer and no weights": {"epoch": 3},
    }
    for said, saved in refused.items():
        torch.save(saved, tmp_path / "a.pt")
        with pytest.raises(CheckpointError, match=said):
            plain.read(tmp_path / "a.pt", spool)


@pytest.mark.parametrize("format_", [plain, distributed])
def test_what_cannot_be_put_into_another_file(format_, tmp_path, spool):
    run, other = Run(FULL).steps(0, 2), trained(named)[1]
    torch.save(whole(run), tmp_path / "a.pt")
    found = plain.read(tmp_path / "a.pt", spool)
    save(format_, other.state_dict(), tmp_path / "bare")
    with pytest.raises(CheckpointError, match="other parameters"):
        format_.write(tmp_path / "x", outgoing(found), tmp_path / "bare")
    save(format_, run.optimizer.state_dict(), tmp_path / "own")
    with pytest.raises(CheckpointError, match="no place for that of a model"):
        format_.write(tmp_path / "x", outgoing(found), tmp_path / "own")
    with pytest.raises(CheckpointError, match="nobody has said what"):
        format_.write(tmp_path / "x", outgoing(found, config=None), None)
    without = found.model_copy(update={"tensors": {"mean_square": found.tensors["mean_square"]}})
    with pytest.raises(CheckpointError, match=r"has no \w+ of 'a\.weight'"):
        format_.write(tmp_path / "x", outgoing(without), None)


def save(format_, data, path):
    if format_ is plain:
        torch.save(data, path)
    else:
        shutil.rmtree(path, ignore_errors=True)
        dcp.save(data, checkpoint_id=path, no_dist=True)


# Folders of torch.distributed.checkpoint


pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:torch.distributed", "ignore:.*no_dist")


def net_of(config, seed=0):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    return net, unirms.build(config, "torch", net)


def go(net, optimizer, first, last):
    for number in range(first, last):
        optimizer.zero_grad()
        net(torch.randn(4, 3, generator=torch.Generator().manual_seed(number))).square().sum().backward()
        optimizer.step()
        scheduler = unirms.lr_scheduler(optimizer)
        if scheduler is not None:
            scheduler.step()
    return unirms.state_of(optimizer, model=net)


FOLDERS = {
    "stock": FULL,
    "schedule": FULL.replace(learning_rate=RATE),
    "groups": FULL.replace(groups=[{"match": "*.bias", "learning_rate_factor": 0.5, "rho": 0.5}]),
    "exact": EXACTS["gathered"],
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_holds_the_state_and_goes_on(name, tmp_path, spool):
    config = FOLDERS[name]
    net, optimizer = net_of(config)
    state = go(net, optimizer, 0, 20)
    model, slots = get_state_dict(net, optimizer)
    scheduler = unirms.lr_scheduler(optimizer)
    counts = {"scheduler": scheduler.state_dict()} if scheduler else {}
    said = {"said": optimizer.state_dict()["unirms"]} if name == "exact" else {}
    save(distributed, {"model": model, "optimizer": slots, **counts, **said, "epoch": 3}, tmp_path / "a")
    found = distributed.read(tmp_path / "a", spool)
    if name == "exact":  # PyTorch's own function leaves out what it does not know
        assert found.config != config
        found = found.model_copy(update={"config": config})
    else:
        assert equal(found.state(), state)
        distributed.write(tmp_path / "c", outgoing(found), tmp_path / "a")
        assert equal(distributed.read(tmp_path / "c", spool).state(), state)
    distributed.write(tmp_path / "b", outgoing(found), None)
    assert equal(distributed.read(tmp_path / "b", spool).state(), state)
    further = go(net, optimizer, 20, 40)
    for folder in ("b", "c"):
        if (tmp_path / folder).exists():
            net, optimizer = net_of(config, seed=1)
            model, slots = get_state_dict(net, optimizer)
            saved = {"model": model, "optimizer": slots}
            if unirms.lr_scheduler(optimizer):
                saved["scheduler"] = unirms.lr_scheduler(optimizer).state_dict()
            dcp.load(saved, checkpoint_id=tmp_path / folder, no_dist=True)
            set_state_dict(net, optimizer, model_state_dict=saved["model"], optim_state_dict=saved["optimizer"])
            if "scheduler" in saved:
                unirms.lr_scheduler(optimizer).load_state_dict(saved["scheduler"])
            assert equal(go(net, optimizer, 20, 40), further)


def test_a_folder_with_numbers_for_parameters(tmp_path, spool):
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2)
    optimizer = unirms.build(FULL, "torch", list(net.parameters()))
    go(net, optimizer, 0, 5)
    save(distributed, optimizer.state_dict(), tmp_path / "a")
    found = distributed.read(tmp_path / "a", spool)
    assert found.parameters == ("0", "1")
    distributed.write(tmp_path / "b", outgoing(found), None)
    resumed = unirms.build(FULL, "torch", list(net.parameters()))
    go(net, resumed, 0, 1)
    saved = {"optimizer": resumed.state_dict()}
    dcp.load(saved, checkpoint_id=tmp_path / "b", no_dist=True)
    resumed.load_state_dict(saved["optimizer"])
    assert equal(unirms.state_of(resumed), unirms.state_of(optimizer))


def sharded(folder, parts, *, shape=(5, 4), dtype=torch.float32, names=None):
    """Write a folder in which a tensor lies in parts, as several processes write it; return the tensor."""
    tensor = torch.arange(float(np.prod(shape))).reshape(shape).to(dtype)
    folder.mkdir()
    storage, chunks = {}, []
    for number, (start, sizes) in enumerate(parts):
        inside = tensor[tuple(slice(a, a + n) for a, n in zip(start, sizes, strict=True))].clone()
        file = f"__{number}_0.distcp" if names is None else names
        torch.save(inside, folder / f"__{number}_0.distcp")
        length = (folder / f"__{number}_0.distcp").stat().st_size
        storage[official.MetadataIndex("w", torch.Size(start))] = _StorageInfo(file, 0, length)
        chunks.append(official.ChunkStorageMetadata(torch.Size(start), torch.Size(sizes)))
    stated = official.TensorStorageMetadata(official.TensorProperties(dtype), torch.Size(shape), chunks)
    metadata = official.Metadata({"w": stated}, {"w": ("w",)}, storage, official.StorageMeta(folder))
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    return tensor


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize(
    "parts",
    [
        [((0, 0), (2, 4)), ((2, 0), (3, 4))],
        [((0, 0), (5, 1)), ((0, 1), (5, 3))],
        [((2, 2), (3, 2)), ((0, 0), (2, 4)), ((2, 0), (3, 2)), ((5, 0), (0, 4))],
    ],
)
def test_tensors_in_parts_are_joined(parts, dtype, tmp_path, spool, monkeypatch):
    monkeypatch.setattr(distributed, "PIECE_BYTES", 20)
    tensor = sharded(tmp_path / "a", parts, dtype=dtype)
    array = distributed.read(tmp_path / "a", spool).state().weights["w"]
    np.testing.assert_array_equal(array, (tensor.float() if dtype is torch.bfloat16 else tensor).numpy())


@pytest.mark.parametrize(
    ("parts", "options", "said"),
    [
        ([((0, 0), (3, 4)), ((2, 0), (2, 4))], {}, "describe no checkpoint"),  # one upon the other
        ([((0, 0), (2, 4))], {}, "describe no checkpoint"),  # a part is missing
        ([((0, 0), (5, 4))], {"names": "../__0_0.distcp"}, "has no file"),
        ([((0, 0), (5, 4))], {"names": "/etc/passwd"}, "has no file"),
        ([((0, 0), (5, 4))], {"names": ".metadata"}, "is shorter than|no file of torch.save"),
    ],
)
def test_metadata_that_lie_are_refused(parts, options, said, tmp_path, spool):
    sharded(tmp_path / "a", parts, **options)
    with pytest.raises(CheckpointError, match=said):
        distributed.read(tmp_path / "a", spool)


def test_a_folder_that_is_none(tmp_path, spool):
    (tmp_path / "a").mkdir()
    with pytest.raises(CheckpointError, match=r"has no file \.metadata"):
        distributed.read(tmp_path / "a", spool)
    for path in (tmp_path / "none", tmp_path / "spool" / "x"):
        with pytest.raises(CheckpointError, match="cannot be read"):
            distributed.read(path, spool)
        with pytest.raises(CheckpointError, match="cannot be read"):
            plain.read(path, spool)


def test_a_step_that_cannot_be_is_named(tmp_path, spool):
    _, optimizer = trained(named)
    saved = optimizer.state_dict()
    for step, said in ((10**5000, "a value of type int too large to show"), (2**54, str(2**54)), (-1, "-1")):
        saved["state"][1]["step"] = step
        torch.save(saved, tmp_path / "a.pt")
        with pytest.raises(CheckpointError, match=f"its count of updates is {said}$"):
            plain.read(tmp_path / "a.pt", spool)


@pytest.mark.parametrize("field", ["step", "micro_step"])
def test_a_step_that_no_count_can_hold_is_not_written(field, tmp_path, spool):
    net, optimizer = trained(named)
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    found = plain.read(tmp_path / "a.pt", spool)
    with pytest.raises(CheckpointError, match="more than PyTorch's class can count"):
        plain.write(tmp_path / "b.pt", outgoing(found, **{field: 10**400}), None)
    many = found.config.replace(gradient_accumulation_steps=10**6)
    plain.write(tmp_path / "b.pt", outgoing(found, step=2**53, config=many), None)
    assert torch.load(tmp_path / "b.pt", weights_only=True)["model"]["1.num_batches_tracked"] == 2**63 - 1


def test_a_long_list_beside_the_parts_takes_no_time():
    _, optimizer = trained(named)
    losses = [(number,) for number in range(700_000)]
    data = {"losses": losses, "more": {"optimizer": optimizer.state_dict()}}
    start = time.process_time()
    assert dicts.parts_of(torch_files.TorchFile("it", data, {}), data).optimizer is data["more"]["optimizer"]
    assert time.process_time() - start < 12  # a search that is linear takes 1 s, a quadratic one half a minute


def test_what_is_left_out_of_a_model_is_said(tmp_path, spool):
    net = module()
    net.tied = net[3]
    net.register_buffer("mask", torch.ones(2, dtype=torch.bool))
    net.register_buffer("position\nids", torch.arange(3))
    torch.save(net.state_dict(), tmp_path / "a.pt")
    assert plain.read(tmp_path / "a.pt", spool).notes[0] == (
        "left out: 'mask' (of dtype bool), 'position\\nids' (of dtype int64), 'tied.weight' (the same as '3.weight'), "
        "'tied.bias' (the same as '3.bias'); if the new model needs them, give --like a checkpoint of it"
    )


@pytest.mark.parametrize("reader", [plain, distributed])
def test_copies_of_tensors_that_share_their_elements_fill_no_disk(reader, tmp_path, spool):
    if reader is plain:
        made = torch.ones(1_000_100)
        views = {f"w{number}": made[number : number + 1_000_000].view(1000, 1000).t() for number in range(30)}
        torch.save({"model": views}, tmp_path / "a")
    else:
        parts = [((200 * number, 0), (200, 1000)) for number in range(5)]
        made = sharded(tmp_path / "a", parts, shape=(1000, 1000))
        metadata = pickle.loads((tmp_path / "a" / ".metadata").read_bytes())
        ((_, stated),) = metadata.state_dict_metadata.items()
        for number, chunks in zip(range(30), itertools.permutations(stated.chunks), strict=False):
            name = f"w{number}"
            metadata.state_dict_metadata[name] = dataclasses.replace(stated, chunks=list(chunks))
            metadata.planner_data[name] = (name,)
            for index, info in list(metadata.storage_data.items()):
                metadata.storage_data[official.MetadataIndex(name, index.offset)] = info
        (tmp_path / "a" / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(CheckpointError, match=r"a has tensors that share their elements, .* save them as tensors of"):
        reader.read(tmp_path / "a", spool)
    assert sum(file.stat().st_size for file in spool.iterdir()) < 9 * made.nbytes + 2**26


def test_tensors_that_share_their_elements_fill_no_disk_where_they_are_written(tmp_path):
    made = torch.ones(1_000_100)
    for count in (2, 30):
        views = {f"w{number}": made[number : number + 1_000_000] for number in range(count)}
        torch.save({"model": views}, tmp_path / f"{count}.pt")
    with inspect(tmp_path / "2.pt") as held:
        assert len(held.tensors["weights"]) == 2
    message = r"^30\.pt has tensors that share their elements, .* save them as tensors of their own$"
    with pytest.raises(CheckpointError, match=message), inspect(tmp_path / "30.pt"):
        pass


def test_transposed_weights_of_any_size_are_read(tmp_path, spool):
    torch.save({f"w{number}": torch.zeros(1500, 2000).t() for number in range(8)}, tmp_path / "a.pt")
    assert len(plain.read(tmp_path / "a.pt", spool).tensors["weights"]) == 8


# Hostile and damaged files


class Runs:
    """A pickle of it runs a command when it is loaded."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def test_a_pickle_that_runs_code_is_refused(tmp_path, spool):
    mark = tmp_path / "mark"
    for number, way in enumerate(("zip", "old", "metadata", "pickle")):
        path = tmp_path / f"{way}{number}"
        if way == "metadata":
            path.mkdir()
            (path / ".metadata").write_bytes(pickle.dumps(Runs(mark)))
        elif way == "pickle":
            path.write_bytes(pickle.dumps(Runs(mark)))
        else:
            torch.save({"model": Runs(mark)}, path, _use_new_zipfile_serialization=way == "zip")
        reader = distributed if way == "metadata" else plain
        with pytest.raises(CheckpointError, match=r"needs (posix|os)\.system|no file of torch.save") as caught:
            reader.read(path, spool)
        assert "\n" not in str(caught.value)
        assert not mark.exists()


def test_whole_models_are_refused_with_the_reason(tmp_path, spool):
    torch.save(module(), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"needs torch\.nn\.modules\S+, and only tensors and plain data"):
        plain.read(tmp_path / "a.pt", spool)


def archive(path, data, records=(), *, compression=zipfile.ZIP_STORED, **more):
    with zipfile.ZipFile(path, "w", compression) as made:
        made.writestr("archive/data.pkl", data)
        for name, content in [*records, *more.items()]:
            made.writestr(f"archive/{name}", content)


def tensor_pickle(*, size=(2,), stride=(1,), offset=0, count=2, key="0", name="w", storage="FloatStorage"):
    """Return a pickle of a state dictionary with one tensor that says all this of itself."""
    data = {name: torch_saving.Fresh("float32", (), lambda: [])}
    buffer = io.BytesIO()

    class Lies(pickle.Pickler):
        def persistent_id(self, obj):
            return ("storage", getattr(torch, storage), key, "cpu", count) if obj is Lies else None

        def reducer_override(self, obj):
            if isinstance(obj, torch_saving.Fresh):
                return torch._utils._rebuild_tensor_v2, (Lies, offset, size, stride, False, {})
            return NotImplemented

    Lies(buffer, 2).dump(data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "lie",
    [
        {"size": (10**12,), "stride": (0,)},
        {"size": (10**12,)},
        {"size": (3,)},
        {"size": (2**62, 2**62), "stride": (0, 0)},
        {"size": (-1,)},
        {"size": (True,)},
        {"size": 7},
        {"stride": (2,)},
        {"stride": (-1,)},
        {"stride": (1, 1)},
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**70},
        {"count": 10**15},
        {"count": -1},
        {"key": "1"},
        {"key": "../data.pkl"},
        {"key": ("0",)},
        {"storage": "DoubleStorage"},
        {"storage": "UntypedStorage", "count": 9},
    ],
)
def test_absurd_sizes_are_refused(lie, tmp_path, spool):
    archive(tmp_path / "good.pt", tensor_pickle(), [("data/0", bytes(8))])
    assert list(plain.read(tmp_path / "good.pt", spool).tensors["weights"]) == ["w"]
    archive(tmp_path / "bad.pt", tensor_pickle(**lie), [("data/0", bytes(8))])
    with pytest.raises(CheckpointError, match="damaged: it describes a tensor that cannot be"):
        plain.read(tmp_path / "bad.pt", spool)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "", "a\nb", "a\x1b[2J"])
def test_names_that_are_paths_or_commands_are_refused(name, tmp_path, spool):
    archive(tmp_path / "a.pt", tensor_pickle(name=name), [("data/0", bytes(8))])
    with pytest.raises(CheckpointError, match="no name") as caught:
        plain.read(tmp_path / "a.pt", spool)
    assert str(caught.value).isprintable()
    _, optimizer = trained(named)
    saved = optimizer.state_dict()
    saved["param_groups"][0]["param_names"][0] = name
    torch.save(saved, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="no name"):
        plain.read(tmp_path / "b.pt", spool)


def test_archives_of_other_kinds_are_refused(tmp_path, spool):
    good, record = tensor_pickle(), ("data/0", bytes(8))
    deep = b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."
    key = b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"Ns."
    ordered = b"\x80\x02ccollections\nOrderedDict\n](" + b")" + b"\x85" * 200_000 + b"K\x01\x86e\x85R."
    long_memo = b"\x80\x02Nr\xff\xff\xff\xff."
    cases = {
        "compressed": (good, {"compression": zipfile.ZIP_DEFLATED, "records": [record]}),
        "TorchScript": (good, {"records": [record], "constants.pkl": b""}),
        "big-endian": (good, {"records": [record], "byteorder": b"big"}),
        "nest of tuples": (key, {}),
        "a key is a nest of": (ordered, {}),
        "no state of an optimizer and": (deep, {}),
        "no state of an optimizer and no": (long_memo, {}),
        "its pickle cannot be read": (b"\x80\x02X\xff\xff\xff\xffabc.", {}),
        r"its pickle cannot be read \(.*exhausted": (good[:-1], {}),
        "needs builtins.eval": (b"cbuiltins\neval\n.", {}),
        r"operation INST is none of plain data": (b"(S'x'\nios\nsystem\n.", {}),
    }
    for number, (said, (data, options)) in enumerate(cases.items()):
        archive(tmp_path / f"{number}.pt", data, **options)
        with pytest.raises(CheckpointError, match=said):
            plain.read(tmp_path / f"{number}.pt", spool)
    (tmp_path / "text.pt").write_text("no archive")
    with pytest.raises(CheckpointError, match=r"no file of torch\.save"):
        plain.read(tmp_path / "text.pt", spool)
    with zipfile.ZipFile(tmp_path / "empty.pt", "w") as made:
        made.writestr("x", "")
    with pytest.raises(CheckpointError, match=r"no data\.pkl"):
        plain.read(tmp_path / "empty.pt", spool)


def test_a_file_that_says_more_than_it_has_takes_no_memory(tmp_path, spool):
    """An archive, and one of the older format, whose lengths are far beyond their ends."""
    torch.save(module().state_dict(), tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    place = content.rfind(b"PK\x06\x06")  # the lengths of 64 bits, which hold where they are there
    struct.pack_into("<QQ", content, place + 40, 2**40, 2**40)
    (tmp_path / "a.pt").write_bytes(content)
    torch.save(module().state_dict(), tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "b.pt").read_bytes()
    count = struct.pack("<q", 24)  # elements of the first weight
    (tmp_path / "b.pt").write_bytes(content.replace(count, struct.pack("<q", 2**40), 1))
    for file in ("a.pt", "b.pt"):
        with pytest.raises(CheckpointError, match="is damaged"):
            plain.read(tmp_path / file, spool)


def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path, spool):
    run = Run(STOCKS["groups and schedule"]).steps(0, 2)
    for old in (False, True):
        torch.save(whole(run), tmp_path / "a.pt", _use_new_zipfile_serialization=not old)
        content = (tmp_path / "a.pt").read_bytes()
        for end in (0, 1, 14, 15, 100, len(content) // 2, len(content) - 1):
            (tmp_path / "b.pt").write_bytes(content[:end])
            with pytest.raises(CheckpointError):
                plain.read(tmp_path / "b.pt", spool)


def test_what_is_kept_of_a_pickle_is_not_called():
    data = pickles.load(pickle.dumps(Runs("x"), 2), {"posix.system": "the name", "nt.system": "the name"}, "x")
    assert (data.function, data.arguments) == ("the name", ("touch x",))


def mutations(content, seed, count):
    """Yield copies of a file with bytes flipped, cut out, put in, or repeated."""
    dice = random.Random(seed)
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(dice.choice((1, 1, 2, 8))):
            at, length = dice.randrange(len(changed)), dice.choice((1, 1, 2, 4, 8, 64))
            kind = dice.randrange(5)
            if kind == 0:
                changed[at] ^= 1 << dice.randrange(8)
            elif kind == 1:
                changed[at : at + length] = dice.randbytes(length)
            elif kind == 2 and len(changed) > length:
                del changed[at : at + length]
            elif kind == 3:
                changed[at:at] = dice.randbytes(length)
            else:
                changed[at : at + length] = dice.choice((b"\xff", b"\x00")) * length
        yield bytes(changed)


def survives(reader, path, spool):
    """Read a mutated file and all its tensors; only errors of unirms may come of it."""
    try:
        state = reader.read(path, spool).state()
        for arrays in state.tensors().values():
            for array in arrays.values():
                np.sum(np.isnan(array))
    except (CheckpointError, StateError) as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 1500
        return False
    finally:
        for file in spool.iterdir():
            file.unlink()
    return True


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("part", ["all", "pickle"])
def test_mutated_files_are_read_or_refused(part, old, tmp_path, spool):
    run = Run(EXACTS["gathered"].replace(groups=STOCKS["groups"].groups)).steps(0, 4)
    torch.save(whole(run), tmp_path / "a.pt", _use_new_zipfile_serialization=not old)
    content = (tmp_path / "a.pt").read_bytes()
    start, end = (0, len(content)) if part == "all" else bounds(tmp_path / "a.pt", content, old)
    read = 0
    for changed in mutations(content[start:end], 1, 350):
        if part == "pickle" and not old:  # the archive stays whole
            with zipfile.ZipFile(tmp_path / "a.pt") as made:
                others = [(name, made.read(name)) for name in made.namelist() if not name.endswith("data.pkl")]
            archive(tmp_path / "b.pt", changed, [(name.partition("/")[2], data) for name, data in others])
        else:
            (tmp_path / "b.pt").write_bytes(content[:start] + changed + content[end:])
        read += survives(plain, tmp_path / "b.pt", spool)
    assert read < 350


def bounds(path, content, old):
    """Return where the pickle of a file is."""
    if not old:
        with zipfile.ZipFile(path) as made:
            data = made.read("a/data.pkl")
        return content.index(data), content.index(data) + len(data)
    return 0, content.rindex(b"unirms") + 4000


@pytest.mark.slow
@pytest.mark.parametrize("file", [".metadata", "__0_0.distcp"])
def test_mutated_folders_are_read_or_refused(file, tmp_path, spool):
    run = Run(STOCKS["groups and schedule"]).steps(0, 4)
    save(distributed, whole(run), tmp_path / "a")
    content = (tmp_path / "a" / file).read_bytes()
    read = 0
    for changed in mutations(content, 2, 350):
        (tmp_path / "a" / file).write_bytes(changed)
        read += survives(distributed, tmp_path / "a", spool)
    assert read < 350


PEAK = """
import sys
from pathlib import Path
from unirms.checkpoints.checkpoint import Outgoing
from unirms.checkpoints.tensors import Moving
from unirms.moving.moves import Move
from unirms.adapters.checkpoints.torch import distributed, saved as plain
import torch

torch.optim.RMSprop([torch.empty(0)]).step()  # PyTorch loads a part of itself at the first
folder = Path(sys.argv[1])
peak = lambda: next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
before = peak()
found = plain.read(folder / "a.pt", folder)
fields = {name: getattr(found, name) for name in ("parameters", "step", "config")}
tensors = {
    kind: {name: Moving(source=one, move=Move(kind, name, name, one.dtype)) for name, one in of.items()}
    for kind, of in found.tensors.items()
}
plain.write(folder / "b.pt", Outgoing(**fields, tensors=tensors), None)
plain.write(folder / "c.pt", Outgoing(**fields, tensors=tensors), folder / "a.pt")
distributed.write(folder / "d", Outgoing(**fields, tensors=tensors), None)
distributed.read(folder / "d", folder)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_no_more_than_a_tensor_is_in_memory(tmp_path):
    size = 1 << 24
    params = [(f"p{index}", torch.nn.Parameter(torch.ones(size))) for index in range(3)]
    optimizer = torch.optim.RMSprop(params, momentum=0.9)
    for _, param in params:
        param.grad = torch.ones(size)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    made = subprocess.run([sys.executable, "-c", PEAK, tmp_path], capture_output=True, text=True, check=True)
    assert int(made.stdout) <= 1.2 * 4 * size
    saved = torch.load(tmp_path / "c.pt", weights_only=True, mmap=True)
    assert torch.equal(saved["state"][2]["momentum_buffer"], optimizer.state[params[2][1]]["momentum_buffer"])
