"""A plateau in every framework: the rates of `Plateau.rates`, in what is built and in the framework's own classes."""

import copy
import importlib
import math
import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import unirms
from unirms import ConfigError, FidelityWarning, NativeCall, RMSPropConfig, UnsupportedError
from unirms.conformance.measures import Ruler
from unirms.schedules import Cosine, Plateau

B = 0.1
SIMPLE = Plateau(initial_learning_rate=B, patience=1, cooldown=1, threshold=0.01)
LOOSE = {"momentum": 0.9, "nesterov": True}  # no stock class has it: the exact class is built
EXACT, STOCK = RMSPropConfig(learning_rate=SIMPLE, **LOOSE), RMSPropConfig(learning_rate=SIMPLE)
GROUPS = [{"match": "p1", "learning_rate_factor": 0.25}]
SEQUENCES = 200
# NumPy 2 warns of `__array__` of Keras's variables wherever Keras makes a number of one.
KERAS_WARNS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def built(driver, framework, config, *, policy="exact", dtype="float32", mode=None):
    """Return a run of the driver over two parameters, and what they begin at."""

    def make(params, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FidelityWarning)  # some stock classes differ from any config on a device
            return unirms.build(config, framework, params, policy=policy, **options)

    start = {"p0": np.linspace(-1, 1, 3).astype(dtype), "p1": np.linspace(2, -1, 5).astype(dtype)}
    return driver.start(make, start, dtype, mode or next(iter(driver.modes))), start


def live(framework, optimizer):
    """Return the rate that an optimizer holds, as it holds it."""
    if framework == "torch":
        return optimizer.param_groups[0]["lr"]
    if framework == "paddle":
        return optimizer.get_lr()
    if framework == "mindspore":
        return float(optimizer.learning_rate.asnumpy())
    exact = getattr(optimizer, "exact_rate", None)
    return float(optimizer.learning_rate if exact is None else exact())


def set_by_hand(framework, optimizer, rate):
    if framework == "torch":
        for group in optimizer.param_groups:
            group["lr"] = rate
    elif framework == "mindspore":
        mindspore = importlib.import_module("mindspore")
        own = optimizer.learning_rate
        mindspore.ops.assign(own, mindspore.Tensor(rate, own.dtype))
    else:
        optimizer.learning_rate = rate


def drawn(rng):
    """Return a plateau and metrics that stall, improve, lie at its threshold, and are no numbers."""
    plateau = Plateau(
        initial_learning_rate=float(rng.choice([B, 1.0, 0.3])),
        factor=float(rng.choice([0.0, 0.1, 0.5, 0.9])),
        patience=int(rng.integers(0, 4)),
        threshold=float(rng.choice([0.0, 1e-4, 0.25])),
        threshold_mode=str(rng.choice(["rel", "abs"])),
        mode=str(rng.choice(["min", "max"])),
        cooldown=int(rng.integers(0, 4)),
        min_learning_rate=float(rng.choice([0.0, 1e-3, 0.05])),
        eps=float(rng.choice([0.0, 1e-8, 0.01])),
    )
    best, metrics = 1.0, []
    for _ in range(int(rng.integers(5, 30))):
        near = [best, best * (1.0 - plateau.threshold), best * (plateau.threshold + 1.0)]
        near += [best - plateau.threshold, best + plateau.threshold]
        metric = float(rng.choice([*near, *rng.standard_normal(3), math.nan, math.inf, -math.inf]))
        best = metric if plateau.improves(metric, best) and math.isfinite(metric) else best
        metrics.append(metric)
    return plateau, metrics


def walked(framework, optimizer, metrics, scheduler=None):
    """Return the rate that the optimizer holds after each metric."""
    scheduler = scheduler or unirms.lr_scheduler(optimizer)
    found = []
    for metric in metrics:
        scheduler.step(metric)
        found.append(live(framework, optimizer))
    return found


@pytest.mark.parametrize("config", [EXACT, STOCK], ids=["exact", "stock"])
def test_the_rates_are_those_of_the_plateau(framework, driver, config):
    rng = np.random.default_rng(3)
    reduced = 0
    policy = "exact" if config is EXACT else "nearest"
    for _ in range(SEQUENCES):
        plateau, metrics = drawn(rng)
        run, _ = built(driver, framework, config.replace(learning_rate=plateau), policy=policy)
        expected = plateau.rates(metrics)
        reduced += expected[-1] < plateau.initial
        if config is STOCK and framework in {"keras", "mindspore"}:  # their classes hold a float32
            expected = [float(np.float32(rate)) for rate in expected]
        assert walked(framework, run.optimizer, metrics) == expected, (plateau, metrics)
    assert reduced > SEQUENCES / 2


def test_it_is_the_object_that_the_framework_knows(framework, driver):
    run, _ = built(driver, framework, EXACT)
    scheduler = unirms.lr_scheduler(run.optimizer)
    assert scheduler is unirms.lr_scheduler(run.optimizer)
    native = {
        "torch": ("torch.optim.lr_scheduler", "ReduceLROnPlateau"),
        "keras": ("keras.callbacks", "ReduceLROnPlateau"),
        "paddle": ("paddle.optimizer.lr", "ReduceOnPlateau"),
    }
    if framework in native:
        module, name = native[framework]
        assert isinstance(scheduler, getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("groups", [(), GROUPS], ids=["one group", "groups"])
def test_every_update_has_the_rate_of_its_time(framework, driver, rng, dtype, groups):
    config = EXACT.replace(groups=groups)
    metrics = [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5]
    rates = [B, *SIMPLE.rates(metrics)]
    assert len(set(rates)) == 3
    for mode in [mode for mode in driver.modes if dtype in driver.modes[mode]]:
        run, start = built(driver, framework, config, dtype=dtype, mode=mode)
        scheduler = unirms.lr_scheduler(run.optimizer)
        errors, wrong = (Ruler(start, dtype) for _ in range(2))
        exact = {name: value.astype(np.float64) for name, value in start.items()}
        params = late = exact
        state = late_state = unirms.reference.init(config, params)
        for step, rate in enumerate(rates):
            grads = {name: rng.standard_normal(value.shape).astype(dtype) for name, value in start.items()}
            run.step(grads, None)
            wide = {name: grad.astype(np.float64) for name, grad in grads.items()}
            now, before = config.replace(learning_rate=rate), config.replace(learning_rate=rates[max(step - 1, 0)])
            params, state = unirms.reference.step(now, params, wide, state)
            late, late_state = unirms.reference.step(before, late, wide, late_state)
            error, planted = errors.observe(params, run.weights()), wrong.observe(late, run.weights())
            if step < len(metrics):
                scheduler.step(metrics[step])
        assert error.ulp <= 32 < planted.ulp


def test_config_of_has_the_plateau_until_somebody_sets_the_rate(framework, driver):
    for config, policy in ((EXACT, "exact"), (EXACT.replace(groups=GROUPS), "exact"), (STOCK, "nearest")):
        run, _ = built(driver, framework, config, policy=policy)
        assert unirms.config_of(run.optimizer).learning_rate == SIMPLE
        walked(framework, run.optimizer, [1.0] * 4)
        found = unirms.config_of(run.optimizer)
        assert found == config if policy == "exact" else found.learning_rate == SIMPLE
        if framework == "paddle":
            continue  # it refuses to set a rate beside a scheduler
        set_by_hand(framework, run.optimizer, 0.5)
        assert unirms.config_of(run.optimizer).learning_rate == 0.5
        # And it is reduced from there.
        scheduler = unirms.lr_scheduler(run.optimizer)
        found = walked(framework, run.optimizer, [1.0] * 4, scheduler)
        assert found[-1] == pytest.approx(0.05, rel=1e-6)


def saved(framework, optimizer, scheduler):
    """Return the state of an optimizer and its scheduler as the framework's users save it."""
    if framework == "paddle":  # the scheduler's goes along
        return copy.deepcopy(optimizer.state_dict()), None
    own = copy.deepcopy(optimizer.state_dict()) if framework == "torch" else None
    return own, pickle.loads(pickle.dumps(scheduler.state_dict()))


def test_it_goes_on_where_it_was(framework, driver, rng):
    for middle in range(12):
        plateau, metrics = drawn(rng)
        metrics = [1.0, 1.0, *metrics[:10]]
        for base, policy in ((EXACT, "exact"), (STOCK, "nearest")):
            config = base.replace(learning_rate=plateau)
            first, _ = built(driver, framework, config, policy=policy)
            before = walked(framework, first.optimizer, metrics[:middle])
            whole = saved(framework, first.optimizer, unirms.lr_scheduler(first.optimizer))
            again, _ = built(driver, framework, config, policy=policy)
            if whole[0] is not None:
                load = again.optimizer.load_state_dict if framework == "torch" else again.optimizer.set_state_dict
                load(whole[0])
            if whole[1] is not None:
                unirms.lr_scheduler(again.optimizer).load_state_dict(whole[1])
            assert live(framework, again.optimizer) == live(framework, first.optimizer)
            rest = walked(framework, again.optimizer, metrics[middle:])
            assert [np.float32(rate) for rate in before + rest] == [np.float32(r) for r in plateau.rates(metrics)]


# Metrics between which and their thresholds there is room: Keras compares in float32, and Paddle rounds otherwise.
def tame(rng):
    return [float(np.float32(metric)) for metric in rng.integers(1, 9, int(rng.integers(5, 40))) / 8]


@KERAS_WARNS
@pytest.mark.frameworks("torch", "keras", "paddle")  # its ReduceLROnPlateau drives experimental optimizers alone
def test_the_frameworks_own_class_has_the_same_rates(framework, driver):
    rng = np.random.default_rng(5)
    run, _ = built(driver, framework, RMSPropConfig(learning_rate=B), policy="nearest")
    said = 0
    for _ in range(SEQUENCES):
        plateau, _ = drawn(rng)
        metrics = tame(rng)
        native = RMSPropConfig(learning_rate=plateau).to_native(framework)
        call = native.scheduler or native.kwargs.get("learning_rate")
        if not isinstance(call, NativeCall):
            continue
        said += 1
        found = NATIVE[framework](call, plateau, run.optimizer, metrics)
        # A float32 is rounded at each of up to 40 reductions in Keras; the others are doubles.
        tolerance = 40 * 2.0**-24 if framework == "keras" else 0
        np.testing.assert_allclose(found, plateau.rates(metrics), rtol=tolerance, atol=1e-45)
    assert said > SEQUENCES / {"torch": 1.5, "keras": 3, "paddle": 8}[framework]


def native_torch(call, plateau, optimizer, metrics):
    torch = importlib.import_module("torch")
    set_by_hand("torch", optimizer, plateau.initial)
    own = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **call.kwargs)
    return walked("torch", optimizer, metrics, own)


def native_paddle(call, plateau, optimizer, metrics):
    own = importlib.import_module("paddle").optimizer.lr.ReduceOnPlateau(**call.kwargs)
    found = []
    for metric in metrics:
        own.step(metric)
        found.append(own())
    return found


def native_keras(call, plateau, optimizer, metrics):
    keras = importlib.import_module("keras")
    optimizer.learning_rate = plateau.initial
    own = keras.callbacks.ReduceLROnPlateau(**call.kwargs)
    own.set_model(SimpleNamespace(optimizer=optimizer))
    own.on_train_begin()
    found = []
    for epoch, metric in enumerate(metrics):
        own.on_epoch_end(epoch, {own.monitor: metric})
        found.append(live("keras", optimizer))
    return found


NATIVE = {"torch": native_torch, "paddle": native_paddle, "keras": native_keras}


@pytest.mark.frameworks("torch")  # it is the reference of torch
def test_pytorchs_own_class_agrees_on_every_metric(framework, driver):
    rng = np.random.default_rng(9)
    run, _ = built(driver, framework, RMSPropConfig(learning_rate=B))
    for _ in range(5 * SEQUENCES):
        plateau, metrics = drawn(rng)
        call = RMSPropConfig(learning_rate=plateau).to_native("torch").scheduler
        if call is not None:  # it is none where no reduction is ever made
            assert native_torch(call, plateau, run.optimizer, metrics) == plateau.rates(metrics)


@KERAS_WARNS
def test_what_the_other_classes_do_otherwise(framework, driver):
    run, _ = built(driver, framework, RMSPropConfig(learning_rate=B), policy="nearest")
    stalls = [1.0] * 3 + [0.5] + [0.75] * 3
    cooling = SIMPLE.model_copy(update={"threshold_mode": "abs", "eps": 0.0, "patience": 0, "cooldown": 2})
    lost = [math.nan, 1.0, 0.5, 0.25, 0.125]
    if framework == "paddle":
        words = {"learning_rate": B, "patience": 0, "threshold_mode": "abs", "cooldown": 2}
        found = native_paddle(NativeCall("", **words), cooling, run.optimizer, stalls)
        assert found != cooling.rates(stalls)
        words = {"learning_rate": B, "patience": 3}
        assert native_paddle(NativeCall("", **words), SIMPLE, run.optimizer, lost)[-1] < B
    if framework == "keras":
        call = RMSPropConfig(learning_rate=cooling).to_native("keras").scheduler
        assert native_keras(call, cooling, run.optimizer, lost)[-1] < cooling.rates(lost)[-1]


@pytest.mark.frameworks("paddle")  # elsewhere nothing leads from the optimizer to it
def test_a_scheduler_of_the_users_own_is_read(framework, driver):
    paddle = importlib.import_module("paddle")
    weights = [paddle.create_parameter([3], "float32")]

    def made(**words):
        own = paddle.optimizer.lr.ReduceOnPlateau(B, **words)
        return paddle.optimizer.RMSProp(own, parameters=weights)

    assert unirms.config_of(made(patience=3)).learning_rate == Plateau(initial_learning_rate=B, patience=3)
    with pytest.raises(UnsupportedError, match="does not look at metrics in a cooldown"):
        unirms.config_of(made(cooldown=2))


@pytest.mark.frameworks("torch")  # the others hold one rate
def test_groups_of_torch_keep_their_factors_at_the_bounds(framework, driver):
    torch = importlib.import_module("torch")
    bounded = Plateau(initial_learning_rate=B, factor=0.7, patience=0, min_learning_rate=0.02, eps=0.006)
    config = EXACT.replace(learning_rate=bounded, groups=[{"match": "p1", "learning_rate_factor": 0.3}])
    run, _ = built(driver, framework, config)
    optimizer = run.optimizer
    optimizer.add_param_group({"params": [("late", torch.nn.Parameter(torch.zeros(2)))], "lr": B})
    scheduler = unirms.lr_scheduler(optimizer)
    for rate in [bounded.initial, *bounded.rates([1.0] * 6)[1:]]:
        scheduler.step(1.0)
        assert [group["lr"] for group in optimizer.param_groups] == [rate, rate * 0.3, rate]
    assert rate == 0.7 * (0.7 * (0.7 * (0.7 * B)))  # eps keeps it there, and would have kept p1 long before
    copied = copy.deepcopy(optimizer)
    assert unirms.lr_scheduler(copied).optimizer is copied
    assert unirms.config_of(copied).learning_rate == bounded


@pytest.mark.frameworks("torch")  # its state is a dictionary of its attributes
def test_the_state_of_pytorchs_own_class_is_taken_over(framework, driver):
    torch = importlib.import_module("torch")
    weight = torch.nn.Parameter(torch.zeros(3))
    stock = torch.optim.RMSprop([weight], lr=B)
    own = torch.optim.lr_scheduler.ReduceLROnPlateau(stock, patience=1, cooldown=1, threshold=0.01)
    for metric in [1.0, 1.0, 1.0, 1.0]:
        own.step(metric)
    run, _ = built(driver, framework, EXACT)
    scheduler = unirms.lr_scheduler(run.optimizer)
    scheduler.load_state_dict(own.state_dict())
    assert live(framework, run.optimizer) == stock.param_groups[0]["lr"] < B
    rest = [1.0] * 6
    expected = walked("torch", stock, rest, own)
    assert walked("torch", run.optimizer, rest) == expected
    cosine, _ = built(driver, framework, EXACT.replace(learning_rate=Cosine(initial_learning_rate=B, decay_steps=9)))
    with pytest.raises(ConfigError, match="must be that of a plateau"):
        scheduler.load_state_dict(unirms.lr_scheduler(cosine.optimizer).state_dict())


@KERAS_WARNS
@pytest.mark.frameworks("keras")  # only Keras has fit with callbacks
def test_fit_lowers_the_rate_and_saved_models_keep_the_plateau(framework, tmp_path):
    keras = importlib.import_module("keras")
    for config in (EXACT, STOCK):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        optimizer = unirms.build(config, "keras", model)
        callback = unirms.lr_scheduler(optimizer)
        model.compile(optimizer, "mse")
        data = {"x": np.zeros((4, 2), "float32"), "y": np.ones((4, 1), "float32"), "verbose": 0}
        assert callback.monitor == "val_loss"
        with pytest.warns(UserWarning, match="the plateau's metric 'val_loss' is not there; there are"):
            model.fit(**data, epochs=1, callbacks=[callback])
        callback.monitor = "learning_rate"  # a metric that stays
        logs = model.fit(**data, epochs=2, callbacks=[callback]).history
        logs = logs["learning_rate"] + model.fit(**data, epochs=2, callbacks=[callback]).history["learning_rate"]
        assert logs == pytest.approx([B, B, B, B / 10])
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras").optimizer
        assert float(loaded.learning_rate) == float(optimizer.learning_rate)
        if config is EXACT:
            assert unirms.config_of(loaded).learning_rate == SIMPLE
            assert unirms.lr_scheduler(loaded).rate == callback.rate
        else:
            assert unirms.lr_scheduler(loaded) is None  # it is Keras's own class


def test_stock_classes_that_round_a_rate_are_not_built_for_doubles(framework, driver):
    # B is no float32, and 0.5 is one until it is multiplied by 0.1.
    for first in (B, 0.5):
        config = STOCK.replace(learning_rate=SIMPLE.model_copy(update={"initial_learning_rate": first}))
        mode = next(mode for mode, dtypes in driver.modes.items() if "float64" in dtypes)
        run, _ = built(driver, framework, config, dtype="float64", mode=mode)
        if framework in {"keras", "mindspore"}:
            assert type(run.optimizer).__name__ == "UniRMSProp"
        metrics = [1.0] * 6
        assert walked(framework, run.optimizer, metrics) == config.learning_rate.rates(metrics)
