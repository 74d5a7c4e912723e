"""The documentation is executed, and what is generated in it is what the code says."""

import html
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import unirms
from unirms.registry import FRAMEWORKS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXECUTED = [README, (ROOT / "docs" / "config.md").read_text(encoding="utf-8")]
BLOCKS = [block for page in EXECUTED for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]


def run(code, folder):
    environment = dict(os.environ)
    for framework in FRAMEWORKS.values():
        if any(f"import {module}" in code for module in framework.modules):
            environment |= dict(framework.environment)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")  # they may write files
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, BLOCKS, [folder] * len(BLOCKS)))


def test_there_is_a_quickstart_for_every_framework():
    assert len(BLOCKS) >= 2 + len(FRAMEWORKS)
    for framework in FRAMEWORKS.values():
        assert any(f"import {framework.modules[0]}" in block for block in BLOCKS)


@pytest.mark.parametrize("index", range(len(BLOCKS)))
def test_a_code_block_runs(runs, index):
    assert runs[index].returncode == 0, f"{BLOCKS[index]}\n{runs[index].stderr[-2000:]}"


def test_the_configs_of_the_pages_are_configs(tmp_path):
    shown = [text for page in EXECUTED for text in re.findall(r"```yaml\n(unirms: 1\n.*?)```", page, re.DOTALL)]
    assert len(shown) >= 2
    for text in shown:
        (tmp_path / "shown.yaml").write_text(text)
        assert unirms.RMSPropConfig.load(tmp_path / "shown.yaml").explain()


def in_epochs(config):
    """Return the config of an EfficientNet, its five epochs of warmup and steps of 2.4 epochs, for an epoch of 10."""
    warmup = config.learning_rate
    of_ten = 10 * 5 / warmup.warmup_steps
    after = warmup.after.model_copy(update={"decay_steps": warmup.after.decay_steps * of_ten})
    return config.replace(learning_rate=warmup.model_copy(update={"warmup_steps": 50, "after": after}))


def test_the_efficientnet_of_the_readme_is_that_of_the_parity_report(tmp_path):
    (text,) = re.findall(r"```yaml\n(unirms: 1\n.*?)```", README, re.DOTALL)
    (tmp_path / "readme.yaml").write_text(text)
    shown = unirms.RMSPropConfig.load(tmp_path / "readme.yaml")
    run = unirms.RMSPropConfig.load(ROOT / "conformance" / "recipes" / "efficientnet.yaml")
    assert shown.learning_rate.warmup_steps != run.learning_rate.warmup_steps
    assert in_epochs(shown) == in_epochs(run)


def test_the_readme_shows_what_its_second_block_prints(runs):
    assert runs[1].stdout.startswith("approximate")
    assert "optimizer = paddle.optimizer.RMSProp(\n    learning_rate=0.01,\n    rho=0.99," in runs[1].stdout


def test_generated_tables_are_up_to_date():
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_check_of_generated_tables_can_fail(tmp_path):
    for name in ("generate.py", "differences.md"):
        (tmp_path / name).write_text((ROOT / "docs" / name).read_text(encoding="utf-8"), encoding="utf-8")
    page = tmp_path / "differences.md"
    page.write_text(page.read_text(encoding="utf-8").replace("| required |", "| 0.001 |"), encoding="utf-8")
    command = [sys.executable, str(tmp_path / "generate.py")]
    assert subprocess.run([*command, "--check"], capture_output=True, check=False).returncode == 1
    assert subprocess.run(command, check=False).returncode == 0
    assert page.read_text(encoding="utf-8") == (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")


PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_first_table_is_that_of_the_picture():
    texts = re.findall(r">([^<]*)</text>", (ROOT / "docs" / "parity.svg").read_text(encoding="utf-8"))
    cells = [html.unescape(text).replace("\xa0", " ").strip().replace("%", " %") for text in texts]
    shown = [cells[cells.index(f"stock {name}") + 1 :][:5] for name in FRAMEWORKS]
    ours = cells[cells.index("unirms torch") + 1 :][:5]
    shown.append([ours[0], *[ours[2]] * 4])  # the largest, which is the same from PyTorch to each of the others
    rows = [
        line.replace("*", "").split("|")[2:7] for line in README.splitlines() if re.match(r"\| \*?\*?`.*\d %", line)
    ]
    assert [[f"{float(travels):.3f}", *others] for travels, *others in shown] == [
        [c.strip() for c in row] for row in rows
    ]
    assert len(set(ours[2:])) == 1
