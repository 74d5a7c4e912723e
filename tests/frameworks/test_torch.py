"""PyTorch: the exact class is a citizen of its framework, and both ways of running it have the same bits."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch

import unirms
from unirms import RMSPropConfig, UnsupportedError
from unirms.conformance.drivers import driver as find_driver

EXACT = RMSPropConfig(learning_rate=0.01, momentum=0.9, nesterov=True, centered=True, weight_decay=0.1, epsilon=1e-3)


def model(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))


def train(net, optimizer, steps, *, start=0):
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        net(torch.randn(8, 4, generator=generator)).square().mean().backward()
        optimizer.step()
    return [param.detach().clone() for param in net.parameters()]


def equal(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_a_state_dict_continues_where_it_stopped():
    net = model()
    optimizer = unirms.build(EXACT, "torch", net)
    train(net, optimizer, 5)
    copied = model(1)
    copied.load_state_dict(net.state_dict())
    again = unirms.build(EXACT, "torch", copied)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # torch shares the tensors
    assert equal(train(net, optimizer, 5, start=5), train(copied, again, 5, start=5))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_keep_the_meaning_and_the_state(duplicate):
    net = model()
    optimizer = unirms.build(EXACT, "torch", net)
    train(net, optimizer, 3)
    other_net, other = duplicate((net, optimizer))
    assert unirms.config_of(other) == EXACT
    assert equal(train(net, optimizer, 3, start=3), train(other_net, other, 3, start=3))


def test_groups_and_state_have_the_stock_keys_and_no_others():
    net = model()
    exact, stock = (
        unirms.build(EXACT, "torch", net),
        torch.optim.RMSprop(net.named_parameters(), momentum=0.9, centered=True),
    )
    train(net, exact, 1)
    train(net, stock, 1)
    assert exact.param_groups[0].keys() == stock.param_groups[0].keys()
    left, right = (next(iter(o.state_dict()["state"].values())) for o in (exact, stock))
    assert left.keys() == right.keys()


def test_a_stock_checkpoint_loads_and_goes_on():
    net = model()
    stock = torch.optim.RMSprop(net.parameters(), lr=0.01, momentum=0.9, centered=True)
    train(net, stock, 3)
    same = RMSPropConfig.from_native("torch", lr=0.01, momentum=0.9, centered=True)
    copied = copy.deepcopy(net)
    exact = unirms.build(same.replace(negative_variance="clamp"), "torch", list(copied.parameters()))
    assert type(exact).__name__ == "UniRMSProp"
    exact.load_state_dict(copy.deepcopy(stock.state_dict()))
    for a, b in zip(train(net, stock, 5, start=3), train(copied, exact, 5, start=3), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # one fused rounding less a step


def test_schedulers_drive_it():
    net = model()
    optimizer = unirms.build(EXACT, "torch", net)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    train(net, optimizer, 1)
    scheduler.step()
    assert unirms.config_of(optimizer).learning_rate == 0.005


def test_foreach_and_single_have_the_same_bits():
    driver = find_driver("torch")
    rng = np.random.default_rng(0)
    for dtype, decay in itertools.product(("float32", "float64", "float16", "bfloat16"), ("l2", "decoupled")):
        config = EXACT.replace(weight_decay_mode=decay, bias_correction=True, initial_mean_square=1)
        params = {
            f"p{n}": rng.integers(-8, 8, n).astype("float32" if dtype == "bfloat16" else dtype) for n in (1, 17, 33)
        }
        runs = [
            driver.start(lambda p, c=config, **o: unirms.build(c, "torch", p, **o), params, dtype, mode)
            for mode in driver.modes
        ]
        for _ in range(5):
            grads = {n: rng.integers(1, 8, p.shape).astype(p.dtype) for n, p in params.items()}
            for run in runs:
                run.step(grads, 0.01)
        left, right = (run.weights() for run in runs)
        assert all(np.array_equal(left[name], right[name]) for name in params), (dtype, decay)


def test_names_come_from_the_model_and_reach_the_checkpoint():
    net = model()
    optimizer = unirms.build(EXACT.replace(no_weight_decay="*.bias"), "torch", net)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert optimizer.param_groups[1]["param_names"] == ["0.bias", "1.bias"]
    train(net, optimizer, 1)
    assert set(unirms.state_of(optimizer).mean_square) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_a_group_added_later_joins_in():
    net, more = model(), torch.nn.Parameter(torch.ones(2))
    optimizer = unirms.build(EXACT, "torch", list(net.parameters()))
    optimizer.add_param_group({"params": [more]})
    more.grad = torch.ones(2)
    optimizer.step()
    assert (more < 1).all()


def test_groups_that_no_config_can_say_are_refused():
    net = model()
    groups = [{"params": net[0].parameters(), "alpha": 0.5}, {"params": net[1].parameters()}]
    with pytest.raises(UnsupportedError, match="different hyperparameters"):
        unirms.config_of(torch.optim.RMSprop(groups))


def test_a_learning_rate_in_a_tensor():
    net = model()
    optimizer = unirms.build(EXACT, "torch", net)
    optimizer.param_groups[0]["lr"] = torch.tensor(0.5)
    train(net, optimizer, 1)
    assert unirms.config_of(optimizer).learning_rate == 0.5


def test_a_closure_is_called_with_gradients_on():
    net = model()
    optimizer = unirms.build(EXACT, "torch", net)

    def closure():
        loss = net(torch.ones(1, 4)).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).requires_grad


def test_parameters_without_a_gradient_are_left_alone():
    net = model()
    optimizer = unirms.build(EXACT, "torch", net)
    net[0].weight.grad = torch.ones(3, 4)
    before = net[1].weight.detach().clone()
    optimizer.step()
    assert torch.equal(net[1].weight, before)
    assert set(unirms.state_of(optimizer).mean_square) >= {"0.weight"}


def test_sparse_gradients_are_refused_as_by_the_stock_class():
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = unirms.build(EXACT, "torch", embedding)
    embedding(torch.tensor([1, 1])).sum().backward()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64, torch.float8_e4m3fn])
def test_dtypes_that_it_does_not_compute_are_refused(dtype):
    with pytest.raises(UnsupportedError, match="are not supported"):
        unirms.build(EXACT, "torch", [torch.zeros(2).to(dtype)])


def test_other_subclasses_are_not_taken_for_the_stock_class():
    class Mine(torch.optim.RMSprop):
        pass

    with pytest.raises(unirms.ForeignOptimizerError):
        unirms.config_of(Mine(model().parameters()))


def test_torch_s_square_root_is_within_an_ulp():
    # Where it is not correctly rounded (one in five float32 roots on x86-64), weights cannot have the reference's bits.
    values = np.random.default_rng(0).random(10_000).astype(np.float32)
    root = torch.sqrt(torch.from_numpy(values)).numpy()
    off = np.abs(root - np.sqrt(values)) / np.spacing(root)
    assert off.max() <= 1
