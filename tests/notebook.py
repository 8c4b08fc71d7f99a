"""Running a notebook's own cells in this process, on a recording: fast, and the real notebook."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nbformat

from runbook_lib import journal
from runbook_lib.runs import FOLDER, REPLAY

ROOT = Path(__file__).parent.parent
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").rglob("*.ipynb"))
             if ".ipynb_checkpoints" not in path.parts}  # fmt: skip


def code_cells(path: Path) -> list[Any]:
    """The code cells of a notebook."""
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


def run_on(
    recording: Path, runbook: str, folder: Path, parameters: dict[str, Any]
) -> list[dict[str, Any]]:
    """Execute a runbook's cells on a recording; returns the journal's events."""
    os.environ[FOLDER], os.environ[REPLAY] = str(folder), str(recording)
    try:
        names: dict[str, Any] = {}
        for cell in code_cells(NOTEBOOKS[runbook]):
            exec(compile(cell.source, cell.id, "exec"), names)
            if "parameters" in cell.metadata.get("tags", []):
                names |= parameters
    finally:
        del os.environ[FOLDER], os.environ[REPLAY]
    return journal.read(folder)


def verdict(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The last verdict of a journal, as plain data."""
    found = [event["verdict"] for event in events if event["event"] == "verdict"]
    assert found, json.dumps(events[-3:])
    return dict(found[-1])
