"""`import unirms` is light: no framework, and about as fast as NumPy and pydantic. Each check can fail."""

import subprocess
import sys
import time

import pytest

import unirms
from unirms.registry import FRAMEWORKS

MODULES = sorted({module for framework in FRAMEWORKS.values() for module in framework.modules})
LOADED = f"import sys; print(*[m for m in {MODULES!r} if m in sys.modules])"
# Everything that an installation without frameworks can do.
USE = (
    "import unirms, unirms.cli, unirms.conformance.cli; c = unirms.RMSPropConfig.from_native('torch');"
    " c.to_native('keras'); unirms.reference; unirms.build; "
)


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_and_using_the_core_loads_no_framework():
    assert python(USE + LOADED) == ""


def test_the_check_sees_a_framework_that_is_loaded():
    assert python("import torch; " + LOADED) == "torch"


def test_a_translation_loads_no_numpy():
    code = "import unirms.cli; print(unirms.translate({'lr': 0.1}, source='torch', target='keras').code()); "
    loaded = "import sys; print('numpy' in sys.modules)"
    assert python(code + loaded).endswith("False")
    assert python("import unirms; unirms.reference.init; " + loaded) == "True"


def test_a_class_of_no_loaded_framework_loads_none():
    code = "import unirms\ntry: unirms.config_of(3)\nexcept unirms.ForeignOptimizerError: pass\n"
    assert python(code + LOADED) == ""


def fastest(code, runs):
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - started)
    return min(times)


def test_importing_takes_no_more_than_1_6_times_numpy_and_pydantic():
    # The fastest of several runs, in turn, so that a busy machine slows both.
    ratios = [fastest("import unirms", 3) / fastest("import numpy, pydantic", 3) for _ in range(3)]
    assert min(ratios) <= 1.6


def test_every_public_name_is_there():
    for name in unirms.__all__:
        assert getattr(unirms, name) is not None
    assert set(unirms.__all__) <= set(dir(unirms))
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = unirms.nope


def test_the_lazy_names_are_those_that_type_checkers_see():
    import ast
    from pathlib import Path

    tree = ast.parse(Path(unirms.__file__).read_text(encoding="utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.asname: node.module for node in guarded.body for alias in node.names}
    lazy = {name: f"unirms.{module}" for name, module in unirms._MODULE_OF.items()} | dict.fromkeys(
        unirms._MODULES, "unirms"
    )
    assert seen == lazy
