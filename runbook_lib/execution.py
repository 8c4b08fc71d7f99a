"""The worker of a headless run: Papermill, in a process of its own below the supervisor.

It journals which cell begins and ends, keeps the notebook whole and redacted after every cell,
and ends with a code that says how it went. Papermill's own cell states are not trusted: it calls
a cell completed whose kernel was killed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from runbook_lib.journal import Journal
from runbook_lib.sources.redaction import from_environment

COMPLETED, RAISED, KERNEL_DIED = 0, 20, 21
SCHEME = "redacted://"


def main() -> int:
    """Execute the notebook that standard input's first line names; returns how it went.

    The line is JSON: {notebook, folder, parameters, sockets}. The rest of standard input is a
    lifeline: when it closes the supervisor is gone, and worker and kernel end.
    """
    order = json.loads(sys.stdin.readline())
    folder = Path(order["folder"])
    sockets = Path(order["sockets"])
    threading.Thread(target=_end_with_the_supervisor, args=(folder, sockets), daemon=True).start()
    return execute(Path(order["notebook"]), folder, order["parameters"], sockets)


def execute(notebook: Path, folder: Path, parameters: dict[str, Any], sockets: Path) -> int:
    """Run the notebook by Papermill into `folder`; COMPLETED, RAISED or KERNEL_DIED.

    sockets: a private folder for the kernel's, which the supervisor removes.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.iorw import papermill_io

    redactor = from_environment()
    journal = Journal(folder, redactor.clean)

    class Engine(NBClientEngine):
        """Papermill's engine with our client."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **_: Any) -> Any:
            return _client(journal, sockets, notebook.stem)(
                nb_man, kernel_name=kernel_name
            ).execute()

    papermill_io.register(SCHEME, _RedactedFiles(redactor))
    papermill_engines.register("runbook", Engine)
    try:
        papermill.execute_notebook(
            str(notebook),
            f"{SCHEME}{folder / 'notebook.ipynb'}",
            parameters=parameters,
            engine_name="runbook",
            progress_bar=False,
        )
    except papermill.PapermillExecutionError:
        return RAISED
    except (DeadKernelError, CellTimeoutError):
        return KERNEL_DIED
    except RuntimeError as error:
        if "Kernel" not in str(error):
            raise
        return KERNEL_DIED
    return COMPLETED


def _client(journal: Journal, sockets: Path, title: str) -> Any:
    """Papermill's client, journalling each code cell, its kernel on private Unix sockets."""
    from papermill.clientwrap import PapermillNotebookClient

    class Client(PapermillNotebookClient):
        """One notebook's execution."""

        def create_kernel_manager(self) -> Any:
            # TCP between kernel and client is open to every local user, and its ports collide.
            manager = super().create_kernel_manager()
            manager.transport = "ipc"
            manager.ip = str(sockets / "k")
            manager.connection_file = str(sockets / "kernel.json")
            return manager

        def start_new_kernel(self, **kwargs: Any) -> None:
            # What the interpreter itself prints (its shutdown, say) belongs to no cell.
            super().start_new_kernel(**kwargs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            pid = getattr(self.km.provisioner, "pid", None)
            codes = [c for c in self.nb.cells if c.cell_type == "code"]
            journal.append("kernel-started", pid=pid)
            journal.append("cells", total=len(codes))

        def execute_cell(self, cell: Any, cell_index: int, **kwargs: Any) -> Any:
            if cell.cell_type != "code":
                return super().execute_cell(cell, cell_index, **kwargs)
            what = {"index": cell_index, "cell": cell.id, "heading": _heading(self.nb, cell_index)}
            journal.append("cell-started", **what)
            began = time.monotonic()
            try:
                done = super().execute_cell(cell, cell_index, **kwargs)
            except Exception as error:
                said = f"{type(error).__name__}: {_last_line(str(error))}"
                journal.append("cell-failed", **what, error=said)
                raise
            seconds = round(time.monotonic() - began, 2)
            journal.append("cell-finished", **what, seconds=seconds)
            print(f"  {title}: {what['heading']}  {seconds:.1f} s", file=sys.stderr, flush=True)
            return done

    return Client


class _RedactedFiles:
    """Papermill's file handler: notebooks are redacted, written whole, and renamed."""

    def __init__(self, redactor: Any) -> None:
        self._redactor = redactor

    def write(self, text: str, path: str) -> None:
        """Save a notebook. Redacts inside the JSON, so that it stays valid."""
        target = Path(path.removeprefix(SCHEME))
        clean = self._redactor.clean(json.loads(text))
        part = target.with_suffix(".part")
        part.write_text(json.dumps(clean, indent=1, ensure_ascii=False))
        part.replace(target)

    def pretty_path(self, path: str) -> str:
        """The path without the scheme."""
        return path.removeprefix(SCHEME)


def _heading(notebook: Any, index: int) -> str:
    """The nearest heading above a cell."""
    for cell in reversed(notebook.cells[:index]):
        if cell.cell_type == "markdown" and (
            found := re.findall(r"^#+ +(.+)$", cell.source, re.MULTILINE)
        ):
            return str(found[-1])
    return "before the first heading"


def _last_line(text: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).strip()
    return plain.splitlines()[-1][:300] if plain else ""


def _end_with_the_supervisor(folder: Path, sockets: Path) -> None:
    sys.stdin.read()
    kill_kernel(folder)
    shutil.rmtree(sockets, ignore_errors=True)
    os._exit(KERNEL_DIED)


def kill_kernel(folder: Path) -> None:
    """Kill the kernel that this run's journal names, if it still runs."""
    from runbook_lib import journal

    for event in journal.read(folder):
        if event["event"] == "kernel-started" and event["pid"]:
            try:
                os.kill(event["pid"], signal.SIGKILL)
            except ProcessLookupError:
                continue


if __name__ == "__main__":
    sys.exit(main())
