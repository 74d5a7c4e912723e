"""The inference behind `unirms fingerprint`, on optimizers in NumPy: right ones, and planted wrong ones."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import unirms
from unirms import ClipByGlobalNorm, ClipByNorm, ClipByValue, RMSPropConfig, UnsupportedError, dialects, reference
from unirms.commands.fingerprint import fingerprint as command
from unirms.dialects.base import REQUIRED
from unirms.fingerprinting import Finding, Fingerprint, fingerprint, investigate, loaded_framework
from unirms.fingerprinting.fitting import shortest


def running(config):
    """Return a runner that follows `config` exactly, in float32."""

    def run(initial, gradients, rates):
        weights, state, seen = dict(initial), reference.init(config, initial), []
        for step, gradient in enumerate(gradients):
            now = config if rates is None else config.replace(learning_rate=rates[step])
            weights, state = reference.step(now, weights, gradient, state)
            seen.append(weights)
        return seen

    return run


def said(name, **fields):
    """Return the config of a dialect's class with some fields set where it has words for them."""
    dialect = dialects.get(name)
    required = {a.name: 0.01 for a in dialect.arguments if a.default is REQUIRED}
    own = {dialect.name_of(field): value for field, value in fields.items() if dialect.name_of(field)}
    return dialect.read(required | own).replace(no_weight_decay=())


def agrees(found, config):
    """Return whether every axis that shows has the value of `config`."""
    return all(
        getattr(found.config, name) == getattr(config, name) for name, finding in found.axes.items() if finding.shown
    )


# The other dialects have the defaults' behaviour of one of these, with other numbers.
@pytest.mark.parametrize("name", ["torch", "keras", "tf1", "paddle", "optax", "sb3"])
def test_dialects_are_recognised_at_their_defaults(name):
    config = said(name)
    found = investigate(running(config))
    assert found.consistent
    assert name in found.dialects
    assert agrees(found, config)


@pytest.mark.slow
@pytest.mark.parametrize("name", dialects.all_dialects())
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"momentum": 0.9, "centered": True},
        {"learning_rate": 0.003, "momentum": 0.9, "weight_decay": 0.01},
        {"learning_rate": 0.02, "rho": 0.98, "epsilon": 1e-4, "momentum": 0.5, "maximize": True, "nesterov": True},
    ],
    ids=["defaults", "centered", "decay", "all else"],
)
def test_all_dialects_are_recognised_with_more_of_their_arguments(name, fields):
    config = said(name, **fields)
    found = investigate(running(config))
    assert name in found.dialects, found.explain()
    assert agrees(found, config)


def test_a_dialect_without_doubles_is_the_only_one():
    found = investigate(running(said("keras", weight_decay=0.004, momentum=0.9)))
    assert found.dialects == ("keras",)
    assert found.config == said("keras", weight_decay=0.004, momentum=0.9)
    assert found.settings["keras"]["weight_decay"] == 0.004
    assert str(found) == "keras"


def test_what_cannot_be_told_apart_is_said_to_be_so():
    found = investigate(running(said("torch")))
    assert {"torch", "mindspore-experimental", "mlx"} <= set(found.dialects)
    for axis in ("lr_in_momentum", "nesterov", "weight_decay_mode", "negative_variance", "loss_scale"):
        assert not found.axes[axis].shown
        assert found.axes[axis].evidence
        assert str(found.axes[axis]) == "not shown"
    assert found.axes["epsilon_placement"].value == "outside_sqrt"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("timm", {"weight_decay": 1e-5, "momentum": 0.9}),
        ("optax", {"centered": True, "bias_correction": True, "momentum": 0.9}),
        ("optax", {"momentum": 0.9, "nesterov": True, "bias_correction": True, "initial_mean_square": 0.25}),
        ("optax", {"epsilon": 0.0}),
        ("torch", {"learning_rate": 0.0123456, "rho": 0.93751, "epsilon": 3.3e-5, "weight_decay": 0.0777}),
        ("torch", {"maximize": True, "weight_decay": 0.1, "momentum": 0.5}),
        ("mindspore", {"loss_scale": 1024.0, "centered": True, "weight_decay": 0.01}),
        ("tf1", {"rho": 0.999, "epsilon": 1e-3}),
        ("keras", {"rho": 0.9999, "momentum": 0.99}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_unusual_settings_are_found(name, fields):
    config = said(name, **fields)
    found = investigate(running(config))
    assert name in found.dialects, found.explain()
    assert agrees(found, config)


@pytest.mark.parametrize(
    "clip",
    [
        pytest.param(ClipByValue(limit=0.5), id="value", marks=pytest.mark.slow),
        pytest.param(ClipByNorm(max_norm=1.0), id="norm"),
        pytest.param(ClipByGlobalNorm(max_norm=5.0), id="global norm", marks=pytest.mark.slow),
    ],
)
def test_clips_are_found(clip):
    config = said("paddle", weight_decay=0.01).replace(clip=(clip,))
    found = investigate(running(config))
    assert agrees(found, config)
    assert found.axes["clip"].value == (clip,)
    assert "paddle" in found.dialects


def test_every_axis_of_a_right_optimizer_has_a_true_reason():
    for config in (said("torch"), said("paddle").replace(clip=(ClipByGlobalNorm(max_norm=5.0),))):
        axes = investigate(running(config)).axes
        assert not any("contradict" in finding.evidence for finding in axes.values())
        assert (axes["gradient_accumulation_steps"].value, axes["gradient_centralization"].value) == (1, "none")
        assert "dense" in axes["sparse"].evidence
        assert all("do not move" in axes[name].evidence for name in ("ema_decay", "ema_start"))


@pytest.mark.parametrize("answer", ["propagate", "skip", "raise"])
def test_what_becomes_of_gradients_that_are_not_finite_shows(answer):
    found = investigate(running(RMSPropConfig(centered=True, non_finite=answer)))
    assert found.axes["non_finite"].value == answer
    assert found.config.non_finite == answer
    assert found.axes["negative_variance"].shown is (answer == "propagate")


def test_optimizers_that_centralize_or_gather_gradients_are_refused():
    assert not investigate(running(said("torch").replace(gradient_centralization="first_axis"))).consistent
    with pytest.raises(UnsupportedError, match="does it gather several"):
        investigate(running(said("torch").replace(gradient_accumulation_steps=2)))
    assert not investigate(running(said("torch").replace(gradient_accumulation_steps=3))).consistent


def test_the_mean_square_that_starts_at_one_hides_no_epsilon():
    inside = investigate(running(said("tf1")))
    outside = investigate(running(said("tf1").replace(epsilon_placement="outside_sqrt")))
    assert inside.axes["epsilon"].value == 1e-10
    assert inside.axes["epsilon_placement"].value == "inside_sqrt"
    assert outside.axes["epsilon_placement"].value == "outside_sqrt"
    assert outside.dialects == ("optax",)


@pytest.mark.parametrize(("answer", "shown"), [("propagate", True), ("skip", True), ("clamp", False)])
def test_negative_variances(answer, shown):
    config = RMSPropConfig(centered=True, negative_variance=answer)
    finding = investigate(running(config)).axes["negative_variance"]
    assert finding.shown is shown
    assert finding.value == (answer if shown else None)


def test_a_consistent_optimizer_that_no_class_computes():
    config = RMSPropConfig(momentum=0.9, nesterov=True, weight_decay=0.1, weight_decay_mode="l2")
    found = investigate(running(config))
    assert found.consistent
    assert found.dialects == ()
    assert found.config == config
    assert any("instead of" in sentence for sentence in found.evidence)


def test_an_optimizer_whose_rate_cannot_be_set_is_still_recognised():
    follow = running(said("torch", momentum=0.9))

    def run(initial, gradients, rates):
        if rates is not None:
            raise UnsupportedError("its learning rate is a schedule")
        return follow(initial, gradients, rates)

    found = investigate(run)
    assert {"torch", "optax"} <= set(found.dialects)
    assert found.axes["lr_in_momentum"] == Finding(None, False, "its learning rate is a schedule")


def test_an_optimizer_that_ignores_a_new_rate_is_still_recognised():
    follow = running(said("torch", momentum=0.9))
    found = investigate(lambda initial, gradients, rates: follow(initial, gradients, None))
    assert "torch" in found.dialects
    assert "changes nothing" in found.axes["lr_in_momentum"].evidence


def test_an_optimizer_that_does_not_move():
    with pytest.raises(UnsupportedError, match="moves no weight"):
        investigate(running(RMSPropConfig(learning_rate=0.0)))


class Port:
    """A port of PyTorch's RMSprop by hand, with a bug; `defect` names it."""

    def __init__(self, weights, defect, *, rho=0.9, momentum=0.0, weight_decay=0.0, centered=False):
        self.weights, self.defect, self.rate = dict(weights), defect, 0.01
        self.rho, self.momentum, self.weight_decay, self.centered = rho, momentum, weight_decay, centered
        self.squares = {name: np.zeros_like(w) for name, w in weights.items()}
        self.means = {name: np.zeros_like(w) for name, w in weights.items()}
        buffers = {}
        self.buffers = {
            name: buffers.setdefault(w.shape if defect == "shared buffer" else name, np.zeros_like(w))
            for name, w in weights.items()
        }
        self.steps = 0

    def step(self, gradients):
        self.steps += 1
        for name in self.weights:
            self._update(name, gradients[name])

    def _update(self, name, gradient):
        f32 = np.float32
        if self.defect != "decay after the update":
            gradient = gradient + f32(self.weight_decay) * self.weights[name]
        fresh = f32(self.rho if self.defect == "wrong 1 - rho" else 1 - self.rho)
        before = self.squares[name]
        if self.defect == "state of the first only" and self.steps == 2 and name != "p0":
            before = np.zeros_like(before)
        variance = square = f32(self.rho) * before + fresh * gradient * gradient
        if self.centered:
            self.means[name] = f32(self.rho) * self.means[name] + f32(1 - self.rho) * gradient
            variance = square - self.means[name] ** 2
        root = np.sqrt(variance) + f32(1e-8)
        if self.defect == "epsilon by position":
            inside = np.arange(root.size).reshape(root.shape) % 5 == 4
            root = np.where(inside, np.sqrt(variance + f32(1e-8)), root)
        if self.defect == "epsilon in a tail of four" and root.shape == (12,):
            root[8:] = np.sqrt(variance[8:] + f32(1e-8))
        self.squares[name] = np.sqrt(square) if self.defect == "state is its root" else square
        step = gradient / root
        if self.momentum:
            self.buffers[name][...] = f32(self.momentum) * self.buffers[name] + step
            step = self.buffers[name]
        moved = self.weights[name] - f32(self.rate) * step
        if self.defect == "decay after the update":
            moved = moved * f32(1 - self.rate * self.weight_decay)
        self.weights[name] = moved


def porting(defect, **settings):
    def run(initial, gradients, rates):
        port, seen = Port(initial, defect, **settings), []
        for step, gradient in enumerate(gradients):
            port.rate = port.rate if rates is None else rates[step]
            with np.errstate(all="ignore"):
                port.step(gradient)
            seen.append(dict(port.weights))
        return seen

    return run


def test_the_port_without_a_defect_is_recognised():
    found = investigate(porting("", momentum=0.9, weight_decay=0.01), "torch")
    assert found.dialects == ("torch", "mindspore-experimental")


PLANTED = {
    "state is its root": ({}, "after step 2"),
    "state is its root, with momentum": ({"momentum": 0.9}, "after step 2"),
    "shared buffer": ({"momentum": 0.9}, "equal elements"),
    "epsilon by position": ({}, "equal elements"),
    "epsilon in a tail of four": ({}, "equal elements"),
    "decay after the update": ({"weight_decay": 0.1}, "learning rate that is set is not the one"),
    "wrong 1 - rho": ({}, "learning rate that is set is not the one"),
    "wrong 1 - rho, centered": ({"centered": True}, "after step 2"),
    "state of the first only": ({}, "equal elements"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_wrong_optimizer_is_refused_with_the_evidence(name):
    settings, sentence = PLANTED[name]
    found = investigate(porting(name.partition(",")[0], **settings), "torch")
    assert not found.consistent
    assert found.dialects == ()
    assert found.config is None
    assert found.closest == "torch"
    assert str(found) == "no consistent dialect; closest: torch"
    assert sentence in " ".join(found.evidence)
    assert "probe '" in " ".join(found.evidence)


class Plain:
    """PyTorch's RMSprop without momentum, as an object whose parts a test can override."""

    rate, rho, epsilon = 0.01, 0.9, 1e-6

    def __init__(self, weights):
        self.weights = dict(weights)
        self.squares = {name: np.zeros_like(w) for name, w in weights.items()}
        self.steps = 0

    def gradient(self, name, gradient):
        return gradient

    def square(self, name, gradient):
        return np.float32(self.rho) * self.squares[name] + np.float32(1 - self.rho) * gradient * gradient

    def denominator(self, square):
        return np.sqrt(square) + np.float32(self.epsilon)

    def moved(self, name, step):
        return self.weights[name] - np.float32(self.rate) * step

    def step(self, gradients):
        self.steps += 1
        for name, given in gradients.items():
            gradient = self.gradient(name, given)
            self.squares[name] = self.square(name, gradient)
            self.weights[name] = self.moved(name, gradient / self.denominator(self.squares[name]))


def made(kind):
    """Return a runner of a class like `Plain`."""

    def run(initial, gradients, rates):
        optimizer, seen = kind(initial), []
        for step, gradient in enumerate(gradients):
            optimizer.rate = optimizer.rate if rates is None else rates[step]
            with np.errstate(all="ignore"):
                optimizer.step(gradient)
            seen.append(dict(optimizer.weights))
        return seen

    return run


def test_the_plain_one_is_recognised():
    assert investigate(made(Plain), "torch").dialects[0] == "torch"


class AtLeastZero(Plain):
    def moved(self, name, step):
        return np.maximum(super().moved(name, step), 0)


class FirstAlone(Plain):
    def moved(self, name, step):
        return super().moved(name, step) if name == "p0" else self.weights[name]


class Resting(Plain):
    """Leaves the state of an element as it is where its gradient is 0."""

    def square(self, name, gradient):
        return np.where(gradient == 0, self.squares[name], super().square(name, gradient))

    def moved(self, name, step):
        return np.where(step == 0, self.weights[name], super().moved(name, step))


class Resetting(Plain):
    def square(self, name, gradient):
        if self.steps % 25 == 0:
            self.squares[name] = np.zeros_like(gradient)
        return super().square(name, gradient)


class Changing(Plain):
    def denominator(self, square):
        return super().denominator(square) + np.float32(self.steps > 100)


class Overflowing(Plain):
    """Keeps its mean square in float16: gradients of 1000 make it infinite."""

    def square(self, name, gradient):
        return super().square(name, gradient).astype(np.float16).astype(np.float32)


class Layerwise(Plain):
    """LARS: a step is a part of the norm of the weights, where there is one."""

    def moved(self, name, step):
        size = np.linalg.norm(self.weights[name])
        return super().moved(name, step * (1e-3 * size / np.linalg.norm(step) if size else np.float32(1)))


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (AtLeastZero, "no choice of axes and numbers explains the movements"),
        (FirstAlone, "equal elements at"),
        (Resting, "'random weights and gradients'"),
        (Resetting, "after step 25,"),
        (Changing, "after step 101,"),
        (Overflowing, "no choice of axes and numbers explains the movements"),
        (Layerwise, "no choice of axes and numbers explains the movements"),
    ],
)
def test_what_no_dialect_does_is_refused_with_the_evidence(kind, sentence):
    found = investigate(made(kind), "torch")
    assert (found.dialects, found.consistent) == ((), False)
    assert sentence in " ".join(found.evidence)
    assert "clipped" not in " ".join(found.evidence)
    assert found.closest in dialects.all_dialects()


def test_weights_that_move_only_where_they_are_not_zero():
    class OfItsNorm(Plain):
        def moved(self, name, step):
            return super().moved(name, step * np.linalg.norm(self.weights[name]))

    with pytest.raises(UnsupportedError, match="moves other weights, but none that is 0"):
        investigate(made(OfItsNorm))


class Clipping(Plain):
    """Multiplies by limit / norm, which rounds: the norm of what it returns is not always the limit."""

    def gradient(self, name, gradient):
        with np.errstate(all="ignore"):
            return gradient * np.minimum(np.float32(1.5) / np.linalg.norm(gradient).astype(np.float32), np.float32(1))


class ClippingTwice(Clipping):
    def gradient(self, name, gradient):
        return super().gradient(name, np.clip(gradient, -1, 1))


def test_a_clip_that_rounds_is_found():
    found = investigate(made(Clipping))
    assert found.axes["clip"].value == (ClipByNorm(max_norm=1.5),)
    assert found.dialects == ("keras-legacy",)


def test_two_clips_are_not_taken_for_one():
    found = investigate(made(ClippingTwice))
    assert not found.consistent
    assert "by no value, norm or global norm" in found.evidence[0]


def test_an_l1_decay_is_found():
    config = said("paddle", momentum=0.5).replace(weight_decay=0.05, weight_decay_mode="l1")
    found = investigate(running(config))
    assert found.dialects == ("paddle", "paddle-fluid")
    assert agrees(found, config)
    assert found.axes["weight_decay_mode"].value == "l1"


def test_dialects_that_differ_in_an_edge_case_alone_say_so():
    found = investigate(running(said("torch").replace(non_finite="skip")), "torch")
    assert found.dialects[0] == "torch"
    assert "but in torch, " in found.evidence[0]
    assert "non_finite is propagate instead of skip" in found.evidence[0]
    skipping = said("tf1").replace(centered=True, negative_variance="skip")
    assert investigate(running(skipping), "keras").dialects[0] == "mindspore"


def test_an_infinite_gradient_that_is_left_out_alone_is_told():
    class Finite(Plain):
        def gradient(self, name, gradient):
            return np.nan_to_num(gradient, nan=0, posinf=0, neginf=0)

    found = investigate(made(Finite), "torch")
    assert found.dialects[0] == "torch"
    assert "an infinite gradient moves its own weight by 0" in found.evidence[0]


def test_a_number_that_does_not_show_is_none_that_the_movements_refute():
    class Signs(Plain):
        def moved(self, name, step):
            return self.weights[name] - np.float32(self.rate) * np.sign(step)

    class WithoutMemory(Signs):
        rho = 0.0

    found = investigate(made(WithoutMemory), "torch")
    assert not found.axes["epsilon"].shown
    assert found.config.epsilon < 1e-18  # the class's own 1e-8 would shorten the steps of the smallest gradients


def test_a_gradient_descent_has_no_mean_square():
    def run(initial, gradients, rates):
        weights, seen = dict(initial), []
        for gradient in gradients:
            weights = {name: w - np.float32(0.1) * gradient[name] for name, w in weights.items()}
            seen.append(weights)
        return seen

    found = investigate(run)
    assert found.dialects == ()
    assert "the steps do not show a running mean square" in found.evidence[0]


def test_a_second_run_that_differs_is_refused():
    follow, runs = running(said("torch")), []

    def run(initial, gradients, rates):
        runs.append(len(gradients))
        config = said("torch") if runs.count(20) < 2 else said("torch", rho=0.9)  # only the confirmation has 20 steps
        return (follow if config == said("torch") else running(config))(initial, gradients, rates)

    found = investigate(run)
    assert found.dialects == ()
    assert "a second run of the same moves differently" in found.evidence[0]


def test_the_shortest_decimal():
    assert shortest(0.00099999997, 1e-9) == 0.001
    assert shortest(0.98999998, 1e-7) == 0.99
    assert shortest(0.0123456, 1e-9) == 0.0123456


def test_json_has_everything():
    found = investigate(running(said("paddle").replace(clip=(ClipByGlobalNorm(max_norm=1.0),))), "paddle")
    data = json.loads(json.dumps(found.to_dict()))
    assert data["dialects"][0] == "paddle"
    assert data["axes"]["rho"]["value"] == 0.95
    assert data["config"]["epsilon"] == 1e-6
    assert "ClipGradByGlobalNorm(1.0)" in data["settings"]["paddle"]["grad_clip"]


def test_no_framework_is_imported_here():
    with pytest.raises(unirms.UnirmsError, match="no framework is imported; name the optimizer's framework"):
        loaded_framework()
    with pytest.raises(UnsupportedError, match="give a function"):
        fingerprint(3)


@pytest.fixture
def invoke(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    app = typer.Typer()
    app.command()(command)
    return lambda *words: CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("torch.optim.RMSprop", "is not MODULE:NAME"),
        ("no_such_module:X", "no_such_module cannot be imported: ModuleNotFoundError"),
        ("json:Decoder", "json has no Decoder; is it spelt right"),
        ("json:__name__", "is a str, which cannot be called"),
        ("broken:X", "broken cannot be imported: ZeroDivisionError"),
        ("ending:X", "ending cannot be imported: SystemExit: 3"),
    ],
)
def test_targets_that_cannot_be_had(invoke, target, message):
    Path("broken.py").write_text("1 / 0\n", encoding="utf-8")
    Path("ending.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    result = invoke(target)
    assert isinstance(result.exception, UnsupportedError)
    assert message in str(result.exception)


def test_explain_names_axes_and_evidence():
    found = Fingerprint(True, RMSPropConfig(), {"rho": Finding(0.9, True, "x")}, ("keras", "pfrl"), "keras", ("why",))
    assert found.explain().splitlines() == ["keras (the same here: pfrl)", "  rho: 0.9 (x)", "- why"]
