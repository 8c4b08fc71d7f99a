"""A run's folder becomes a report, for people and for programs. It knows no check.

write(folder)         report.json, report.html and report.md from the journal (and the notebook)
summarise(folder)     the same as plain data, nothing written
exit_code(report)     what a shell is told
write_index(outputs)  every run at a glance
"""

from __future__ import annotations

from pathlib import Path

from runbook_lib.report import page
from runbook_lib.report.files import write_whole
from runbook_lib.report.index import write_index
from runbook_lib.report.record import Report
from runbook_lib.report.summary import exit_code, summarise

__all__ = ["Report", "exit_code", "summarise", "write", "write_index"]


def write(folder: Path) -> Report:
    """Write the three files of a run's report, each whole. Returns what they say.

    Works on any folder with a journal, whether the run ended, died or still runs. Raises
    FileNotFoundError where there is no journal, OSError where the folder cannot be written.
    """
    report = summarise(folder)
    write_whole(folder / "report.json", report.model_dump_json(indent=1) + "\n")
    write_whole(folder / "report.md", page.markdown(report))
    write_whole(folder / "report.html", page.html(report, folder))
    return report
