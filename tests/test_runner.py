"""Runs that end badly: whatever is killed, a report says what was found and what died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from notebook import ROOT, made_runbook

from runbook_lib import journal, runner
from runbook_lib.practice.wait import until
from runbook_lib.report import exit_code

CASE = ROOT / "tests" / "cases" / "rds-connection-exhaustion" / "leak.yaml"
PATIENCE = 60.0
LOOK = """\
from runbook_lib import start
from runbook_lib.checks import database
run = start("made")
run.check(database.connection_headroom)
"""
DRIVER = """\
import sys
from pathlib import Path
from runbook_lib import catalogue, runner
from runbook_lib.report import exit_code
made, outputs, case = map(Path, sys.argv[1:])
_, report = runner.run(catalogue.read(made), {}, outputs, replay=case)
sys.exit(exit_code(report))
"""


def blocks(folder: Path) -> str:
    """A cell that waits for a writer who never comes."""
    os.mkfifo(folder / "fifo")
    return f"open({str(folder / 'fifo')!r}).read()"


# --- ended from outside, four of them side by side ---


@dataclass
class Stuck:
    """A supervised run whose kernel is blocked in its third cell, and the processes it made."""

    supervisor: subprocess.Popen[bytes]
    folder: Path
    temporary: Path
    kernel: int
    children: list[psutil.Process]

    def gone(self) -> bool:
        """Whether no process of the run is left."""
        return not any(one.is_running() and one.status() != "zombie" for one in self.children)


def begin(folder: Path) -> tuple[subprocess.Popen[bytes], Path, Path]:
    """Start a supervisor on a runbook that will block."""
    outputs, temporary = folder / "outputs", folder / "t"
    temporary.mkdir()
    made = made_runbook(folder, LOOK, blocks(folder), "run.verdict()")
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(made.path), str(outputs), str(CASE)],
        env=os.environ | {"TMPDIR": str(temporary)},
        stderr=subprocess.DEVNULL,
    )
    return process, outputs, temporary


def stuck(process: subprocess.Popen[bytes], outputs: Path, temporary: Path) -> Stuck:
    """Wait until its kernel is in the cell that blocks."""

    def events() -> list[dict[str, Any]]:
        folders = [one for one in outputs.glob("*") if (one / journal.NAME).exists()]
        return journal.read(folders[0]) if folders else []

    def blocked() -> bool:
        assert process.poll() is None, "the run ended before its time"
        return sum(e["event"] == "cell-started" for e in events()) == 3

    until(blocked, PATIENCE, "a kernel in its third cell")
    (folder,) = (one for one in outputs.iterdir() if one.is_dir())
    pid = next(e["pid"] for e in events() if e["event"] == "kernel-started")
    children = psutil.Process(process.pid).children(recursive=True)
    assert pid in {one.pid for one in children}
    return Stuck(process, folder, temporary, pid, children)


KERNEL_KILLED = "kernel killed"
SUPERVISOR_KILLED = "supervisor killed"
ENDS = {KERNEL_KILLED: 21, "SIGTERM": 23, "SIGINT": 23, SUPERVISOR_KILLED: -signal.SIGKILL}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Stuck]]:
    """One run for each way to end one, after it was ended."""
    begun = {how: begin(tmp_path_factory.mktemp("r")) for how in ENDS}
    try:
        runs = {how: stuck(*one) for how, one in begun.items()}
        for how, run in runs.items():
            if how == KERNEL_KILLED:
                os.kill(run.kernel, signal.SIGKILL)
            else:
                number = getattr(signal, how, signal.SIGKILL)
                run.supervisor.send_signal(number)
                if how == "SIGINT":  # an impatient hand presses twice
                    run.supervisor.send_signal(number)
        for run in runs.values():
            run.supervisor.wait(PATIENCE)
        yield runs
    finally:
        for process, _, _ in begun.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def reported(run: Stuck) -> dict[str, Any]:
    return dict(json.loads((run.folder / "report.json").read_text()))


@pytest.mark.parametrize("how", ENDS)
def test_the_exit_code_says_how_it_ended(ended: dict[str, Stuck], how: str) -> None:
    assert ended[how].supervisor.returncode == ENDS[how]


@pytest.mark.parametrize("how", ENDS)
def test_no_process_and_no_temporary_file_is_left(ended: dict[str, Stuck], how: str) -> None:
    run = ended[how]
    until(run.gone, PATIENCE, "the end of worker and kernel")
    until(lambda: not list(run.temporary.iterdir()), PATIENCE, "an empty temporary folder")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (KERNEL_KILLED, "The kernel died at cell 3 of 4, “Cell 2”"),
        (
            "SIGTERM",
            "The run was terminated at cell 3 of 4, “Cell 2”: The run was ended by SIGTERM",
        ),
        ("SIGINT", "The run was terminated at cell 3 of 4, “Cell 2”: The run was ended by SIGINT"),
    ],
)
def test_the_report_names_the_cell_and_keeps_what_was_found(
    ended: dict[str, Stuck], how: str, reason: str
) -> None:
    told = reported(ended[how])
    assert (told["verdict"]["outcome"], told["exit_code"]) == ("runbook failed", ENDS[how])
    assert told["verdict"]["sentence"].startswith(reason)
    assert [cell["state"] for cell in told["cells"]] == ["done", "done", "died", "never"]
    assert [f["id"] for one in told["checks"] for f in one["findings"]] == [
        "rds-connection-headroom"
    ]
    page = (ended[how].folder / "report.html").read_text()
    assert "Cell 2" in page
    assert "RUNBOOK FAILED" in page.upper()


def test_a_run_whose_supervisor_was_killed_can_be_reported(ended: dict[str, Stuck]) -> None:
    folder = ended[SUPERVISOR_KILLED].folder
    assert not (folder / "report.json").exists()
    command = [str(Path(sys.executable).parent / "runbook"), "report", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 23
    assert done.stdout.startswith("RUNBOOK FAILED: The record stops at cell 3")
    told = reported(ended[SUPERVISOR_KILLED])
    assert told["exit_code"] == 23
    assert [f["id"] for one in told["checks"] for f in one["findings"]] == [
        "rds-connection-headroom"
    ]


def test_files_are_whole_whatever_was_killed(ended: dict[str, Stuck]) -> None:
    for run in ended.values():
        assert all(event["event"] != "unreadable" for event in journal.read(run.folder))
        assert json.loads((run.folder / "notebook.ipynb").read_text())["cells"]
        assert not [one for one in run.folder.rglob("*") if one.suffix in (".part", ".tmp")]


# --- ended by themselves ---


def test_a_cell_that_raises_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "hunter22-and-more")
    raises = "import os\nraise ValueError('no ' + os.environ['PGPASSWORD'])"
    made = made_runbook(tmp_path, LOOK, raises, "run.verdict()")
    folder, report = runner.run(made, {}, tmp_path / "o", replay=CASE)
    assert (exit_code(report), report.ending) == (20, "raised")
    assert [cell.state for cell in report.cells] == ["done", "done", "raised", "never"]
    assert report.verdict.sentence.startswith(
        "The notebook raised an error at cell 3 of 4, “Cell 2”"
    )
    assert [f.id for f in report.findings] == ["rds-connection-headroom"]
    written = [path for path in (tmp_path / "o").rglob("*") if path.is_file()]
    assert not [path for path in written if b"hunter22-and-more" in path.read_bytes()]
    assert "no [redacted]" in (folder / "notebook.ipynb").read_text()


def test_a_run_longer_than_its_limit_is_ended(tmp_path: Path) -> None:
    made = made_runbook(tmp_path, blocks(tmp_path), time_limit=3)
    others = set(psutil.Process().children(recursive=True))  # a practice platform, perhaps
    folder, report = runner.run(made, {}, tmp_path / "o", replay=CASE)
    assert (exit_code(report), report.ending) == (22, "time-limit")
    assert "longer than its limit of 3 s" in report.verdict.sentence
    assert (folder / "report.html").exists()
    assert set(psutil.Process().children(recursive=True)) <= others


@pytest.mark.slow
def test_a_notebook_that_ends_without_a_verdict_never_looks_well(tmp_path: Path) -> None:
    made = made_runbook(tmp_path, LOOK)
    _, report = runner.run(made, {}, tmp_path / "o", replay=CASE)
    assert (exit_code(report), report.verdict.outcome) == (20, "runbook failed")


@pytest.mark.slow
def test_parameters_arrive_with_their_type(tmp_path: Path) -> None:
    given = {"name": "0123", "text": "x=1;import os#'\"\n", "share": 0.001}
    parameters = 'name: str = ""  # a\ntext: str = ""  # b\nshare: float = 1.0  # c'
    seen = tmp_path / "seen.json"
    tells = f"import json\nopen({str(seen)!r}, 'w').write(json.dumps([name, text, share]))"
    runner.run(made_runbook(tmp_path, tells, parameters=parameters), given, tmp_path / "o")
    assert json.loads(seen.read_text()) == list(given.values())
