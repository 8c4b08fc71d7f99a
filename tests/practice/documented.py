"""What the documents say that there is, to be compared with what there is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
FIRST_COLUMN = re.compile(r"\|\s*`(\w+)\(([^)]*)\)`\s*\|")


def documented(path: Path | str, heading: str = "Verbs") -> set[str]:
    """The first column of the table under `## heading`, as `name(argument, …)`.

    A row begins with `` | `name(argument, …)` | ``. A relative path is meant below `docs/`.
    Raises ValueError for a document without that heading or without such a row.
    """
    parts = re.split(rf"(?m)^## {re.escape(heading)}$", (DOCS / path).read_text())
    if len(parts) != 2:
        raise ValueError(f"{path} has the heading '## {heading}' {len(parts) - 1} times")
    section = re.split(r"(?m)^## ", parts[1])[0]
    rows = (FIRST_COLUMN.match(line) for line in section.splitlines())
    names = {f"{row[1]}({row[2]})" for row in rows if row}
    if not names:
        raise ValueError(f"{path} documents nothing under '## {heading}'")
    return names


def offered(verbs: Mapping[str, Callable[..., Any]]) -> set[str]:
    """What `System.verbs()` gives, in the words of `documented`."""
    return {
        f"{name}({', '.join(inspect.signature(verb).parameters)})" for name, verb in verbs.items()
    }
