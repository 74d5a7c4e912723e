"""What came back, gathered, judged and shown: tables in a terminal, plain lines elsewhere, JSON for machines."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unirms import terminal
from unirms.registry import FRAMEWORKS, framework

from . import port
from .cases import LIMIT_ULP
from .recordings import Recording
from .results import CaseResult, Failure, Hello, LeftResult, Message, PortResult, ResumeResult, TrainResult
from .resume_report import Resumed, resume_line, resume_table
from .tables import finite, narrow
from .training import CONFIGS, Agreement, Digits, agreement, train_in_numpy

DTYPES: Final = tuple(LIMIT_ULP)
SHOWN_PROBLEMS: Final = 20

# Two trainings that differ in float32 rounding alone: matrix products sum in another order (1e-7 of a gradient), and
# RMSProp divides each gradient by its own size, so that even the smallest, the least exact ones, make full steps.
# Measured over the three configs and four frameworks on 2026-11-22: at most 9.4e-7 and 9.1e-7; ten times that leaves
# room for other processors and libraries, while a plain port is off by more than 0.1.
TRAIN_LIMITS: Final = Agreement(loss=1e-5, weights=1e-5)
# How far apart unirms's own optimizers may end beside the plain ports: one ULP of a float32 weight near 1 is 1.2e-7, or
# 2.5e-7 of the way that one travels there. Measured on 2026-11-22: 2e-7; the plain ports are 0.67 apart and more.
PORT_LIMIT: Final = 1e-6


@dataclass
class Report:
    """Everything that a run of the report found.

    Attributes:
        frameworks: what was asked for.
        digits: the training task, if there was one.
        resumed: what was left in one framework and went on in another, if that was asked for.
        with_cases: whether the matrix of cases was asked for.
        promised: how many results the workers of each framework have said that they would send.
    """

    frameworks: Sequence[str]
    digits: Digits | None = None
    resumed: Resumed | None = None
    with_cases: bool = True
    hellos: dict[str, Hello] = field(default_factory=dict)
    promised: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    cases: list[CaseResult] = field(default_factory=list)
    ports: dict[str, PortResult] = field(default_factory=dict)
    trainings: list[TrainResult] = field(default_factory=list)
    recordings: list[tuple[Recording, Any]] = field(default_factory=list)
    agreements: dict[tuple[str, str], Agreement] = field(default_factory=dict)

    def add(self, message: Message) -> None:
        """Take one message of a worker."""
        if isinstance(message, Hello):
            self.hellos.setdefault(message.framework, message)
            self.promised[message.framework] += message.cases
        elif isinstance(message, Failure):
            self.failures.append(message)
        elif isinstance(message, CaseResult):
            self.cases.append(message)
        elif isinstance(message, PortResult):
            found = {**self.ports, message.framework: message}
            self.ports = {name: found[name] for name in self.frameworks if name in found}
        elif isinstance(message, TrainResult):
            self.trainings.append(message)
        elif isinstance(message, LeftResult) and self.resumed is not None:
            self.resumed.left.append(message)
        elif isinstance(message, ResumeResult) and self.resumed is not None:
            self.resumed.results.append(message)

    def finish(self) -> None:
        """Compare the trainings with NumPy's, once all are in."""
        if self.digits is None:
            return
        for name, config in CONFIGS.items():
            right = train_in_numpy(config, self.digits.arrays())
            for result in self.trainings:
                if result.config == name:
                    self.agreements[result.framework, name] = agreement(result, right)

    def problems(self) -> list[str]:
        """Return one sentence for everything that keeps the report from being a success."""
        found = [f"{failure.framework}: {failure.reason}" for failure in self.failures]
        found += [
            f"{case.framework} {case.id} ({case.built or 'not built'}): {case.problem}"
            for case in self.cases
            if case.problem
        ]
        found += self._missing()
        found += [
            f"{framework} training, {name}: loss off by {a.loss:.2g}, weights by {a.weights:.2g}"
            for (framework, name), a in self.agreements.items()
            if not (a.loss <= TRAIN_LIMITS.loss and a.weights <= TRAIN_LIMITS.weights)
        ]
        if len(self.ports) > 1 and not farthest(self.ports) <= PORT_LIMIT:
            found.append(
                f"unirms's optimizers end {farthest(self.ports):.2g} of their way apart where a plain port is compared "
                f"(limit {PORT_LIMIT:g})"
            )
        found += [
            f"recorded run {recording.name}: {error.ulp:.3g} ULP, {error.movement:.2g} of the movement"
            for recording, error in self.recordings
            if not recording.passed(error)
        ]
        return found + (self.resumed.problems() if self.resumed is not None else [])

    def _missing(self) -> list[str]:
        """Return one sentence for everything that a framework should have sent, and has not; failures say it all."""
        sent = Counter(case.framework for case in self.cases)
        trained = {(result.framework, result.config) for result in self.trainings}
        if self.resumed is not None:
            sent.update(one.framework for one in self.resumed.left)
            sent.update(one.framework for one in self.resumed.results)
        found = []
        for name in (name for name in self.frameworks if name not in {failure.framework for failure in self.failures}):
            if self.with_cases and name not in {case.framework for case in self.cases}:
                found.append(f"{name}: no case ran")
            elif sent[name] != self.promised[name]:
                found.append(f"{name}: {sent[name]} of {self.promised[name]} results came")
            missed = [config for config in CONFIGS if self.digits is not None and (name, config) not in trained]
            found += [f"{name} training, {config}: did not run" for config in missed]
        return found

    def as_json(self) -> str:
        """Return everything as JSON; infinite numbers are strings."""
        data = {
            "format": 1,
            "limits_ulp": dict(LIMIT_ULP),
            "frameworks": {name: hello.model_dump(exclude={"kind"}) for name, hello in self.hellos.items()},
            "passed": not self.problems(),
            "problems": self.problems(),
            "cases": [json.loads(case.model_dump_json(exclude={"kind"})) for case in self.cases],
            "plain_port": {
                "hyperparameters": port.HYPERPARAMETERS,
                "travelled": {name: finite(travelled(result.movement)) for name, result in self.ports.items()},
                "apart": [
                    {"frameworks": [a, b], "relative": finite(apart(self.ports[a].movement, self.ports[b].movement))}
                    for a, b in itertools.combinations(self.ports, 2)
                ],
                "apart_with_unirms": finite(farthest(self.ports)),
            },
            "training": [
                {"framework": name, "config": config, "loss": finite(a.loss), "weights": finite(a.weights)}
                for (name, config), a in self.agreements.items()
            ],
            "recordings": [
                {"name": recording.name, "ulp": finite(error.ulp), "movement": finite(error.movement)}
                for recording, error in self.recordings
            ],
            **({"resume": self.resumed.as_data()} if self.resumed is not None else {}),
        }
        return json.dumps(data, indent=1) + "\n"


def apart(left: Sequence[float], right: Sequence[float]) -> float:
    """Return the distance between two movements relative to the longer: 0 for the same, 2 for opposite ones."""
    a, b = np.asarray(left), np.asarray(right)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(a), np.linalg.norm(b)))


def travelled(movement: Sequence[float]) -> float:
    """Return how far a weight has moved, in the mean."""
    return float(np.mean(np.abs(movement)))


def farthest(ports: Mapping[str, PortResult]) -> float:
    """Return how far apart the farthest two of unirms's optimizers end."""
    pairs = itertools.combinations(ports.values(), 2)
    return max((apart(a.exact_movement, b.exact_movement) for a, b in pairs), default=math.nan)


def show(report: Report, console: Console) -> None:
    """Print the report; where there is no terminal, every sentence is one line."""
    soft = not console.is_terminal
    tables = [parity_table(report)] if report.with_cases else []
    if len(report.ports) > 1:
        tables.append(port_table(report.ports))
    if report.agreements:
        tables.append(training_table(report))
    if report.resumed is not None:
        tables.append(resume_table(report.resumed))
    for table in tables:
        terminal.show(table, console)
        console.print()
    if report.recordings:
        console.print(_recordings_line(report.recordings), soft_wrap=soft, highlight=False)
    if report.resumed is not None:
        console.print(resume_line(report.resumed), soft_wrap=soft, highlight=False)
    problems = report.problems()
    for problem in problems[:SHOWN_PROBLEMS]:
        console.print(Text(f"FAILED {problem}", style="red"), soft_wrap=soft)
    if len(problems) > SHOWN_PROBLEMS:
        console.print(f"… and {len(problems) - SHOWN_PROBLEMS} more")
    console.print(_verdict(report, problems), soft_wrap=soft)


def parity_table(report: Report) -> Table:
    """Return a row for each framework and mode: cases passed, worst errors of weights and state by dtype."""
    table = narrow(
        "Parity with the NumPy reference: worst error of weights/state over all steps, in ULP at max(|x|, path)"
    )
    for heading in ("framework", "mode"):
        table.add_column(heading)
    table.add_column("passed", justify="right", no_wrap=True)
    for dtype in DTYPES:
        table.add_column(dtype, justify="right", no_wrap=True)
    for name in report.frameworks:
        title = _title(report, name)
        for mode, members in _grouped(report.cases, name):
            by_dtype = [_worst([case for case in members if case.dtype == dtype]) for dtype in DTYPES]
            passed = sum(case.passed for case in members)
            style = "" if passed == len(members) else "red"
            table.add_row(title, mode, f"{passed}/{len(members)}", *by_dtype, style=style)
            title = ""
        if name not in {case.framework for case in report.cases}:
            table.add_row(title, "did not run", style="red")
    table.add_row("limit", "", "", *(f"{LIMIT_ULP[dtype]:g}" for dtype in DTYPES), style="dim")
    return table


def port_table(ports: Mapping[str, PortResult]) -> Table:
    """Return how far the plain ports end from each other, and unirms's optimizers beside them."""
    given = ", ".join(f"{name} {value:g}" for name, value in port.HYPERPARAMETERS.items())
    table = narrow(
        "A plain port: the same hyperparameters through each stock class "
        f"({given}; {port.STEPS} steps, the rate halved at {port.HALVED_AT}): "
        "how far a weight travels, and how far apart two frameworks end, relative to the longer way"
    )
    table.add_column("")
    table.add_column("travels", justify="right", no_wrap=True)
    for name in ports:
        table.add_column(name, justify="right", no_wrap=True)
    for name, result in ports.items():
        others = ["–" if name == other else _percent(apart(result.movement, ports[other].movement)) for other in ports]
        table.add_row(f"stock {name}", f"{travelled(result.movement):.4f}", *others)
    for name, result in ports.items():
        others = [
            "–" if name == other else _percent(apart(result.exact_movement, ports[other].exact_movement))
            for other in ports
        ]
        table.add_row(f"unirms {name}", f"{travelled(result.exact_movement):.4f}", *others, style="green")
    return table


def training_table(report: Report) -> Table:
    """Return how far each training on digits is from NumPy's."""
    table = narrow(
        "Training on digits, 200 updates: largest difference of the loss / relative one of the weights' movement, "
        f"against NumPy in float64; limits {TRAIN_LIMITS.loss:g} and {TRAIN_LIMITS.weights:g}"
    )
    table.add_column("config")
    names = [name for name in report.frameworks if any(key[0] == name for key in report.agreements)]
    for name in names:
        table.add_column(name, justify="right")
    for config in CONFIGS:
        found = [report.agreements.get((name, config)) for name in names]
        table.add_row(config, *(f"{a.loss:.0e} / {a.weights:.0e}" if a else "did not run" for a in found))
    return table


def _recordings_line(recordings: Sequence[tuple[Recording, Any]]) -> str:
    passed = sum(recording.passed(error) for recording, error in recordings)
    systems = ", ".join(dict.fromkeys(recording.system.partition(" (")[0] for recording, _ in recordings))
    return f"Recorded runs of real releases reproduced by the reference: {passed} of {len(recordings)} ({systems})"


def _verdict(report: Report, problems: Sequence[str]) -> Text:
    style = "red" if problems else "green"
    end = "PASSED" if not problems else f"FAILED ({len(problems)})"
    if not report.with_cases:
        return Text(end, style=style)
    ran = len({case.framework for case in report.cases})
    same = sum(case.same_bits for case in report.cases if case.dtype in {"float32", "float64"})
    wide = sum(case.dtype in {"float32", "float64"} for case in report.cases)
    movement = max((case.movement for case in report.cases if case.dtype == "float32"), default=0.0)
    line = (
        f"{len(report.cases)} cases in {ran} of {len(report.frameworks)} frameworks; "
        f"worst relative error of a float32 movement {movement:.0e}; "
        f"weights equal to the same-dtype reference bit for bit in {same} of {wide} float32 and float64 cases; "
    )
    return Text(line + end, style=style)


def _title(report: Report, name: str) -> str:
    hello = report.hellos.get(name)
    version = next(iter(hello.versions.values()), "") if hello else ""
    return f"{name} {version}".strip()


def _grouped(cases: Iterable[CaseResult], name: str) -> list[tuple[str, list[CaseResult]]]:
    modes: dict[str, list[CaseResult]] = {}
    for case in cases:
        if case.framework == name:
            modes.setdefault(case.mode, []).append(case)
    return list(modes.items())


def _worst(cases: Sequence[CaseResult]) -> str:
    if not cases:
        return "–"
    ran = [case for case in cases if case.built]
    if not ran:
        return "failed"
    return f"{max(c.weights_ulp for c in ran):.1f}/{max(c.state_ulp for c in ran):.1f}"


def _percent(share: float) -> str:
    if math.isnan(share):
        return "–"
    return f"{share:.0%}" if share >= 0.005 or share == 0 else f"{100 * share:.0e}%"


def known(names: Sequence[str]) -> list[str]:
    """Return the frameworks asked for by their registry names, all of them for an empty request."""
    return list(dict.fromkeys(framework(name).name for name in names)) or list(FRAMEWORKS)
