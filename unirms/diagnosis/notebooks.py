"""RMSProps in Jupyter notebooks: their code cells as one Python source, in which nothing is run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from unirms import documents
from unirms.diagnosis import sources
from unirms.errors import ConfigError
from unirms.recipes.base import Recipe

SUFFIX: Final = ".ipynb"
_MAGIC: Final = re.compile(r"(\s*)[%!?].*", re.DOTALL)

Line = tuple[str, int]
"""A line of code, and the line of the file on which it stands."""


def recipes(text: str, name: str = "the notebook") -> tuple[Recipe, ...]:
    """Return every RMSProp that the cells of a notebook call, with the lines of the file.

    Lines of IPython (`%matplotlib inline`, `!pip install …`) count as `pass`; a cell that is still not Python, such as
    one that begins with `%%bash`, is left out.

    Raises:
        ConfigError: the text is not JSON, or not a notebook of Jupyter's format 4.
    """
    document = documents.parse(text, "json", name=name)
    cells = document.data.get("cells") if isinstance(document.data, dict) else None
    if not isinstance(cells, list):
        raise ConfigError([f"{name}: it has no list of cells; save it in Jupyter's notebook format 4"])
    lines: list[Line] = []
    for index, cell in enumerate(cells):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            code = list(_lines(cell.get("source"), ("cells", index, "source"), document))
            lines += code if _is_python(code, name) else ()
    found = sources.recipes(_joined(lines), name)
    return tuple(
        replace(recipe, lines={setting: lines[line - 1][1] for setting, line in recipe.lines.items()})
        for recipe in found
    )


def _lines(source: Any, path: documents.KeyPath, document: documents.Document) -> Iterator[Line]:
    """Yield the lines of a cell, whose source is one text or a list of them (of a line each, as Jupyter writes it)."""
    texts = source if isinstance(source, list) else [source]
    if texts[:1] and str(texts[0]).startswith("%%"):
        return
    for index, text in enumerate(texts):
        place = document.lines.get((*path, index), document.lines.get(path, 1))
        for line in str(text).splitlines():
            magic = _MAGIC.fullmatch(line)
            yield (f"{magic[1]}pass" if magic else line), place


def _is_python(code: list[Line], name: str) -> bool:
    try:
        sources.recipes(_joined(code), name)
    except ConfigError:
        return False
    return True


def _joined(lines: list[Line]) -> str:
    return "\n".join(line for line, _ in lines)
