"""PyTorch: the groups of a config as param_groups, driven by users and schedulers, and read back."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch

import unirms
from unirms import RMSPropConfig, UnsupportedError, schedules
from unirms.adapters.torch import UniRMSProp

GROUPS = [
    {"match": "*.bias", "learning_rate": 0.001, "rho": 0.8, "centered": True},
    {"match": "1.*", "learning_rate_factor": 4, "momentum": 0.5, "epsilon": 1e-3},
]
STOCK = RMSPropConfig.from_native("torch", lr=0.01, momentum=0.9, weight_decay=0.1).replace(
    groups=GROUPS, no_weight_decay="0.*"
)
EXACT = STOCK.replace(
    initial_mean_square=0.5,  # a corrected first variance is nothing but rounding errors
    nesterov=True,
    groups=[{**GROUPS[0], "clip": {"by": "value", "limit": 0.5}}, GROUPS[1]],
    bias_correction=True,
)
RATE = schedules.Warmup(
    warmup_steps=3, start_learning_rate=0.0, after=schedules.Cosine(initial_learning_rate=0.1, decay_steps=20)
)
FACTORS = [{"match": "*.bias", "learning_rate_factor": 0}, {"match": "1.*", "learning_rate_factor": 0.3}]
NAMES = ("0.weight", "0.bias", "1.weight", "1.bias")


def model(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))


def train(net, optimizer, steps):
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(8, 4, generator=generator)).square().mean().backward()
        optimizer.step()
        if unirms.lr_scheduler(optimizer) is not None:
            unirms.lr_scheduler(optimizer).step()
    return [param.detach().clone() for param in net.parameters()]


def equal(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def meanings(config):
    return [config.for_parameter(name) for name in NAMES]


@pytest.mark.parametrize(("config", "kind"), [(STOCK, torch.optim.RMSprop), (EXACT, UniRMSProp)])
def test_each_class_has_pytorch_s_own_groups(config, kind):
    optimizer = unirms.build(config, "torch", model())
    stock = torch.optim.RMSprop(model().named_parameters())
    assert type(optimizer) is kind
    assert all(group.keys() == stock.param_groups[0].keys() for group in optimizer.param_groups)
    # The first is that of no group, whose rate users print. The decay of "0.bias" is 0 and that of "1.bias" is not.
    assert [group["param_names"] for group in optimizer.param_groups] == [
        [name] for name in (*NAMES[:2], *NAMES[:1:-1])
    ]
    for group in optimizer.param_groups:
        wanted = config.for_parameter(group["param_names"][0])
        assert (group["lr"], group["alpha"], group["eps"]) == (wanted.learning_rate, wanted.rho, wanted.epsilon)
        assert (group["momentum"], group["centered"]) == (wanted.momentum, wanted.centered)
        assert group["weight_decay"] == wanted.weight_decay


@pytest.mark.parametrize("config", [STOCK, EXACT])
def test_config_of_reads_groups_back(config):
    optimizer = unirms.build(config, "torch", model())
    train(model(), optimizer, 1)
    assert meanings(unirms.config_of(optimizer)) == meanings(config)
    assert meanings(unirms.config_of(unirms.build(unirms.config_of(optimizer), "torch", model()))) == meanings(config)
    if type(optimizer) is UniRMSProp:
        assert unirms.config_of(optimizer) == config


@pytest.mark.parametrize("config", [STOCK, EXACT])
def test_a_scheduler_of_torch_drives_all_groups(config):
    net = model()
    optimizer = unirms.build(config, "torch", net)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.3)
    for _ in range(3):
        train(net, optimizer, 1)
        scheduler.step()
    seen = unirms.config_of(optimizer)
    for name in NAMES:
        rate, wanted = seen.for_parameter(name).learning_rate, config.for_parameter(name).learning_rate
        assert rate == pytest.approx(wanted * 0.3**3, rel=1e-12)
    if config is EXACT:  # all else is as it was written
        assert seen.groups[0].match == ("*.bias",)
        assert seen.groups[1] == config.groups[1]


def test_what_is_changed_in_one_group_is_read_back():
    optimizer = unirms.build(EXACT, "torch", model())
    optimizer.param_groups[-1]["lr"] = 0.5
    optimizer.param_groups[0]["alpha"] = 0.7
    seen = meanings(unirms.config_of(optimizer))
    wanted = meanings(EXACT)
    wanted[0] = wanted[0].replace(rho=0.7)
    wanted[2] = wanted[2].replace(learning_rate=0.5)
    assert seen == wanted


def test_momentum_that_is_turned_on_later_starts_from_nothing():
    net = model()
    optimizer = unirms.build(EXACT.replace(groups=(), momentum=0, nesterov=False), "torch", net)
    train(net, optimizer, 2)
    optimizer.param_groups[0]["momentum"] = 0.9
    train(net, optimizer, 1)
    assert set(unirms.state_of(optimizer).momentum) == {"0.weight", "0.bias"}


@pytest.mark.parametrize("fields", [{}, {"nesterov": True, "momentum": 0.5}])
def test_a_schedule_drives_all_groups_by_their_factors(fields):
    net = model()
    config = RMSPropConfig.from_native("torch").replace(learning_rate=RATE, groups=FACTORS, **fields)
    optimizer = unirms.build(config, "torch", net)
    rest, bias, head = optimizer.param_groups
    for t in range(6):
        rate = RATE.value(t)
        assert (rest["lr"], bias["lr"], head["lr"]) == (rate, 0.0, rate * 0.3)
        assert unirms.config_of(optimizer).learning_rate == RATE
        for name in ("0.weight", "1.weight", "0.bias"):
            seen = unirms.config_of(optimizer).for_parameter(name).learning_rate
            assert seen.value(7) == pytest.approx(config.for_parameter(name).learning_rate.value(7), rel=1e-15)
        train(net, optimizer, 1)


def test_a_schedule_of_which_no_parameter_has_the_whole_is_read_back():
    # The first of the groups is no parameter's measure: its factor is 0.
    groups = [{"match": "0.*", "learning_rate_factor": 0}, {"match": "*", "learning_rate_factor": 0.5}]
    config = RMSPropConfig.from_native("torch").replace(learning_rate=RATE, groups=groups)
    for policy in ("stock", "exact"):
        seen = unirms.config_of(unirms.build(config, "torch", model(), policy=policy))
        assert [one.learning_rate.value(9) for one in meanings(seen)] == [0.0, 0.0, *[RATE.value(9) * 0.5] * 2]


@pytest.mark.parametrize("config", [STOCK.replace(learning_rate=RATE, groups=FACTORS), EXACT])
def test_groups_resume_in_fresh_objects(config):
    net, again = model(), model(1)
    optimizer, resumed = unirms.build(config, "torch", net), unirms.build(config, "torch", again)
    train(net, optimizer, 4)
    scheduler, file = unirms.lr_scheduler(optimizer), io.BytesIO()
    torch.save([net.state_dict(), optimizer.state_dict(), scheduler and scheduler.state_dict()], file)
    file.seek(0)
    weights, slots, count = torch.load(file, weights_only=True)
    again.load_state_dict(weights)
    resumed.load_state_dict(slots)
    if scheduler is not None:
        unirms.lr_scheduler(resumed).load_state_dict(count)
    assert unirms.config_of(resumed) == unirms.config_of(optimizer)
    assert equal(train(net, optimizer, 4), train(again, resumed, 4))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_keep_groups_and_their_clips(duplicate):
    net = model()
    optimizer = unirms.build(EXACT, "torch", net)
    train(net, optimizer, 2)
    other_net, other = duplicate((net, optimizer))
    assert unirms.config_of(other) == EXACT
    assert equal(train(net, optimizer, 3), train(other_net, other, 3))


def test_a_parameter_added_later_has_what_its_group_says_and_the_clips_of_its_name():
    net, late = model(), torch.nn.Parameter(torch.ones(2))
    clips = [{"match": "late", "clip": {"by": "value", "limit": 1e-3}}, {"match": "0.*", "rho": 0.5}]
    config = RMSPropConfig(epsilon=1.0, groups=clips)
    with pytest.raises(UnsupportedError, match=r"groups\.0 matches no parameter"):
        unirms.build(config, "torch", net)
    both = [*net.named_parameters(), ("late", late)]
    optimizer = unirms.build(config.replace(clip={"by": "value", "limit": 1e-3}, groups=clips[1:]), "torch", net)
    optimizer.add_param_group({"params": [("late", late)], "lr": 0.5})
    whole = unirms.build(config, "torch", [(name, torch.ones_like(param)) for name, param in both])
    late.grad = torch.tensor([5.0, -5.0])
    optimizer.step()
    # clipped to 0.001: 0.5 * 0.001 / sqrt(0.1 * 1e-6 + 1)
    np.testing.assert_allclose(late.detach().numpy(), [0.9995, 1.0005], rtol=1e-6)
    assert unirms.config_of(optimizer).for_parameter("late").learning_rate == 0.5
    assert len(whole.param_groups) == 3


def test_parameters_without_names_are_grouped_by_their_number():
    config = RMSPropConfig.from_native("torch").replace(groups=[{"match": "1", "rho": 0.5}])
    for chosen in (config, config.replace(bias_correction=True)):
        net = model()
        optimizer = unirms.build(chosen, "torch", list(net.parameters()))
        assert [group["param_names"] for group in optimizer.param_groups] == [["0", "2", "3"], ["1"]]
        assert optimizer.param_groups[1]["params"][0] is net[0].bias
        train(net, optimizer, 1)
        assert unirms.state_of(optimizer).mean_square["1"].shape == (3,)


def test_the_exact_class_groups_what_it_is_given():
    net = model()
    own, built = UniRMSProp(net.named_parameters(), EXACT), unirms.build(EXACT, "torch", net)
    assert [group["param_names"] for group in own.param_groups] == [g["param_names"] for g in built.param_groups]
    assert unirms.config_of(own) == EXACT
    with pytest.raises(UnsupportedError, match=r"groups\.0 matches no parameter"):
        UniRMSProp(net.parameters(), EXACT)


def test_optimizers_over_the_same_parameters_do_not_see_each_other_s_groups():
    net = model()
    unirms.build(EXACT, "torch", net)
    other = unirms.build(EXACT.replace(groups=(), no_weight_decay=()), "torch", net)
    assert meanings(unirms.config_of(other)) == [EXACT.replace(groups=(), no_weight_decay=())] * 4
