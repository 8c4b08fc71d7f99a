"""An installed Prometheus and Alertmanager, run under the guard on loopback."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from runbook_lib.practice.guarded import Guarded

START_SECONDS = 15.0
# Debian calls it prometheus-alertmanager.
PROMETHEUS = ("prometheus",)
ALERTMANAGER = ("alertmanager", "prometheus-alertmanager")
_MEMORY = {"GOGC": "20", "GOMEMLIMIT": "48MiB", "GOMAXPROCS": "2"}


class RealError(Exception):
    """An installed program could not be run."""


def installed(names: tuple[str, ...]) -> str | None:
    """The path of the first of these programs that is installed."""
    return next((found for name in names if (found := shutil.which(name))), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """One of the two: started on a port of loopback that it keeps, with a folder of its own."""

    def __init__(self, names: tuple[str, ...], folder: Path, remove: Sequence[Path] = ()) -> None:
        """`remove` are folders that an orphaned program's guard deletes."""
        self.folder = folder
        self.port = free_port()
        self._names = names
        self._remove = list(remove)
        self._running: Guarded | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._running is not None and self._running.alive()

    def start(self, *options: str) -> None:
        """Run it with these options until it is ready. Raises RealError."""
        binary = installed(self._names)
        if binary is None:
            raise RealError(f"{self._names[0]} is not installed")
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{self._names[0]}.log"
        settings = [f"{name}={value}" for name, value in _MEMORY.items()]
        listen = f"--web.listen-address=127.0.0.1:{self.port}"
        command = ["/usr/bin/env", *settings, binary, listen, "--log.level=warn", *options]
        self._running = Guarded(command, user=None, cwd=self.folder, log=log, remove=self._remove)
        self._wait_ready(log)

    def _wait_ready(self, log: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if (
                    httpx.get(f"{self.url}/-/ready", timeout=2.0, trust_env=False).status_code
                    == 200
                ):
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            if not self.running or time.monotonic() > deadline:
                self.stop()
                tail = log.read_text(errors="replace")[-1500:]
                raise RealError(f"{self._names[0]} did not become ready\n{tail}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in order; harmless when it does not run."""
        if self._running:
            running, self._running = self._running, None
            running.stop()


def prometheus_options(folder: Path) -> list[str]:
    """Where it keeps its things, and what the platform needs of it."""
    return [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.enable-remote-write-receiver",
        # Alertmanager hears of an alert within seconds, not after a minute.
        "--rules.alert.resend-delay=1s",
        "--rules.alert.for-grace-period=0s",
    ]
