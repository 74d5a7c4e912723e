"""Recipes of other tools: what each sample means, what is said beside it, and that any other text is one sentence."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import strategies
import unirms
from unirms import (
    ClipByNorm,
    ConfigError,
    NativeCall,
    RMSPropConfig,
    UnirmsError,
    UnknownNameError,
    dialects,
    recipes,
    schedules,
)
from unirms.cli import app
from unirms.commands import subjects
from unirms.recipes import Format, base, huggingface
from unirms.recipes.keras import shortest

HERE = Path(__file__).parent / "recipes"
native = RMSPropConfig.from_native

# file: format, then for each recipe its place, class and meaning.
SAMPLES = {
    "hydra.yaml": (
        "hydra",
        ("", "torch.optim.RMSprop", native("torch", lr=1e-3, alpha=0.9, eps=1e-8, momentum=0.9, centered=True)),
    ),
    "hydra_nested.yaml": (
        "hydra",
        ("generator.optimizer", "torch.optim.RMSprop", native("torch", lr=5e-5)),
        (
            "critic.optimizers[0]",
            "paddle.optimizer.RMSProp",
            native(
                "paddle",
                learning_rate=0.01,
                rho=0.9,
                weight_decay=0.001,
                grad_clip=NativeCall("ClipGradByGlobalNorm", 1.0),
            ),
        ),
    ),
    "lightning.yaml": (
        "lightning",
        ("model.init_args.optimizer", "torch.optim.RMSprop", native("torch", lr=1e-3, weight_decay=0.01)),
    ),
    "keras.json": (
        "keras",
        (
            "",
            "keras.optimizers.RMSprop",
            native(
                "keras",
                learning_rate=0.001,
                rho=0.95,
                momentum=0.1,
                epsilon=1e-7,
                centered=True,
                weight_decay=0.004,
                clipnorm=0.1,
            ),
        ),
    ),
    "keras_model.json": (
        "keras",
        ("compile_config.optimizer", "keras.optimizers.RMSprop", native("keras", learning_rate=0.003)),
    ),
    "keras_legacy.json": (
        "keras",
        ("training_config.optimizer_config", "keras.optimizers.legacy.RMSprop", native("keras-legacy")),
    ),
    "torch_groups.json": (
        "torch",
        (
            "optimizer.param_groups",
            "torch.optim.RMSprop",
            native("torch", lr=0.02, momentum=0.9, weight_decay=0.001).replace(
                no_weight_decay=("body.bias", "head.bias"), groups=[{"match": "head.weight", "learning_rate": 0.002}]
            ),
        ),
    ),
    "huggingface.sh": (
        "huggingface",
        (
            "",
            "torch.optim.RMSprop",
            native("torch", lr=1e-4, alpha=0.9, eps=1e-6, centered=True, weight_decay=0.01).replace(
                no_weight_decay=huggingface.NO_WEIGHT_DECAY
            ),
        ),
    ),
    "huggingface.yaml": ("huggingface", ("", "torch.optim.RMSprop", native("torch", lr=1e-4))),
    "timm.sh": (
        "timm",
        (
            "",
            "timm.optim.RMSpropTF",
            native("timm", lr=0.048, alpha=0.9, eps=0.001, momentum=0.9, weight_decay=1e-5).replace(
                no_weight_decay="*.bias"
            ),
        ),
    ),
    "timm_args.yaml": ("timm", ("", "torch.optim.RMSprop", native("torch", lr=0.01, alpha=0.95, momentum=0.8))),
    "paddleclas.yaml": (
        "paddleclas",
        (
            "Optimizer",
            "paddle.optimizer.RMSProp",
            native("paddle", learning_rate=0.032, rho=0.9, epsilon=0.001, momentum=0.9, weight_decay=1e-5).replace(
                clip=ClipByNorm(max_norm=5)
            ),
        ),
    ),
    "mindcv.yaml": (
        "mindcv",
        (
            "",
            "mindspore.nn.RMSProp",
            native(
                "mindspore", learning_rate=0.012, epsilon=1e-3, momentum=0.9, weight_decay=1e-5, loss_scale=256.0
            ).replace(no_weight_decay=()),
        ),
    ),
    "unirms.toml": ("unirms", ("", "unirms.RMSPropConfig", native("torch", lr=0.01, momentum=0.9))),
}


def one(text, **options):
    (recipe,) = recipes.read_text(text, **options)
    return recipe


def refusal(text, **options):
    with pytest.raises(ConfigError) as caught:
        one(text, **options).config()
    return str(caught.value)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_mean_what_they_say(name):
    format, *expected = SAMPLES[name]
    for found in (recipes.read_file(HERE / name), recipes.read_file(HERE / name, format=format)):
        assert {recipe.format for recipe in found} == {format}
        assert [(recipe.place, recipe.target, recipe.config()) for recipe in found] == expected


@pytest.mark.parametrize("name", SAMPLES)
def test_text_needs_no_suffix(name):
    format, *expected = SAMPLES[name]
    found = recipes.read_text((HERE / name).read_text())
    assert [(recipe.format, recipe.config()) for recipe in found] == [(format, config) for *_, config in expected]


@pytest.mark.parametrize("name", [name for name in SAMPLES if not name.endswith(("sh", "toml"))])
def test_objects_are_read_as_their_text_is(name):
    found = recipes.read_object(yaml.safe_load((HERE / name).read_text().replace("e-", ".e-")))
    assert [recipe.target for recipe in found] == [target for _, target, _ in SAMPLES[name][1:]]


def test_every_format_has_a_sample_and_every_sample_a_row():
    assert {format for format, *_ in SAMPLES.values()} == set(recipes.all_formats())
    assert {path.name for path in HERE.iterdir()} == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_no_other_format_takes_a_sample_for_its_own(name):
    format = SAMPLES[name][0]
    for other in recipes.all_formats():
        if other != format and not {other, format} <= {"timm", "mindcv"}:  # a flat `opt: rmsprop` could be either's
            with pytest.raises(ConfigError):
                [recipe.config() for recipe in recipes.read_file(HERE / name, format=other)]


def test_lines_and_surprises_are_told():
    recipe = one("a:\n  # x\n  _target_: torch.optim.RMSProp\n  lr: 1e-3\n  centered: yes\n")
    assert recipe.lines == {"": 3, "lr": 4, "centered": 5}
    assert recipe.surprises == {"centered": ("yes", True)}  # OmegaConf reads 1e-3 as a number
    recipe = one("optim: rmsprop\nlearning_rate: 1e-3\noptim_args: alpha=0.9\n")
    assert (recipe.lines["lr"], recipe.lines["alpha"]) == (2, 3)
    assert recipe.surprises == {"lr": (1e-3, "1e-3")}  # transformers does not
    recipe = one("class_path: torch.optim.RMSprop\ninit_args:\n  lr: 1e-3\n  centered: yes")
    assert recipe.lines == {"": 1, "lr": 3, "centered": 4}
    assert recipe.surprises == {"centered": ("yes", True)}  # jsonargparse is like OmegaConf
    recipe = one('{"class_name": "RMSprop",\n"config": {\n"rho": 0.9}}')
    assert recipe.lines == {"": 1, "rho": 3}


def test_a_class_in_the_wrong_case_is_read_and_kept_as_written():
    assert one("_target_: torch.optim.RMSProp\nlr: 0.1").target == "torch.optim.RMSProp"
    assert one("_target_: torch.optim.RMSProp\nlr: 0.1").config() == native("torch", lr=0.1)


def test_a_class_of_its_own_defaults_is_read_with_them():
    keras, tf_keras = "_target_: keras.optimizers.RMSprop\n", "_target_: tf_keras.optimizers.rmsprop\n"
    average = "use_ema: true\nema_momentum: 0.9\n"
    assert one(keras + average).config() == native("keras", use_ema=True, ema_momentum=0.9)
    with pytest.raises(ConfigError, match=r"ema_overwrite_frequency=100 cannot be read .*; give None"):
        one(tf_keras + average).config()
    assert one(tf_keras + average + "ema_overwrite_frequency: null").config().ema_decay == 0.9
    assert one(tf_keras + "rho: 0.8").config() == native("keras", rho=0.8)


def test_an_unknown_class_is_read_and_has_no_config():
    recipe = one("_target_: project.MyRMSprop\nlr: 0.1")
    assert recipe.settings == {"lr": 0.1}
    with pytest.raises(UnknownNameError, match=r"'project.MyRMSprop' is not an RMSProp that unirms knows"):
        recipe.config()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hello", "it states no RMSProp that unirms can read; it reads hydra, lightning, keras, torch"),
        ("", "it states no RMSProp"),
        ("a: [", "it is not YAML"),
        ("_target_: torch.optim.Adam\nlr: 1", "it states no RMSProp"),
        # Hydra
        ("a:\n  _target_: torch.optim.RMSprop\n  lr: ???", "line 3: a.lr: ??? is still to be given"),
        ("_target_: torch.optim.RMSprop\nlr: ${rate}", "line 2: lr: ${rate} is an interpolation, which only Hydra"),
        ("_target_: torch.optim.RMSprop\n_args_: [1]", "line 2: _args_ of torch.optim.RMSprop cannot be read"),
        ("_target_: torch.optim.RMSprop\nrho: 1", "write alpha"),
        (
            "_target_: torch.optim.RMSprop\nlr: {_target_: a.Cosine, T: 3}",
            "lr=a.Cosine(T=3) is a learning-rate schedule",
        ),
        (
            "_target_: torch.optim.RMSprop\nlr: {_target_: a.B, name: 1, self: 2}",
            "lr=a.B(name=1, self=2) is a learning",
        ),
        ("_target_: torch.optim.RMSprop\nlr: '0.1'", "lr='0.1' is not allowed"),
        # LightningCLI
        ("class_path: torch.optim.RMSprop\ninit_args: [1]", "line 2: init_args=[1] must be a mapping"),
        # Keras
        (
            '{"class_name": "RMSprop", "config": {"learning_rate": {"class_name": "CosineDecay", "config": {"a": 1}}}}',
            "CosineDecay(a=1) cannot be read: CosineDecay takes initial_learning_rate, decay_steps, alpha",
        ),
        (
            '{"class_name": "RMSprop", "config": {"learning_rate": {"class_name": "Mine", "config": {"a": 1}, '
            '"module": "mine", "registered_name": "mine>ExponentialDecay"}}}',
            "mine>ExponentialDecay(a=1) is not a schedule that unirms can read; it reads ExponentialDecay, Inverse",
        ),
        (
            '{"class_name": "RMSprop", "config": {"learning_rate": {"class_name": "UniRMSSchedule", '
            '"registered_name": "unirms>UniRMSSchedule", "config": {"schedule": {"kind": "cosin"}}}}}',
            "learning_rate must be one of",
        ),
        (
            '{"class_name": "RMSprop", "config": {"learning_rate": {"kind": "constant", "learning_rate": 1}}}',
            "is a learning-rate schedule that unirms does not read from this format; state it as learning_rate: {kind",
        ),
        (
            '{"class_name": "RMSprop", "config": {"use_ema": true, "ema_overwrite_frequency": 7}}',
            "ema_overwrite_frequency=7 cannot be read",
        ),
        # PyTorch
        (
            '[{"lr": 1, "alpha": 0.9, "eps": 1e-8}, {"lr": 2, "alpha": 0.9, "eps": 1e-8, "momentum": 0.9}]',
            "parameter groups differ in lr, momentum and do not say which parameters they hold",
        ),
        (
            '[{"lr": 1, "alpha": 0.9, "eps": 1e-8},'
            ' {"lr": 1, "alpha": 0.9, "eps": 1e-8, "maximize": true, "param_names": ["a"]}]',
            "the group of a has its own maximize, which must be the same for all",
        ),
        # Hugging Face
        ("x --optim rmsprop --optim_args alpha", "line 1: 'alpha' in optim_args is not NAME=VALUE"),
        ("x --optim rmsprop --learning_rate fast", "line 1: --learning_rate='fast' is not a number"),
        ("x --optim rmsprop --learning_rate 1 2", "--learning_rate takes one value (given 1 2)"),
        ("x --optim rmsprop_fast --learning_rate 1", "optim='rmsprop_fast' is not one of transformers' RMSProps"),
        ("x --optim rmsprop --learning_rate '1", "it is not a command line: no closing quotation"),
        ("x --optim rmsprop --optim_args centered=true", "centered='true' is not allowed"),
        ("optim: rmsprop\noptim_args: [1]", "optim_args=[1] is not text"),
        # timm
        ("train.py --opt rmsprop", "without lr, timm derives it from lr-base and the batch size"),
        ("train.py --opt lookahead_rmsprop --lr 1", "opt 'lookahead_rmsprop' wraps another optimizer"),
        ("train.py --opt rmspropx --lr 1", "opt 'rmspropx' is not one of timm's RMSProps"),
        ("train.py --opt crmsproptf --lr 1", "caution=True cannot be read"),
        ("train.py --opt rmsproptfc --lr 1", "corrected_weight_decay=True cannot be read"),
        ("train.py --opt rmsprop --lr 1 --layer-decay 0.7", "layer decay gives every layer its own learning rate"),
        ("train.py --opt rmsprop --lr 1 --opt-kwargs alpha", "'alpha' in --opt-kwargs is not NAME=VALUE"),
        ("train.py --opt rmsprop --lr 1 --opt-kwargs lr=2", "lr is stated twice"),
        # PaddleClas
        ("Optimizer: {name: RMSProp, lr: 0.1}", "Optimizer.lr=0.1 must be a mapping"),
        ("Optimizer: {name: RMSProp, lr: {}}", "Optimizer.lr needs learning_rate"),
        ("Optimizer: {name: RMSProp, lr: {name: Piecewise, values: []}}", "Optimizer.lr needs learning_rate"),
        (
            "Optimizer: {name: RMSProp, lr: {learning_rate: 1}, centered: true}",
            "centered is not a setting of PaddleClas's",
        ),
        ("Optimizer: {name: RMSProp, lr: {learning_rate: 1}, regularizer: 1}", "regularizer=1 must be {name: L2"),
        (
            "Optimizer: {name: RMSProp, lr: {learning_rate: 1}, regularizer: {name: L3, coeff: 1}}",
            "unirms states L2 and L1 decay",
        ),
        (  # PaddleOCR's word
            "Optimizer: {name: RMSProp, lr: {learning_rate: 1}, regularizer: {name: L2, factor: 1}}",
            "L2Decay(factor=1) cannot be read: L2Decay has no argument factor; write coeff",
        ),
        # MindCV
        ("opt: rmsprop\nuse_nesterov: false\nlayer_decay: 0.7", "layer_decay gives every layer its own learning rate"),
        ("opt: rmsprop\nweight_decay_filter: x", "line 2: weight_decay_filter='x' must be one of disable, auto"),
        ("opt: rmsprop\nloss_scale: 1\nlr: fast", "lr='fast' is not a number"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(text, reason):
    assert reason in refusal(text)


@pytest.mark.parametrize("format", recipes.all_formats())
def test_a_named_format_says_what_it_wants(format):
    for text in ("a: 1", "[1]", "hello"):
        with pytest.raises(ConfigError, match="the text"):
            recipes.read_text(text, format=format)


@pytest.mark.parametrize(
    ("text", "format", "rate"),
    [
        ("train.py --model x --opt rmsprop --lr 0.064 --wd 1e-5 --lr-step-size 2", "timm", 0.064),  # torchvision
        ("train.py --network WGAN --opt RMSprop --n_disc_update 5 --lr 5e-5", "timm", 5e-5),
        ("main.py --model=resnet --optim=rmsprop --lr=0.001", "huggingface", 5e-5),
        ("main.py --optim rmsprop", "huggingface", 5e-5),
        ("train.py --optim rmsprop --lr 0.1 --warmup_steps 5", "huggingface", 5e-5),
        ("classifier: {optim: rmsprop, nhid: 0, batch_size: 128}", "huggingface", 5e-5),
        ("optim: rmsprop\nlr: 0.01", "huggingface", 5e-5),
        ("opt: rmsprop\nlr: 0.01\nalpha: 0.9\nbatch_size: 32", "mindcv", 0.01),
        ("_target_: timm.optim.create_optimizer_v2\nopt: rmsproptf\nlr: 0.1", "timm", 0.1),
        ("_target_: mindcv.optim.create_optimizer\nopt: rmsprop\nlr: 0.1\nloss_scale: 8", "mindcv", 0.1),
    ],
)
def test_the_words_of_other_tools_are_not_taken_for_those_of_one(text, format, rate):
    assert "it states no RMSProp that unirms can read" in refusal(text)
    assert one(text, format=format).config().learning_rate == rate  # whoever names the tool knows better


@pytest.mark.parametrize(
    "end",
    [
        "2>&1 | tee train.log",
        "> train.log 2>&1 &",
        "&>> out/log.txt",
        "|& tee log",
        ">log",
        "< /dev/null",
        "2>/dev/null;",
    ],
)
def test_where_output_goes_is_no_word_of_the_command(end):
    assert one(f"train.py --opt rmsproptf --opt-eps .001 --lr .016 {end}").settings["lr"] == 0.016


@pytest.mark.parametrize(
    "text",
    [
        "--opt rmsprop --lr 1 " + "1" * 1_000_000,
        "--opt rmsprop --lr 1" + " x" * 500_000,
        "--opt rmsprop \\\n" + "\\\n" * 500_000,
        "--opt rmsprop\n" + "-b\n" * 340_000,
        "--opt rmsprop --lr 1\n\n" * 5_000,
    ],
)
def test_hostile_command_lines_are_read_or_refused_within_seconds(text):
    started = time.perf_counter()
    outcome(lambda: recipes.read_text(text))
    assert time.perf_counter() - started < 5


def test_a_launcher_has_options_of_its_own():
    launched = "torchrun --nproc_per_node=8 --master_port 1 -m x.train --opt rmsprop --lr 1 -b 128 --sched none"
    assert one(launched).format == "timm"


def test_among_commands_those_of_the_tool_are_read():
    text = "a.py --opt rmsprop --lr 1 --wd 2\nb.py --opt rmsprop --lr 3\nc.py --opt rmsproptf --lr 4 --wd 5"
    assert [recipe.settings["lr"] for recipe in recipes.read_text(text)] == [3, 4]


def test_unknown_formats_are_answered_with_a_close_one():
    with pytest.raises(UnknownNameError, match=r"'hidra' is not a format that unirms reads; did you mean hydra\?"):
        recipes.read_text("a: 1", format="hidra")


def test_what_concerns_no_update_may_be_open():
    text = "_target_: torch.optim.RMSprop\nparams: ${model.params}\nforeach: ???\nlr: 0.1"
    assert one(text).config() == native("torch", lr=0.1)


# --- What is said beside a recipe -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "remarks"),
    [
        ("x --optim rmsprop --max_grad_norm 0 --lr_scheduler_type constant", []),
        ("x --optim rmsprop --optim_args alpha=0.9", ["ignores optim_args", "global norm of 1.0", "schedule 'linear'"]),
        (
            "x --optim rmsprop --max_grad_norm 2 --lr_scheduler_type constant --weight_decay 0.1 "
            "--optim_args weight_decay=0.2",
            ["ignores optim_args", "has no effect", "exempts biases and norms", "global norm of 2.0"],
        ),
        ("t.py --opt rmsprop --lr 1 --weight-decay 0 --sched none", []),
        (
            "t.py -c a.yaml --opt rmsprop --lr 1 --opt-betas 0.9 0.99 --clip-grad 1 --clip-mode agc",
            ["the file a.yaml", "exempts biases", "drops the betas", "clips gradients by agc at 1.0", "'cosine'"],
        ),
        ("opt: rmsprop\nloss_scale: 1\nscheduler: constant", []),
        (
            "opt: rmsprop\nuse_nesterov: true\nclip_grad: true\nloss_scale: 8\nfilter_bias_and_bn: true",
            ["has no effect", "takes the loss scale off", "global norm of 15.0", "older releases", "'cosine_decay'"],
        ),
        ("Optimizer: {name: RMSProp, lr: {learning_rate: 1}}", []),
        (
            "Optimizer: [{RMSProp: {scope: Head, lr: {learning_rate: 1}, weight_decay: 1, "
            "one_dim_param_no_weight_decay: true, regularizer: {name: L2, coeff: 2}}}]",
            ["one dimension", "ignores weight_decay beside a regularizer", "the parameters of Head alone"],
        ),
        (
            '{"param_groups": [{"lr": 1, "initial_lr": 2, "alpha": 0.9, "eps": 1e-8}]}',
            ["do not name their class", "from 2 to 1"],
        ),
        ('{"param_groups": [{"lr": 1, "initial_lr": 1, "alpha": 0.9, "eps": 1e-8, "lr_in_momentum": true}]}', []),
    ],
)
def test_what_the_tool_does_besides_is_remarked(text, remarks):
    found = one(text).remarks
    assert len(found) == len(remarks)
    assert all(part in remark for part, remark in zip(remarks, found, strict=True))


def test_the_commands_repeat_remarks(tmp_path):
    path = tmp_path / "train.sh"
    path.write_text("train.py --opt rmsproptf --lr 0.1 --weight-decay 0 --sched step")
    said = "train.py changes the learning rate by its schedule 'step'"
    runner = CliRunner()
    for command in (["translate", "--to", "keras"], ["explain"], ["explain", "--to", "keras"], ["diff", "torch"]):
        assert said in runner.invoke(app, [command[0], str(path), *command[1:]]).stdout, command
    written = runner.invoke(app, ["translate", str(path), "--to", "timm", "--write", "hydra"])
    assert said in written.stderr
    assert said not in written.stdout
    for command in (["translate", "--to", "keras"], ["explain"], ["explain", "--to", "keras"]):
        assert json.loads(runner.invoke(app, [*command, str(path), "--json"]).stdout)["remarks"] == [said]
    assert json.loads(runner.invoke(app, ["diff", "torch", str(path), "--json"]).stdout)["remarks"] == {
        "a": [],
        "b": [said],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("unirms: 1\nrho: 2", ", line 2: rho=2 is not allowed"),
        ("unirms: 1\ngroups:\n- {match: a, rho: 2}", "line 2: groups.0.rho=2 is not allowed"),
        ("_target_: torch.optim.RMSprop\n\nalpha: .nan", ", line 3: torch.optim.RMSprop: alpha=nan is not allowed"),
        ("a:\n  _target_: torch.optim.RMSprop\n  rho: 1", ", line 3: rho=1 is not an argument"),
        ("_target_: project.MyRMSprop", ", line 1: 'project.MyRMSprop' is not an RMSProp that unirms knows"),
    ],
)
def test_errors_name_the_file_and_the_line(tmp_path, text, said):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    for read in (RMSPropConfig.load, subjects.from_file):
        with pytest.raises(UnirmsError) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
        assert said in str(caught.value)


def test_weight_decay_in_optim_args_is_not_what_the_trainer_uses():
    recipe = one("x --optim rmsprop --weight_decay 0.1 --optim_args weight_decay=0.2,lr=3")
    assert recipe.config().weight_decay == 0.1
    assert recipe.config().learning_rate == 3  # optim_args are merged over the learning rate


def test_bare_optim_args_are_read_when_the_format_is_named():
    config = one("alpha=0.9, eps=1e-6", format="huggingface").config()
    assert config == native("torch", lr=5e-5, alpha=0.9, eps=1e-6)


def test_bitsandbytes_is_another_class():
    assert one("x --optim rmsprop_bnb_8bit").target == "bitsandbytes.optim.RMSprop"


# The factory's own settings, read off timm/optim/_optim_factory.py and compared with what it builds.
@pytest.mark.parametrize(
    ("opt", "dialect", "kwargs"),
    [
        ("rmsprop", "torch", {"alpha": 0.9, "momentum": 0.9}),
        ("RMSpropTF", "timm", {"alpha": 0.9, "momentum": 0.9}),
        ("rmsproptfw", "timm", {"alpha": 0.9, "momentum": 0.9, "decoupled_decay": True}),
    ],
)
def test_timm_states_alpha_and_momentum_of_its_own(opt, dialect, kwargs):
    config = one(f"train.py --opt={opt} --lr 0.1 --opt-kwargs filter_bias_and_bn=False").config()
    assert config == native(dialect, lr=0.1, weight_decay=2e-5, **kwargs)


def test_timm_takes_opt_args_of_a_file_before_its_options():
    stated = "opt: rmsprop\nopt_eps: 1e-3\nlr: 0.1\nweight_decay: 0\nopt_args: {alpha: 0.5, eps: 1e-2, momentum: 0.1}"
    recipe = one(stated)
    assert recipe.config() == native("torch", lr=0.1, alpha=0.5, eps=1e-2, momentum=0.1)
    assert (recipe.lines["alpha"], recipe.lines["lr"]) == (5, 3)
    assert "opt_args=3 must be a mapping" in refusal("opt: rmsproptf\nlr: 1\nopt_args: 3")


def test_lightning_takes_dict_kwargs_before_init_args():
    stated = "class_path: torch.optim.RMSprop\ninit_args: {lr: 0.1}\ndict_kwargs: {lr: 0.2, alpha: 0.5}"
    assert one(stated).config() == native("torch", lr=0.2, alpha=0.5)
    assert "line 2: dict_kwargs=3 must be a mapping" in refusal("class_path: torch.optim.RMSprop\ndict_kwargs: 3")


def test_the_same_option_twice_counts_once_and_commands_are_told_apart():
    first = "a --opt rmsprop --lr 1 --lr 2 --momentum 0 && b --opt rmsprop --lr 3 # --lr 4"
    text = f"{first}\nc --opt adam\nd --opt rmsproptf \\\n --lr 5"
    found = recipes.read_text(text)
    assert [recipe.settings["lr"] for recipe in found] == [2, 3, 5]
    assert [recipe.lines["lr"] for recipe in found] == [1, 1, 3]


def test_options_on_lines_of_their_own_belong_together():
    assert one("--opt rmsproptf\n--lr 0.1\n  --momentum 0.5\n").settings["momentum"] == 0.5


def test_a_hash_inside_a_word_or_quotes_is_no_comment():
    assert one("a --experiment x#1 '# y' --opt rmsprop --lr 2").settings["lr"] == 2


def test_mindcv_reads_text_as_argparse_does():
    assert one("opt: rmsprop\nlr: '0.1'\neps: '1e-3'", format="mindcv").config().learning_rate == 0.1


@pytest.mark.parametrize(
    ("stated", "scale"),
    [
        ("loss_scale: 8", 8),
        ("loss_scale: 8\nloss_scale_type: dynamic", 1),
        ("loss_scale: 8\ndrop_overflow_update: true", 1),
        ("loss_scale: 8\nema: true", 1),
        ("loss_scale: 8\ngradient_accumulation_steps: 2", 1),
        ("loss_scale: 8\ngradient_accumulation_steps: 1", 8),
    ],
)
def test_mindcv_scales_the_loss_in_one_place(stated, scale):
    assert one(f"opt: rmsprop\n{stated}").config().loss_scale == scale


@pytest.mark.parametrize(
    ("which", "patterns"),
    [("disable", ()), ("auto", ("*beta*", "*gamma*")), ("norm_and_bias", ("*beta*", "*gamma*", "*bias*"))],
)
def test_mindcv_exempts_by_its_filter(which, patterns):
    assert one(f"opt: rmsprop\nweight_decay_filter: {which}").config().no_weight_decay == patterns


@pytest.mark.parametrize(
    ("lr", "rate", "schedule"),
    [
        ("{name: Cosine, learning_rate: 0.1, warmup_epoch: 5}", 0.1, "Cosine(learning_rate=0.1, warmup_epoch=5)"),
        ("{name: Step, learning_rate: 0.1, step_size: 2, gamma: 0.9}", 0.1, "Step(learning_rate=0.1, step_size=2"),
        ("{name: Piecewise, values: [0.1, 0.01], decay_epochs: [30]}", 0.1, "Piecewise(values=[0.1, 0.01]"),
        ("{name: ConstLR, learning_rate: 0.1, warmup_epoch: 5}", 0.1, "ConstLR(learning_rate=0.1, warmup_epoch=5)"),
    ],
)
def test_a_schedule_of_paddleclas_is_a_remark(lr, rate, schedule):
    """It counts epochs, whose updates depend on the data: every recipe of PaddleClas's own has one."""
    recipe = one(f"Optimizer: {{name: RMSProp, lr: {lr}}}")
    assert recipe.config() == native("paddle", learning_rate=rate)
    (remark,) = recipe.remarks
    assert remark.startswith(f"PaddleClas changes the learning rate by its schedule {schedule}")


def test_a_constant_rate_of_paddleclas_needs_no_remark():
    for lr in ("{learning_rate: 0.1}", "{name: Constant, learning_rate: 0.1}", "{name: ConstLR, learning_rate: 0.1}"):
        assert one(f"Optimizer: {{name: RMSProp, lr: {lr}}}").remarks == ()


def test_paddleclas_exempts_by_words_in_names():
    text = "Optimizer: {name: RMSProp, lr: {learning_rate: 1}, weight_decay: 0.1, no_weight_decay_name: '.b_0 norm'}"
    config = one(text).config()
    assert config.for_parameter("linear.b_0").weight_decay == 0
    assert config.for_parameter("linearxb_0").weight_decay == 0.1
    assert config.for_parameter("norm.w_0").weight_decay == 0


def test_equal_groups_are_merged():
    group = {"lr": 0.1, "alpha": 0.9, "eps": 1e-8, "foreach": None}
    recipe = one(json.dumps([{**group, "params": [0]}, {**group, "params": [1], "initial_lr": 0.1}]))
    assert recipe.groups == ()
    assert recipe.config() == native("torch", lr=0.1, alpha=0.9)


def test_timm_groups_are_known_by_their_keys():
    group = {"lr": 0.1, "alpha": 0.9, "eps": 1e-8, "lr_in_momentum": True, "decoupled_decay": False}
    assert one(json.dumps([group])).config() == native("timm", lr=0.1, eps=1e-8)


@given(st.text(min_size=1, max_size=12), st.text(max_size=12))
def test_a_name_becomes_a_pattern_for_itself_alone(name, other):
    pattern = base.exactly(name)
    assert unirms.names.matches(name, [pattern])
    assert other == name or not unirms.names.matches(other, [pattern])


# --- Keras rounds the learning rate ---------------------------------------------------------------------------------


def test_the_learning_rate_of_keras_comes_back_as_it_was_written():
    assert shortest(0.0010000000474974513) == 0.001
    assert shortest(0.003000000026077032) == 0.003
    assert shortest(0.5) == 0.5
    assert shortest(0.001) == 0.001  # written by hand, and no float32


@given(st.floats(min_value=2.0**-100, max_value=2.0**100, width=32), st.integers(1, 6))
def test_a_decimal_that_float32_tells_apart_survives_it(value, digits):
    written = float(f"{value:.{digits}g}")  # float32 has at least six decimal digits
    assert shortest(float(np.float32(written))) == written


@pytest.mark.parametrize("value", [math.nan, math.inf, "0.1", None, True, 1e300, {"a": 1}])
def test_what_is_no_float32_stays(value):
    assert repr(shortest(value)) == repr(value)


def test_lr_of_old_keras_comes_back_too():
    rounded = {"lr": float(np.float32(0.001)), "rho": float(np.float32(0.9)), "decay": 0.0, "epsilon": 1e-8}
    recipe = one(json.dumps({"optimizer_config": {"class_name": "RMSprop", "config": rounded}}))
    assert recipe.config() == native("keras-legacy", learning_rate=0.001, rho=0.9, epsilon=1e-8)


def test_only_what_keras_rounds_is_restored():
    rounded = float(np.float32(0.9))
    settings = {"learning_rate": rounded, "rho": rounded, "weight_decay": rounded}
    config = one(json.dumps({"class_name": "RMSprop", "config": settings})).config()
    assert (config.learning_rate, config.rho, config.weight_decay) == (0.9, rounded, rounded)
    legacy = {"learning_rate": rounded, "rho": rounded, "momentum": rounded, "decay": 0.0}
    config = one(json.dumps({"class_name": "RMSprop", "config": legacy})).config()
    assert (config.learning_rate, config.rho, config.momentum) == (0.9, 0.9, 0.9)


def test_the_rate_beside_the_config_of_an_exact_class_counts():
    """Keras keeps a schedule, or a rate that was changed, in the optimizer's own words."""
    group = unirms.ParameterGroup(match=("a",), learning_rate=0.005)
    config = RMSPropConfig(learning_rate=0.01, groups=(group,))
    cosine = {"kind": "cosine", "initial_learning_rate": 0.1, "decay_steps": 10}
    ours = {"class_name": "UniRMSSchedule", "registered_name": "unirms>UniRMSSchedule", "config": {"schedule": cosine}}
    decay = {"initial_learning_rate": 0.2, "decay_steps": 5, "decay_rate": 0.5}
    stock = {"module": "keras.optimizers.schedules", "class_name": "ExponentialDecay", "config": decay}

    def read(rate, config=config):
        settings = {"config": config.model_dump(mode="json"), "learning_rate": rate}
        data = {"class_name": "UniRMSProp", "registered_name": "unirms>UniRMSProp", "config": settings}
        return one(json.dumps(data)).config()

    assert read(0.01) == config
    assert read(0.02).for_parameter("a").learning_rate == 0.01  # as many times the rate as before
    plain = RMSPropConfig(learning_rate=0.1)
    assert read(ours, plain).learning_rate == RMSPropConfig(learning_rate=cosine).learning_rate
    assert read(stock, plain).learning_rate_at(5) == 0.1


def test_the_optimizer_that_unirms_builds_is_a_config():
    config = native("torch", lr=0.1)
    data = {
        "module": "unirms.adapters.keras",
        "class_name": "UniRMSProp",
        "registered_name": "unirms>UniRMSProp",
        "config": {"name": "x", "learning_rate": 0.1, "config": config.model_dump(mode="json")},
    }
    recipe = one(json.dumps({"optimizer": data}))
    assert (recipe.format, recipe.config()) == ("unirms", config)


# --- Writing --------------------------------------------------------------------------------------------------------

WRITABLE = {
    "hydra": list(dialects.all_dialects()),
    "lightning": ["torch", "timm", "sb3", "pfrl"],
    "keras": ["keras", "keras-legacy"],
    "huggingface": ["torch"],
    "unirms": list(dialects.all_dialects()),
}
PAIRS = [(format, dialect) for format in WRITABLE for dialect in WRITABLE[format]]
SOURCES = {
    "torch": native("torch", lr=0.01, alpha=0.95, momentum=0.9, centered=True),
    "keras": native("keras", learning_rate=1e-3, rho=0.8, epsilon=1e-5, clipnorm=0.5),
    "tf1": native("tf1", learning_rate=1e-4, momentum=0.5),
    "float32": native("keras", learning_rate=float(np.float32(0.1))),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("format", "dialect"), PAIRS)
def test_what_is_written_is_read_back(format, dialect, source):
    wanted = SOURCES[source].to_native(dialect)
    text = recipes.write(SOURCES[source], format, dialect)
    assert text == recipes.write(wanted, format)
    recipe = one(text)
    assert recipe.format == format
    meaning = recipe.config()
    if format == "keras":  # where both rates are the same float32
        assert np.float32(meaning.learning_rate) == np.float32(wanted.meaning.learning_rate)
        meaning = meaning.replace(learning_rate=wanted.meaning.learning_rate)
    assert meaning.equivalent(wanted.meaning)
    if format != "unirms":  # nothing is left to a default
        assert {name for name in wanted.kwargs if name not in recipe.settings} == set()


def test_formats_that_write_are_all_tested():
    assert set(WRITABLE) == {name for name, format in recipes.all_formats().items() if format.write}
    for name, format in recipes.all_formats().items():
        assert list(format.dialects) == [] or list(format.dialects) == WRITABLE[name]


@pytest.mark.parametrize(
    ("format", "dialect", "reason"),
    [
        ("timm", "timm", "unirms reads timm and does not write it; it writes hydra"),
        ("keras", "torch", "keras does not know torch.optim.RMSprop; write it in one of the dialects keras"),
        ("lightning", "paddle", "lightning does not know paddle.optimizer.RMSProp"),
        ("hydra", None, "a config has no dialect of its own"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(format, dialect, reason):
    with pytest.raises(ConfigError, match=reason):
        recipes.write(SOURCES["torch"], format, dialect)


def test_a_text_that_would_be_read_otherwise_is_not_written():
    config = native("torch", lr=0.1, weight_decay=0.1)
    with pytest.raises(ConfigError, match="huggingface cannot say it: no_weight_decay is"):
        recipes.write(config, "huggingface")
    assert recipes.write(config.replace(no_weight_decay=huggingface.NO_WEIGHT_DECAY), "huggingface")
    with pytest.raises(ConfigError, match="hydra cannot say it: no_weight_decay is"):
        recipes.write(config.replace(no_weight_decay="*.bias"), "hydra", "torch")


@given(strategies.configs, st.sampled_from(PAIRS))
def test_any_config_is_written_and_read_back_or_refused(config, pair):
    format, dialect = pair
    try:
        text = recipes.write(config, format, dialect)
    except UnirmsError:
        return
    assert one(text).format == format


# --- Nothing harms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "_target_: os.system\ncommand: touch {mark}\nrmsprop: {_target_: os.RMSprop}",
        "a: {_target_: torch.optim.RMSprop, lr: {_target_: os.system, _args_: ['touch {mark}']}}",
        "class_path: os.RMSprop\ninit_args: {lr: {class_path: os.system}}",
        '{"class_name": "RMSprop", "module": "os", "config": {"learning_rate": {"class_name": "system"}}}',
        "a: !!python/object/apply:os.system ['touch {mark}']\n_target_: torch.optim.RMSprop",
        "train.py --opt rmsprop --lr $(touch {mark}) --opt-kwargs alpha=__import__('os').system('touch{mark}')",
        "x --optim rmsprop --optim_args alpha=`touch{mark}`; touch {mark}",
    ],
)
def test_no_recipe_runs_or_imports_what_it_names(tmp_path, text):
    mark = tmp_path / "mark"
    code = (
        "import sys; from unirms import UnirmsError, recipes; recipes.all_formats()\nbefore = set(sys.modules)\n"
        "try: [recipe.config() for recipe in recipes.read_text(sys.argv[1])]\nexcept UnirmsError: pass\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - {'unirms', 'encodings'})"
    )
    command = [sys.executable, "-c", code, text.replace("{mark}", str(mark))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert not mark.exists()
    assert not {"torch", "os", "project"} & set(done.stdout.split())


def test_objects_of_frameworks_are_named_and_not_touched():
    class Tensor:
        shape = (3,)

        def __getattr__(self, name):
            raise AssertionError(name)

        def __repr__(self):
            raise AssertionError("repr")

    group = {"lr": 0.1, "alpha": 0.9, "eps": 1e-8, "params": [Tensor()]}
    assert recipes.read_object({"state": {0: {"square_avg": Tensor()}}, "param_groups": [group]})[0].config()
    (recipe,) = recipes.read_object([{**group, "lr": Tensor()}])
    with pytest.raises(ConfigError, match=r"lr=.*Tensor"):
        recipe.config()


def test_numbers_without_dimensions_are_numbers():
    group = {"lr": np.array(0.5), "alpha": np.float32(0.5), "eps": np.float64(1e-8), "params": []}
    assert recipes.read_object([group])[0].config() == native("torch", lr=0.5, alpha=0.5)


def outcome(call):
    """Return what a call returns, or the error that unirms raises on purpose; any other error is a defect."""
    try:
        return call()
    except UnirmsError as error:
        assert str(error)
        return error


def read_and_mean(call):
    found = outcome(call)
    if not isinstance(found, UnirmsError):
        assert found
        for recipe in found:
            meaning = outcome(recipe.config)
            assert isinstance(meaning, (RMSPropConfig, UnirmsError))


TEXTS = {name: (HERE / name).read_text() for name in SAMPLES}
PARSED = {
    name: unirms.documents.parse(text, unirms.documents.KINDS[Path(name).suffix]).data
    for name, text in TEXTS.items()
    if not name.endswith(".sh")
}
WORDS = sorted({word for text in TEXTS.values() for word in text.split()})
FIELDS = sorted({*RMSPropConfig.model_fields, *schedules.KINDS, "plateau", "schedule", "value", "norm", "number"})
junk_text = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(WORDS) | strategies.tricky, max_size=12).map(" ".join),
    st.text(alphabet="{}[]:,\"'-?&*!<|>%@`#\n \t.=a1e~\\", max_size=40),
)
formats = st.none() | st.sampled_from(list(recipes.all_formats()))


WRAPPERS = (
    lambda value: [value],
    lambda value: {"_target_": value},
    lambda value: {"_target_": "a.B", "_args_": value, "name": value, "self": value},
    lambda value: {"class_path": "a.B", "init_args": {"name": value, "self": value}},
    lambda value: {"class_name": "B", "config": {"name": value, "self": value}},
    lambda value: {"name": "B", "self": value, "learning_rate": value},
)


@st.composite
def spliced_texts(draw):
    """A sample with a part of it replaced."""
    text = TEXTS[draw(st.sampled_from(sorted(TEXTS)))]
    start = draw(st.integers(0, len(text)))
    return text[:start] + draw(junk_text) + text[start + draw(st.integers(0, 20)) :]


@st.composite
def mutated_data(draw):
    """A sample with a value replaced, a key renamed or an item dropped, anywhere in it."""
    data = json.loads(json.dumps(PARSED[draw(st.sampled_from(sorted(PARSED)))]))
    for _ in range(draw(st.integers(1, 2))):
        places = [(inner, key) for inner in _containers(data) for key in _keys(inner)]
        inner, key = places[draw(st.integers(0, len(places) - 1))] if places else ({}, "")
        value = inner[key] if places else None
        what = draw(st.sampled_from(["replace", "replace", "rename", "drop", "wrap"]))
        if what == "replace" or (what == "rename" and isinstance(inner, list)):
            inner[key] = draw(strategies.data)
        elif what == "rename":
            inner[draw(st.sampled_from(FIELDS) | st.sampled_from(WORDS) | st.text(max_size=4))] = inner.pop(key)
        elif what == "drop" and places:
            inner.pop(key)
        else:
            inner[key] = draw(st.sampled_from(WRAPPERS))(value)
    return data


def _containers(data):
    if isinstance(data, (dict, list)):
        yield data
        for inner in data.values() if isinstance(data, dict) else data:
            yield from _containers(inner)


def _keys(inner):
    return list(inner) if isinstance(inner, dict) else range(len(inner))


def try_text(text, format):
    read_and_mean(lambda: recipes.read_text(text, format=format))


def try_bytes(content, format, path):
    path.write_bytes(content)
    read_and_mean(lambda: recipes.read_file(path, format=format))


def try_data(data, format):
    read_and_mean(lambda: recipes.read_object(data, format=format))
    read_and_mean(lambda: recipes.read_text(json.dumps(data), format=format))
    read_and_mean(lambda: recipes.read_text(yaml.safe_dump(data), format=format))


def try_arguments(dialect, pairs):
    outcome(lambda: subjects.from_settings(dialect, pairs))
    outcome(lambda: subjects.from_word(f"{dialect}:{','.join(pairs)}"))


arguments = st.lists(
    st.builds("{}={}".format, st.sampled_from([*RMSPropConfig.model_fields, "lr", "alpha", "eps"]), strategies.scalars)
    | st.text(max_size=12),
    max_size=4,
)
cases = st.one_of(
    st.tuples(st.just(try_text), junk_text | spliced_texts(), formats),
    st.tuples(
        st.just(try_bytes),
        st.binary(max_size=60) | spliced_texts().map(lambda text: text.encode("utf-8", "surrogatepass")),
        formats,
        st.sampled_from(["a.yaml", "a.json", "a.toml", "a.sh", "a"]),
    ),
    st.tuples(st.just(try_data), mutated_data() | strategies.data, formats),
    st.tuples(st.just(try_arguments), st.sampled_from(list(dialects.all_dialects())) | st.text(max_size=5), arguments),
)


def try_case(folder, case):
    attempt, *given_values = case
    if attempt is try_bytes:
        given_values[-1] = folder / given_values[-1]
    attempt(*given_values)


def test_a_long_word_is_no_file():
    outcome(lambda: subjects.from_word("torch:lr=" + "1" * 300))


@settings(max_examples=200)
@given(cases)
def test_anything_is_a_config_or_a_unirms_error(tmp_path_factory, case):
    try_case(tmp_path_factory.getbasetemp(), case)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(cases)
def test_anything_is_a_config_or_a_unirms_error_at_length(tmp_path_factory, case):
    try_case(tmp_path_factory.getbasetemp(), case)


def test_a_reader_that_raises_anything_else_is_caught(monkeypatch, tmp_path_factory):
    def read(document):
        return (base.Recipe("careless", "torch.optim.RMSprop", {"lr": document.data["lr"]}),)

    careless = Format("careless", "planted", lambda document: isinstance(document.data, dict), read)
    monkeypatch.setattr(recipes, "all_formats", lambda: {"careless": careless})

    @settings(max_examples=200, report_multiple_bugs=False)
    @given(cases)
    def anything(case):
        try_case(tmp_path_factory.getbasetemp(), case)

    with pytest.raises(KeyError, match="lr"):
        anything()


COSINE = {
    "module": "keras.optimizers.schedules",
    "class_name": "CosineDecay",
    "config": {"initial_learning_rate": 0.1, "decay_steps": 1000, "alpha": 0.0, "name": "CosineDecay"},
    "registered_name": None,
}


def serialized(schedule):
    return {"class_name": "RMSprop", "config": {"learning_rate": schedule, "rho": 0.95}}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (COSINE, schedules.Cosine(initial_learning_rate=0.1, decay_steps=1000)),
        ({**COSINE, "module": None}, schedules.Cosine(initial_learning_rate=0.1, decay_steps=1000)),
        (
            {"class_name": "PiecewiseConstantDecay", "config": {"boundaries": [9], "values": [0.1, 0.2]}},
            schedules.Piecewise(boundaries=[10], learning_rates=[0.1, 0.2]),
        ),
        (
            {
                "module": "unirms.adapters.keras.schedules",
                "class_name": "UniRMSSchedule",
                "config": {"schedule": {"kind": "noam", "d_model": 64, "warmup_steps": 10}},
                "registered_name": "unirms>UniRMSSchedule",
            },
            schedules.Noam(d_model=64, warmup_steps=10),
        ),
    ],
)
def test_a_serialized_schedule_of_keras_is_read(schedule, expected):
    (recipe,) = recipes.read_object(serialized(schedule))
    assert recipe.format == "keras"
    assert recipe.config() == RMSPropConfig(learning_rate=expected, rho=0.95)


@pytest.mark.parametrize(
    ("format", "dialect"),
    [("keras", "keras"), ("keras", "keras-legacy"), ("hydra", "keras"), ("hydra", "paddle"), ("hydra", "mindspore")],
)
def test_a_schedule_is_written_and_read_back(format, dialect):
    schedule = schedules.Step(initial_learning_rate=0.1, step_size=300, gamma=0.5)
    warm = schedules.Warmup(warmup_steps=10, start_learning_rate=0.01, after=schedule)
    for rate in (schedule, warm) if dialect == "paddle" else (schedule,):
        native = RMSPropConfig(learning_rate=rate).to_native(dialect)
        (recipe,) = recipes.read_text(recipes.write(native, format), format=format)
        assert recipe.config().equivalent(native.meaning)
        assert not recipe.config().equivalent(native.meaning.replace(learning_rate=rate.scaled(0.5)))


def test_a_format_without_room_for_a_scheduler_is_refused():
    config = RMSPropConfig.from_native("torch").replace(
        learning_rate=schedules.Exponential(initial_learning_rate=0.1, decay_rate=0.9)
    )
    for format in ("hydra", "lightning"):
        with pytest.raises(ConfigError, match=f"{format} cannot say it: learning_rate is 0.1 instead of Exponential"):
            recipes.write(config, format, "torch")


def test_the_state_of_a_scheduler_is_not_taken_for_its_schedule():
    group = {"lr": 0.05, "initial_lr": 0.1, "alpha": 0.99, "eps": 1e-8}
    state = {"step_size": 10, "gamma": 0.5, "base_lrs": [0.1], "last_epoch": 10, "_last_lr": [0.05]}
    (recipe,) = recipes.read_object({"optimizer": {"param_groups": [group]}, "lr_scheduler": state})
    assert recipe.config().learning_rate == 0.05
    assert any("lr_scheduler is the state of a scheduler, which does not name its class" in r for r in recipe.remarks)
    (recipe,) = recipes.read_object({"optimizer": {"param_groups": [group]}})
    assert not any("state of a scheduler" in remark for remark in recipe.remarks)
