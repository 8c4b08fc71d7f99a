"""What the practice API is made of that is no code: kinds, columns, messages, first objects."""

from __future__ import annotations

from importlib.resources import files
from typing import Any


def lines(name: str) -> list[str]:
    """The lines of a file of this folder; those that begin with blanks continue the one before."""
    text = files(__name__).joinpath(name).read_text().replace("\n  ", " ")
    return [line for line in text.splitlines() if not line.startswith("#")]


def first_objects() -> list[dict[str, Any]]:
    """The CustomResourceDefinitions and ClusterRoles that every practice cluster begins with."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = files(__name__).joinpath("begin.yaml").read_text()
    return list(yaml.load_all(text, Loader=loader))
