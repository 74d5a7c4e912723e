"""The wheel holds what the project tracks, and works from there."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Folder of the project -> folder of the package.
HOUSES = {"unirms": "unirms", "adapters": "unirms/adapters", "conformance": "unirms/conformance"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:  # a copy, so that no build folder of the checkout leaks in or stays behind
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        source,
    ]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built, tracked


def test_it_holds_every_tracked_file_and_no_other(wheel):
    built, tracked = wheel
    wanted = set()
    for name in tracked:
        house, _, rest = name.partition("/")
        if house in HOUSES and rest:
            wanted.add(f"{HOUSES[house]}/{rest}")
    names = {name for name in zipfile.ZipFile(built).namelist() if ".dist-info/" not in name}
    assert names == wanted


def test_it_works_without_the_checkout(wheel, tmp_path):
    built, _ = wheel
    with zipfile.ZipFile(built) as archive:
        archive.extractall(tmp_path)
    code = (
        "import unirms, unirms.conformance.recordings as r, unirms.conformance.cli;"
        "assert 'source' not in unirms.__file__;"
        "print(unirms.__file__, len(list(r.recordings())), unirms.RMSPropConfig().to_native('torch').fidelity)"
    )
    # -S -E would lose the dependencies; instead the extracted folder comes first and the editable install last.
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.meta_path[:] = [f for f in "
            f"sys.meta_path if 'editable' not in repr(f)]; {code}",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.split() == [str(tmp_path / "unirms" / "__init__.py"), "212", "approximate"]
