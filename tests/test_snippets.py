"""Every dialect's snippets: they compile, say the arguments as they are, and call what the real classes have.

Those of installed frameworks are run in `tests/frameworks/test_snippets.py`; the calls of the others, which were run
once in the releases of the corpus, are held against `signatures.json`, which was read from their released sources.
"""

import ast
import builtins
import json
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirms import ClipByGlobalNorm, ClipByNorm, ClipByValue, NativeCall, RMSPropConfig, dialects, snippets
from unirms.dialects.calls import Name
from unirms.names import matches

DIALECTS = tuple(dialects.all_dialects())
RECORDED = json.loads((Path(__file__).parent / "signatures.json").read_text(encoding="utf-8"))
CONFIGS = {
    "defaults": {},
    "everything": {
        "momentum": 0.9,
        "nesterov": True,
        "centered": True,
        "weight_decay": 0.1,
        "initial_mean_square": 0.1 + 0.2,
        "maximize": True,
        "loss_scale": 8.0,
        "bias_correction": True,
        "clip": ClipByNorm(max_norm=0.7),
        "no_weight_decay": ("*.bias", "re:beta|gamma", "n?rm*"),
    },
    "plain decay": {"weight_decay": 0.1, "weight_decay_mode": "l2"},
    "decay but for biases": {"weight_decay": 0.1, "no_weight_decay": ("*bias",)},
    "names without decay": {"no_weight_decay": ("*bias",)},
    "first mean square 0.5": {"initial_mean_square": 0.5},
    "first mean square 0.5, momentum": {"initial_mean_square": 0.5, "momentum": 0.9},
    "first mean square 0.5, centered": {"initial_mean_square": 0.5, "centered": True},
    "clipped by value": {"clip": ClipByValue(limit=0.5)},
    "clipped together": {"clip": ClipByGlobalNorm(max_norm=2.5)},
    "odd numbers": {"learning_rate": 0.1 + 0.2, "epsilon": 1.1754944e-38, "rho": 1 - 2**-53, "momentum": 5e-324},
    "minus zero": {"learning_rate": -0.0, "epsilon": -0.0, "momentum": -0.0, "weight_decay": -0.0},
    "stairs": {"learning_rate": {"kind": "step", "initial_learning_rate": 0.1, "step_size": 300, "gamma": 0.5}},
    "changes": {"learning_rate": {"kind": "piecewise", "boundaries": [10, 20], "learning_rates": [0.1, 0.03, 0.2]}},
    "many changes": {
        "learning_rate": {
            "kind": "piecewise",
            "boundaries": list(range(10, 40)),
            "learning_rates": [i / 7 for i in range(31)],
        }
    },
    "inverse time": {
        "learning_rate": {"kind": "inverse_time", "initial_learning_rate": 0.1, "decay_rate": 0.5, "decay_steps": 30}
    },
    "straight line": {"learning_rate": {"kind": "linear", "initial_learning_rate": 0.1, "decay_steps": 1000}},
    "warmup and stairs": {
        "weight_decay": 0.1,
        "no_weight_decay": ("*bias",),
        "initial_mean_square": 0.5,
        "learning_rate": {
            "kind": "warmup",
            "warmup_steps": 100,
            "start_learning_rate": 0.01,
            "after": {"kind": "step", "initial_learning_rate": 0.1, "step_size": 300},
        },
    },
    "one cycle": {"learning_rate": {"kind": "one_cycle", "max_learning_rate": 0.1, "total_steps": 100}},
    "groups": {
        "learning_rate": 0.01,
        "momentum": 0.5,
        "weight_decay": 0.1,
        "no_weight_decay": ("*.bias", "re:norm"),
        "groups": [
            {"match": "head.scale"},
            {"match": ("head*", "*tail"), "learning_rate": 0.05, "rho": 0.95, "centered": True, "clip": []},
            {"match": "*norm*", "learning_rate_factor": 0.3, "momentum": 0, "weight_decay": 0.2, "epsilon": 0.1 + 0.2},
            {"match": "re:b+"},
        ],
    },
    "groups with objects": {
        "learning_rate": {"kind": "step", "initial_learning_rate": 0.1, "step_size": 300, "gamma": 0.5},
        "weight_decay": 0.1,
        "weight_decay_mode": "l1",
        "clip": ClipByGlobalNorm(max_norm=2.5),
        "groups": [
            {"match": "a*", "learning_rate_factor": 2, "clip": ClipByNorm(max_norm=0.7), "weight_decay": 0.3},
            {"match": "b*", "learning_rate_factor": 2, "clip": ClipByNorm(max_norm=0.7)},
            {"match": "c*", "learning_rate_factor": 0},
        ],
    },
    "groups that say nothing": {"weight_decay": 0.1, "no_weight_decay": "b", "groups": [{"match": "a"}]},
    "long groups": {
        "no_weight_decay": "b",
        "groups": [
            {
                "match": [f"*.layer{index}.{'x' * index}*" for index in range(size)],
                "rho": 1 / 7,
                "epsilon": 2 / 7,
                "momentum": 3 / 7,
                "centered": True,
                "weight_decay": size / 7,
                "learning_rate_factor": 1.0,
            }
            for size in range(1, 6)
        ],
    },
    "long": {"weight_decay": 0.1, "no_weight_decay": tuple(f"*.layer{index}.{'x' * index}*" for index in range(9))},
}
patterns = st.one_of(
    st.text(st.sampled_from("ab.*?[]\"'\\/"), max_size=6),
    st.sampled_from(
        ["re:beta|gamma", r"re:\.bias$", 're:"', "re:'", "re:a\n", "*", "", "**a", "a*b", "*.[bB]ias", "é*"]
    ),
)
positive = st.floats(0, 1e6, exclude_min=True)
configs = st.builds(
    RMSPropConfig,
    learning_rate=st.floats(0, 1e6),
    rho=st.floats(0, 1),
    epsilon=st.floats(0, 1e6),
    momentum=st.floats(0, 1e6),
    lr_in_momentum=st.booleans(),
    centered=st.booleans(),
    weight_decay=st.floats(0, 1e6),
    weight_decay_mode=st.sampled_from(["l2", "decoupled"]),
    initial_mean_square=st.floats(0, 1e6),
    loss_scale=positive,
    maximize=st.booleans(),
    clip=st.lists(
        st.one_of(
            st.builds(ClipByValue, limit=positive),
            st.builds(ClipByNorm, max_norm=positive),
            st.builds(ClipByGlobalNorm, max_norm=positive),
        ),
        max_size=2,
    ),
    no_weight_decay=st.lists(patterns, max_size=3),
)


def native_of(name, dialect):
    return RMSPropConfig(**CONFIGS[name]).to_native(dialect)


def construction(tree):
    """Return the one call whose result is `optimizer`."""
    return assigned(tree, "optimizer")


def assigned(tree, name):
    """Return what is assigned to a variable, once."""
    made = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name]
    assert len(made) == 1
    return made[0].value


def value_of(node, tree):
    """Return what an argument stands for: a literal, a variable, or a call of a framework's class as data."""
    if isinstance(node, ast.Call):
        args = [value_of(arg, tree) for arg in node.args]
        return NativeCall(ast.unparse(node.func), *args, **{k.arg: value_of(k.value, tree) for k in node.keywords})
    if isinstance(node, ast.List):
        return [value_of(item, tree) for item in node.elts]
    if isinstance(node, ast.Name):
        return value_of(assigned(tree, node.id), tree) if node.id == "scheduler" else Name(node.id)
    return ast.literal_eval(node)


def check(native):
    """Assert that a snippet compiles, knows all its names, and passes the arguments as they are."""
    code = native.code()
    tree = ast.parse(code)
    assert free_names(tree) <= {"model", "params"}
    made = construction(tree)
    given_ = {keyword.arg: keyword.value for keyword in made.keywords}
    passed = {name: value_of(given_[name], tree) for name in native.kwargs}
    assert list(map(repr, passed.values())) == list(map(repr, native.kwargs.values()))  # -0.0 is not 0.0
    if native.scheduler is not None:
        assert value_of(assigned(tree, "scheduler"), tree) == native.scheduler
        assert code.index("optimizer = ") < code.index("scheduler = ")
    assert given_.keys() - native.kwargs.keys() <= {dialects.get(native.dialect).snippet.keyword}


def free_names(tree):
    nodes = list(ast.walk(tree))
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    arguments = {node.arg for node in nodes if isinstance(node, ast.arg)}
    loaded = {node.id for node in nodes if isinstance(node, ast.Name)}
    return loaded - stored - defined - arguments - imported(tree).keys() - set(dir(builtins))


def imported(tree):
    """Return what each imported name stands for, as a dotted path."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {item.asname or item.name.partition(".")[0]: item.name for item in node.names}
        if isinstance(node, ast.ImportFrom):
            found |= {item.asname or item.name: f"{node.module}.{item.name}" for item in node.names}
    return found


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_snippet_compiles_and_says_every_argument_as_it_is(name, dialect):
    check(native_of(name, dialect))


@pytest.mark.parametrize("dialect", DIALECTS)
@given(config=configs)
def test_whatever_the_config_its_snippet_compiles_and_reads_back(dialect, config):
    check(config.to_native(dialect))


@given(wanted=st.lists(patterns, min_size=1, max_size=3), name=st.text(st.sampled_from("ab.*?[]\"'\\/\n"), max_size=6))
def test_the_snippet_exempts_whom_the_config_exempts(wanted, name):
    config = RMSPropConfig(weight_decay=0.1, weight_decay_mode="l2", no_weight_decay=wanted)
    code = config.to_native("torch").code()
    space = {"re": re, "fnmatchcase": fnmatchcase}
    exec(code[code.index("def exempt") : code.index("\n\n\n", code.index("def exempt"))], space)
    assert bool(space["exempt"](name)) == matches(name, wanted)


def misfits(code, dialect):
    """Return what a snippet calls or asks for and the recorded classes do not have."""
    tree = ast.parse(code)
    names = imported(tree)
    found = []
    target = ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            root, _, rest = ast.unparse(node.func).partition(".")
            path = ".".join(filter(None, [names.get(root, ""), rest]))
            if root in names and path.startswith(OTHERS):
                found += call_misfits(node, path)
                target = path if node is construction(tree) else target
    members = {"optimizer": RECORDED["calls"][target].get("members", []), "model": models(dialect)}
    for node in ast.walk(tree):
        owner = node.value.id if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) else ""
        if owner in members and node.attr not in members[owner]:
            found.append(f"{owner}.{node.attr}")
    return found


OTHERS = ("tf_keras.", "timm.", "stable_baselines3.", "pfrl.", "optax.", "mlx.", "paddle.fluid.")
MISSING = ("keras-legacy", "paddle-fluid", "timm", "sb3", "pfrl", "optax", "mlx")
TORCH_MODEL = ("parameters", "named_parameters")


def models(dialect):
    return RECORDED["models"].get(dialect, {"members": TORCH_MODEL})["members"]


def call_misfits(node, path):
    if path not in RECORDED["calls"]:
        return [path]
    record = RECORDED["calls"][path]
    allowed = {*record["positional"], *record["keyword_only"], *record.get("through_kwargs", ())}
    wrong = [f"{path}({keyword.arg}=)" for keyword in node.keywords if keyword.arg not in allowed]
    return wrong + [f"{path}: too many arguments"] * (len(node.args) > len(record["positional"]))


@pytest.mark.parametrize("dialect", MISSING)
@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_snippet_calls_is_in_the_recorded_signatures(name, dialect):
    assert misfits(native_of(name, dialect).code(), dialect) == []


@pytest.mark.parametrize(
    ("dialect", "right", "wrong"),
    [
        ("timm", "eps=", "epsilon="),
        ("keras-legacy", "clipnorm=", "clip_norm="),
        ("keras-legacy", "add_slot", "make_slot"),
        ("paddle-fluid", "regularization=", "weight_decay="),
        ("paddle-fluid", "L2DecayRegularizer", "L2Decayed"),
        ("paddle-fluid", "optimizer.set_dict", "optimizer.set_state_dict"),
        ("paddle-fluid", "model.named_parameters", "model.trainable_params"),
        ("optax", "optimizer.init", "optimizer.build"),
        ("optax", "initial_scale=", "initial_mean_square="),
        ("mlx", "trainable_parameters", "trainable_params"),
        ("mlx", "p.dtype)}", "p.dtype, 1)}"),
    ],
)
def test_a_wrong_name_is_caught(dialect, right, wrong):
    code = native_of("everything", dialect).code()
    assert right in code
    assert misfits(code.replace(right, wrong), dialect)


@pytest.mark.parametrize("dialect", MISSING)
def test_seeding_names_the_accumulators_of_the_class(dialect):
    native = native_of("everything", dialect)
    state = set(RECORDED["calls"][native.target].get("state", ()))
    strings = {node.value for node in ast.walk(ast.parse(native.code())) if isinstance(node, ast.Constant)}
    assert bool(strings & state) is bool(state)
    # tf_keras makes the slots that are left out by itself; the others take a state as a whole.
    assert state <= strings or dialect == "keras-legacy"


class Fluid:
    """Stands for `paddle.fluid` 1.8.5, whose `set_dict` wants the state of a schedule beside the accumulators."""

    def __init__(self, schedule):
        self.schedule = {"LR_Scheduler": {"step_num": 0}, "global_step": np.zeros(1)} if schedule else {}
        self.optimizer = SimpleNamespace(RMSPropOptimizer=lambda **settings: self)
        self.dygraph = SimpleNamespace(ExponentialDecay=dict)
        self.loaded = {}

    def state_dict(self):
        return dict(self.schedule)

    def set_dict(self, state):
        assert self.schedule.keys() <= state.keys()
        self.loaded = {name: value for name, value in state.items() if name not in self.schedule}


@pytest.mark.parametrize("schedule", [True, False])
def test_fluid_is_seeded_beside_a_schedule(monkeypatch, schedule):
    config = RMSPropConfig(learning_rate=CONFIGS["stairs"]["learning_rate"] if schedule else 0.1, initial_mean_square=1)
    fluid, parameter = Fluid(schedule), SimpleNamespace(name="linear_0.w_0", shape=[3, 2])
    monkeypatch.setitem(sys.modules, "paddle", SimpleNamespace(fluid=fluid))
    monkeypatch.setitem(sys.modules, "paddle.fluid", fluid)
    exec(config.to_native("paddle-fluid").code(), {"model": SimpleNamespace(parameters=lambda: [parameter])})
    first = {name: value.tolist() for name, value in fluid.loaded.items()}
    starts = {"mean_square": 1.0, "mean_grad": 0.0, "momentum": 0.0}
    assert first == {f"linear_0.w_0_{slot}_0": np.full((3, 2), value).tolist() for slot, value in starts.items()}


def test_the_dialects_without_recorded_signatures_are_those_that_are_run():
    assert not {*MISSING} & {"torch", "keras", "tf1", "mindspore", "mindspore-experimental", "paddle"}
    assert len(MISSING) == len(DIALECTS) - 6
    assert all("version" in record for part in ("calls", "models") for record in RECORDED[part].values())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_there_is_no_line_more_than_needed(dialect):
    native = RMSPropConfig(initial_mean_square=dialects.get(dialect).fixed.get("initial_mean_square", 0)).to_native(
        dialect
    )
    for word in ("exempt", "mean square", "named", "regularizer"):
        assert word not in native.code().replace("grad_clip", "")
    assert "# The mean square starts at 0.5 here" in native_of("first mean square 0.5", dialect).code() or (
        dialects.get(dialect).name_of("initial_mean_square")
    )
    names = native_of("names without decay", dialect).code()
    assert "exempt" not in names
    assert "exempt" not in native_of("plain decay", dialect).code()
    assert ("exempt" in native_of("decay but for biases", dialect).code()) is dialects.get(dialect).exempts


def test_a_buffer_is_seeded_only_where_the_class_makes_one():
    assert "momentum_buffer" not in native_of("first mean square 0.5, centered", "torch").code()
    assert "momentum_buffer" in native_of("first mean square 0.5, momentum", "torch").code()
    assert "grad_avg" not in native_of("first mean square 0.5, momentum", "torch").code()
    assert "grad_avg" in native_of("first mean square 0.5, centered", "torch").code()


def test_mindspore_says_nothing_where_its_own_filter_does_right():
    spared = RMSPropConfig.from_native("mindspore", weight_decay=0.1).to_native("mindspore").code()
    assert "{" not in spared
    assert '[{"params": model.trainable_params()}]' in native_of("plain decay", "mindspore").code()


@pytest.mark.parametrize(
    ("pattern", "condition"),
    [
        ("*.bias", 'name.endswith(".bias")'),
        ("norm*", 'name.startswith("norm")'),
        ("*norm*", '"norm" in name'),
        ("norm.bias", 'name == "norm.bias"'),
        ("*", 'fnmatchcase(name, "*")'),
        ("n?rm", 'fnmatchcase(name, "n?rm")'),
        (r"re:\.bias$", r're.search(r"\.bias$", name)'),
        ('re:"', "re.search('\"', name)"),
    ],
)
def test_a_pattern_is_written_as_one_would(pattern, condition):
    config = RMSPropConfig(weight_decay=0.1, no_weight_decay=pattern)
    assert f"    return {condition}\n" in config.to_native("torch").code()


def test_snippets_are_formatted_as_by_ruff(tmp_path):
    codes = [native_of(name, dialect).code() for dialect in DIALECTS for name in CONFIGS]
    # Lines of every length around the limit.
    for digits in range(2, 17):
        config = RMSPropConfig(learning_rate=round(0.1234567890123456, digits), epsilon=1.23456789e-7, weight_decay=0.1)
        spared = config.replace(no_weight_decay=("*bias", "re:b", "*" + "x" * digits))
        codes += [config.to_native("mlx").code(), spared.to_native("torch").code()]
    for index, code in enumerate(codes):
        (tmp_path / f"snippet_{index}.py").write_text(code, encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["format", "--check"], ["check", "--select", "E,F,I,W,B,SIM,UP", "--ignore", "F821,E501"]):
        done = subprocess.run(
            [*ruff, *command, "--isolated", "--no-cache", str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_schedule_stands_in_the_snippet_or_is_said_to_be_missing(dialect):
    stairs, cycle = native_of("stairs", dialect), native_of("one cycle", dialect)
    said = dialects.get(dialect).schedules or dialects.get(dialect).schedulers
    assert ("300" in stairs.code()) is bool(said)
    assert (snippets.FIRST_RATE in stairs.code()) is not bool(said)
    assert snippets.FIRST_RATE in cycle.code()
    steps = bool(said) and bool(dialects.get(dialect).snippet.stepping)
    assert ("# Call scheduler.step() once after each optimizer.step()." in stairs.code()) is steps
    for name in ("defaults", "everything"):
        assert "schedul" not in native_of(name, dialect).code()
        assert snippets.FIRST_RATE not in native_of(name, dialect).code()


def test_the_call_alone_is_one_line():
    native = RMSPropConfig.from_native("torch", momentum=0.9).to_native("torch")
    assert snippets.call(native) == (
        "torch.optim.RMSprop(lr=0.01, alpha=0.99, eps=1e-08, weight_decay=0.0, momentum=0.9, centered=False, "
        "maximize=False)"
    )


def test_a_snippet_reads_as_one_would_write_it():
    config = RMSPropConfig.from_native("paddle", learning_rate=0.01, weight_decay=1e-4)
    assert config.to_native("paddle-fluid").code() == (
        "import paddle.fluid as fluid\n"
        "\n"
        "optimizer = fluid.optimizer.RMSPropOptimizer(\n"
        "    learning_rate=0.01,\n"
        "    rho=0.95,\n"
        "    epsilon=1e-06,\n"
        "    momentum=0.0,\n"
        "    centered=False,\n"
        "    parameter_list=model.parameters(),\n"
        "    regularization=fluid.regularizer.L2DecayRegularizer(0.0001),\n"
        "    grad_clip=None,\n"
        ")\n"
    )
