"""The practice platform as the program that starts it sees it.

with Platform.start() as platform:
    subprocess.run(["kubectl", "get", "pods", "-A"], env={**os.environ, **platform.env})
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from runbook_lib.practice.access import Cluster
from runbook_lib.practice.wait import until

START_SECONDS = 60.0
STOP_SECONDS = 15.0
CONTROL_SECONDS = 30.0


class PracticeError(RuntimeError):
    """The practice platform did not start, is gone, or refused what was asked; says why."""


class Platform:
    """A running practice platform: what clients need (`env`), and control over its systems.

    `env` is everything that kubectl, aws, psql and the runbooks read from the environment;
    `secrets` every secret value in the platform, none of which may show in an output.
    """

    def __init__(
        self,
        state: Path,
        process: subprocess.Popen[str] | None = None,
        *,
        temporary: bool = False,
    ) -> None:
        """Use `start` or `attach`. Reads what the host wrote into the state folder."""
        self.state = state
        self._process = process
        self._temporary = temporary
        try:
            description = json.loads((state / "platform.json").read_text())
        except FileNotFoundError:
            raise PracticeError(f"no practice platform runs in {state}") from None
        self.env: dict[str, str] = description["env"]
        self.secrets: list[str] = description["secrets"]
        self.passwords: dict[str, str] = description["passwords"]
        self.jwt_secret: str = description["jwt_secret"]
        self.endpoints: dict[str, str] = description["endpoints"]
        self.pid: int = description["pid"]
        self._control: dict[str, str] = description["control"]
        self._kubernetes: dict[str, str] = description["kubernetes"]

    @classmethod
    def start(cls, state: Path | None = None, *, detached: bool = False) -> Platform:
        """Start a platform in `state` (default: a temporary folder) and wait until it is whole.

        It ends with this process unless `detached`. Raises PracticeError when it does not
        come up, or when another one runs in that folder.
        """
        temporary = state is None
        folder = (
            Path(tempfile.mkdtemp(prefix="runbook-practice-"))
            if state is None
            else _prepared(state.absolute())
        )
        options = ["--temporary"] * temporary + ["--detached"] * detached
        with (folder / "host.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "runbook_lib.practice.host", str(folder), *options],
                stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # A Ctrl-C in the terminal is this process' business; the host follows it.
                start_new_session=True,
            )
        try:
            _wait_until_ready(process, folder)
            return cls(folder, process, temporary=temporary)
        except BaseException:
            _end(process)
            _clear(folder, temporary=temporary)
            raise

    @classmethod
    def attach(cls, state: Path) -> Platform:
        """The platform that runs in that folder. Raises PracticeError when none answers."""
        platform = cls(state.absolute())
        platform.control("status")
        return platform

    def become(self, command: list[str]) -> NoReturn:
        """Replace this process by `command`, connected to the platform, which ends with it.

        There is no parent left to be killed between the two, so neither outlives the other.
        """
        if self._process and self._process.stdin:
            os.set_inheritable(self._process.stdin.fileno(), True)
        os.execvpe(command[0], command, os.environ | self.env)

    def stop(self) -> None:
        """End the platform and wait for it; twice is once."""
        if self._process:
            _end(self._process)
            # The host has done this already, unless it was killed.
            _clear(self.state, temporary=self._temporary)
            return
        if not (self.state / "platform.json").exists():
            return
        self.control("shutdown")
        description = self.state / "platform.json"
        until(lambda: not description.exists(), STOP_SECONDS, f"end of host {self.pid}")

    def control(self, action: str, **body: Any) -> dict[str, Any]:
        """Ask the host for `action` (see control.py). Raises PracticeError with its reason."""
        import httpx

        try:
            answer = httpx.post(
                self._control["url"],
                json={"action": action, **body},
                headers={"Authorization": f"Bearer {self._control['token']}"},
                timeout=CONTROL_SECONDS,
                trust_env=False,
            )
            result: dict[str, Any] = answer.json()
        except (httpx.TransportError, ValueError) as error:
            # ValueError: no JSON, so another program has taken the port of a host that is gone.
            raise PracticeError(
                f"the practice platform in {self.state} does not answer: {error!r}"
            ) from None
        if answer.is_error:
            raise PracticeError(f"practice platform, {action}: {result['error']}")
        return result

    @property
    def kubernetes_url(self) -> str:
        return self._kubernetes["url"]

    def cluster(self) -> Cluster:
        """Raw access to the Kubernetes API; close it after use."""
        return Cluster(
            self._kubernetes["url"], Path(self._kubernetes["ca_file"]), self._kubernetes["token"]
        )

    def __enter__(self) -> Platform:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _prepared(folder: Path) -> Path:
    """`folder`, ours alone, without what a platform of before left in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    if (folder / "platform.json").exists():
        try:
            Platform.attach(folder)
        except PracticeError:
            pass  # its host is gone; what it left is cleared below
        else:
            raise PracticeError(f"a practice platform already runs in {folder}")
    _clear(folder)
    return folder


def _clear(folder: Path, *, temporary: bool = False) -> None:
    """Delete what a platform that is gone has left: the logs only with a temporary folder."""
    (folder / "platform.json").unlink(missing_ok=True)
    for leftover in (folder / "postgres", folder / "kubernetes"):
        # As root PostgreSQL's folder is elsewhere, and this a link to it.
        shutil.rmtree(leftover.resolve(), ignore_errors=True)
        if leftover.is_symlink():
            leftover.unlink()
    if temporary:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(process: subprocess.Popen[str], folder: Path) -> None:
    """Until the host's line on its standard output. Raises PracticeError with what it says."""
    assert process.stdout
    with process.stdout as announced:
        if not select.select([announced], [], [], START_SECONDS)[0]:
            raise PracticeError(f"the practice platform did not start in {START_SECONDS:.0f} s")
        line = announced.readline()
    if line and "ready" in json.loads(line):
        return
    reason = json.loads(line)["error"] if line else "its process ended"
    log = folder / "host.log"
    tail = log.read_text(errors="replace")[-1500:] if log.exists() else ""
    raise PracticeError(f"the practice platform did not start: {reason}\n{tail}")


def _end(process: subprocess.Popen[str]) -> None:
    """Close the host's standard input, which it ends on; kill it if it does not."""
    if process.stdin:
        process.stdin.close()
    else:
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
