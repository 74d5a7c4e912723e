"""Holds a dialect's table of arguments to a signature, found by introspection or recorded."""

import ast
import inspect
import json
import textwrap
from pathlib import Path

from unirms.dialects.base import REQUIRED

# By the framework whose installation brings the class; the signatures of the others are recorded.
INSTALLED = {
    "torch": ("torch",),
    "keras": ("keras", "tf1"),
    "mindspore": ("mindspore", "mindspore-experimental"),
    "paddle": ("paddle",),
}
RECORDED = json.loads(Path(__file__).with_name("signatures.json").read_text(encoding="utf-8"))["calls"]
UNKNOWN = object()
"""The default of a name whose default cannot be read off the source."""


def slips(dialect, own, passed_on, behaviour=None):
    """Return where a dialect and a signature disagree; `behaviour` is that of a variant of the class.

    `own` has the constructor's arguments and their defaults in order, `passed_on` those that come through ``**kwargs``.
    """
    is_variant = behaviour is not None
    behaviour = behaviour or dialect.behaviour
    taken = {**passed_on, **own}
    arguments = {a.name: a for a in dialect.arguments if a.name not in behaviour.without}
    aliases = {alias for a in arguments.values() for alias in a.aliases if alias not in behaviour.announced}
    aliases = set() if is_variant else aliases
    rows = {*arguments, *aliases, *behaviour.ignored, *behaviour.more}
    found = [f"{name} is in no row" for name in taken if name not in rows]
    found += [f"the class does not take {name}" for name in rows if name not in taken]
    order = [name for name in own if name in arguments]
    if order != list(arguments)[: len(order)]:
        found.append(f"its order is {', '.join(order)}")
    for name, argument in arguments.items():
        default, listed = taken.get(name, UNKNOWN), behaviour.defaults.get(name, argument.default)
        if default is not UNKNOWN and not same(default, listed):
            found.append(f"{name} is {default!r} by default, not {listed!r}")
    return found


def same(one, other):
    """Return whether two defaults are the same; True and 1 are not."""
    return one is other or (isinstance(one, bool) == isinstance(other, bool) and one == other)


def signature(kind):
    """Return what a class takes: its constructor's arguments, and those that ``**kwargs`` lets through."""
    own, passed_on = None, {}
    for owner in kind.__mro__:
        if "__init__" not in vars(owner) or owner is object:
            continue
        function = unwrapped(vars(owner)["__init__"])
        parameters = list(inspect.signature(function).parameters.values())[1:]
        named = {p.name: REQUIRED if p.default is p.empty else p.default for p in parameters if not is_rest(p)}
        own = named if own is None else own
        passed_on = {**named, **passed_on}
        rest = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        if rest is None:
            break
        passed_on = {**keys(inspect.getsource(function), {rest}), **passed_on}
    return own, {name: default for name, default in passed_on.items() if name not in own}


def recorded(target):
    """Return what a recorded class takes, in the form of `signature`."""
    record = RECORDED[target]
    defaults = record["defaults"]
    own = {name: defaults.get(name, REQUIRED) for name in (*record["positional"], *record["keyword_only"])}
    return own, {name: defaults.get(name, UNKNOWN) for name in record.get("through_kwargs", ())}


def unwrapped(function):
    """Return the function whose signature counts.

    MindSpore's decorator has ``*args, **kwargs`` and keeps the constructor in its closure only.
    """
    function = inspect.unwrap(function)
    if not all(is_rest(p) for p in list(inspect.signature(function).parameters.values())[1:]):
        return function
    inner = [cell.cell_contents for cell in function.__closure__ or ()]
    return next(filter(inspect.isfunction, inner), function)


def is_rest(parameter):
    return parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}


def group_keys(kind):
    """Return the keys that the optimizer classes among a class's bases ask a parameter group for."""
    owners = [owner for owner in kind.__mro__ if "optim" in owner.__module__ or owner is kind]
    return {key for owner in owners for key in keys(inspect.getsource(owner), GROUPS)}


GROUPS = {"group", "param_group", "group_param", "new_group", "parameters", "params_grads"}
"""What PyTorch, MindSpore and PaddlePaddle call a parameter group in their code."""


def keys(source, variables):
    """Return the keys that code asks dictionaries of these names for, and the defaults that it gives."""
    found = {}
    for node in ast.walk(ast.parse(textwrap.dedent(source))):
        key, default = UNKNOWN, UNKNOWN
        if isinstance(node, ast.Subscript) and is_one(node.value, variables):
            key = literal(node.slice)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_one(node.func.value, variables):
            given = [literal(argument) for argument in node.args]
            if node.func.attr in {"get", "pop", "setdefault"}:
                key, default = (*given, UNKNOWN)[:2]
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            holder = node.comparators[0]
            holder = holder.func.value if isinstance(holder, ast.Call) and hasattr(holder.func, "value") else holder
            key = literal(node.left) if is_one(holder, variables) else UNKNOWN
        if isinstance(key, str):
            found[key] = default if found.get(key, UNKNOWN) is UNKNOWN else found[key]
    return found


def is_one(node, variables):
    return isinstance(node, ast.Name) and node.id in variables


def literal(node):
    try:
        return ast.literal_eval(node)
    except ValueError:
        return UNKNOWN
