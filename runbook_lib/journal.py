"""The journal of a run: one JSON object a line, appended and flushed as things happen.

It is the truth about a run. A kernel and its supervisor append to the same file, and so do probes
side by side: each line is written under a lock, so lines never mix, and a process killed at any
moment loses at most the line it was writing.

Events, each with `time` and `event`:
    run-started     run, runbook, title, severity, parameters, versions, host,
                    mode (headless, lab or replay)
    kernel-started  pid                     cells           total (code cells of the notebook)
    cell-started    index, cell (its id), heading
    cell-finished   the same, seconds       cell-failed     the same, error
    probe           probe, params, seconds, evidence (file), sampled_at, error
    check           check, arguments, question, findings, tables, charts
    plan            plan (what an action would do; nothing of it is done)
    verdict         verdict
    run-ended       exit_code, reason,
                    ending (completed, raised, kernel-died, time-limit or terminated)
    unreadable      line (its number): a crash cut it off, and only `read` says so
"""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NAME = "journal.jsonl"


class Journal:
    """Appends events to `journal.jsonl` in a run's folder.

    `clean` is applied to every event before it is written: the redaction of secrets.
    """

    def __init__(self, folder: Path, clean: Any = lambda value: value) -> None:
        self.path = folder / NAME
        self._clean = clean

    def append(self, event: str, **fields: Any) -> None:
        """Write one event and push it to disk. Raises OSError if the folder is gone or full."""
        record = {"time": datetime.now(UTC).isoformat(), "event": event, **self._clean(fields)}
        line = json.dumps(record, default=str, ensure_ascii=False) + "\n"
        with self.path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # closing the file gives it back
            file.seek(0, os.SEEK_END)
            # A writer killed in mid-line must not swallow the next one's event.
            cut = file.tell() > 0 and file.seek(-1, os.SEEK_END) and file.read(1) != b"\n"
            file.write((b"\n" if cut else b"") + line.encode())
            file.flush()
            os.fsync(file.fileno())


def read(folder: Path) -> list[dict[str, Any]]:
    """Every event of a run, in order; a line cut off by a crash becomes an `unreadable` event.

    Raises FileNotFoundError where there is no journal.
    """
    events = []
    for number, line in enumerate((folder / NAME).read_bytes().splitlines(), start=1):
        try:
            events.append(json.loads(line))
        except ValueError:
            events.append({"event": "unreadable", "line": number})
    return events
