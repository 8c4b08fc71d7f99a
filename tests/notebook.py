"""Running a notebook's own cells in this process, and making notebooks to run: shared helpers."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from runbook_lib import catalogue, checks, journal
from runbook_lib.catalogue import Runbook
from runbook_lib.core import Check
from runbook_lib.runs import FOLDER, REPLAY

ROOT = Path(__file__).parent.parent
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").rglob("*.ipynb"))
             if ".ipynb_checkpoints" not in path.parts}  # fmt: skip
METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
    "runbook": {
        "title": "Made for a test", "section": "Test", "severity": "P3",
        "alerts": [], "time_limit": 60, "related": [],
    },
}  # fmt: skip


def code_cells(path: Path) -> list[Any]:
    """The code cells of a notebook."""
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


@cache
def all_checks() -> dict[str, Check]:
    """Every check of the library by where it stands: `module.name`."""
    found: dict[str, Check] = {}
    for module in pkgutil.iter_modules(checks.__path__):
        room = importlib.import_module(f"{checks.__name__}.{module.name}")
        for name, value in vars(room).items():
            if isinstance(value, Check):
                found[f"{module.name}.{name}"] = value
    return found


def run_on(
    recording: Path, runbook: str, folder: Path, parameters: dict[str, Any]
) -> list[dict[str, Any]]:
    """Execute a runbook's cells on a recording; returns the journal's events."""
    os.environ[FOLDER], os.environ[REPLAY] = str(folder), str(recording)
    try:
        _execute(runbook, parameters)
    finally:
        del os.environ[FOLDER], os.environ[REPLAY]
    return journal.read(folder)


def run_live(runbook: str, folder: Path) -> list[dict[str, Any]]:
    """Execute a runbook's cells on what this process' environment points at; the events."""
    os.environ[FOLDER] = str(folder)
    try:
        run = _execute(runbook, {})["run"]
    finally:
        del os.environ[FOLDER]
    run._answers._sources.close()  # in a kernel they end with the process
    return journal.read(folder)


def _execute(runbook: str, parameters: dict[str, Any]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for cell in code_cells(NOTEBOOKS[runbook]):
        exec(compile(cell.source, cell.id, "exec"), names)
        if "parameters" in cell.metadata.get("tags", []):
            names |= parameters
    return names


def verdict(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The last verdict of a journal, as plain data."""
    found = [event["verdict"] for event in events if event["event"] == "verdict"]
    assert found, json.dumps(events[-3:])
    return dict(found[-1])


def made_runbook(folder: Path, *cells: str, parameters: str = "", **about: Any) -> Runbook:
    """A runbook `made` of these code cells, each under a heading `Cell N`."""
    code = [
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        *map(new_code_cell, cells),
    ]
    every = [new_markdown_cell("# Made for a test")]
    for number, cell in enumerate(code):
        every += [new_markdown_cell(f"## Cell {number}"), cell]
    metadata = METADATA | {"runbook": METADATA["runbook"] | about}  # type: ignore[operator]
    path = folder / "made.ipynb"
    nbformat.write(new_notebook(cells=every, metadata=metadata), path)
    return catalogue.read(path)
