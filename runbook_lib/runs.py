"""A run's folder, and `start`, the first call of every notebook."""

from __future__ import annotations

import os
import platform
import secrets
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runbook_lib import config as configuration
from runbook_lib.core import Run
from runbook_lib.journal import Journal
from runbook_lib.sources.clients import Sources
from runbook_lib.sources.redaction import Redactor, from_environment
from runbook_lib.sources.seam import Answers, Live, Replay, read_recording

FOLDER = "RUNBOOK_RUN_FOLDER"
REPLAY = "RUNBOOK_REPLAY"


def new_folder(outputs: Path, runbook: str) -> Path:
    """Make `<outputs>/<UTC time>-<runbook>-<short id>/`. Raises OSError if it cannot be made."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = outputs / f"{stamp}-{runbook}-{secrets.token_hex(3)}"
    (folder / "evidence").mkdir(parents=True)
    return folder


def open_journal(
    folder: Path, runbook: str, *, mode: str, redactor: Redactor, **fields: Any
) -> Journal:
    """Begin a run's journal with its `run-started`."""
    journal = Journal(folder, redactor.clean)
    journal.append(
        "run-started",
        run=folder.name,
        runbook=runbook,
        mode=mode,
        host=platform.node(),
        pid=os.getpid(),
        versions={name: version(name) for name in ("runbook-notebooks", "papermill")},
        **fields,
    )
    return journal


def start(runbook: str) -> Run:
    """Begin, or inside a supervised kernel join, the run of this runbook.

    Headless, the supervisor has made the folder and begun the journal. In JupyterLab a folder is
    made below the nearest `outputs/`. With RUNBOOK_REPLAY set to a run's folder or a case file,
    its recorded answers are judged and no system is asked.
    Raises ConfigError, and FileNotFoundError or ValueError for an unusable recording.
    """
    config = configuration.load()
    redactor = from_environment()
    recording = os.environ.get(REPLAY)
    answers: Answers
    if recording:
        answers = Replay(read_recording(Path(recording)))
    else:
        answers = Live(Sources(config, redactor), config, redactor)
    if given := os.environ.get(FOLDER):
        folder = Path(given)
        return Run(runbook, folder, Journal(folder, redactor.clean), answers, config)
    folder = new_folder(_outputs(), runbook)
    journal = open_journal(folder, runbook, mode="lab", redactor=redactor)
    return Run(runbook, folder, journal, answers, config, at_end=_write_report)


def _write_report(journal: Journal) -> None:
    """In JupyterLab nobody supervises: the verdict itself ends the run and renders its report."""
    from runbook_lib import report  # the renderer, which a headless kernel never needs

    journal.append("run-ended", ending="completed", reason="")
    report.write(journal.path.parent)


def _outputs() -> Path:
    """The nearest `outputs/` at or above the working folder, else one here."""
    here = Path.cwd()
    return next(
        (d / "outputs" for d in (here, *here.parents) if (d / "outputs").is_dir()), here / "outputs"
    )
