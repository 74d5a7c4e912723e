"""The thirteen dialects: names, defaults and fixed choices, read and written."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirms import (
    ClipByGlobalNorm,
    ClipByNorm,
    ClipByValue,
    ConfigError,
    NativeCall,
    RMSPropConfig,
    UnknownNameError,
    dialects,
)
from unirms.errors import as_given
from unirms.registry import FRAMEWORKS

# dialect: learning rate, rho, epsilon, placement, rate in the buffer, first mean square, decay mode.
# Sources: the signatures and recorded runs of the classes; "None" is a learning rate without a default.
TABLE = {
    "torch": (0.01, 0.99, 1e-8, "outside_sqrt", False, 0, "l2"),
    "keras": (0.001, 0.9, 1e-7, "inside_sqrt", True, 0, "decoupled"),
    "keras-legacy": (0.001, 0.9, 1e-7, "outside_sqrt", True, 0, "l2"),
    "tf1": (None, 0.9, 1e-10, "inside_sqrt", True, 1, "l2"),
    "mindspore": (0.1, 0.9, 1e-10, "inside_sqrt", True, 1, "l2"),
    "mindspore-experimental": (0.01, 0.99, 1e-8, "outside_sqrt", False, 0, "l2"),
    "paddle": (None, 0.95, 1e-6, "inside_sqrt", True, 0, "l2"),
    "paddle-fluid": (None, 0.95, 1e-6, "inside_sqrt", True, 0, "l2"),
    "timm": (0.01, 0.9, 1e-10, "inside_sqrt", True, 1, "l2"),
    "sb3": (0.01, 0.99, 1e-8, "inside_sqrt", False, 1, "l2"),
    "pfrl": (0.01, 0.99, 1e-8, "inside_sqrt", False, 0, "l2"),
    "optax": (None, 0.9, 1e-8, "inside_sqrt", True, 0, "l2"),
    "mlx": (None, 0.99, 1e-8, "outside_sqrt", False, 0, "l2"),
}
NAMES = list(TABLE)


def defaults(name: str) -> RMSPropConfig:
    needs_rate = TABLE[name][0] is None
    return RMSPropConfig.from_native(name, **({"learning_rate": 0.5} if needs_rate else {}))


def test_there_are_thirteen():
    assert list(dialects.all_dialects()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_defaults_and_fixed_choices(name):
    rate, rho, epsilon, placement, in_buffer, first, mode = TABLE[name]
    config = defaults(name)
    assert config.learning_rate == (0.5 if rate is None else rate)
    assert (config.rho, config.epsilon, config.epsilon_placement) == (rho, epsilon, placement)
    assert (config.lr_in_momentum, config.initial_mean_square, config.weight_decay_mode) == (in_buffer, first, mode)
    assert (config.momentum, config.centered, config.weight_decay, config.clip) == (0, False, 0, ())


@pytest.mark.parametrize("name", NAMES)
def test_fixed_choices_about_edges(name):
    config = defaults(name)
    # MindSpore's kernel leaves elements alone whose divisor is not > 0; TensorFlow 1's knows only rows that it gets.
    assert config.negative_variance == ("skip" if name == "mindspore" else "propagate")
    assert config.sparse == ("lazy" if name == "tf1" else "dense")
    assert (config.non_finite, config.gradient_centralization, config.bias_correction) == ("propagate", "none", False)
    assert (config.nesterov, config.maximize, config.ema_decay) == (False, False, 0)
    moving = config.replace(momentum=0.5).to_native(name).meaning
    assert moving.sparse == ("lazy" if name in {"tf1", "keras-legacy"} else "dense")


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_learning_rate_is_named(name):
    if TABLE[name][0] is not None:
        assert RMSPropConfig.from_native(name) == defaults(name)
        return
    with pytest.raises(ConfigError, match=r"needs learning_rate="):
        RMSPropConfig.from_native(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_dialect_is_complete(name):
    dialect = dialects.get(name)
    assert dialect.docs.startswith("https://")
    assert all(argument.fields or argument.note for argument in dialect.arguments)
    assert not set(dialect.fixed) & {field for argument in dialect.arguments for field in argument.fields}
    assert {*dialect.fixed} <= set(RMSPropConfig.model_fields)


values = {
    "learning_rate": st.sampled_from([0.5, 0.003, 1e-5]),
    "rho": st.sampled_from([0.0, 0.9, 1.0]),
    "epsilon": st.sampled_from([1e-10, 1e-3]),
    "momentum": st.sampled_from([0.0, 0.9]),
    "centered": st.booleans(),
    "weight_decay": st.sampled_from([0.0, 0.01]),
}


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_written_and_read_again_it_is_the_same(name, data):
    dialect = dialects.get(name)
    fields = {field: data.draw(drawn) for field, drawn in values.items() if dialect.name_of(field)}
    config = RMSPropConfig.from_native(name, **{dialect.name_of(field): value for field, value in fields.items()})
    native = config.to_native(name)
    assert str(native.fidelity) == "exact"
    assert native.differences == ()
    again = RMSPropConfig.from_native(name, **native.kwargs)
    assert again == config
    assert again.to_native(name).kwargs == native.kwargs


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("pytorch", "torch"),
        ("TORCH", "torch"),
        ("tf", "keras"),
        ("tensorflow", "keras"),
        ("paddlepaddle", "paddle"),
        ("ms", "mindspore"),
        ("paddle.fluid", "paddle-fluid"),
        ("tf.v1", "tf1"),
    ],
)
def test_aliases_work_wherever_a_name_is_taken(alias, name):
    assert dialects.get(alias).name == name
    rate = {"learning_rate": 0.5} if TABLE[name][0] is None else {}
    assert RMSPropConfig.from_native(alias, **rate) == defaults(name)
    assert RMSPropConfig().to_native(alias).dialect == name


def test_no_alias_stands_for_two_dialects():
    names = [n for dialect in dialects.all_dialects().values() for n in (dialect.name, *dialect.aliases)]
    assert len(names) == len(set(names))


def test_an_unknown_dialect_is_answered_with_a_close_one():
    with pytest.raises(UnknownNameError, match=r"did you mean torch\?"):
        RMSPropConfig().to_native("torhc")


def test_every_framework_has_its_dialect():
    assert {name for name, dialect in dialects.all_dialects().items() if dialect.framework} == set(FRAMEWORKS)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("torch", {"rho": 0.9}, "rho=0.9 is not an argument of torch.optim.RMSprop; write alpha"),
        ("keras", {"alpha": 0.9}, "alpha=0.9 is not an argument of keras.optimizers.RMSprop; write rho"),
        ("paddle", {"learning_rate": 1, "eps": 1e-3}, "write epsilon"),
        ("keras", {"lr": 1}, "write learning_rate"),
        ("torch", {"momentun": 1}, "did you mean momentum?"),
        (
            "torch",
            {"alpha": 1.5},
            "alpha=1.5 is not allowed; rho must be a finite number >= 0 and <= 1 (alpha is the config's rho)",
        ),
        ("torch", {"momentum": True}, "momentum=True is not allowed"),
        ("keras", {"use_ema": True, "ema_overwrite_frequency": 5}, "ema_overwrite_frequency=5 cannot be read"),
        ("keras", {"use_ema": True, "ema_overwrite_frequency": 100}, "=100 cannot be read beside use_ema"),
        (
            "keras",
            {"use_ema": True, "gradient_accumulation_steps": 2},
            "Keras averages the weights after every gradient",
        ),
        ("keras", {"gradient_accumulation_steps": 2.5}, "gradient_accumulation_steps=2.5"),
        ("keras-legacy", {"decay": 0.5}, "it is a schedule"),
        ("keras-legacy", {"lr": 1, "learning_rate": 2}, "got learning_rate twice"),
        ("timm", {"caution": True}, "cannot be read"),
    ],
)
def test_errors_speak_the_dialect(name, kwargs, message):
    with pytest.raises(ConfigError) as caught:
        RMSPropConfig.from_native(name, **kwargs)
    assert message in str(caught.value)


def test_arguments_that_do_not_concern_the_update_are_accepted():
    assert RMSPropConfig.from_native("torch", foreach=True, capturable=True) == defaults("torch")


def test_keras_legacy_moves_epsilon_and_has_no_zero():
    assert RMSPropConfig.from_native("keras-legacy").epsilon_placement == "outside_sqrt"
    assert RMSPropConfig.from_native("keras-legacy", momentum=0.1).epsilon_placement == "inside_sqrt"
    assert RMSPropConfig.from_native("keras-legacy", epsilon=0.0).epsilon == 1e-7
    assert RMSPropConfig.from_native("keras-legacy", lr=0.5).learning_rate == 0.5


def test_keras_legacy_applies_two_clips_in_its_order():
    config = RMSPropConfig.from_native("keras-legacy", clipnorm=2.0, clipvalue=1.0)
    assert config.clip == (ClipByValue(limit=1), ClipByNorm(max_norm=2))
    assert config.to_native("keras-legacy").fidelity == 0
    other_order = config.replace(clip=config.clip[::-1])
    assert [difference.axis for difference in other_order.to_native("keras-legacy").differences] == ["clip"]


def test_keras_legacy_refuses_both_norms():
    with pytest.raises(ConfigError, match="takes clipnorm or global_clipnorm, not clipnorm and global_clipnorm"):
        RMSPropConfig.from_native("keras-legacy", clipnorm=2.0, global_clipnorm=3.0)
    config = RMSPropConfig(clip=[ClipByNorm(max_norm=1), ClipByGlobalNorm(max_norm=1)])
    assert "clip" in [difference.axis for difference in config.to_native("keras-legacy").differences]


def test_keras_legacy_clips_to_nothing_which_no_config_says():
    with pytest.raises(ConfigError, match="clipnorm=0 is not allowed"):
        RMSPropConfig.from_native("keras-legacy", clipnorm=0)


def test_keras_takes_one_clip():
    two = RMSPropConfig(clip=[ClipByValue(limit=1), ClipByNorm(max_norm=1)])
    native = two.to_native("keras")
    assert [difference.axis for difference in native.differences] == ["clip"]
    assert (native.kwargs["clipvalue"], native.kwargs["clipnorm"]) == (None, None)
    with pytest.raises(ConfigError, match="not clipnorm and clipvalue at once"):
        RMSPropConfig.from_native("keras", clipvalue=1.0, clipnorm=1.0)


def test_keras_reads_nothing_as_no_decay_and_no_clip():
    config = RMSPropConfig.from_native("keras", weight_decay=None, clipnorm=-1.0)
    assert (config.weight_decay, config.clip) == (0, ())


def test_mindspore_spares_beta_and_gamma():
    assert RMSPropConfig.from_native("mindspore", weight_decay=0.1).for_parameter("bn1.gamma").weight_decay == 0
    assert RMSPropConfig.from_native("mindspore").no_weight_decay == ()


def test_mindspore_accepts_its_announced_names():
    now = RMSPropConfig.from_native("mindspore", learning_rate=0.5, decay=0.8, epsilon=1e-3)
    assert RMSPropConfig.from_native("mindspore", lr=0.5, alpha=0.8, eps=1e-3) == now


class L2DecayRegularizer:
    """Stands for the class of that name in paddle.fluid 1.8, which keeps its argument there."""

    _regularization_coeff = 0.01


@pytest.mark.parametrize(
    "regularization",
    [NativeCall("fluid.regularizer.L2DecayRegularizer", 0.01), {"L2Decay": 0.01}, L2DecayRegularizer()],
)
def test_fluid_reads_its_regularizer(regularization):
    config = RMSPropConfig.from_native("paddle-fluid", learning_rate=0.1, regularization=regularization)
    assert (config.weight_decay, config.weight_decay_mode) == (0.01, "l2")
    native = config.to_native("paddle-fluid")
    assert repr(native.kwargs["regularization"]) == "fluid.regularizer.L2DecayRegularizer(0.01)"


@pytest.mark.parametrize(
    ("call", "clip"),
    [
        (NativeCall("paddle.nn.ClipGradByNorm", 0.7), ClipByNorm(max_norm=0.7)),
        (NativeCall("ClipGradByGlobalNorm", clip_norm=0.7), ClipByGlobalNorm(max_norm=0.7)),
        (NativeCall("ClipGradByValue", 0.7), ClipByValue(limit=0.7)),
        (NativeCall("ClipGradByValue", max=0.7, min=-0.7), ClipByValue(limit=0.7)),
    ],
)
def test_paddle_reads_and_writes_its_clips(call, clip):
    config = RMSPropConfig.from_native("paddle", learning_rate=0.1, grad_clip=call)
    assert config.clip == (clip,)
    assert config.to_native("paddle").fidelity == 0
    assert RMSPropConfig.from_native("paddle", **config.to_native("paddle").kwargs) == config


@pytest.mark.parametrize(
    "kwargs",
    [
        {"weight_decay": object()},
        {"weight_decay": NativeCall("L3Decay", 0.1)},
        {"grad_clip": 3},
        {"grad_clip": NativeCall("ClipGradByValue", 1.0, -2.0)},
        {"grad_clip": NativeCall("ClipGradByNorm")},
    ],
)
def test_paddle_objects_that_no_config_can_say_are_refused(kwargs):
    with pytest.raises(ConfigError):
        RMSPropConfig.from_native("paddle", learning_rate=0.1, **kwargs)


ODD = [
    None, "abc", "", math.nan, math.inf, -1, 0, True, 10**400, 10**5000, 1j, b"x", [], {}, {"a": 1}, {3: 4}, object(),
    np.zeros(3), np.float32(0), np.array("x"),
    {"L2Decay": "x"}, {"ClipGradByValue": "x"}, {"ClipGradByValue": [1]}, {"ClipGradByNorm": math.nan},
    NativeCall("L2Decay"), NativeCall("ClipGradByValue", 1, "x"),
]  # fmt: skip


@pytest.mark.parametrize("name", dialects.all_dialects())
@pytest.mark.parametrize("value", ODD, ids=lambda value: as_given(value)[:30])
def test_an_odd_value_is_a_config_or_an_error_of_unirms(name, value):
    dialect = dialects.get(name)
    for argument in dialect.arguments:
        rate = {} if "learning_rate" in argument.fields else {dialect.name_of("learning_rate"): 0.1}
        try:
            assert isinstance(dialect.read({**rate, argument.name: value}), RMSPropConfig)
        except ConfigError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("name", "argument"), [("mindspore", "epsilon"), ("mindspore-experimental", "lr"), ("mlx", "eps")]
)
def test_what_a_class_refuses_is_not_read(name, argument):
    dialect = dialects.get(name)
    rate = {} if "learning_rate" in dialect.argument(argument).fields else {dialect.name_of("learning_rate"): 0.1}
    with pytest.raises(ConfigError, match=f"refuses {argument}=0"):
        dialect.read({**rate, argument: 0})


@pytest.mark.parametrize("path", ["torch.optim.RMSprop", "TORCH.optim.rmsprop", "torch.optim.rmsprop.RMSprop"])
def test_a_class_is_found_by_its_path_in_any_case(path):
    assert dialects.of_target(path).name == "torch"


def test_no_path_stands_for_two_dialects():
    paths = [p.lower() for dialect in dialects.all_dialects().values() for p in (dialect.target, *dialect.spellings)]
    assert len(paths) == len(set(paths))


def test_an_unknown_class_is_answered_with_a_close_one():
    with pytest.raises(UnknownNameError, match=r"did you mean torch\.optim\.RMSprop\?"):
        dialects.of_target("torch.optim.RMSpropp")


def test_two_clips_cannot_be_written_for_paddle():
    config = RMSPropConfig(clip=[ClipByValue(limit=1), ClipByNorm(max_norm=1)])
    assert [d.axis for d in config.to_native("paddle").differences] == ["clip"]


def test_optax_says_what_others_fix():
    config = RMSPropConfig.from_native(
        "optax",
        learning_rate=1,
        initial_scale=1.0,
        eps_in_sqrt=False,
        momentum=0.9,
        nesterov=True,
        bias_correction=True,
    )
    assert config.initial_mean_square == 1
    assert config.epsilon_placement == "outside_sqrt"
    assert config.nesterov
    assert not RMSPropConfig.from_native("optax", learning_rate=1, nesterov=True).nesterov


def test_a_class_that_refuses_zero_gets_the_smallest_float32():
    native = RMSPropConfig(epsilon=0).to_native("mindspore")
    assert 0 < native.kwargs["epsilon"] < 1.2e-38
    assert "epsilon" in [difference.axis for difference in native.differences]
