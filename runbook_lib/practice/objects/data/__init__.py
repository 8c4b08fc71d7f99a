"""What the practice API is made of that is no code: kinds, fields, columns, first objects."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any


def lines(name: str) -> list[str]:
    """The lines of a file of this folder; those that begin with blanks continue the one before."""
    text = files(__name__).joinpath(name).read_text().replace("\n  ", " ")
    return [line for line in text.splitlines() if not line.startswith("#")]


@cache
def table(name: str) -> dict[str, Any]:
    """A file of this folder that is a mapping: `fields`, `columns` or `names`."""
    found: dict[str, Any] = next(_documents(f"{name}.yaml"))
    return found


def first_objects() -> list[dict[str, Any]]:
    """The CustomResourceDefinitions and ClusterRoles that every practice cluster begins with."""
    return list(_documents("begin.yaml"))


def _documents(name: str) -> Iterator[Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    yield from yaml.load_all(files(__name__).joinpath(name).read_text(), Loader=loader)
