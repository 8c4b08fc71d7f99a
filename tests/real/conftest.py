"""Real servers, each in an environment of its own, beside ours on the same dependencies.

`RUNBOOK_REAL_ENVIRONMENTS` names the folder with the environments mlflow, feast and kserve, made
from requirements/real-*.txt; without it, `.real` of this checkout. A test whose environment is
absent is skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from practice.conftest import account, inside, redis

__all__ = ["account", "inside", "redis"]  # fixtures that are shared

ROOT = Path(__file__).parents[2]
START_SECONDS = 90.0
POLL_SECONDS = 0.2


def environment(name: str) -> Path:
    """The `bin` folder of a real server's environment; skips the test where it is absent."""
    folder = Path(os.environ.get("RUNBOOK_REAL_ENVIRONMENTS", ROOT / ".real")) / name / "bin"
    if not (folder / "python").exists():
        pytest.skip(f"no environment for a real {name} in {folder.parent}: run `make real`")
    return folder


class Process:
    """A server as a child process, on a free port; its group ends with it."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, command: list[str], *, wait: str = "/", **env: str) -> None:
        """Start, and return once any HTTP answer comes."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                command,
                cwd=self._log.parent,
                env={**kept, **env},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers(wait):
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.fail(f"{command[0]} did not start\n{self.log[-3000:]}")
            time.sleep(POLL_SECONDS)

    def run_to_its_end(self, command: list[str], **env: str) -> int:
        """Run a command that ends by itself; its exit code."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with self._log.open("ab") as log:
            done = subprocess.run(
                command,
                cwd=self._log.parent,
                env={**kept, **env},
                stdout=log,
                stderr=log,
                timeout=START_SECONDS,
                check=False,
            )
        return done.returncode

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _answers(self, path: str) -> bool:
        try:
            httpx.get(self.url + path, trust_env=False, timeout=2)
        except httpx.HTTPError:
            return False
        return True

    def stop(self) -> None:
        if self._child is not None:
            child, self._child = self._child, None
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Side:
    """One of two servers to compare: its URL, and the names that requests mean there."""

    url: str
    names: dict[str, str]
    headers: dict[str, str]

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Send a request, with {names} in it replaced. bytes are sent as they are."""
        more: dict[str, Any] = {"headers": dict(self.headers)}
        if isinstance(body, bytes):
            more["content"] = body
        elif body is not None:
            more["content"] = self._named(json.dumps(body))
            more["headers"]["Content-Type"] = "application/json"
        # A connection each: some servers close theirs after an error.
        return httpx.request(
            method, self.url + self._named(path), trust_env=False, timeout=60, **more
        )

    def _named(self, text: str) -> str:
        return re.sub(r"<(\w+)>", lambda found: self.names[found[1]], text)


def outline(answer: httpx.Response) -> dict[str, Any]:
    """What two servers must agree on: status, the names on top of the body, the error's code."""
    found: dict[str, Any] = {"status": answer.status_code}
    if "json" not in answer.headers.get("Content-Type", ""):
        return found
    body = answer.json()
    if isinstance(body, str):  # Feast puts a document into a string
        if not body.startswith("{"):
            return {**found, "kind": "text"}
        body = json.loads(body)
        return {**found, "class": body["class"], "message": body["message"]}
    if isinstance(body, dict):
        found["names"] = sorted(body)
        for name in ("error_code", "error_class", "sqlstate"):
            if name in body:
                found[name] = body[name]
    return found
