"""PyTorch: gathered, skipped, scaled, sparse and complex gradients, averages and checkpoints, as in training."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch

import unirms
from unirms import NonFiniteGradientError, RMSPropConfig, UnsupportedError, schedules
from unirms.adapters.torch import UniRMSProp

RATE = schedules.Linear(initial_learning_rate=0.1, decay_steps=20)
GATHER = RMSPropConfig(
    learning_rate=RATE,
    momentum=0.9,
    epsilon=1e-3,
    gradient_accumulation_steps=3,
    ema_decay=0.9,
    non_finite="skip",
    clip={"by": "global_norm", "max_norm": 1.0},
)
AVERAGE = RMSPropConfig(epsilon=1e-3, ema_decay=0.5)
ROWS = torch.tensor([[2, 0, 2]])


def model(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Linear(4, 3)


def inputs(number):
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(number))


def train(net, optimizer, first, last, *, factor=1.0):
    for number in range(first, last):
        optimizer.zero_grad()
        (net(inputs(number)).square().mean() * factor).backward()
        optimizer.step()
        if unirms.lr_scheduler(optimizer) is not None:
            unirms.lr_scheduler(optimizer).step()
    return [param.detach().clone() for param in net.parameters()]


def equal(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def everything(net, optimizer):
    """Return copies of all that an update changes."""
    state = unirms.state_of(optimizer)
    arrays = [array for slot in (*state.slots().values(), state.gradient_sum) for array in slot.values()]
    counts = [int(each["step"]) for each in optimizer.state.values()]
    numbers = [state.step, state.micro_step, *counts, unirms.lr_scheduler(optimizer).last_epoch]
    return [*(param.detach().clone().numpy() for param in net.parameters()), *arrays, np.array(numbers)]


def same(left, right):
    return len(left) == len(right) and all(map(np.array_equal, left, right))


# Accumulation


def test_gathering_changes_nothing_but_what_is_gathered():
    net = model()
    optimizer = unirms.build(GATHER, "torch", net)
    scheduler, start = unirms.lr_scheduler(optimizer), [param.detach().clone() for param in net.parameters()]
    for number, (updated, last_epoch) in enumerate([(False, 0), (False, 0), (True, 1), (False, 1), (False, 1)]):
        weights = train(net, optimizer, number, number + 1)
        assert (optimizer.updated, scheduler.last_epoch) == (updated, last_epoch)
        assert optimizer.param_groups[0]["lr"] == RATE.value(last_epoch)
        state = unirms.state_of(optimizer)
        assert (state.step, state.micro_step) == (last_epoch, (number + 1) % 3)
        assert equal(weights, start) == (number < 2)
        assert bool(state.gradient_sum) == (state.micro_step > 0)


def test_gathered_gradients_make_the_update_of_their_mean():
    net, whole = model(), model()
    plain = GATHER.replace(gradient_accumulation_steps=1)
    optimizers = unirms.build(GATHER, "torch", net), unirms.build(plain, "torch", whole)
    for update in range(4):
        train(net, optimizers[0], 3 * update, 3 * update + 3)
        optimizers[1].zero_grad()
        (sum(whole(inputs(3 * update + i)).square().mean() for i in range(3)) / 3).backward()
        optimizers[1].step()
        unirms.lr_scheduler(optimizers[1]).step()
    for left, right in zip(net.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [3, 4, 5])
def test_half_gathered_sums_are_in_the_checkpoint(steps):
    net, again = model(), model(1)
    optimizer, resumed = unirms.build(GATHER, "torch", net), unirms.build(GATHER, "torch", again)
    train(net, optimizer, 0, steps)
    file = io.BytesIO()
    torch.save([net.state_dict(), optimizer.state_dict(), unirms.lr_scheduler(optimizer).state_dict()], file)
    file.seek(0)
    weights, slots, count = torch.load(file, weights_only=True)
    again.load_state_dict(weights)
    resumed.load_state_dict(slots)
    unirms.lr_scheduler(resumed).load_state_dict(count)
    left, right = unirms.state_of(optimizer), unirms.state_of(resumed)
    assert (left.step, left.micro_step) == (right.step, right.micro_step) == (steps // 3, steps % 3)
    assert equal(train(net, optimizer, steps, 12), train(again, resumed, steps, 12))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda all_: pickle.loads(pickle.dumps(all_))])
def test_a_copy_between_two_micro_steps_goes_on(duplicate):
    net = model()
    optimizer = unirms.build(GATHER, "torch", net)
    train(net, optimizer, 0, 3)
    optimizer.step()  # gathers; a scheduler that is stepped now stays
    other_net, other = duplicate((net, optimizer))
    unirms.lr_scheduler(other).step()
    unirms.lr_scheduler(optimizer).step()
    assert unirms.lr_scheduler(other).last_epoch == 1
    assert equal(train(net, optimizer, 4, 9), train(other_net, other, 4, 9))


def test_counts_survive_a_dtype_that_cannot_hold_them():
    net = model().bfloat16()
    optimizer = unirms.build(GATHER.replace(gradient_accumulation_steps=1000), "torch", net)
    for param in net.parameters():
        param.grad = torch.zeros_like(param)
    for _ in range(259):
        optimizer.step()
    other = unirms.build(GATHER.replace(gradient_accumulation_steps=1000), "torch", net)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert int(unirms.state_of(other).micro_step) == 259  # bfloat16 counts to 256


def test_a_scheduler_that_is_stepped_once_an_update_is_not_held_back():
    net = model()
    optimizer = unirms.build(GATHER, "torch", net)
    for update in range(3):
        for number in range(3):
            optimizer.zero_grad()
            net(inputs(number)).square().mean().backward()
            optimizer.step()
        unirms.lr_scheduler(optimizer).step()
        assert unirms.lr_scheduler(optimizer).last_epoch == update + 1


# Gradients that are not finite


@pytest.mark.parametrize("spoiler", [np.inf, -np.inf, np.nan])
def test_a_skipped_update_leaves_everything_as_it_was(spoiler):
    net = model()
    optimizer = unirms.build(GATHER.replace(gradient_accumulation_steps=1), "torch", net)
    train(net, optimizer, 0, 2)
    before = everything(net, optimizer)
    train(net, optimizer, 2, 3, factor=spoiler)
    assert same(everything(net, optimizer), before)
    assert not optimizer.updated
    train(net, optimizer, 3, 4)
    assert unirms.state_of(optimizer).step == unirms.lr_scheduler(optimizer).last_epoch == 3


def test_skipping_drops_what_was_gathered():
    net, clean = model(), model()
    optimizers = [unirms.build(GATHER, "torch", each) for each in (net, clean)]
    train(net, optimizers[0], 0, 1, factor=np.inf)
    train(net, optimizers[0], 1, 3)
    assert unirms.state_of(optimizers[0]).micro_step == 0
    assert equal(train(net, optimizers[0], 0, 6), train(clean, optimizers[1], 0, 6))


def test_an_error_names_the_gradients_and_changes_nothing():
    net = model()
    optimizer = unirms.build(GATHER.replace(non_finite="raise"), "torch", net)
    train(net, optimizer, 0, 5)
    before = everything(net, optimizer)
    net.bias.grad[1] = np.nan
    with pytest.raises(NonFiniteGradientError, match=r"the gradient of 'bias' has an infinity or a NaN"):
        optimizer.step()
    unirms.lr_scheduler(optimizer).step()
    assert same(everything(net, optimizer), before)
    train(net, optimizer, 5, 6)
    assert unirms.state_of(optimizer).step == 2


@pytest.mark.parametrize("steps", [1, 2])
def test_the_scaler_of_torch_goes_with_it(steps):
    config = GATHER.replace(gradient_accumulation_steps=steps, non_finite="propagate", learning_rate=0.1)
    net, plain = model(), model()
    scaled, optimizer = (unirms.build(config, "torch", each) for each in (net, plain))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1000)
    numbers = []
    for number in range(8):
        scaled.zero_grad()
        scale = scaler.get_scale()
        scaler.scale(net(inputs(number)).square().mean() * 64).backward()
        scaler.step(scaled)
        scaler.update()
        if scaler.get_scale() == scale:  # otherwise the gradient has overflowed and the scaler has left out the step
            numbers.append(number)
    assert 0 < len(numbers) < 8
    for number in numbers:
        train(plain, optimizer, number, number + 1, factor=64)
    assert unirms.state_of(scaled).step == unirms.state_of(optimizer).step == len(numbers) // steps
    assert equal(net.parameters(), plain.parameters())


def test_a_scheduler_is_stepped_only_if_the_scale_of_torch_has_not_gone_down():
    rates = [0.5, 0.4, 0.3, 0.2]
    config = GATHER.replace(non_finite="propagate", learning_rate=unirms.schedules.Table(learning_rates=rates))
    for looks in (True, False):
        weight = torch.nn.Parameter(torch.ones(2))
        optimizer = unirms.build(config.replace(gradient_accumulation_steps=1), "torch", {"w": weight})
        scheduler, scaler = unirms.lr_scheduler(optimizer), torch.amp.GradScaler("cpu", init_scale=8.0)
        for factor in (1.0, torch.inf, 1.0):
            optimizer.zero_grad()
            scaler.scale((weight * factor).sum()).backward()
            scale = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            if not looks or scaler.get_scale() >= scale:
                scheduler.step()
        assert unirms.state_of(optimizer).step == 2
        assert optimizer.param_groups[0]["lr"] == rates[2 if looks else 3]


def test_scaled_gradients_can_be_unscaled_by_the_config():
    net, plain = model(), model()
    config = RMSPropConfig(epsilon=1e-3, loss_scale=2.0**20, clip={"by": "norm", "max_norm": 0.1})
    left, right = unirms.build(config, "torch", net), unirms.build(config.replace(loss_scale=1), "torch", plain)
    assert equal(train(net, left, 0, 3, factor=2.0**20), train(plain, right, 0, 3))


# Averages


def test_averages_are_swapped_in_place_and_back():
    net = model()
    optimizer = unirms.build(AVERAGE, "torch", net)
    trained = train(net, optimizer, 0, 5)
    addresses = [param.data_ptr() for param in net.parameters()]
    means = [torch.from_numpy(mean) for mean in unirms.state_of(optimizer).average.values()]
    assert not equal(trained, means)
    with unirms.averaged(optimizer):
        assert equal(net.parameters(), means)
        np.testing.assert_array_equal(unirms.state_of(optimizer).average["weight"], trained[0])
    assert equal(net.parameters(), trained)
    assert [param.data_ptr() for param in net.parameters()] == addresses


def test_averages_before_the_first_update_are_the_weights():
    net = model()
    before = [param.detach().clone() for param in net.parameters()]
    with unirms.averaged(unirms.build(AVERAGE, "torch", net)):
        assert equal(net.parameters(), before)


def test_weights_without_a_gradient_are_averaged_too():
    net = model()
    optimizer = unirms.build(AVERAGE, "torch", net)
    train(net, optimizer, 0, 2)
    with torch.no_grad():
        net.bias.fill_(1.0)
    mean = unirms.state_of(optimizer).average["bias"]
    net.bias.grad = None
    optimizer.step()
    np.testing.assert_allclose(unirms.state_of(optimizer).average["bias"], (mean + 1) / 2, rtol=1e-6)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_averages_are_copied_and_in_the_checkpoint(duplicate):
    net, again = model(), model(1)
    optimizer = unirms.build(AVERAGE, "torch", net)
    train(net, optimizer, 0, 3)
    other = unirms.build(AVERAGE, "torch", again)
    again.load_state_dict(net.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    third_net, third = duplicate((net, optimizer))
    for each, one in ((net, optimizer), (again, other), (third_net, third)):
        train(each, one, 3, 6)
    for one in (other, third):
        for name, mean in unirms.state_of(optimizer).average.items():
            np.testing.assert_array_equal(unirms.state_of(one).average[name], mean)


@pytest.mark.parametrize("config", [AVERAGE.replace(ema_decay=0), RMSPropConfig.from_native("torch")])
def test_no_average_is_no_swap(config):
    with (
        pytest.raises(UnsupportedError, match="keeps no running means"),
        unirms.averaged(unirms.build(config, "torch", model())),
    ):
        pass


def test_a_stock_checkpoint_begins_to_be_averaged():
    net = model()
    stock = torch.optim.RMSprop(net.parameters(), momentum=0.9)
    train(net, stock, 0, 2)
    config = RMSPropConfig.from_native("torch", momentum=0.9).replace(ema_decay=0.5)
    optimizer = unirms.build(config, "torch", list(net.parameters()))
    optimizer.load_state_dict(copy.deepcopy(stock.state_dict()))
    before, after = net.weight.detach().clone(), train(net, optimizer, 2, 3)[0]
    np.testing.assert_allclose(unirms.state_of(optimizer).average["0"], ((before + after) / 2).numpy(), rtol=1e-6)


# Checkpoints


def test_the_state_has_all_its_keys_from_the_first_step_on():
    # A distributed checkpoint is loaded into an optimizer that was stepped once, and misses no key there.
    net = model()
    optimizer = unirms.build(GATHER, "torch", net)
    net.weight.grad = torch.zeros_like(net.weight)
    optimizer.step()
    keys = [set(state) for state in optimizer.state_dict()["state"].values()]
    own = {"weight_avg", "grad_sum", "grad_count", "micro_step"}
    assert keys == [{"step", "square_avg", "momentum_buffer"} | own] * 2
    train(net, optimizer, 0, 8)
    assert [set(state) for state in optimizer.state_dict()["state"].values()] == keys


def test_the_step_counts_updates_although_no_parameter_has_a_gradient_in_each():
    net = model()
    optimizer = unirms.build(RMSPropConfig(nesterov=True, momentum=0.5), "torch", net)
    for number in range(4):
        net.weight.grad = torch.ones_like(net.weight) if number % 2 else None
        net.bias.grad = None if number % 2 else torch.ones_like(net.bias)
        optimizer.step()
    assert unirms.state_of(optimizer).step == 4


# Sparse gradients


@pytest.mark.parametrize("fields", [{}, {"nesterov": True, "momentum": 0.9}, {"sparse": "lazy"}])
def test_an_embedding_with_sparse_gradients_trains(fields):
    config = RMSPropConfig.from_native("torch", lr=0.1).replace(**fields)
    table = torch.nn.Embedding(4, 2, sparse=True)
    dense = copy.deepcopy(table)
    dense.sparse = False
    optimizers = unirms.build(config, "torch", table), unirms.build(config, "torch", dense)
    untouched = table.weight.detach()[[1, 3]].clone()
    for _ in range(3):
        for each, optimizer in zip((table, dense), optimizers, strict=True):
            optimizer.zero_grad()
            each(ROWS).square().sum().backward()
            optimizer.step()
    # No weight decay and no buffers of untouched rows: lazy rows are those of the dense update.
    torch.testing.assert_close(table.weight, dense.weight, rtol=1e-6, atol=1e-7)
    assert torch.equal(table.weight.detach()[[1, 3]], untouched)
    assert (table.weight.grad.layout is torch.sparse_coo) == (type(optimizers[0]) is UniRMSProp)


def test_untouched_rows_rest_only_if_lazy():
    for sparse, rests in (("dense", False), ("lazy", True)):
        table = torch.nn.Parameter(torch.ones(4, 2))
        config = RMSPropConfig(sparse=sparse, momentum=0.9, weight_decay=0.1, initial_mean_square=1.0)
        optimizer = unirms.build(config, "torch", {"w": table})
        table.grad = torch.sparse_coo_tensor(ROWS, torch.ones(3, 2), (4, 2), check_invariants=True)
        optimizer.step()
        assert bool((table[[1, 3]] == 1).all()) is rests
        assert bool((optimizer.state[table]["square_avg"][[1, 3]] == 1).all()) is rests
        assert (table[[0, 2]] < 1).all()


def test_gradients_that_are_sparse_in_all_dimensions_have_rows_too():
    whole, coo = (torch.nn.Parameter(torch.ones(4, 2)) for _ in range(2))
    grad = torch.tensor([[0.0, 0.0], [1.0, 3.0], [0.0, 0.0], [0.0, -2.0]])
    # The norm would count a row twice that is there twice.
    config = RMSPropConfig(sparse="lazy", weight_decay=0.1, clip={"by": "norm", "max_norm": 0.1}, epsilon=1.0)
    for param, given in ((whole, grad.to_sparse(1)), (coo, grad.to_sparse(2))):
        optimizer = unirms.build(config, "torch", {"w": param})
        param.grad = given
        optimizer.step()
    assert torch.equal(whole, coo)
    assert torch.equal(whole[[0, 2]], torch.ones(2, 2))


# Complex parameters


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize(
    "fields",
    [
        {"momentum": 0.9, "centered": True, "initial_mean_square": 0.5, "ema_decay": 0.5},
        {"clip": [{"by": "norm", "max_norm": 1.0}, {"by": "global_norm", "max_norm": 0.9}]},
        {"gradient_centralization": "first_axis", "gradient_accumulation_steps": 2, "weight_decay": 0.1},
        {"weight_decay": 0.1, "weight_decay_mode": "l1", "clip": {"by": "value", "limit": 0.5}},
        {"sparse": "lazy", "non_finite": "skip", "maximize": True},
    ],
)
def test_complex_parameters_are_pairs_of_reals(fields, dtype, mode):
    config, rng = RMSPropConfig(learning_rate=0.01, epsilon=1e-3, **fields), np.random.default_rng(0)
    real = torch.zeros((), dtype=dtype).real.dtype
    start = torch.from_numpy(rng.standard_normal((3, 4, 2))).to(real)
    param, pairs = torch.nn.Parameter(torch.view_as_complex(start.clone())), start.numpy().copy()
    optimizer = unirms.build(config, "torch", {"w": param}, foreach=mode)
    state = unirms.reference.init(config, {"w": pairs})
    for _ in range(6):
        grad = torch.from_numpy(rng.standard_normal((3, 4, 2))).to(real)
        given = torch.view_as_complex(grad)
        param.grad = given.to_sparse(1) if config.sparse == "lazy" else given
        optimizer.step()
        values = grad.numpy()
        if config.gradient_centralization != "none":  # the last axis of the reference's pairs is none of the tensor
            values = values - values.mean(axis=1, keepdims=True)
        plain = config.replace(gradient_centralization="none")
        new, state = unirms.reference.step(plain, {"w": pairs}, {"w": values}, state)
        pairs = new["w"]
    tolerance = 100 * torch.finfo(real).eps  # a few roundings each of six steps
    np.testing.assert_allclose(torch.view_as_real(param.detach()).numpy(), pairs, rtol=tolerance, atol=tolerance)
    seen = unirms.state_of(optimizer)
    assert seen.mean_square["w"].dtype == param.detach().numpy().dtype
    for slot, arrays in state.slots().items():
        for name, array in arrays.items():
            left = np.stack([seen.slots()[slot][name].real, seen.slots()[slot][name].imag], -1)
            np.testing.assert_allclose(left, array, rtol=tolerance, atol=tolerance)


def test_both_parts_of_a_complex_mean_square_are_filled_in_in_the_stock_class():
    config = RMSPropConfig.from_native("torch", lr=0.1, eps=1e-3).replace(initial_mean_square=1.0)
    param = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    optimizer = unirms.build(config, "torch", {"w": param})
    assert type(optimizer) is torch.optim.RMSprop
    param.grad = torch.full((2,), 1 + 1j)
    optimizer.step()
    assert torch.equal(param.real, param.imag)
