"""How a script makes an optimizer of one class, in the class's own words: the data behind `unirms.snippets.code`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Exemption:
    """How a class is told which parameters have no weight decay, in lines that may call a function `exempt(name)`.

    Attributes:
        before: lines before the construction.
        parameters: what is passed in the place of `Snippet.parameters`; "" where that is.
        after: lines after the construction.
    """

    before: str = ""
    parameters: str = ""
    after: str = ""


@dataclass(frozen=True)
class Grouping:
    """How a class is given parameter groups, in lines that may call a function `settings(name)`.

    Attributes:
        before: lines before the construction.
        parameters: what is passed in the place of `Snippet.parameters`.
        exemption: lines after the construction that leave parameters out of the weight decay, by a function
            `exempt(name)`; "" where the settings of these parameters say so.
    """

    before: str
    parameters: str = "list(groups.values())"
    exemption: str = ""


@dataclass(frozen=True)
class Snippet:
    """How a script makes an optimizer of one class for its variable `model`: lines of code, formatted as by ruff.

    In `seeding`, `$start` stands for the wanted first mean square, and a line that ends in `# if FIELD` is written only
    where that field of the config is neither 0 nor False.

    Attributes:
        imports: the import lines that every snippet needs.
        name: the class or function, as it is called after these imports.
        parameters: the parameters, as an expression; "" where the class takes none.
        keyword: the argument that takes them; "" where they come first, by position.
        setup: lines that every snippet needs after the construction.
        seeding: lines that fill in the mean square before the first step; "" where an argument says it.
        seeding_imports: the import lines that only `seeding` needs.
        exemption: how single parameters are left out of the weight decay.
        no_exemption: how a class that leaves some out by itself is made to decay all.
        grouping: how parameters are told what is theirs alone; None where the class has no groups.
        schedule_imports: the import lines that only the framework's schedules need.
        stepping: how the user moves a scheduler on, as a comment; "" where the optimizer asks its schedule by itself.
        reporting: how the user hands a metric to the object that lowers the rate at a plateau, as a comment.
    """

    imports: tuple[str, ...]
    name: str
    parameters: str = ""
    keyword: str = ""
    setup: str = ""
    seeding: str = ""
    seeding_imports: tuple[str, ...] = ()
    exemption: Exemption = Exemption()
    no_exemption: Exemption = Exemption()
    grouping: Grouping | None = None
    schedule_imports: tuple[str, ...] = ()
    stepping: str = ""
    reporting: str = ""
