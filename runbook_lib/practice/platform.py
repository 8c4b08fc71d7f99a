"""The practice platform as the program that starts it sees it.

with Platform.start() as platform:
    subprocess.run(["kubectl", "get", "pods", "-A"], env={**os.environ, **platform.env})
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn

from runbook_lib.practice.access import Cluster
from runbook_lib.practice.wait import until

START_SECONDS = 60.0
STOP_SECONDS = 15.0
CONTROL_SECONDS = 120.0
ANSWER_SECONDS = 20.0
LOCK = "host.lock"  # also the mark of a folder that is a platform's: no other is ever cleared
LOG = "host.log"
CHANGING = "changing.lock"
# The first tells others that a platform is there.
LEFTOVERS = (
    "platform.json",
    "platform.json.part",
    CHANGING,
    "kubeconfig",
    "runbook.toml",
    "kubernetes",
    "metrics",
    "network",
    "postgres",
    "redis",
)
# What platform.json says.
DESCRIBED = frozenset(
    {"env", "secrets", "passwords", "jwt_secret", "rotated", "endpoints", "pid", "control"}
    | {"kubernetes"}
)
STAY = "stay\n"  # what makes a host outlive the process that started it


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
        description = _description(state)
        self.env: dict[str, str] = description["env"]
        self.secrets: list[str] = description["secrets"]
        self.passwords: dict[str, str] = description["passwords"]
        self.jwt_secret: str = description["jwt_secret"]
        # What a role's password or the JWT secret becomes when it is rotated.
        self.rotated: dict[str, str] = description["rotated"]
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
        with _log_of(folder) as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "runbook_lib.practice.host", str(folder), *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # Its threads would otherwise keep an arena of freed memory each.
                env={"MALLOC_ARENA_MAX": "2", **os.environ},
                # A Ctrl-C in the terminal is this process' business; the host follows it.
                start_new_session=True,
            )
        try:
            _wait_until_ready(process)
            if detached:
                # Until here the host ends with us; from here on it is its own.
                assert process.stdin
                with process.stdin as told:
                    told.write(STAY)
                return cls(folder)
            return cls(folder, process, temporary=temporary)
        except BaseException as error:
            _end(process)
            if isinstance(error, PracticeError):
                # A temporary folder goes, and with it the log.
                tail = (folder / LOG).read_text(errors="replace")[-1500:] if temporary else ""
                error.add_note(tail or f"see {folder / LOG}")
            if not _locked(folder):  # another one may have been quicker
                _clear(folder, temporary=temporary)
            raise

    @classmethod
    def attach(cls, state: Path) -> Platform:
        """The platform that runs in that folder. Raises PracticeError when none answers."""
        platform = cls(state.absolute())
        platform.control("status", seconds=ANSWER_SECONDS)
        return platform

    def do(self, system: str, verb: str, **arguments: Any) -> Any:
        """Let one system do what one of its verbs says (see `System`), and return its answer."""
        done = self.control("do", system=system, verb=verb, arguments=arguments)
        return done["answer"]

    def heal(self) -> None:
        """Every system running, and as it was after the start."""
        self.control("heal")

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else breaks or heals it meanwhile. Raises PracticeError where somebody does."""
        with (self.state / CHANGING).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                said = (
                    f"somebody breaks or heals the practice platform in {self.state}: wait for it"
                )
                raise PracticeError(said) from None
            yield

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
        description = self.state / "platform.json"
        if not description.exists():
            return
        self.control("shutdown")
        until(lambda: not description.exists(), STOP_SECONDS, f"end of host {self.pid}")
        _clear(self.state)

    def control(
        self, action: str, *, seconds: float = CONTROL_SECONDS, **body: Any
    ) -> dict[str, Any]:
        """Ask the host for `action` (see control.py). Raises PracticeError with its reason."""
        import httpx

        try:
            answer = httpx.post(
                self._control["url"],
                json={"action": action, **body},
                headers={"Authorization": f"Bearer {self._control['token']}"},
                timeout=seconds,
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
        """Raw access to the Kubernetes API, as the practice's director; close it after use."""
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


def _description(state: Path) -> dict[str, Any]:
    """What the host wrote of itself. Raises PracticeError where there is none, or another thing."""
    file = state / "platform.json"
    try:
        found = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise PracticeError(f"no practice platform runs in {state}") from None
    except (OSError, ValueError) as error:
        raise PracticeError(f"{file} is no description of a practice platform: {error}") from None
    if missing := DESCRIBED - (found.keys() if isinstance(found, dict) else set()):
        lacks = f"it lacks {', '.join(sorted(missing))}"
        raise PracticeError(f"{file} is no description of a practice platform: {lacks}")
    described: dict[str, Any] = found
    return described


def _log_of(folder: Path) -> IO[str]:
    try:
        return (folder / LOG).open("w")
    except OSError as error:
        raise PracticeError(f"{folder / LOG} cannot be written: {error.strerror}") from None


def running_in(state: Path) -> Platform | None:
    """The platform that runs in that folder, or None.

    Raises PracticeError where one is there that does not answer (it may still be starting).
    """
    state = state.absolute()
    if not _locked(state):
        return None
    try:
        return Platform.attach(state)
    except PracticeError as error:
        holder = (state / LOCK).read_text().strip()
        raise PracticeError(f"{error}, yet process {holder} holds {state}") from None


def clear(state: Path) -> None:
    """Delete what a killed platform has left in its folder; its logs stay.

    A folder that no platform has marked is left alone. Raises PracticeError where one runs there.
    """
    if running_in(state):
        raise PracticeError(f"a practice platform runs in {state}")
    if (state / LOCK).exists():
        _clear(state.absolute())


def _locked(folder: Path) -> bool:
    """Whether a living host holds that folder: the kernel lets go when it dies, however."""
    try:
        with (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except IsADirectoryError as error:
        raise PracticeError(f"{folder / LOCK} is no lock: {error.strerror}") from None
    except BlockingIOError:
        return True
    except PermissionError as error:
        raise PracticeError(f"{folder} is another user's: {error.strerror}") from None
    return False


def _prepared(folder: Path) -> Path:
    """`folder`, ours alone, without what a platform of before left in it.

    Raises PracticeError where it holds anything that is not a platform's.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / LOCK).exists() and any(folder.iterdir()):
            raise PracticeError(
                f"{folder} holds files that are no practice platform's: name an empty folder"
            )
        (folder / LOCK).touch(mode=0o600)
        folder.chmod(0o700)
    except OSError as error:
        raise PracticeError(f"{folder} cannot be the platform's folder: {error.strerror}") from None
    if running_in(folder):
        raise PracticeError(f"a practice platform already runs in {folder}")
    _clear(folder)
    return folder


def _clear(folder: Path, *, temporary: bool = False) -> None:
    """Delete what a platform that is gone has left: the logs only with a temporary folder."""
    for leftover in (folder / name for name in LEFTOVERS):
        if leftover.is_dir():
            # As root PostgreSQL's folder is elsewhere, and this a link to it.
            shutil.rmtree(leftover.resolve(), ignore_errors=True)
        if leftover.is_symlink() or leftover.is_file():
            leftover.unlink()
    if temporary:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    """Until the host's line on its standard output. Raises PracticeError with what it says."""
    assert process.stdout
    with process.stdout as announced:
        if not select.select([announced], [], [], START_SECONDS)[0]:
            raise PracticeError(f"the practice platform did not start in {START_SECONDS:.0f} s")
        line = announced.readline()
    if line and "ready" in json.loads(line):
        return
    reason = json.loads(line)["error"] if line else "its process ended"
    raise PracticeError(f"the practice platform did not start: {reason}")


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
