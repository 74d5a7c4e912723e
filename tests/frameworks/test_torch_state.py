"""PyTorch: a state taken off an optimizer and put into another goes on with the same bits."""

import copy
import dataclasses
import functools
import json

import numpy as np
import pytest
import torch

import unirms
from torch_runs import CONFIGS, DTYPES, EXACTS, FULL, SHAPES, STOCKS, Run, same, values
from unirms import RMSPropConfig
from unirms.adapters.checkpoints.torch import saved
from unirms.adapters.torch import ADAPTER, UniRMSProp, states
from unirms.conformance.drivers import driver
from unirms.errors import FidelityWarning, PrecisionWarning, StateError


def copied(state):
    """Return a state of other arrays, as it comes out of a file."""
    return dataclasses.replace(
        state,
        **{kind: {name: array.copy() for name, array in arrays.items()} for kind, arrays in state.tensors().items()},
    )


def begun(config, at, **options):
    """Return a run that is in one of the situations in which users restore."""
    other = Run(config, seed=7, **options)
    if at == "fresh":
        return other
    other.steps(0, 7, seed=8)
    if at == "loaded":
        loaded = Run(config, seed=9, **options)
        loaded.optimizer.load_state_dict(copy.deepcopy(other.optimizer.state_dict()))
        if unirms.lr_scheduler(other.optimizer):
            unirms.lr_scheduler(loaded.optimizer).load_state_dict(unirms.lr_scheduler(other.optimizer).state_dict())
        return loaded
    return other


def goes_on(config, at, **options):
    """Return whether a restored run goes on from step 20 to 40 as one that was never interrupted."""
    whole = Run(config, **options).steps(0, 20)
    state = copied(unirms.state_of(whole.optimizer, model=whole.params))
    resumed = begun(config, at, **options)
    unirms.restore(resumed.optimizer, state, model=resumed.params)
    return same(resumed.everything(), whole.everything()) and same(
        resumed.steps(20, 40).everything(), whole.steps(20, 40).everything()
    )


@pytest.mark.parametrize("at", ["fresh", "begun", "loaded"])
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_restored_optimizer_goes_on_with_the_same_bits(name, foreach, at):
    config = CONFIGS[name]
    kind = torch.optim.RMSprop if name.startswith("stock") else UniRMSProp
    assert type(Run(config).optimizer) is kind
    assert goes_on(config, at, foreach=foreach)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["stock seeded", "stock groups and schedule", "exact gathered", "exact groups"])
def test_in_every_dtype(name, dtype):
    assert goes_on(CONFIGS[name], "begun", dtype=dtype)


def without_slot(key):
    def put(state, name, array, param, real=states._put):
        if name != key:
            real(state, name, array, param)

    return put


@pytest.mark.parametrize(
    ("place", "planted"),
    [
        ("_put", without_slot("square_avg")),
        ("_put", without_slot("grad_avg")),
        ("_put", without_slot("momentum_buffer")),
        ("_put", without_slot("weight_avg")),
        ("_put", without_slot("grad_sum")),
        ("_put", without_slot("step")),
        ("assign", lambda tensor, array: None),
        ("schedules.go_to", lambda optimizer, step, plateau: None),
    ],
)
@pytest.mark.parametrize("at", ["fresh", "begun"])
def test_what_a_restore_forgets_is_seen(monkeypatch, place, planted, at):
    monkeypatch.setattr(f"unirms.adapters.torch.states.{place}", planted)
    assert not goes_on(EXACTS["gathered"], at)
    monkeypatch.undo()
    assert goes_on(EXACTS["gathered"], at)


@pytest.mark.parametrize("policy", ["stock", "exact"])
def test_a_state_before_the_first_step_is_complete(policy):
    config = FULL if policy == "stock" else EXACTS["gathered"].replace(initial_mean_square=0.5)
    run = Run(config)
    state = unirms.state_of(run.optimizer)
    assert not run.optimizer.state
    assert state.step == state.micro_step == 0
    assert list(state.mean_square) == list(state.momentum) == list(state.mean_gradient) == list(SHAPES)
    assert all((array == (0.0 if policy == "stock" else 0.5)).all() for array in state.mean_square.values())
    if policy == "exact":
        assert all((state.average[name] == run.params[name].detach().numpy()).all() for name in SHAPES)
    other = Run(config, seed=5).steps(0, 4)
    unirms.restore(other.optimizer, unirms.state_of(run.optimizer, model=run.params), model=other.params)
    assert same(other.steps(0, 9).everything(), run.steps(0, 9).everything())


def test_parameters_without_a_gradient_are_in_the_state():
    run = Run(EXACTS["gathered"]).steps(0, 4, left_out=("a.bias",))
    state = unirms.state_of(run.optimizer)
    assert list(state.mean_square) == list(SHAPES)
    assert set(state.gradient_sum) == set(SHAPES) - {"a.bias"}
    other = begun(EXACTS["gathered"], "begun")
    unirms.restore(other.optimizer, unirms.state_of(run.optimizer, model=run.params), model=other.params)
    assert same(other.steps(4, 9).everything(), run.steps(4, 9).everything())


def test_each_parameter_has_the_slots_of_its_group():
    state = unirms.state_of(Run(STOCKS["groups"]).optimizer)
    assert list(state.mean_square) == ["a.weight", "a.bias", "b.weight", "b.scale"]
    assert set(state.momentum) == {"a.weight", "b.weight", "b.scale"}
    assert set(state.mean_gradient) == {"a.weight", "a.bias"}


def test_a_momentum_that_is_no_longer_used_is_not_in_the_state():
    run = Run(FULL).steps(0, 3)
    run.optimizer.param_groups[0]["momentum"] = 0.0
    state = unirms.state_of(run.optimizer)
    assert not state.momentum
    unirms.restore(run.optimizer, state)
    assert all("momentum_buffer" not in held for held in run.optimizer.state.values())


def test_a_rate_set_by_hand_stays():
    run = Run(STOCKS["schedule"]).steps(0, 20)
    other = Run(STOCKS["schedule"])
    other.optimizer.param_groups[0]["lr"] = 0.125
    with pytest.warns(FidelityWarning, match="learning_rate"):
        unirms.restore(other.optimizer, unirms.state_of(run.optimizer))
    assert other.optimizer.param_groups[0]["lr"] == 0.125
    assert unirms.lr_scheduler(other.optimizer).last_epoch == 20


def test_a_rate_in_a_tensor_is_written_in_place():
    run, other = Run(STOCKS["schedule"]).steps(0, 20), Run(STOCKS["schedule"])
    held = other.optimizer.param_groups[0]["lr"] = torch.zeros((), dtype=torch.float64)
    unirms.restore(other.optimizer, unirms.state_of(run.optimizer))
    assert other.optimizer.param_groups[0]["lr"] is held
    assert float(held) == run.optimizer.param_groups[0]["lr"]


def test_a_refused_state_changes_nothing():
    run, other = Run(FULL).steps(0, 3), Run(FULL).steps(0, 5, seed=3)
    before = other.everything()
    state = copied(unirms.state_of(run.optimizer, model=run.params))
    state.momentum["b.scale"][...] = np.nan
    state.mean_square["a.bias"].resize((5,))
    with pytest.raises(StateError, match=r"b\.scale|a\.bias"):
        unirms.restore(other.optimizer, state, model=other.params)
    assert same(other.everything(), before)


def test_a_state_goes_into_tensors_that_are_there():
    net = torch.nn.Linear(4, 3).to(memory_format=torch.preserve_format)
    optimizer = unirms.build(FULL, "torch", net)
    net(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    addresses = [held[key].data_ptr() for held in optimizer.state.values() for key in held]
    unirms.restore(optimizer, unirms.state_of(optimizer, model=net), model=net)
    assert [held[key].data_ptr() for held in optimizer.state.values() for key in held] == addresses


def test_other_memory_formats_have_the_same_state():
    torch.manual_seed(0)
    nets = [torch.nn.Conv2d(3, 4, 2), torch.nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)]
    optimizers = [unirms.build(FULL, "torch", net) for net in nets]
    for _ in range(3):
        nets[0](torch.ones(1, 3, 5, 5)).square().sum().backward()
        optimizers[0].step()
    unirms.restore(optimizers[1], unirms.state_of(optimizers[0], model=nets[0]), model=nets[1])
    left, right = (unirms.state_of(one, model=net) for one, net in zip(optimizers, nets, strict=True))
    for kind, arrays in left.tensors().items():
        for name, array in arrays.items():
            assert array.flags.c_contiguous
            np.testing.assert_array_equal(right.tensors()[kind][name], array)


def test_weights_of_a_model_are_all_its_floating_point_tensors_once():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.Linear(2, 2, dtype=torch.cfloat)
    )
    net.head = torch.nn.Linear(2, 2)
    net.tied = net.head
    net[0].bias.requires_grad_(False)
    found = ADAPTER.weights_of(net)
    assert [one.name for one in found] == [
        *("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "2.weight", "2.bias"),
        *("head.weight", "head.bias"),
    ]
    assert [one.dtype for one in found[6:8]] == ["complex64"] * 2
    assert found[4].shape == (2,)


def test_the_running_means_of_a_batch_normalization_come_along():
    nets = [torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)) for _ in range(2)]
    optimizers = [unirms.build(FULL, "torch", net) for net in nets]
    nets[0](torch.arange(12.0).reshape(4, 3))
    unirms.restore(optimizers[1], unirms.state_of(optimizers[0], model=nets[0]), model=nets[1])
    assert torch.equal(nets[0][1].running_var, nets[1][1].running_var)


def test_wider_values_are_rounded_and_said_to_be():
    wide, narrow = Run(FULL, dtype="float64").steps(0, 3), Run(FULL, dtype="bfloat16")
    with pytest.warns(PrecisionWarning, match="rounded to bfloat16"):
        unirms.restore(narrow.optimizer, unirms.state_of(wide.optimizer, model=wide.params), model=narrow.params)
    for name, param in wide.params.items():
        assert torch.equal(narrow.params[name], param.to(torch.bfloat16))


def test_the_state_dictionary_of_the_exact_class_says_its_config():
    run = Run(EXACTS["groups"])
    assert RMSPropConfig(**json.loads(run.optimizer.state_dict()["unirms"])) == EXACTS["groups"]
    stock = torch.optim.RMSprop(
        [{"params": group["params"]} for group in run.optimizer.param_groups], momentum=0.9, centered=True
    )
    stock.load_state_dict(run.steps(0, 2).optimizer.state_dict())
    assert len(stock.state) == len(SHAPES)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stock schedule", "exact average"])
@pytest.mark.filterwarnings("ignore")  # of the compiler's own
def test_a_compiled_step_goes_on_with_the_new_values(name):
    config = CONFIGS[name].replace(learning_rate=0.02)
    whole, other = Run(config).steps(0, 20), Run(config, seed=7)
    step = torch.compile(other.optimizer.step, backend="eager")
    for number in range(6):
        for index, param in enumerate(other.params.values()):
            param.grad = values(8, 100 * number + index, param.shape, param.dtype)
        step()
    unirms.restore(other.optimizer, unirms.state_of(whole.optimizer, model=whole.params), model=other.params)
    for number in range(20, 24):
        for index, param in enumerate(other.params.values()):
            param.grad = values(1, 100 * number + index, param.shape, param.dtype)
        step()
    left, right = whole.steps(20, 24).everything(), other.everything()
    for key, array in left.items():
        np.testing.assert_allclose(right[key], array, rtol=1e-5, atol=1e-6)  # the compiler may fuse roundings


def grouped(net, **options):
    """Return the usual set-up of fine-tuning: groups without names that differ."""
    body = {"params": [net[0].weight, net[0].bias], "lr": 1e-3, **options}
    return torch.optim.RMSprop([body, {"params": [net[1].weight, net[1].bias]}], lr=1e-2, momentum=0.9)


def test_groups_without_names_have_numbers_or_the_names_of_the_model(tmp_path):
    nets = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        nets.append(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)))
    optimizers = [grouped(net) for net in nets]

    def steps(index, count):
        for number in range(count):
            nets[index](torch.arange(3.0) + number).sum().backward()
            optimizers[index].step()

    steps(0, 3)
    alone = unirms.state_of(optimizers[0])
    assert list(alone.mean_square) == ["0", "1", "2", "3"]
    assert [alone.config.for_parameter(name).learning_rate for name in "0123"] == [1e-3, 1e-3, 1e-2, 1e-2]
    state = unirms.state_of(optimizers[0], model=nets[0])
    assert list(state.mean_square) == list(state.weights)
    assert state.config.for_parameter("0.bias").learning_rate == 1e-3
    assert state.config.for_parameter("1.weight").learning_rate == 1e-2
    assert list(state.weights) == list(nets[0].state_dict())
    state.save(tmp_path / "s.safetensors")
    unirms.restore(optimizers[1], unirms.OptimizerState.load(tmp_path / "s.safetensors"), model=nets[1])
    for index in (0, 1):
        optimizers[index].zero_grad()
        steps(index, 3)
    left, right = (net.state_dict() for net in nets)
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_live_groups_and_those_of_a_file_are_the_same_config(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimizer = grouped(net, weight_decay=0.1)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    (tmp_path / "spool").mkdir()
    assert saved.read(tmp_path / "a.pt", tmp_path / "spool").config == unirms.config_of(optimizer)


@pytest.mark.parametrize("policy", ["exact", "stock"])
def test_a_state_dictionary_is_loaded_by_name_where_the_order_is_another(policy):
    net = torch.nn.Sequential(*(torch.nn.Linear(3, 3, bias=False) for _ in range(3)))
    config = RMSPropConfig.from_native("torch", momentum=0.9)
    run = unirms.build(config, "torch", list(reversed(list(net.named_parameters()))), policy=policy)
    net(torch.randn(4, 3)).square().sum().backward()
    run.step()
    other = unirms.build(config, "torch", net, policy=policy)
    other.load_state_dict(run.state_dict())
    assert other.param_groups[0]["param_names"] == ["0.weight", "1.weight", "2.weight"]
    for param in net.parameters():
        assert torch.equal(other.state[param]["square_avg"], run.state[param]["square_avg"])
    by_position = torch.optim.RMSprop(net.named_parameters(), momentum=0.9)
    by_position.load_state_dict(run.state_dict())
    first = next(net.parameters())
    assert not torch.equal(by_position.state[first]["square_avg"], run.state[first]["square_avg"])


def test_a_state_dictionary_of_other_names_is_loaded_by_position():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    config = RMSPropConfig(momentum=0.9)
    run = unirms.build(config, "torch", [(f"module.{name}", one) for name, one in net.named_parameters()])
    net(torch.randn(4, 3)).square().sum().backward()
    run.step()
    other = unirms.build(config, "torch", net)
    other.load_state_dict(run.state_dict())
    for param in net.parameters():
        assert torch.equal(other.state[param]["square_avg"], run.state[param]["square_avg"])


def test_a_state_dictionary_of_other_groups_is_refused():
    names = [("a", torch.ones(2)), ("b", torch.ones(2)), ("c", torch.ones(2)), ("d", torch.ones(2))]
    run, other = (
        unirms.build(RMSPropConfig(groups=[{"match": match, "rho": 0.5}]), "torch", names)
        for match in (["a", "b"], ["a", "c"])
    )
    with pytest.raises(ValueError, match="are in other groups"):
        other.load_state_dict(run.state_dict())


def test_an_expanded_buffer_is_replaced():
    run, other = Run(FULL).steps(0, 3), Run(FULL).steps(0, 5, seed=3)
    held = other.optimizer.state[other.params["a.weight"]]
    held["momentum_buffer"] = torch.zeros(()).expand(other.params["a.weight"].shape)
    unirms.restore(other.optimizer, unirms.state_of(run.optimizer, model=run.params), model=other.params)
    assert same(other.steps(3, 6).everything(), run.steps(3, 6).everything())


# The driver


@pytest.mark.parametrize("way", ["load", "resume"])
@pytest.mark.parametrize("name", ["stock groups and schedule", "exact gathered", "exact gathered plateau"])
def test_a_run_of_the_driver_is_saved_and_goes_on(name, way, tmp_path):
    def grads(number):
        rng = np.random.default_rng(number)
        return {name: rng.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}

    def start(weight):
        weights = {name: np.full(shape, weight, np.float32) for name, shape in SHAPES.items()}
        make = functools.partial(unirms.build, CONFIGS[name], "torch")
        return driver("torch").start(make, weights, "float32", "single")

    run, other = start(1.0), start(2.0)
    for number in range(8):
        run.step(grads(number), None)
    path = run.save(tmp_path)
    assert path.parent == tmp_path
    if way == "load":
        other.load(path)
    else:
        other.resume(unirms.state_of(run.optimizer, model=run.params))
    for number in range(8, 14):
        run.step(grads(number), None)
        other.step(grads(number), None)
    assert all(np.array_equal(run.weights()[name], other.weights()[name]) for name in SHAPES)
