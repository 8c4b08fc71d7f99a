"""Run one command and end it when the process that asked for it is gone.

    python -I -S guard.py [--user UID:GID] [--cwd DIR] [--remove DIR]... -- COMMAND...

The owner keeps the write end of the guard's standard input. `stop` on it, or its end, which
the kernel brings about even when the owner is killed by signal 9, ends the command: SIGINT
first, SIGKILL after a grace. Only after such an end without `stop` are the --remove folders
deleted, because then nobody else is left to do so. The command's pid is the first line on
the guard's standard output; the guard's exit code is the command's.

Run as a file, with nothing but the standard library, so that it starts in a few milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

GRACE_SECONDS = 4.0
POLL_SECONDS = 0.1
PR_SET_PDEATHSIG = 1


def prepare_child() -> Callable[[], None]:
    """What the child does before exec: on Linux, end even if the guard itself is killed."""
    # Loaded here: the child, as another user, may not be able to read Python's own library.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if prctl:
            prctl(PR_SET_PDEATHSIG, signal.SIGINT)

    return prepare


def launch(command: list[str], user: str | None, cwd: str | None) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, so a Ctrl-C in the terminal does not reach it."""
    as_user: dict[str, object] = {}
    if user:
        uid, gid = user.split(":")
        as_user = {"user": int(uid), "group": int(gid), "extra_groups": []}
    return subprocess.Popen(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
        start_new_session=True,
        preexec_fn=prepare_child(),
        **as_user,  # type: ignore[call-overload]
    )


def wait(child: subprocess.Popen[bytes]) -> bool:
    """Wait for the command's end or the owner's word; True when the owner is gone without one."""
    while child.poll() is None:
        if select.select([0], [], [], POLL_SECONDS)[0]:
            return not os.read(0, 64)
    return False


def end(child: subprocess.Popen[bytes]) -> None:
    """Ask the command to end, then make it, with whatever is left in its process group."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--user")
    parser.add_argument("--cwd")
    parser.add_argument("--remove", action="append", default=[])
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    # SIGTERM takes the way of a vanished owner: the finally below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    child = launch(args.command, args.user, args.cwd)
    orphaned = True
    try:
        print(child.pid, flush=True)
        orphaned = wait(child)
    finally:
        end(child)
        if orphaned:
            for folder in args.remove:
                shutil.rmtree(folder, ignore_errors=True)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    sys.exit(main())
