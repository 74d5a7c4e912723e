"""Draws `docs/parity.svg`: what `unirms parity --train` prints, from a run of it. Takes some minutes.

python docs/picture.py
"""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from rich.console import Console

from unirms.conformance.recordings import recordings
from unirms.conformance.report import Report, show
from unirms.conformance.runner import run
from unirms.conformance.training import digits
from unirms.conformance.worker import Tasks
from unirms.registry import FRAMEWORKS

PICTURE = Path(__file__).with_name("parity.svg")


def main() -> None:
    """Run the report and write it as a picture of a terminal."""
    report = Report(list(FRAMEWORKS), digits())
    report.recordings = [(recording, recording.replay()) for recording in recordings()]
    for message in run(list(FRAMEWORKS), Tasks(digits=report.digits)):
        report.add(message)
    report.finish()
    console = Console(file=StringIO(), width=96, force_terminal=True, record=True, markup=False)
    show(report, console)
    console.save_svg(str(PICTURE), title="unirms parity --train")


if __name__ == "__main__":
    main()
