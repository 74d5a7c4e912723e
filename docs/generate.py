"""Writes the generated parts of the documentation: tables between `<!-- begin NAME -->` and `<!-- end NAME -->`.

python docs/generate.py           writes them
python docs/generate.py --check   exits 1 if they are not what it would write
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from unirms import dialects, recipes, schedules
from unirms.checkpoints.formats import FORMATS
from unirms.config import ParameterGroup, RMSPropConfig
from unirms.conformance.recordings import Recording, recordings
from unirms.diagnosis import CODES
from unirms.diagnosis.catalogue import Code
from unirms.dialects.base import REQUIRED, Dialect
from unirms.dialects.calls import NativeCall
from unirms.dialects.table import Row, rows
from unirms.effects import effect, percent
from unirms.registry import FRAMEWORKS
from unirms.schedules import AnySchedule

DOCS = Path(__file__).parent
FILES = sorted(DOCS.glob("*.md"))
# A dialect that needs a learning rate gets one, which is not shown.
ANY_RATE = 0.5
# From gradients far below the epsilon that is imitated to gradients far above it.
SCALES = (1e-6, 1e-3, 1e-2, 1e-1, 1.0)


def meaning() -> str:
    """Return a row for each dialect: what the class computes whatever its arguments, and its defaults."""
    rows = []
    for dialect in dialects.all_dialects().values():
        config, with_momentum = _defaults(dialect), _defaults(dialect, momentum=0.9)
        placement = {config.epsilon_placement, with_momentum.epsilon_placement}
        rows.append(
            [
                f"[`{dialect.name}`]({dialect.docs})",
                f"`{dialect.target}`",
                "outside, but inside with momentum" if len(placement) > 1 else _placement(dialect, config),
                _buffer(dialect, config),
                _of_argument(dialect, "initial_mean_square") or f"{config.initial_mean_square:g}",
                _decay(dialect, config),
                "skip" if config.negative_variance == "skip" else "NaN",
                _rate(dialect),
                f"{config.rho:g}",
                f"{config.epsilon:g}",
            ]
        )
    heads = ["dialect", "class", "epsilon", "rate in the buffer", "first mean square", "weight decay"]
    return _table([*heads, "negative variance", "default rate", "default rho", "default epsilon"], rows)


def names() -> str:
    """Return a row for each config field that any class has an argument for: what each calls it."""
    found = list(dialects.all_dialects().values())
    rows = []
    for field in RMSPropConfig.model_fields:
        native = [_names_of(dialect, field) for dialect in found]
        if any(native):
            rows.append([f"`{field}`", *(name or "–" for name in native)])
    return _table(["field", *(dialect.name for dialect in found)], rows)


def fields() -> str:
    """Return a row for each config field: its default, what it means, and which dialects have an argument for it."""
    found = []
    for name, field in RMSPropConfig.model_fields.items():
        said = [dialect.name for dialect in dialects.all_dialects().values() if dialect.name_of(name)]
        silent = [dialect for dialect in dialects.all_dialects() if dialect not in said]
        default = "none" if field.default == () else f"`{field.default}`"
        in_groups = " (groups too)" if name in ParameterGroup.model_fields else ""
        found.append([f"`{name}`{in_groups}", default, field.description or "", _all_but(said, silent)])
    return _table(["field", "default", "what it is", "dialects with an argument for it"], found)


def remarks() -> str:
    """Return a list of what no field can say."""
    lines = [f"- `{d.name}`: {remark}" for d in dialects.all_dialects().values() for remark in d.remarks]
    for d in dialects.all_dialects().values():
        if d.rounds:
            verb = "passes" if len(d.rounds) == 1 else "pass"
            lines.append(f"- `{d.name}`: {', '.join(d.rounds)} {verb} through float32 even for float64 weights.")
    return "\n".join(lines)


def recorded() -> str:
    """Return a row for each recorded release and dtype: how closely the reference reproduces it."""
    groups: dict[tuple[str, str, str], list[Recording]] = defaultdict(list)
    for recording in recordings():
        groups[recording.system, recording.dialect, recording.record["dtype"]].append(recording)
    rows = []
    for (system, dialect, dtype), members in groups.items():
        errors = [member.replay() for member in members]
        passed = sum(member.passed(error) for member, error in zip(members, errors, strict=True))
        ulp, movement = max(error.ulp for error in errors), max(error.movement for error in errors)
        rows.append([system, f"`{dialect}`", dtype, f"{passed} of {len(members)}", f"{ulp:.1f}", f"{movement:.0e}"])
    return _table(["release", "dialect", "dtype", "reproduced", "worst ULP", "worst error of the movement"], rows)


def codes() -> str:
    """Return a table of the codes, and a section for each with an example and its repair."""
    rows = [[f"[{name}](#{_anchor(name, code)})", code.severity, code.title] for name, code in CODES.items()]
    sections = (_section(name, code) for name, code in CODES.items())
    return "\n\n".join([_table(["code", "severity", "what it is"], rows), *sections])


def groups() -> str:
    """Return a row for each config field that the groups of some class can override: the keys that say it."""
    found = [dialect for dialect in dialects.all_dialects().values() if dialect.behaviour.groups]
    rows = []
    for field in ParameterGroup.model_fields:
        keys = [_group_key(dialect, field) for dialect in found]
        if any(keys):
            rows.append([f"`{field}`", *(key or "–" for key in keys)])
    return _table(["field", *(f"`{dialect.name}`" for dialect in found)], rows)


def refusals() -> str:
    """Return a row for each class: which values of which arguments it refuses."""
    rows = []
    for dialect in dialects.all_dialects().values():
        named = {dialect.target: dialect.behaviour, **dialect.variants}
        for target, behaviour in named.items():
            by_kind: dict[str, list[str]] = defaultdict(list)
            for argument, kinds in behaviour.refused.items():
                for kind in kinds if argument not in behaviour.without else ():
                    by_kind[kind].append(f"`{argument}`")
            if behaviour.objects:
                by_kind["number or text"] = [f"`{argument}`" for argument in behaviour.objects]
            rows += [[f"`{target}`", kind, ", ".join(names)] for kind, names in by_kind.items()]
    return _table(["class", "refuses", "as"], rows)


def arguments() -> str:
    """Return a section for each dialect with a row for every name that its class takes: what becomes of it."""
    return "\n\n".join(_arguments_of(dialect) for dialect in dialects.all_dialects().values())


def state_formats() -> str:
    """Return a row for each file format of states."""
    rows = []
    for one in FORMATS.values():
        suffixes = ", ".join(f"`{suffix}`" for suffix in one.suffixes) or "a folder, or a prefix of several files"
        made = FRAMEWORKS[one.framework].title if one.framework else "unirms"
        rows.append((f"`{one.name}`", made, f"`{one.call}`", suffixes, "with `--like`" if one.needs_like else "yes"))
    return _table(("format", "of", "made by", "files", "written"), rows)


def formats() -> str:
    """Return a row for each format of recipes: what it is, and whether it is written, too."""
    rows = []
    for format in recipes.all_formats().values():
        able = "no" if format.write is None else ", ".join(f"`{name}`" for name in format.dialects) or "every dialect"
        rows.append([f"`{format.name}`", format.title, able])
    return _table(["format", "what is read", "written in"], rows)


def substitutes() -> str:
    """Return a row for each size of gradients: the eps with which PyTorch comes closest to TensorFlow 1's epsilon."""
    begun = RMSPropConfig.from_native("tf1", learning_rate=0.01, epsilon=1e-3, momentum=0.9)
    forgotten = begun.replace(initial_mean_square=0)
    found = [effect(config.to_native("torch"), scales=SCALES).substitutes for config in (begun, forgotten)]
    rows = []
    for pair in zip(*found, strict=True):
        cells = [(f"{best.epsilon:.3g}", percent(best.difference)) for best in pair]
        rows.append([f"{pair[0].scale:g}", *cells[0], *cells[1]])
    heads = [f"best `eps`, first mean square {config.initial_mean_square:g}" for config in (begun, forgotten)]
    return _table(["size of the gradients", heads[0], "what remains", heads[1], "what remains"], rows)


# An example of each form of schedule that some framework has a class for, or that most users would look for.
RATE, RAMP = {"initial_learning_rate": 0.1}, {"warmup_steps": 10}
SHAPES: dict[str, AnySchedule] = {
    "`step`": schedules.Step(**RATE, step_size=30),
    "`multi_step`": schedules.MultiStep(**RATE, milestones=(30, 60)),
    "`piecewise`": schedules.Piecewise(boundaries=(30, 60), learning_rates=(0.1, 0.2, 0.05)),
    "`piecewise`, once and up": schedules.Piecewise(boundaries=(30,), learning_rates=(0.05, 0.1)),
    "`exponential` for each update": schedules.Exponential(**RATE, decay_rate=0.5),
    "`exponential` for n updates": schedules.Exponential(**RATE, decay_rate=0.5, decay_steps=30),
    "`exponential` in stairs": schedules.Exponential(**RATE, decay_rate=0.5, decay_steps=30, staircase=True),
    "`natural_exponential` for each update": schedules.NaturalExponential(**RATE, decay_rate=0.5),
    "`natural_exponential` in stairs": schedules.NaturalExponential(
        **RATE, decay_rate=0.5, decay_steps=32, staircase=True
    ),
    "`inverse_time` for each update": schedules.InverseTime(**RATE, decay_rate=0.5),
    "`inverse_time` for n updates": schedules.InverseTime(**RATE, decay_rate=0.5, decay_steps=30),
    "`polynomial` to 0": schedules.Polynomial(**RATE, decay_steps=30, power=2),
    "`polynomial`": schedules.Polynomial(**RATE, end_learning_rate=0.01, decay_steps=30, power=2),
    "`polynomial` in cycles": schedules.Polynomial(**RATE, decay_steps=30, power=2, cycle=True),
    "`linear`": schedules.Linear(**RATE, decay_steps=30),
    "`linear` from 0": schedules.Linear(initial_learning_rate=0, end_learning_rate=0.1, decay_steps=30),
    "`cosine`, then hold": schedules.Cosine(**RATE, decay_steps=30),
    "`cosine`, periodic": schedules.Cosine(**RATE, decay_steps=30, periodic=True),
    "`cosine_restarts`": schedules.CosineRestarts(**RATE, first_period=30, period_factor=2),
    "`one_cycle`": schedules.OneCycle(max_learning_rate=0.1, total_steps=30),
    "`noam` from step 1": schedules.Noam(d_model=64, warmup_steps=30),
    "`noam` from step 0": schedules.Noam(d_model=64, warmup_steps=30, first_step=0),
    "`warmup` from 0 to a constant": schedules.Warmup(**RAMP, after=schedules.Constant(learning_rate=0.1)),
    "`warmup` from 0 to a cosine, then hold": schedules.Warmup(**RAMP, after=schedules.Cosine(**RATE, decay_steps=30)),
    "`warmup` from 0 to steps": schedules.Warmup(**RAMP, after=schedules.Step(**RATE, step_size=30)),
    "`warmup` from above 0 to steps": schedules.Warmup(
        **RAMP, start_learning_rate=0.01, after=schedules.Step(**RATE, step_size=30)
    ),
    "`warmup`, overlapping": schedules.Warmup(**RAMP, after=schedules.Step(**RATE, step_size=30), overlap=True),
    "`sequence`": schedules.Sequence(
        schedules=(schedules.Constant(learning_rate=0.1), schedules.Linear(**RATE, decay_steps=30)), boundaries=(10,)
    ),
    "`sampled`": schedules.Sampled(schedule=schedules.Linear(**RATE, decay_steps=30), every=4),
    "`table`": schedules.Table(learning_rates=(0.1, 0.2, 0.05)),
    "`plateau`": schedules.Plateau(**RATE),
    "`plateau`, an absolute threshold": schedules.Plateau(**RATE, threshold_mode="abs"),
    "`plateau`, a cooldown": schedules.Plateau(**RATE, cooldown=2),
    "`plateau`, both": schedules.Plateau(**RATE, threshold_mode="abs", cooldown=2),
}
SPEAKERS = ("torch", "keras", "mindspore", "paddle", "paddle-fluid")


def native_schedules() -> str:
    """Return a row for each form of schedule: the class that says it in each framework that has any."""
    rows = []
    for title, schedule in SHAPES.items():
        config = RMSPropConfig(learning_rate=schedule)
        rows.append([title, *(_schedule_class(dialects.get(name), config) for name in SPEAKERS)])
    return _table(["schedule", *(f"`{name}`" for name in SPEAKERS)], rows)


def _schedule_class(dialect: Dialect, config: RMSPropConfig) -> str:
    call = dialect.scheduler(config) or dialect.write(config)[dialect.name_of("learning_rate")]
    if isinstance(call, NativeCall):
        return f"`{call.class_name}`"
    return "unirms's" if dialect.framework else "–"


PARTS: dict[str, Callable[[], str]] = {
    "fields": fields,
    "schedules": native_schedules,
    "state-formats": state_formats,
    "meaning": meaning,
    "names": names,
    "remarks": remarks,
    "recorded": recorded,
    "codes": codes,
    "refusals": refusals,
    "groups": groups,
    "arguments": arguments,
    "formats": formats,
    "substitutes": substitutes,
}


def _arguments_of(dialect: Dialect) -> str:
    found = rows(dialect)
    in_groups = any(row.group for row in found)
    heads = ["argument", "default", "what becomes of it", *["in a group"] * in_groups]
    cells = [[_names(row), _code(row.default), row.becomes, *[_code(row.group) or "–"] * in_groups] for row in found]
    lines = [f"## {dialect.name}", f"[`{dialect.target}`]({dialect.docs})", _table(heads, cells)]
    for path, behaviour in dialect.variants.items():
        more, less = (", ".join(map(_code, names)) for names in (behaviour.more, behaviour.without))
        own = ", ".join(f"`{name}={value!r}`" for name, value in behaviour.defaults.items())
        lines.append(
            f"`{path}` takes {more} as well, which are not about the update, and does not take {less}."
            + (f" Defaults of its own: {own}." if own else "")
        )
    return "\n\n".join(lines)


def _names(row: Row) -> str:
    taken = ", ".join(map(_code, row.names)) or "–"
    return f"{taken} (later {', '.join(map(_code, row.announced))})" if row.announced else taken


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _section(name: str, code: Code) -> str:
    example = code.example
    language = {".py": "python", ".yaml": "yaml"}.get(Path(example.file).suffix, "")
    asked = f" (with `--dtype {example.dtype}`)" if example.dtype else ""
    wrong = f"No file `{example.file}`." if example.text is None else f"```{language}\n{example.text}```"
    return "\n\n".join(
        [
            f"### {name}: {code.title}",
            f"{code.severity.capitalize()}. {code.explanation} {code.fix}",
            f"Wrong{asked}:",
            wrong,
            "Right:",
            f"```{language}\n{example.fixed}```",
        ]
    )


def _anchor(name: str, code: Code) -> str:
    """Return the anchor that GitHub gives to the section of a code."""
    kept = re.sub(r"[^\w\- ]", "", f"{name}: {code.title}".lower())
    return kept.replace(" ", "-")


def _all_but(said: list[str], silent: list[str]) -> str:
    if not silent:
        return "all"
    return f"all but {', '.join(silent)}" if len(silent) < 5 else ", ".join(said) or "–"


def _defaults(dialect: Dialect, **fields: float) -> RMSPropConfig:
    given = {dialect.name_of(field): value for field, value in fields.items() if dialect.name_of(field)}
    if dialect.arguments and _rate(dialect) == "required":
        given[dialect.name_of("learning_rate")] = ANY_RATE
    return dialect.read(given)


def _rate(dialect: Dialect) -> str:
    default = next(a.default for a in dialect.arguments if "learning_rate" in a.fields)
    return "required" if default is REQUIRED else f"{default:g}"


def _of_argument(dialect: Dialect, field: str) -> str:
    name = dialect.name_of(field)
    return f"`{name}`, {getattr(_defaults(dialect), field):g}" if name else ""


def _placement(dialect: Dialect, config: RMSPropConfig) -> str:
    name = dialect.name_of("epsilon_placement")
    side = config.epsilon_placement.removesuffix("_sqrt")
    return f"`{name}`, {side}" if name else side


def _buffer(dialect: Dialect, config: RMSPropConfig) -> str:
    if not dialect.name_of("momentum"):
        return "no momentum"
    name = dialect.name_of("lr_in_momentum")
    answer = "yes" if config.lr_in_momentum else "no"
    return f"`{name}`, {answer}" if name else answer


def _decay(dialect: Dialect, config: RMSPropConfig) -> str:
    if not dialect.name_of("weight_decay"):
        return "none"
    name = dialect.name_of("weight_decay_mode")
    return f"`{name}`, {config.weight_decay_mode}" if name else config.weight_decay_mode


def _names_of(dialect: Dialect, field: str) -> str:
    return ", ".join(f"`{argument.name}`" for argument in dialect.arguments if field in argument.fields)


def _group_key(dialect: Dialect, field: str) -> str:
    """Return the key that says a field of a group; a rate and its factor are one, which each class says in its way."""
    groups = dialect.behaviour.groups
    wanted = "learning_rate" if field == "learning_rate_factor" else field
    key = next((key for key, name in dialect.group_keys.items() if wanted in dialect.fields_of(name)), "")
    if groups is None or not key or wanted != "learning_rate":
        return f"`{key}`" if key else ""
    is_other = (field == "learning_rate_factor") is not (key in groups.factors)
    return f"`{key}`, as a {'factor' if key in groups.factors else 'rate'}" if is_other else f"`{key}`"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def generated(text: str) -> str:
    """Return the text with every generated part written again."""
    for name, part in PARTS.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if pattern.search(text):
            written = part()
            text = pattern.sub(lambda match, written=written: f"{match[1]}{written}\n{match[2]}", text)
    return text


def main() -> int:
    """Write or check the files; return the exit code."""
    stale = [path for path in FILES if path.read_text(encoding="utf-8") != generated(path.read_text(encoding="utf-8"))]
    if "--check" in sys.argv[1:]:
        sys.stderr.writelines(f"{path.name} is not what the dialects say; run: make docs\n" for path in stale)
        return 1 if stale else 0
    for path in stale:
        path.write_text(generated(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
