"""RMSProps in Python source, found by its syntax: nothing is imported, and nothing is run.

A call becomes a recipe of the format "python". What the source writes literally becomes a setting; anything else is
there as UNKNOWN, and is not judged.
"""

from __future__ import annotations

import ast
import difflib
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import numpy as np

from unirms import dialects
from unirms.diagnosis.kinds import ANY, UNKNOWN
from unirms.dialects.base import Dialect
from unirms.dialects.calls import NativeCall
from unirms.errors import ConfigError, UnknownNameError
from unirms.recipes.base import Group, Recipe

FORMAT: Final = "python"
_PARTIAL: Final = "functools.partial"
_PARAMETERS: Final = {"params", "parameters", "parameter_list"}
_NUMPY_NUMBERS: Final[dict[str, Any]] = {"numpy.float32": np.float32, "numpy.float64": np.float64}
_CHAIN: Final = 50_000
"""Python 3.10's parser ends the process on a chain of 200,000 operations (`1+1+…`, `a.b.b…`); later ones raise."""
_OPERATOR: Final = re.compile(r"[^\w\s]")
_SEPARATOR: Final = re.compile("[,;]")
_NEAR: Final = 0.85
"""How alike a name must be to that of a known class, by difflib: RMSProb is (0.857), Rprop is not (0.833)."""


def recipes(source: str, name: str = "the source") -> tuple[Recipe, ...]:
    """Return every RMSProp that Python source calls, in the order of its lines.

    Raises:
        ConfigError: it is not Python, or nested too deeply for Python's own parser.
    """
    tree = _parsed(source, name)
    names = _Names(tree)
    found = [recipe for node in ast.walk(tree) if isinstance(node, ast.Call) for recipe in _recipes(node, names)]
    return tuple(sorted(found, key=lambda recipe: recipe.lines[""]))


def _parsed(source: str, name: str) -> ast.Module:
    if sys.version_info < (3, 11) and _longest_chain(source) > _CHAIN:
        raise ConfigError([f"{name}: it is nested too deeply to be read"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes and the like are none of ours
            return ast.parse(source)
    except SyntaxError as error:
        place = name if error.lineno is None else f"{name}, line {error.lineno}"
        raise ConfigError([f"{place}: it is not Python: {error.msg}"]) from None
    except (RecursionError, MemoryError):
        raise ConfigError([f"{name}: it is nested too deeply to be read"]) from None
    except ValueError as error:  # null characters; an integer of more than 4300 digits
        raise ConfigError([f"{name}: it is not Python: {error}"]) from None


def _longest_chain(source: str) -> int:
    """Return the most operators, dots and brackets between two commas, which no chain of operations can exceed."""
    return max(len(_OPERATOR.findall(part)) for part in _SEPARATOR.split(source))


class _Names:
    """What the names of a source stand for, by its imports."""

    def __init__(self, tree: ast.Module) -> None:
        self._imported: dict[str, str] = {}
        self._bound: set[str] = set()
        self._starred: dict[str, None] = {}  # packages that have an RMSProp, in their order
        self._roots: set[str] = set()  # the first words of these
        self._found: dict[str, str] = {}
        for node in ast.walk(tree):
            self._note(node)

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                self._imported[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom):
            package = "." * node.level + (node.module or "")
            for alias in node.names:
                root = package.partition(".")[0]
                if alias.name == "*" and root in _packages():
                    self._starred[package] = None
                    self._roots.add(root)
                elif alias.name != "*":  # nothing of another package is an RMSProp
                    self._imported[alias.asname or alias.name] = f"{package}.{alias.name}"
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            self._bound.add(node.id)
        elif isinstance(node, ast.arg):
            self._bound.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            self._bound.add(node.name)

    def path(self, node: ast.expr) -> str:
        """Return the import path of an expression such as `optim.RMSprop`; "" when it is no such thing."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        root, rest = node.id, "".join(f".{part}" for part in reversed(parts))
        if root in self._imported:
            return self._imported[root] + rest
        if root in self._bound:
            return ""
        return self._starred_path(root + rest)

    def _starred_path(self, name: str) -> str:
        """Return the path of a name that a star may have imported; the same names recur, and stars may be many."""
        if name not in self._found:
            possible = any(is_rmsprop(f"{root}.*.{name}") for root in self._roots)
            starred = (f"{package}.{name}" for package in (self._starred if possible else ()))
            self._found[name] = next((path for path in starred if is_rmsprop(path)), name)
        return self._found[name]


@cache
def _known() -> frozenset[str]:
    """Return the import paths of the known classes, in lower case."""
    found = dialects.all_dialects().values()
    return frozenset(path.lower() for dialect in found for path in (dialect.target, *dialect.spellings))


@cache
def _packages() -> dict[str, tuple[str, ...]]:
    """Return the names of the known classes by the package that they live in."""
    found: dict[str, set[str]] = {}
    for path in _known():
        found.setdefault(path.partition(".")[0], set()).add(path.rpartition(".")[2])
    return {package: tuple(sorted(names)) for package, names in found.items()}


def is_rmsprop(path: str) -> bool:
    """Return whether an import path is an RMSProp that unirms knows, in any letter case, or nearly one.

    Kernels (`tf.raw_ops.ApplyRMSProp`) and what a package keeps to itself (`torch.optim._functional.rmsprop`) are none.
    """
    package, dot, inner = path.lower().partition(".")
    if path.lower() in _known():
        return path not in _others()
    if not dot or package not in _packages() or path in _others() or inner.startswith("_") or "._" in inner:
        return False
    name = inner.rpartition(".")[2]
    # A class of another framework is as good a guess: torch.optim.RMSPropOptimizer.
    names = {known.rpartition(".")[2] for known in _known()} if "rmsprop" in name else _packages()[package]
    return bool(difflib.get_close_matches(name, names, n=1, cutoff=_NEAR))


@cache
def _others() -> frozenset[str]:
    return frozenset(path for dialect in dialects.all_dialects().values() for path in dialect.behaviour.others)


def _recipes(call: ast.Call, names: _Names) -> Iterator[Recipe]:
    path, args, given = names.path(call.func), call.args, call.keywords
    partial = path == _PARTIAL and bool(args)
    if partial:
        path, args = names.path(args[0]), args[1:]
    if not is_rmsprop(path):
        return
    try:
        dialect = dialects.of_target(path)
    except UnknownNameError:
        yield Recipe(FORMAT, path, {}, lines={"": call.lineno})
        return
    lines = {"": call.lineno}
    settings: dict[str, Any] = {ANY: UNKNOWN} if partial else {}
    groups: list[Group] = []
    for name, node in _arguments(dialect, args, given):
        if name in _PARAMETERS:
            groups += _groups(node, names, lines)
            continue
        settings[name] = UNKNOWN if name == ANY else _value(node, names)
        lines[name] = node.lineno
    yield Recipe(FORMAT, path, settings, tuple(groups), lines=lines)


def _arguments(
    dialect: Dialect, args: Sequence[ast.expr], keywords: Sequence[ast.keyword]
) -> Iterator[tuple[str, ast.expr]]:
    """Yield the arguments of a call by their names; those that a star passes on have the name `ANY`."""
    for index, node in enumerate(args):
        if isinstance(node, ast.Starred):
            yield ANY, node
            break
        if index < len(dialect.arguments):
            yield dialect.arguments[index].name, node
    for keyword in keywords:
        yield from _spread(keyword)


def _spread(keyword: ast.keyword) -> Iterator[tuple[str, ast.expr]]:
    """Yield a keyword, or those in `**{"lr": 0.1}` and `**dict(lr=0.1)`; whatever else is passed on is `ANY`."""
    value = keyword.value
    if keyword.arg is not None:
        yield keyword.arg, value
    elif isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "dict":
        for inner in value.keywords:
            yield from _spread(inner)
        yield from ((ANY, arg) for arg in value.args)
    elif isinstance(value, ast.Dict):
        for key, inner_value in zip(value.keys, value.values, strict=True):
            if key is None:  # {**more}
                yield from _spread(ast.keyword(None, inner_value))
            elif isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, inner_value
            else:
                yield ANY, inner_value
    else:
        yield ANY, value


def _groups(node: ast.expr, names: _Names, lines: dict[str, int]) -> Iterator[Group]:
    """Yield the parameter groups that a list of dictionaries states, without their parameters."""
    items = node.elts if isinstance(node, (ast.List, ast.Tuple)) else []
    dictionaries = [item for item in items if isinstance(item, ast.Dict)]
    for index, item in enumerate(dictionaries):
        settings: dict[str, Any] = {}
        for key, value in zip(item.keys, item.values, strict=True):
            name = key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else ANY
            if name != "params":
                settings[name] = UNKNOWN if name == ANY else _value(value, names)
                lines[f"groups[{index}].{name}"] = value.lineno
        yield Group((), settings)


def _value(node: ast.expr, names: _Names) -> Any:
    """Return what an expression is, where the source says it literally; UNKNOWN for everything else."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        return _signed(node, names)
    if isinstance(node, ast.Call):
        return _called(node, names)
    if isinstance(node, (ast.List, ast.Tuple, ast.Dict, ast.Set)):
        return _literal(node)
    return UNKNOWN


def _signed(node: ast.UnaryOp, names: _Names) -> Any:
    if not isinstance(node.operand, (ast.Constant, ast.Call)):
        return UNKNOWN
    value = _value(node.operand, names)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return UNKNOWN
    return -value if isinstance(node.op, ast.USub) else value


def _called(node: ast.Call, names: _Names) -> Any:
    """Return `float("nan")` as a number, and a framework's regularizer or clip as a `NativeCall`."""
    path = names.path(node.func)
    args = [_constant(arg) for arg in node.args]
    kwargs: Mapping[str, Any] = {keyword.arg or ANY: _constant(keyword.value) for keyword in node.keywords}
    if UNKNOWN in args or ANY in kwargs or UNKNOWN in kwargs.values():
        return UNKNOWN
    if path == "float" and len(args) == 1 and isinstance(args[0], str) and not kwargs:
        try:
            return float(args[0])
        except ValueError:
            return UNKNOWN
    if path in _NUMPY_NUMBERS and len(args) == 1 and isinstance(args[0], (int, float)) and not kwargs:
        return _NUMPY_NUMBERS[path](args[0])
    is_object = path.partition(".")[0] in _packages() and ("Clip" in path or "Decay" in path)
    return NativeCall(path, *args, **kwargs) if is_object and "Scheduler" not in path else UNKNOWN


def _constant(node: ast.expr) -> Any:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        value = node.operand.value
        return -value if isinstance(value, (int, float)) else UNKNOWN
    return node.value if isinstance(node, ast.Constant) else UNKNOWN


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return UNKNOWN
