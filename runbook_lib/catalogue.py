"""Which runbooks there are, and what each takes: read from the notebooks themselves."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, TypeAdapter, ValidationError

# Nothing is greater than nan, so a limit of nan would call everything healthy.
TYPES: dict[str, Any] = {"str": str, "int": int, "float": FiniteFloat, "bool": bool}
REQUIRED = "..."
QUANTITIES = ("_percent", "_seconds", "_minutes", "_days")


class Refused(Exception):
    """What was asked for cannot be run; the message names what to change. Nothing was written."""


@dataclass(frozen=True)
class Parameter:
    """A variable of a notebook's parameters cell. default is source text; `...` is required."""

    name: str
    type: str
    default: str
    help: str

    @property
    def required(self) -> bool:
        """Whether a run must give it."""
        return self.default == REQUIRED


@dataclass(frozen=True)
class Runbook:
    """A notebook that is a runbook: its id is its file name, the rest its own metadata."""

    id: str
    path: Path
    title: str
    section: str
    severity: str
    alerts: tuple[str, ...]
    time_limit: int
    related: tuple[str, ...]

    def parameters(self) -> list[Parameter]:
        """Its parameters in the order of the cell. Raises Refused for a type we cannot check."""
        from papermill import inspect_notebook  # 1 s to import

        found = []
        for one in inspect_notebook(str(self.path)).values():
            kind = one["inferred_type_name"]
            if kind not in TYPES:
                raise Refused(
                    f"{self.id}: parameter {one['name']} has no type that can be checked."
                )
            found.append(Parameter(one["name"], kind, one["default"], one["help"]))
        return found


def ids() -> set[str]:
    """The ids of all runbooks, without reading them."""
    return {path.stem for path in folder().rglob("*.ipynb")}


def folder() -> Path:
    """Where the notebooks are: in the checkout, or inside the installed package."""
    here = Path(__file__).parent
    inside = here / "notebooks"
    return inside if inside.is_dir() else here.parent / "notebooks"


def runbooks() -> list[Runbook]:
    """Every runbook, the health check first, then by section. Raises Refused for a broken one."""
    found = [
        read(path)
        for path in folder().rglob("*.ipynb")
        if not any(part.startswith(".") for part in path.relative_to(folder()).parts)
    ]
    return sorted(found, key=lambda r: (r.id != "health-check", r.section, r.title))


def read(path: Path) -> Runbook:
    """One notebook's metadata. Raises Refused if it has none or lacks a field."""
    try:
        about = json.loads(path.read_text())["metadata"]["runbook"]
        return Runbook(
            id=path.stem,
            path=path,
            title=about["title"],
            section=about["section"],
            severity=about["severity"],
            alerts=tuple(about["alerts"]),
            time_limit=int(about["time_limit"]),
            related=tuple(about["related"]),
        )
    except (KeyError, ValueError) as error:
        raise Refused(f"{path.name} is no runbook: its metadata lacks {error}.") from None


def find(name: str) -> Runbook:
    """The runbook of this id. Raises Refused naming the nearest one."""
    known = {one.id: one for one in runbooks()}
    if name not in known:
        raise Refused(f"There is no runbook {name!r}.{_nearest(name, known)} See `runbook list`.")
    return known[name]


def check_parameters(runbook: Runbook, given: Mapping[str, str]) -> dict[str, Any]:
    """The given texts as values of the types that the parameters cell declares.

    Raises Refused for an unknown name, a value of the wrong type, or a missing parameter.
    """
    known = {one.name: one for one in runbook.parameters()}
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in known:
            raise Refused(
                f"{runbook.id} has no parameter {name!r}.{_nearest(name, known)}"
                f" It takes {', '.join(known) or 'none'}."
            )
        values[name] = _value(runbook, known[name], text)
    for one in known.values():
        if one.required and one.name not in values:
            raise Refused(f"{runbook.id} needs the parameter {one.name} ({one.type}): {one.help}.")
    return values


def _value(runbook: Runbook, parameter: Parameter, text: str) -> Any:
    try:
        value = TypeAdapter(TYPES[parameter.type]).validate_python(text)
    except ValidationError:
        raise Refused(
            f"{runbook.id}: {parameter.name} must be {parameter.type}, and {text!r} is not."
        ) from None
    # A limit out of its range would make everything healthy, or nothing.
    if parameter.name.endswith(QUANTITIES) and value <= 0:
        raise Refused(f"{runbook.id}: {parameter.name} must be above 0, and {text!r} is not.")
    return value


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f" Did you mean {near[0]}?" if near else ""
