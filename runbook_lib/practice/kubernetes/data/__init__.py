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
def fields() -> dict[str, Any]:
    """`fields.yaml`: what is known of a kind's fields by its name; and the merge keys."""
    found: dict[str, Any] = next(_documents("fields.yaml"))
    return found


@cache
def columns() -> dict[str, dict[str, str]]:
    """`columns.yaml`: a kind's columns and their values."""
    found: dict[str, dict[str, str]] = next(_documents("columns.yaml"))
    return found


def first_objects() -> list[dict[str, Any]]:
    """The CustomResourceDefinitions and ClusterRoles that every practice cluster begins with."""
    return list(_documents("begin.yaml"))


def _documents(name: str) -> Iterator[Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    yield from yaml.load_all(files(__name__).joinpath(name).read_text(), Loader=loader)
