"""`outputs/index.html`: every run at a glance, newest first."""

from __future__ import annotations

from pathlib import Path

from runbook_lib.display import first_finding
from runbook_lib.report.files import write_whole
from runbook_lib.report.page import page
from runbook_lib.report.record import Report
from runbook_lib.report.summary import summarise


def write_index(outputs: Path) -> Path:
    """List the runs of a folder in its index.html; a folder that cannot be read is listed as such.

    Runs' folders begin with their time, so their names give the order. Returns the index's path.
    """
    folders = sorted((p for p in outputs.iterdir() if _is_run(p)), reverse=True)
    rows = [(folder.name, *_read(folder), (folder / "report.html").exists()) for folder in folders]
    index = outputs / "index.html"
    write_whole(index, page("index.html.j2", rows=rows, first_finding=first_finding))
    return index


def _is_run(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _read(folder: Path) -> tuple[Report | None, str]:
    """The run's report, or the reason why there is none."""
    try:
        return summarise(folder), ""
    except FileNotFoundError:
        return None, "There is no journal in this folder."
    except OSError as error:
        return None, f"Its journal cannot be read: {error.strerror}."
