"""PyTorch: the exact class is a citizen of its framework, and both ways of running it have the same bits."""

import copy
import gc
import io
import itertools
import pickle
import weakref

import numpy as np
import pytest
import torch

import schedule_examples
import unirms
from unirms import ConfigError, RMSPropConfig, UnsupportedError, schedules
from unirms.adapters.torch import ADAPTER, UniRMSProp
from unirms.conformance.cases import LIMIT_ULP
from unirms.conformance.drivers import driver as find_driver
from unirms.conformance.measures import Ruler

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
    groups = [{"params": net[0].parameters(), "maximize": True}, {"params": net[1].parameters()}]
    with pytest.raises(UnsupportedError, match="its parameter groups differ in maximize, which a config cannot say"):
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


@pytest.mark.parametrize("dtype", [torch.int32, torch.float8_e4m3fn])
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


# Schedules


SCHEDULES = schedule_examples.SCHEDULES
EXPECTED_CLASS = {"stock": torch.optim.RMSprop, "exact": UniRMSProp}
MEANING = {
    "stock": RMSPropConfig.from_native("torch", momentum=0.8, eps=1e-3, weight_decay=0.01),
    "exact": RMSPropConfig(momentum=0.8, nesterov=True, weight_decay=0.1, epsilon=1e-3),
}


def test_every_kind_of_schedule_is_tried():
    assert {schedule.kind for schedule in SCHEDULES.values()} == set(schedules.KINDS)


def scheduled(which, schedule, params):
    """Return the stock or the exact optimizer of a schedule."""
    config = MEANING[which].replace(learning_rate=schedule)
    named = ADAPTER.named_parameters(params)
    if which == "exact":
        return ADAPTER.exact(config, named, {})
    return ADAPTER.stock(config.to_native("torch"), config, named, {})


def gradients(steps, size):
    rng = np.random.default_rng(3)
    return (rng.normal(size=(steps, size)) * 10.0 ** rng.uniform(-2, 0.5, (steps, 1))).astype(np.float32)


# At its end its rate is 2e-7, and float32 weights near 1 lose most of such a step by rounding: those of the float32
# reference are 34.2 ULP off after 300 updates, too (7.3 after 100).
UPDATES = {"one_cycle of three": 100}


def worst_ulp(which, schedule, *, updates=300, late=0):
    """Return the worst error in ULP of a float32 and a float64 run; the scheduler skips its first `late` steps."""
    start = {"w": np.linspace(-1, 1, 7).astype(np.float32)}
    wide = {"w": start["w"].astype(np.float64)}
    config = MEANING[which].replace(learning_rate=schedule)
    state, runs = unirms.reference.init(config, wide), []
    for dtype in (torch.float32, torch.float64):
        param = torch.nn.Parameter(torch.from_numpy(start["w"].copy()).to(dtype))
        optimizer = scheduled(which, schedule, {"w": param})
        assert type(optimizer) is EXPECTED_CLASS[which]
        runs.append((param, optimizer, unirms.lr_scheduler(optimizer), Ruler(wide, str(dtype).removeprefix("torch."))))
    for number, grad in enumerate(gradients(updates, 7)):
        wide, state = unirms.reference.step(config, wide, {"w": grad.astype(np.float64)}, state)
        for param, optimizer, scheduler, ruler in runs:
            param.grad = torch.from_numpy(grad).to(param.dtype)
            optimizer.step()
            if number >= late:
                scheduler.step()
            ruler.observe(wide, {"w": param.detach().numpy().astype(np.float64)})
    return [ruler.worst.ulp for *_, ruler in runs]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("which", MEANING)
def test_every_schedule_follows_the_reference(which, name):
    assert max(worst_ulp(which, SCHEDULES[name], updates=UPDATES.get(name, 300))) <= LIMIT_ULP["float32"]


@pytest.mark.parametrize("name", [name for name, schedule in SCHEDULES.items() if not schedule.is_constant])
def test_a_scheduler_that_is_one_step_late_is_caught(name):
    assert min(worst_ulp("stock", SCHEDULES[name], late=1)) > LIMIT_ULP["float32"]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("which", MEANING)
def test_the_rate_is_right_at_every_update(which, name):
    schedule = SCHEDULES[name]
    optimizer = scheduled(which, schedule, {"w": torch.ones(1)})
    scheduler, group = unirms.lr_scheduler(optimizer), optimizer.param_groups[0]
    optimizer.step()
    for t in range(3):
        assert (scheduler.last_epoch, group["lr"]) == (t, schedule.value(t))
        scheduler.step()
    for t in (10, 1000, 10**6):
        scheduler.load_state_dict({**scheduler.state_dict(), "last_epoch": t - 1})
        assert group["lr"] == schedule.value(t - 1)
        scheduler.step()
        assert scheduler.get_last_lr() == [group["lr"]] == [schedule.value(t)]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("which", MEANING)
def test_config_of_gives_the_schedule_back(which, name):
    config = MEANING[which].replace(learning_rate=SCHEDULES[name], weight_decay=0.1, no_weight_decay=("*.bias",))
    net = model()
    named = ADAPTER.named_parameters(net)
    native = config.to_native("torch")
    optimizer = ADAPTER.stock(native, config, named, {}) if which == "stock" else ADAPTER.exact(config, named, {})
    # PyTorch's groups have names and no patterns.
    resolved = config if which == "exact" else config.replace(no_weight_decay=("0.bias", "1.bias"))
    assert unirms.config_of(optimizer) == resolved
    for number in range(3):
        train(net, optimizer, 1, start=number)
        unirms.lr_scheduler(optimizer).step()
    assert unirms.config_of(optimizer) == resolved


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("which", MEANING)
def test_a_scheduled_run_resumes_in_fresh_objects(which, name):
    def steps(net, optimizer, first, last):
        for number in range(first, last):
            weights = train(net, optimizer, 1, start=number)
            unirms.lr_scheduler(optimizer).step()
        return weights

    net, again = model(), model(1)
    optimizer = scheduled(which, SCHEDULES[name], net)
    steps(net, optimizer, 0, 7)
    file = io.BytesIO()
    torch.save([net.state_dict(), optimizer.state_dict(), unirms.lr_scheduler(optimizer).state_dict()], file)
    file.seek(0)
    weights, slots, count = torch.load(file, weights_only=True)
    # Made with another schedule: as with PyTorch's own schedulers, the checkpoint says what goes on.
    resumed = scheduled(which, schedules.Constant(learning_rate=1.0), again)
    again.load_state_dict(weights)
    resumed.load_state_dict(slots)
    unirms.lr_scheduler(resumed).load_state_dict(count)
    assert unirms.config_of(resumed) == unirms.config_of(optimizer)
    assert equal(steps(net, optimizer, 7, 15), steps(again, resumed, 7, 15))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_loaded_count_sets_the_rate_of_groups_that_were_not_loaded(dtype):
    schedule = SCHEDULES["cosine"]
    optimizer = scheduled("stock", schedule, model())
    optimizer.param_groups[0]["lr"] = torch.tensor(1.0, dtype=dtype)
    unirms.lr_scheduler(optimizer).load_state_dict({"last_epoch": 7})  # all that schedulers of PyTorch share
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(schedule.value(7), rel=1e-7)
    assert unirms.config_of(optimizer).learning_rate == schedule
    with pytest.raises(ConfigError, match="kind"):
        unirms.lr_scheduler(optimizer).load_state_dict({"last_epoch": 7, "schedule": {"kind": "cosin"}})


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda all_: pickle.loads(pickle.dumps(all_))])
@pytest.mark.parametrize("which", MEANING)
def test_copies_keep_the_schedule(which, duplicate, steps):
    net = model()
    optimizer = scheduled(which, SCHEDULES["one_cycle"], net)
    scheduler = unirms.lr_scheduler(optimizer)
    for number in range(steps):
        train(net, optimizer, 1, start=number)
        scheduler.step()
    for other_net, other, other_scheduler in (
        duplicate((net, optimizer, scheduler)),
        duplicate([scheduler, optimizer, net])[::-1],
    ):
        assert unirms.lr_scheduler(other) is other_scheduler is not scheduler
        assert other_scheduler.optimizer is other
        assert unirms.config_of(other) == unirms.config_of(optimizer)
        for _ in range(2):  # filterwarnings=error: no complaint about the order of calls
            train(other_net, other, 1)
            other_scheduler.step()
        assert other.param_groups[0]["lr"] == SCHEDULES["one_cycle"].value(steps + 2)
    assert scheduler.last_epoch == steps
    assert copy.copy(scheduler) is not unirms.lr_scheduler(optimizer) is scheduler


def test_a_copy_of_the_exact_optimizer_alone_has_its_scheduler():
    optimizer = copy.deepcopy(scheduled("exact", SCHEDULES["linear"], model()))
    assert unirms.lr_scheduler(optimizer).optimizer is optimizer
    assert unirms.config_of(optimizer).learning_rate == SCHEDULES["linear"]


def test_the_checkpoint_has_nothing_more_than_with_a_scheduler_of_torch():
    net = model()
    ours = scheduled("stock", SCHEDULES["linear"], list(net.parameters())).state_dict()
    stock = torch.optim.RMSprop(net.parameters())
    torch.optim.lr_scheduler.LinearLR(stock)
    assert ours.keys() == stock.state_dict().keys()
    assert ours["param_groups"][0].keys() == stock.state_dict()["param_groups"][0].keys()


def test_an_optimizer_and_its_scheduler_are_freed():
    reference = weakref.ref(scheduled("exact", SCHEDULES["linear"], model()))
    gc.collect()
    assert reference() is None


def test_a_rate_from_elsewhere_is_a_number():
    net = model()
    optimizer = scheduled("exact", SCHEDULES["linear"], net)
    optimizer.param_groups[0]["lr"] = 0.5
    assert unirms.config_of(optimizer).learning_rate == 0.5
    train(net, optimizer, 1)
    unirms.lr_scheduler(optimizer).step()  # takes the rate back
    assert unirms.config_of(optimizer).learning_rate == SCHEDULES["linear"]
    other = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5)
    assert unirms.config_of(optimizer).learning_rate == SCHEDULES["linear"].value(1) * 0.5
    assert unirms.lr_scheduler(optimizer) is not other
    assert unirms.lr_scheduler(unirms.build(EXACT, "torch", net)) is None


def test_a_group_added_later_joins_the_schedule():
    net = model()
    optimizer = scheduled("exact", SCHEDULES["linear"], list(net.parameters()))
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    train(net, optimizer, 1)
    unirms.lr_scheduler(optimizer).step()
    assert [group["lr"] for group in optimizer.param_groups] == [SCHEDULES["linear"].value(1)] * 2


def test_scaled_gradients_and_closures_go_with_the_scheduler():
    net, plain = model(), model()
    optimizers = [scheduled("exact", SCHEDULES["cosine"], each) for each in (net, plain)]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for number in range(3):
        optimizers[0].zero_grad()
        scaler.scale(net(torch.full((2, 4), number + 1.0)).square().mean()).backward()
        scaler.step(optimizers[0])
        scaler.update()

        def closure(inputs=torch.full((2, 4), number + 1.0)):  # noqa: B008
            optimizers[1].zero_grad()
            loss = plain(inputs).square().mean()
            loss.backward()
            return loss

        optimizers[1].step(closure)
        for optimizer in optimizers:
            unirms.lr_scheduler(optimizer).step()
    assert equal(net.parameters(), plain.parameters())


def test_it_can_be_a_part_of_a_sequence_of_torch():
    net = model()
    optimizer = scheduled("stock", SCHEDULES["linear"], net)
    late = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=100)
    chain = torch.optim.lr_scheduler.SequentialLR(optimizer, [unirms.lr_scheduler(optimizer), late], milestones=[2])
    rates = []
    for number in range(3):
        train(net, optimizer, 1, start=number)
        rates.append(optimizer.param_groups[0]["lr"])
        chain.step()
    assert rates[:2] == [SCHEDULES["linear"].value(t) for t in range(2)]
