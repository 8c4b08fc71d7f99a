"""The owner's side of guard.py."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from runbook_lib.practice import guard


class Guarded:
    """A command under the guard: ends with this process, whatever ends it.

    `user` is (uid, gid) to run as, `log` takes its output, and the `remove` folders are deleted
    if this process dies without having stopped it. Raises OSError when it cannot be run.
    """

    def __init__(
        self,
        command: list[str],
        *,
        user: tuple[int, int] | None,
        cwd: Path,
        log: Path,
        remove: list[Path],
    ) -> None:
        options = ["--cwd", str(cwd)]
        if user:
            options += ["--user", f"{user[0]}:{user[1]}"]
        for folder in remove:
            options += ["--remove", str(folder)]
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, *options, "--", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                # PG* variables of our own shell must not reach the server.
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            )
        assert self._guard.stdin and self._guard.stdout
        self._stdin = self._guard.stdin
        with self._guard.stdout as announced:
            line = announced.readline()
        if not line:
            code = self.wait()
            raise OSError(f"{command[0]} could not be run (guard ended {code}); see {log}")
        self.pid = int(line)

    def alive(self) -> bool:
        return self._guard.poll() is None

    def wait(self, timeout: float | None = None) -> int:
        """Until the command has ended by itself; its exit code. Raises TimeoutExpired."""
        code = self._guard.wait(timeout)
        self._stdin.close()
        return code

    def stop(self) -> None:
        """End the command in order: SIGINT, then SIGKILL."""
        # A guard whose command has ended by itself reads no more.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._stdin.fileno(), b"stop\n")
        self.wait()

    def kill(self) -> None:
        """SIGKILL to the command itself, as the kernel's OOM killer would."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()
