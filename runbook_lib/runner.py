"""The supervisor of a headless run: starts the worker, bounds it, and always renders a report."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from runbook_lib import config as configuration
from runbook_lib import execution, report
from runbook_lib.catalogue import Refused, Runbook
from runbook_lib.report import Report
from runbook_lib.runs import FOLDER, REPLAY, new_folder, open_journal
from runbook_lib.sources.redaction import from_environment
from runbook_lib.sources.seam import read_recording

ENDINGS = {
    execution.COMPLETED: "completed",
    execution.RAISED: "raised",
    execution.KERNEL_DIED: "kernel-died",
}


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class ReportLost(Exception):
    """The run went, and its report could not be written; the message says what it had found."""


class _Stopped(Exception):
    """A signal asked this run to end."""


def run(
    runbook: Runbook,
    values: dict[str, Any],
    outputs: Path,
    *,
    replay: Path | None = None,
    time_limit: float | None = None,
) -> tuple[Path, Report]:
    """Execute a runbook with checked parameters; returns its folder and its report.

    replay: judge a recording instead of the live systems. time_limit: seconds, else the
    notebook's own. Raises Refused (nothing was written) for an unusable configuration,
    recording or output folder; everything after that ends in a report, or in ReportLost where
    the disk takes none.
    """
    _refuse_unusable(replay)
    redactor = from_environment()
    try:
        folder = new_folder(outputs, runbook.id).resolve()
    except OSError as error:
        raise Refused(f"The run's folder cannot be made in {outputs}: {error.strerror}.") from None
    journal = open_journal(
        folder, runbook.id, mode="replay" if replay else "headless", redactor=redactor,
        title=runbook.title, severity=runbook.severity, parameters=values,
    )  # fmt: skip
    print(f"{runbook.title}: running", file=sys.stderr, flush=True)
    try:
        with _on_signals(_stop):
            ending, reason = _supervise(
                runbook, values, folder, replay, time_limit or runbook.time_limit
            )
    except _Stopped as stopped:
        ending, reason = "terminated", str(stopped)
    # A second Ctrl-C must not cost the report.
    with _on_signals(signal.SIG_IGN):
        try:
            journal.append("run-ended", ending=ending, reason=reason)
            written = report.write(folder)
            report.write_index(outputs)
        except OSError as error:
            said = report.summarise(folder).verdict.sentence
            raise ReportLost(f"{said} No report in {folder}: {error.strerror}.") from None
    return folder, written


def _refuse_unusable(replay: Path | None) -> None:
    try:
        configuration.load()
    except configuration.ConfigError as error:
        raise Refused(str(error)) from None
    if replay:
        try:
            read_recording(replay)
        except OSError as error:
            raise Refused(f"The recording {replay} cannot be read: {error.strerror}.") from None
        except ValueError as error:
            raise Refused(f"{replay} is no recording: {error}") from None


def _supervise(
    runbook: Runbook,
    values: dict[str, Any],
    folder: Path,
    replay: Path | None,
    seconds: float,
) -> tuple[str, str]:
    """How the worker ended, and why, in words."""
    environment = os.environ | {FOLDER: str(folder), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    environment |= {REPLAY: str(replay.resolve())} if replay else {}
    worker = subprocess.Popen(
        [sys.executable, "-m", "runbook_lib.execution"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment,
        # A Ctrl-C in the terminal is the supervisor's to handle.
        start_new_session=True,
        text=True,
    )
    assert worker.stdin is not None
    sockets = tempfile.mkdtemp(prefix="runbook-")
    order = {
        "notebook": str(runbook.path),
        "folder": str(folder),
        "parameters": values,
        "sockets": sockets,
    }
    try:
        with contextlib.suppress(BrokenPipeError):  # it died at once; its exit code tells
            worker.stdin.write(json.dumps(order) + "\n")
            worker.stdin.flush()
        code = worker.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return "time-limit", f"The run took longer than its limit of {seconds:g} s."
    finally:
        worker.kill()
        worker.wait()
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.close()
        execution.kill_kernel(folder)
        shutil.rmtree(sockets, ignore_errors=True)
    if code < 0:
        return "kernel-died", f"The worker was killed by signal {-code}; was memory short?"
    if code not in ENDINGS:
        return "raised", f"The worker ended with {code} before the notebook was done."
    return ENDINGS[code], ""


def _stop(number: int, frame: FrameType | None) -> None:
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)  # ending takes a moment; once is enough
    raise _Stopped(f"The run was ended by {signal.Signals(number).name}.")


@contextlib.contextmanager
def _on_signals(handler: Any) -> Iterator[None]:
    """Handle SIGTERM, SIGINT and SIGHUP like this, where signals can be handled at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
