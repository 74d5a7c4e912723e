"""PaddlePaddle: what becomes of groups, counts, sums and averages over the life of an optimizer."""

import copy
import pickle

import numpy as np
import pytest

import paddle_runs as runs
import unirms
from unirms import NonFiniteGradientError, ParameterGroup, RMSPropConfig, schedules
from unirms.clipping import ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.conformance.drivers.paddle import paddle
from unirms.errors import UnrepresentableError, UnsupportedError

from unirms.adapters.paddle import UniRMSProp  # isort: skip  (the driver quietens the import of Paddle)
from unirms.adapters.paddle.progress import UpdateLR  # isort: skip
from unirms.adapters.paddle.schedules import ScheduleLR  # isort: skip

parameter, step = runs.parameter, runs.step

# Paddle's own autograd asks for it, in every static graph.
pytestmark = pytest.mark.filterwarnings("ignore:Tensor do not have 'place' interface:UserWarning")

STOCK = paddle.optimizer.RMSProp
BASE = RMSPropConfig(learning_rate=3e-3, epsilon=1e-2)
HALVES = schedules.Step(initial_learning_rate=0.1, step_size=1, gamma=0.5)
GROUPED = BASE.replace(
    groups=(ParameterGroup(match="*.bias", learning_rate=0.03, rho=0.5), ParameterGroup(match="norm", momentum=0.5))
)
NAMES = ("a.weight", "a.bias", "norm")


def three():
    return {name: parameter([1.0, 2.0]) for name in NAMES}


# Groups


def test_groups_build_the_exact_class_and_leave_no_trace_on_the_parameters():
    params = three()
    before = {name: (dict(param.optimize_attr), param.regularizer) for name, param in params.items()}
    with pytest.raises(UnrepresentableError, match=r"groups is .*other optimizers obey them"):
        unirms.build(GROUPED, "paddle", params, policy="stock")
    optimizer = unirms.build(GROUPED, "paddle", params)
    assert type(optimizer) is UniRMSProp
    step(optimizer, *[[0.5, 0.5]] * 3)
    assert {name: (dict(param.optimize_attr), param.regularizer) for name, param in params.items()} == before
    # A bystander over the same parameters computes what it does alone.
    alone = parameter(params["a.bias"].numpy())
    for param in (params["a.bias"], alone):
        step(STOCK(3e-3, 0.9, 1e-2, parameters=[param]), [0.5, 0.5])
    assert (params["a.bias"].numpy() == alone.numpy()).all()


def test_a_group_that_matches_nothing_is_an_error():
    config = BASE.replace(groups=(ParameterGroup(match="*.gamma", rho=0.5),))
    with pytest.raises(UnsupportedError, match=r"groups\.0 matches no parameter"):
        unirms.build(config, "paddle", three())
    with pytest.raises(UnsupportedError, match=r"groups\.0 matches no parameter"):
        UniRMSProp(config, [parameter([1.0])])


def test_paddle_s_own_groups_are_refused():
    with pytest.raises(UnsupportedError, match="the config's groups"):
        UniRMSProp(BASE, [{"params": [parameter([1.0])]}])


def test_config_of_has_the_groups_and_what_is_live():
    optimizer = unirms.build(GROUPED, "paddle", three())
    assert unirms.config_of(optimizer) == GROUPED
    optimizer.set_lr(6e-3)
    optimizer._rho = 0.75
    optimizer._momentum = 0.25
    bias = ParameterGroup(match="*.bias", learning_rate_factor=10.0, rho=0.5)
    expected = GROUPED.replace(learning_rate=6e-3, rho=0.75, momentum=0.25, groups=(bias, GROUPED.groups[1]))
    assert unirms.config_of(optimizer) == expected
    wanted = {name: np.array([1.0, 2.0], "float32") for name in NAMES}
    grads = {name: np.array([0.5, -1.0], "float32") for name in NAMES}
    state = unirms.reference.init(expected, wanted)
    for _ in range(3):
        step(optimizer, *grads.values())
        wanted, state = unirms.reference.step(expected, wanted, grads, state)
    for param, name in zip(optimizer.every_parameter(), NAMES, strict=True):
        np.testing.assert_array_max_ulp(param.numpy(), wanted[name], maxulp=2)


def test_slots_of_a_group_are_in_the_state_alone():
    optimizer = unirms.build(GROUPED, "paddle", three())
    step(optimizer, *[[0.5, 0.5]] * 3)
    state = unirms.state_of(optimizer)
    assert set(state.mean_square) == set(NAMES)
    assert set(state.momentum) == {"norm"}


def test_a_copy_keeps_the_names_of_its_parameters():
    # Paddle gives copied parameters names of its own.
    twin = copy.deepcopy(unirms.build(GROUPED, "paddle", three()))
    step(twin, *[[0.5, 0.5]] * 3)
    assert unirms.config_of(twin) == GROUPED
    assert set(unirms.state_of(twin).momentum) == {"norm"}
    weights = [param.numpy()[0] for param in twin.every_parameter()]
    assert weights[1] < weights[0] == pytest.approx(weights[2])
    stock = copy.deepcopy(unirms.build(BASE.replace(weight_decay_mode="l2"), "paddle", {"w": parameter([1.0])}))
    step(stock, [0.5])
    assert set(unirms.state_of(stock).mean_square) == {"w"}


def test_the_groups_of_a_stock_optimizer_are_read():
    first, second, third = (parameter([1.0]) for _ in range(3))
    groups = [
        {"params": [first]},
        {"params": [second], "weight_decay": 0.0},
        {"params": [third], "rho": 0.5, "learning_rate": 0.5, "grad_clip": paddle.nn.ClipGradByNorm(2.0)},
    ]
    found = unirms.config_of(STOCK(0.1, parameters=groups, weight_decay=0.25))
    assert found.for_parameter(first.name).weight_decay == 0.25
    assert found.for_parameter(second.name) == found.for_parameter(first.name).replace(weight_decay=0.0)
    assert found.for_parameter(third.name).learning_rate == 0.05
    assert found.for_parameter(third.name).rho == 0.5
    assert found.for_parameter(third.name).clip == (ClipByNorm(max_norm=2.0),)
    rebuilt = unirms.build(found, "paddle", [parameter([1.0])] and [first, second, third])
    assert unirms.config_of(rebuilt) == found


def test_a_norm_for_each_group_of_a_stock_optimizer_is_read_where_a_config_can_say_it():
    clip = paddle.nn.ClipGradByGlobalNorm(1.0)
    groups = [{"params": [parameter([1.0]), parameter([1.0])]}, {"params": [parameter([1.0])], "rho": 0.5}]
    found = unirms.config_of(STOCK(0.1, parameters=groups, grad_clip=clip))
    assert found.clip == (ClipByGlobalNorm(max_norm=1.0, over="group"),)
    groups = [{"params": [parameter([1.0])]}, {"params": [parameter([1.0])]}]
    with pytest.raises(UnsupportedError, match="clips each parameter group by its own norm"):
        unirms.config_of(STOCK(0.1, parameters=groups, grad_clip=clip))


def test_a_group_s_factor_goes_with_the_schedule():
    config = BASE.replace(learning_rate=HALVES, groups=(ParameterGroup(match="norm", learning_rate_factor=4.0),))
    params = three()
    optimizer = unirms.build(config, "paddle", params)
    scheduler = unirms.lr_scheduler(optimizer)
    expected = {name: np.array([1.0, 2.0], "float32") for name in NAMES}
    state = unirms.reference.init(config, expected)
    for _ in range(4):
        step(optimizer, *[[0.5, 0.5]] * 3)
        scheduler.step()
        grads = {name: np.full(2, 0.5, "float32") for name in NAMES}
        expected, state = unirms.reference.step(config, expected, grads, state)
    assert all((params[name].numpy() == expected[name]).all() for name in NAMES)
    assert unirms.config_of(optimizer) == config


# Accumulation, and the scheduler beside it


def test_the_first_micro_steps_only_gather():
    param = parameter([1.0, 2.0])
    config = BASE.replace(gradient_accumulation_steps=3, ema_decay=0.5, momentum=0.5)
    optimizer = unirms.build(config, "paddle", {"w": param})
    for number, total in ((1, 0.5), (2, 1.0)):
        step(optimizer, [0.5, 0.5])
        optimizer.clear_grad()  # in its place: what was gathered must be a copy
        state = unirms.state_of(optimizer)
        assert (state.step, state.micro_step) == (0, number)
        assert state.gradient_sum["w"].tolist() == [total, total]
        assert param.numpy().tolist() == [1.0, 2.0]
        assert state.mean_square["w"].tolist() == [0.0, 0.0]
        assert state.average["w"].tolist() == [1.0, 2.0]
    step(optimizer, [2.0, 2.0])
    state = unirms.state_of(optimizer)
    assert (state.step, state.micro_step, dict(state.gradient_sum)) == (1, 0, {})
    assert state.mean_square["w"] == pytest.approx(0.1 * 1.0)


def test_a_parameter_with_a_gradient_in_one_micro_step_alone_is_updated():
    params = {"a": parameter([1.0]), "b": parameter([1.0])}
    optimizer = unirms.build(BASE.replace(gradient_accumulation_steps=2), "paddle", params)
    params["a"].grad = paddle.ones([1])
    optimizer.step()
    optimizer.clear_grad(set_to_zero=False)
    params["b"].grad = paddle.ones([1])
    optimizer.step()
    assert params["a"].numpy() == params["b"].numpy() < 1


@pytest.mark.parametrize("fields", [{"gradient_accumulation_steps": 3}, {"non_finite": "skip"}])
def test_a_scheduler_that_is_stepped_after_every_step_counts_updates(fields):
    optimizer = unirms.build(BASE.replace(learning_rate=HALVES, **fields), "paddle", [parameter([1.0])])
    scheduler = unirms.lr_scheduler(optimizer)
    places = []
    for number in range(1, 7):
        step(optimizer, [np.nan if number % 3 and "non_finite" in fields else 1.0])
        scheduler.step()
        scheduler.step()  # once too often: there was no update since
        places.append(scheduler.last_epoch)
    assert places == [0, 0, 1, 1, 1, 2]
    assert scheduler() == 0.025
    assert unirms.config_of(optimizer).learning_rate == HALVES


def test_other_schedulers_go_on_with_every_step_of_theirs():
    optimizer = unirms.build(BASE.replace(learning_rate=HALVES, ema_decay=0.5), "paddle", [parameter([1.0])])
    scheduler = unirms.lr_scheduler(optimizer)
    assert not isinstance(scheduler, UpdateLR)
    scheduler.step()
    assert scheduler.last_epoch == 1


def test_a_scheduler_that_counts_updates_can_be_sent_elsewhere_and_loaded():
    config = BASE.replace(learning_rate=HALVES, gradient_accumulation_steps=2)
    optimizer = unirms.build(config, "paddle", [parameter([1.0])])
    scheduler = unirms.lr_scheduler(optimizer)
    assert isinstance(scheduler, ScheduleLR)
    scheduler.step(5)
    for expected in (5, 6, 6, 7):
        step(optimizer, [1.0])
        scheduler.step()
        assert scheduler.last_epoch == expected
    scheduler.set_state_dict({"last_epoch": 3, "last_lr": 9.0})
    assert scheduler() == HALVES.value(3)
    for expected in (3, 4):
        step(optimizer, [1.0])
        scheduler.step()
        assert scheduler.last_epoch == expected
    alone = pickle.loads(pickle.dumps(scheduler))
    assert alone() == scheduler()
    twins = copy.deepcopy(unirms.build(config, "paddle", [parameter([1.0])]))
    for _ in range(2):
        step(twins, [1.0])
        unirms.lr_scheduler(twins).step()
    assert unirms.lr_scheduler(twins).last_epoch == 1


@pytest.mark.parametrize("name", [None, "mine"])
def test_a_run_resumes_in_the_middle_of_an_accumulation(name, tmp_path):
    config = BASE.replace(
        learning_rate=HALVES, gradient_accumulation_steps=3, momentum=0.5, bias_correction=True, ema_decay=0.9
    )
    grads = np.random.default_rng(2).normal(size=(9, 2, 2)).astype("float32")

    def fresh(values):
        with paddle.utils.unique_name.guard():
            params = {key: parameter(value) for key, value in values.items()}
            return params, unirms.build(config, "paddle", params, name=name)

    def go(params, optimizer, first, last):
        with paddle.utils.unique_name.guard():
            for number in range(first, last):
                params["a"].grad = paddle.to_tensor(grads[number, 0])
                # The second parameter has no gradient after the interruption, and a part of one before it.
                params["b"].grad = paddle.to_tensor(grads[number, 1]) if number == 3 else None
                optimizer.step()
                unirms.lr_scheduler(optimizer).step()

    start = {"a": np.ones(2, "float32"), "b": np.ones(2, "float32")}
    params, optimizer = fresh(start)
    go(params, optimizer, 0, 5)
    paddle.save(optimizer.state_dict(), str(tmp_path / "state"))
    values = {key: param.numpy().copy() for key, param in params.items()}
    go(params, optimizer, 5, 9)
    expected, whole = {key: param.numpy() for key, param in params.items()}, unirms.state_of(optimizer)
    assert (whole.step, set(whole.average)) == (3, {"a", "b"})

    params, resumed = fresh(values)
    resumed.set_state_dict(paddle.load(str(tmp_path / "state")))
    state = unirms.state_of(resumed)
    assert (state.step, state.micro_step, set(state.gradient_sum)) == (1, 2, {"a", "b"})
    go(params, resumed, 5, 9)
    for key, param in params.items():
        assert (param.numpy() == expected[key]).all()
        assert (unirms.state_of(resumed).average[key] == whole.average[key]).all()
    assert unirms.lr_scheduler(resumed).last_epoch == 3


def test_a_static_checkpoint_in_the_middle_of_an_accumulation(tmp_path):
    config = BASE.replace(
        learning_rate=HALVES, gradient_accumulation_steps=3, momentum=0.5, bias_correction=True, ema_decay=0.9
    )
    ends = []
    for interrupted in (False, True):
        with runs.StaticGraph() as run:
            ones = paddle.nn.initializer.Constant(1.0)
            weight = paddle.create_parameter([2], "float32", default_initializer=ones)
            fed = paddle.static.data("g", [2], "float32")
            optimizer = unirms.build(config, "paddle", {"w": weight})
            optimizer.minimize(paddle.sum(weight * fed))
            scheduler = unirms.lr_scheduler(optimizer)
            run.startup()
            for number in range(9):
                if interrupted and number == 5:
                    paddle.static.save(run.main, str(tmp_path / "half"))
                    place = scheduler.state_dict()
                    run.startup()
                    scheduler.set_state_dict({"last_epoch": 0, "last_lr": 0.1})
                    scheduler.set_state_dict(place)
                    paddle.static.load(run.main, str(tmp_path / "half"))
                    assert unirms.state_of(optimizer).micro_step == 2
                run.step(g=np.array([number, 1.0], "float32"))
                scheduler.step()
            state = unirms.state_of(optimizer)
            ends.append((run.value(weight).tolist(), state.average["w"].tolist(), state.step, scheduler.last_epoch))
    assert ends[0] == ends[1]
    assert ends[0][2:] == (3, 3)


# Gradients that are not finite


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
def test_an_update_that_is_skipped_leaves_everything_as_it_is(wrong):
    config = BASE.replace(
        learning_rate=HALVES, non_finite="skip", gradient_accumulation_steps=2, momentum=0.5, ema_decay=0.9
    )
    param = parameter([1.0, 2.0])
    optimizer = unirms.build(config, "paddle", {"w": param})
    for grad in ([1.0, 2.0], [3.0, 4.0]):
        step(optimizer, grad)
        unirms.lr_scheduler(optimizer).step()
    before, weights = unirms.state_of(optimizer), param.numpy().copy()
    for grad in ([wrong, 2.0], [3.0, 4.0]):
        step(optimizer, grad)
        unirms.lr_scheduler(optimizer).step()
    after = unirms.state_of(optimizer)
    assert (param.numpy() == weights).all()
    assert (after.step, after.micro_step, dict(after.gradient_sum)) == (1, 0, {})
    assert all((before.slots()[slot]["w"] == value["w"]).all() for slot, value in after.slots().items() if value)
    assert unirms.lr_scheduler(optimizer).last_epoch == 1


def test_a_gradient_that_is_not_finite_raises_and_nothing_has_changed():
    config = BASE.replace(non_finite="raise", gradient_accumulation_steps=2, momentum=0.5)
    params = {"good": parameter([1.0]), "bad": parameter([2.0])}
    optimizer = unirms.build(config, "paddle", params)
    step(optimizer, [1.0], [1.0])
    with pytest.raises(NonFiniteGradientError, match="the gradient of 'bad' has an infinity or a NaN"):
        step(optimizer, [1.0], [np.inf])
    state = unirms.state_of(optimizer)
    assert (state.step, state.micro_step) == (0, 1)
    assert state.gradient_sum["bad"] == 1.0
    assert [param.numpy().item() for param in params.values()] == [1.0, 2.0]
    step(optimizer, [1.0], [1.0])  # the batch again
    assert unirms.state_of(optimizer).step == 1
    assert params["bad"].numpy() < 2.0


@pytest.fixture
def scaler(monkeypatch):
    """Return a `GradScaler` at work; on CPU it switches itself off, but for a place that says otherwise."""

    class Place:
        def is_gpu_place(self):
            return True

    class Tracer:
        _expected_place = Place()

    monkeypatch.setattr(paddle.amp.grad_scaler, "_dygraph_tracer", Tracer)
    monkeypatch.setattr(paddle.amp.grad_scaler.amp_global_state(), "amp_dtype", "float16")
    # The second NaN in a row would lower the scale, and print it in a way that fails with NumPy 2.4.
    made = paddle.amp.GradScaler(init_loss_scaling=2.0**10, incr_every_n_steps=2, decr_every_n_nan_or_inf=2)
    assert made.is_enable()
    return made


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("non_finite", ["propagate", "raise"])
def test_a_dynamic_scaler_works_beside_it(scaler, non_finite, steps):
    config = BASE.replace(
        maximize=True, bias_correction=True, gradient_accumulation_steps=steps, non_finite=non_finite, momentum=0.5
    )
    param = parameter([1.0, 2.0])
    optimizer = unirms.build(config, "paddle", {"w": param})
    expected = {"w": param.numpy().copy()}
    state = unirms.reference.init(config, expected)
    scales = []
    for number in range(10):
        factor = paddle.to_tensor([np.inf if number == 3 else 1.0 + number, 2.0])
        scaler.scale((param * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.clear_grad()
        scales.append(scaler.state_dict()["scale"].item())
        if number != 3:  # the scaler has found it, and for the optimizer there was no such batch
            expected, state = unirms.reference.step(config, expected, {"w": factor.numpy()}, state)
        np.testing.assert_array_max_ulp(param.numpy(), expected["w"], maxulp=2)
        seen = unirms.state_of(optimizer)
        assert (seen.step, seen.micro_step) == (state.step, state.micro_step)
    assert len(set(scales)) > 3


# Running means of the weights


def test_averaged_weights_are_put_in_and_taken_out():
    params = three()
    config = BASE.replace(ema_decay=0.5)
    optimizer = unirms.build(config, "paddle", params)
    with unirms.averaged(optimizer):  # before the first update both are the same
        assert params["norm"].numpy().tolist() == [1.0, 2.0]
    for _ in range(3):
        params["norm"].grad = paddle.ones([2])
        optimizer.step()
    state = unirms.state_of(optimizer)
    weights = {name: param.numpy().copy() for name, param in params.items()}
    with unirms.averaged(optimizer):
        assert all((param.numpy() == state.average[name]).all() for name, param in params.items())
        assert (unirms.state_of(optimizer).average["norm"] == weights["norm"]).all()
    assert all((param.numpy() == weights[name]).all() for name, param in params.items())
    assert (state.average["norm"] > weights["norm"]).all()
    assert all((unirms.state_of(optimizer).average[name] == state.average[name]).all() for name in NAMES)


def test_averaged_weights_in_a_static_graph():
    with runs.StaticGraph() as run:
        ones = paddle.nn.initializer.Constant(1.0)
        weight, rest = (paddle.create_parameter([2], "float32", default_initializer=ones) for _ in range(2))
        optimizer = unirms.build(BASE.replace(ema_decay=0.5), "paddle", {"w": weight, "rest": rest})
        optimizer.minimize(paddle.sum(weight))
        run.startup()
        assert unirms.state_of(optimizer).average["w"].tolist() == [1.0, 1.0]
        with unirms.averaged(optimizer):
            assert run.value(weight).tolist() == [1.0, 1.0]
        for _ in range(3):
            run.step()
        mean, value = unirms.state_of(optimizer).average, run.value(weight)
        with unirms.averaged(optimizer):
            assert (run.value(weight) == mean["w"]).all()
        assert (run.value(weight) == value).all()
        assert (mean["w"] > value).all()
        assert mean["rest"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("make", [lambda p: STOCK(0.1, parameters=p), lambda p: UniRMSProp(BASE, p)])
def test_without_running_means_there_is_nothing_to_put_in(make):
    with pytest.raises(UnsupportedError, match="ema_decay"), unirms.averaged(make([parameter([1.0])])):
        pass


def test_running_means_begin_at_the_weights_where_a_checkpoint_has_none():
    config = BASE.replace(ema_decay=0.5, momentum=0.5, nesterov=True)
    with paddle.utils.unique_name.guard():
        plain = UniRMSProp(config.replace(ema_decay=0.0), [parameter([1.0])])
        for _ in range(3):
            step(plain, [1.0])
    with paddle.utils.unique_name.guard():
        param = parameter([1.0])
        optimizer = UniRMSProp(config, [param])
        optimizer.set_state_dict(plain.state_dict())
        assert unirms.state_of(optimizer).average[param.name] == 1.0
        step(optimizer, [1.0])
    assert unirms.state_of(optimizer).average[param.name] == pytest.approx((1.0 + param.numpy()) / 2)


# What the stock class cannot do with the rows of an embedding


def rows_after(make, ids):
    """Return a table after two updates from its rows `ids`, as a dense gradient and as rows."""
    tables = [paddle.nn.Embedding(5, 2, sparse=kind) for kind in (False, True)]
    for table in tables:
        table.weight.set_value(paddle.ones([5, 2]))
        optimizer = make(table)
        for _ in range(2):
            table(paddle.to_tensor(ids)).sum().backward()
            optimizer.step()
            optimizer.clear_grad()
    return [table.weight.numpy().tolist() for table in tables]


@pytest.mark.parametrize("ids", [[0, 2], [2, 0], [3, 1, 0], [4, 0, 2, 4]], ids=str)
@pytest.mark.parametrize("settings", [{}, {"momentum": 0.5, "centered": True}, {"weight_decay": 0.125}], ids=str)
def test_every_row_of_an_embedding_is_updated(settings, ids):
    config = RMSPropConfig.from_native("paddle", learning_rate=0.1, epsilon=2.0**-6, rho=0.5, **settings)
    dense, sparse = rows_after(lambda table: unirms.build(config, "paddle", table), ids)
    np.testing.assert_allclose(sparse, dense, rtol=1e-6)
    kind = STOCK if config.weight_decay else UniRMSProp  # a regularizer makes the gradient dense
    assert type(unirms.build(config, "paddle", paddle.nn.Embedding(5, 2, sparse=True))) is kind
    assert type(unirms.build(config, "paddle", paddle.nn.Linear(5, 2))) is STOCK


def test_the_stock_class_loses_rows_that_are_not_sorted():
    for ids, lost in (([0, 2], False), ([2, 0], True), ([2, 0, 2], False)):
        dense, sparse = rows_after(lambda table: STOCK(0.1, epsilon=0.01, parameters=table.parameters()), ids)
        assert (sparse[0] == [1.0, 1.0] != dense[0]) is lost


# What the stock class cannot do with a clip


def test_a_limit_on_tables_is_left_to_the_exact_class():
    # The stock class's clip by value ends the process where a gradient comes by rows, as an embedding's may.
    config = BASE.replace(clip=ClipByValue(limit=0.5), weight_decay_mode="l2")
    assert type(unirms.build(config, "paddle", paddle.nn.Embedding(5, 2, sparse=True))) is UniRMSProp
    assert type(unirms.build(config, "paddle", [parameter([1.0])])) is STOCK
    with pytest.raises(UnrepresentableError, match="embedding"):
        unirms.build(config, "paddle", paddle.nn.Embedding(5, 2), policy="stock")
