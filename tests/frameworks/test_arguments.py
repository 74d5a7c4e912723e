"""Every argument of the installed classes is in its dialect's table, with its default: found by introspection.

A new argument upstream fails these tests until its dialect says whether it is mapped, not about the update, or refused.
"""

import inspect
import pkgutil
import re
import warnings

import numpy as np
import pytest

import arguments
from unirms import dialects
from unirms.dialects.table import rows

# MindSpore's experimental base class asks for what its Adam has.
OF_OTHER_CLASSES = {"mindspore-experimental": {"amsgrad", "max_exp_avg_sq"}}


@pytest.fixture(scope="module")
def classes(framework, driver):  # the driver quietens the framework
    found = [dialects.get(name) for name in arguments.INSTALLED[framework]]
    return [(dialect, pkgutil.resolve_name(re.sub(r"^tf\.", "tensorflow.", dialect.target))) for dialect in found]


def torch_parameters():
    import torch

    return {"params": [torch.nn.Parameter(torch.ones(1))]}


def mindspore_parameters():
    from mindspore import Parameter, Tensor

    return {"params": [Parameter(Tensor(np.ones(1, np.float32)), name="weight")]}


def paddle_parameters():
    import paddle

    return {"parameters": [paddle.create_parameter([1], "float32")]}


PARAMETERS = {
    "torch": torch_parameters,
    "keras": dict,
    "mindspore": mindspore_parameters,
    "paddle": paddle_parameters,
}


def made(framework, dialect, kind, **settings):
    return kind(**{dialect.name_of("learning_rate"): 0.1, **settings, **PARAMETERS[framework]()})


def test_every_argument_is_in_the_table_with_its_default(classes):
    for dialect, kind in classes:
        assert arguments.slips(dialect, *arguments.signature(kind)) == [], dialect.name


def test_every_key_of_a_parameter_group_is_in_the_table(classes):
    for dialect, kind in classes:
        found = arguments.group_keys(kind) - OF_OTHER_CLASSES.get(dialect.name, set())
        listed = {row.group for row in rows(dialect) if row.group}
        assert found == (set() if dialect.behaviour.groups is None else {"params", *listed}), dialect.name


def test_the_class_takes_what_was_found_and_nothing_else(classes, framework):
    for dialect, kind in classes:
        own, passed_on = arguments.signature(kind)
        for name, default in {**own, **passed_on}.items():
            given = {} if default in (arguments.REQUIRED, arguments.UNKNOWN) else {name: default}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made(framework, dialect, kind, **given)
        with pytest.raises((TypeError, ValueError)):
            made(framework, dialect, kind, surprise=None)


def planted(kind, change):
    """Return a constructor with a changed signature."""

    def constructor(self, *args, **kwargs):
        raise NotImplementedError

    function = arguments.unwrapped(vars(kind)["__init__"])
    signature = inspect.signature(function)
    constructor.__signature__ = signature.replace(parameters=change(dict(signature.parameters)))
    return constructor


def with_a_new_one(parameters):
    new = inspect.Parameter("surprise", inspect.Parameter.KEYWORD_ONLY, default=0.5)
    rest = [p for p in parameters.values() if p.kind is p.VAR_KEYWORD]
    return [*(p for p in parameters.values() if p not in rest), new, *rest]


def with_another_default(parameters):
    return [p.replace(default=0.123) if p.name == "momentum" else p for p in parameters.values()]


def with_a_flag_for_a_number(parameters):
    return [p.replace(default=0) if p.name == "centered" else p for p in parameters.values()]


def with_one_required(parameters):
    parameters["momentum"] = inspect.Parameter("momentum", inspect.Parameter.KEYWORD_ONLY)
    return in_another_order(parameters)


def without_one(parameters):
    return [p for p in parameters.values() if p.name != "momentum"]


def in_another_order(parameters):
    moved = parameters.pop("momentum")
    values = list(parameters.values())
    last = next((index for index, p in enumerate(values) if p.kind is p.VAR_KEYWORD), len(values))
    return [*values[:last], moved, *values[last:]]


@pytest.mark.parametrize(
    ("change", "slip"),
    [
        (with_a_new_one, "surprise is in no row"),
        (with_another_default, "momentum is 0.123 by default, not 0.0"),
        (with_a_flag_for_a_number, "centered is 0 by default, not False"),
        (with_one_required, "momentum is required by default, not 0.0"),
        (without_one, "the class does not take momentum"),
        (in_another_order, "its order is"),
    ],
)
def test_a_change_upstream_is_caught(classes, monkeypatch, change, slip):
    for dialect, kind in classes:
        with monkeypatch.context() as patch:
            patch.setattr(kind, "__init__", planted(kind, change))
            found = arguments.slips(dialect, *arguments.signature(kind))
        assert any(one.startswith(slip) for one in found), (dialect.name, found)
        assert arguments.slips(dialect, *arguments.signature(kind)) == []


def test_a_new_name_that_only_kwargs_lets_through_is_caught(classes):
    for dialect, kind in classes:

        class Base(kind):
            def __init__(self, *args, deeper=1, **kwargs):
                kwargs.pop("surprise", 0.5)
                super().__init__(*args, **kwargs)

        class Newer(Base):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)

        own, passed_on = arguments.signature(Newer)
        assert (own, passed_on["surprise"], passed_on["deeper"]) == ({}, 0.5, 1)
        assert {"deeper is in no row", "surprise is in no row"} <= {*arguments.slips(dialect, own, passed_on)}


def test_a_new_key_of_a_parameter_group_is_caught(classes):
    for _, kind in classes:

        class Newer(kind):
            def step(self, group):
                return group["surprise"], group.get("another"), "third" in group

        assert arguments.group_keys(Newer) - arguments.group_keys(kind) == {"surprise", "another", "third"}


def test_mindspore_is_asked_for_the_same_names_as_by_the_adapter(classes, framework):
    if framework != "mindspore":
        return
    from unirms.adapters.mindspore import argument_names

    kind = next(kind for dialect, kind in classes if dialect.name == "mindspore")
    own, _ = arguments.signature(kind)
    assert argument_names(kind) == {"self", *own}


def test_a_recorded_class_that_inherits_its_constructor_has_the_installed_one(classes, framework):
    by_target = {dialect.target: kind for dialect, kind in classes}
    for target, record in arguments.RECORDED.items():
        if record.get("inherits") in by_target:
            own, _ = arguments.signature(by_target[record["inherits"]])
            assert own == arguments.recorded(target)[0]
