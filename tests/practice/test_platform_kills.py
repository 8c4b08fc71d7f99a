"""kill -9 at random moments of start, break and down: no process, and so no port, is left."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from runbook_lib.practice.platform import LEFTOVERS, LOCK
from runbook_lib.practice.wait import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="orphans are caught as on Linux"),
]

PR_SET_CHILD_SUBREAPER = 36
GONE_SECONDS = 15.0
# How long each takes when nobody disturbs it, and a little more.
SPANS = {"up": 3.5, "break": 1.5, "down": 0.8}
MOMENTS = [
    (command, victim, number)
    for number, (command, victim) in enumerate(
        [("up", "command"), ("up", "host"), ("up", "both"), ("up", "host"), ("break", "command"),
         ("break", "host"), ("break", "both"), ("down", "command"), ("down", "host"),
         ("down", "both")]
    )
]  # fmt: skip


@pytest.fixture
def left() -> Iterator[Callable[[], list[str]]]:
    """What lives of all that was started below this process: orphans come back to it."""
    prctl = ctypes.CDLL(None).prctl
    me = psutil.Process()
    before = {one.pid for one in me.children(recursive=True)}
    prctl(PR_SET_CHILD_SUBREAPER, 1)

    def alive() -> list[psutil.Process]:
        found = []
        for one in me.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
                if one.pid in before:
                    continue
                if one.status() != psutil.STATUS_ZOMBIE:
                    found.append(one)
                elif one.ppid() == me.pid:
                    os.waitpid(one.pid, os.WNOHANG)
        return found

    def told() -> list[str]:
        said = []
        for one in alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                said.append(f"{one.pid} of {one.ppid()}: {' '.join(one.cmdline())}")
        return said

    yield told
    for one in alive():
        kill(one.pid)
    prctl(PR_SET_CHILD_SUBREAPER, 0)


def practice(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "runbook_lib.cli", "practice", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def host_of(state: Path) -> int | None:
    """The pid of the host that holds the folder, if one has got that far."""
    try:
        return int((state / LOCK).read_text())
    except (FileNotFoundError, ValueError):
        return None


def kill(pid: int | None) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("command", "victim", "number"), MOMENTS)
def test_kill_9_leaves_nothing_running(
    tmp_path: Path,
    left: Callable[[], list[str]],
    command: str,
    victim: str,
    number: int,
) -> None:
    state = tmp_path / "platform"
    if command != "up":
        assert practice("up", "--state", str(state)).wait() == 0
    words = (
        [command, "rds-connection-exhaustion/leaking-client"] if command == "break" else [command]
    )
    running = practice(*words, "--state", str(state))
    moment = random.Random(number).uniform(0.2, SPANS[command])
    with contextlib.suppress(subprocess.TimeoutExpired):  # it is to be killed in the middle
        running.wait(moment)
    home = (state / "postgres").resolve()
    host = host_of(state)
    if victim in ("host", "both"):
        kill(host)
    if victim in ("command", "both") or host is None:
        running.kill()
    running.wait()
    if victim == "command":
        # Killed while it started, its platform goes too; later, that one lives on until `down`.
        assert practice("down", "--state", str(state)).wait() in (0, 3)
    with contextlib.suppress(TimeoutError):
        until(lambda: not left(), GONE_SECONDS, "nothing left")
    assert not left(), f"killed {moment:.2f} s after {command}"
    assert practice("down", "--state", str(state)).wait() == 0
    assert not [name for name in LEFTOVERS if (state / name).exists()]
    assert not home.exists()
