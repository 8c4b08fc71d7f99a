"""Whatever dies, and however: no process, no port and no folder is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from practice.ordinary import connect, core

from runbook_lib.practice import scenario as scenarios
from runbook_lib.practice.metrics import real
from runbook_lib.practice.metrics.real_systems import CHOICE
from runbook_lib.practice.platform import Platform, PracticeError
from runbook_lib.practice.wait import until

GONE_SECONDS = 15.0
PARENT = """
import json, sys
from runbook_lib.practice.platform import Platform
with Platform.start() as platform:
    print(json.dumps({"state": str(platform.state), "pid": platform.pid}), flush=True)
    sys.stdin.read()
"""


class Traces:
    """The processes, ports and folders of one platform, to look for after its end."""

    def __init__(self, host: int, state: Path) -> None:
        self.host = psutil.Process(host)
        self.processes = [self.host, *self.host.children(recursive=True)]
        self.ports = {port for process in self.processes for port in _listening(process)}
        self.folders = {state, (state / "postgres").resolve()}

    def left(self) -> list[object]:
        running = [one for one in self.processes if one.is_running() and not _is_zombie(one)]
        open_ports = [port for port in self.ports if _listens(port)]
        return [*running, *open_ports, *(one for one in self.folders if one.exists())]

    def wait_until_gone(self) -> None:
        with contextlib.suppress(TimeoutError):
            until(lambda: not self.left(), GONE_SECONDS, "platform gone")
        assert not self.left()


def _listening(process: psutil.Process) -> set[int]:
    try:
        connections = process.net_connections("tcp")
    except psutil.NoSuchProcess:  # a session of the database that has ended meanwhile
        return set()
    return {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def parent(*, own_group: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A program that starts a platform and then waits; ended in any case."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=own_group,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def traces_of(process: subprocess.Popen[str]) -> Traces:
    assert process.stdout
    told = json.loads(process.stdout.readline())
    return Traces(told["pid"], Path(told["state"]))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_death_of_the_parent_ends_everything(how: signal.Signals) -> None:
    with parent() as process:
        traces = traces_of(process)
        assert len(traces.ports) >= 7
        process.send_signal(how)
        process.wait()
        traces.wait_until_gone()


@pytest.mark.slow
def test_control_c_in_the_terminal_ends_everything() -> None:
    with parent(own_group=True) as process:
        traces = traces_of(process)
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        traces.wait_until_gone()


@pytest.mark.slow
def test_death_of_the_host_ends_everything() -> None:
    with Platform.start() as platform:
        traces = Traces(platform.pid, platform.state)
        traces.host.kill()
        traces.wait_until_gone()
        with pytest.raises(PracticeError, match="does not answer"):
            platform.control("status")


@pytest.mark.real
def test_an_installed_prometheus_is_the_platforms_and_ends_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = (real.PROMETHEUS, real.ALERTMANAGER)
    if not all(map(real.installed, wanted)):
        pytest.skip("no Prometheus and Alertmanager are installed")
    monkeypatch.delenv(CHOICE, raising=False)
    with Platform.start() as platform:
        traces = Traces(platform.pid, platform.state)
        running = {one.name() for one in traces.processes}
        assert {"prometheus", "prometheus-alertmanager"} & running
        scenarios.wait_until_healthy(platform)
        scenarios.break_platform(
            platform, scenarios.find("rds-connection-exhaustion/leaking-client")
        )
        scenarios.heal(platform)
        traces.host.kill()
        traces.wait_until_gone()


@pytest.mark.slow
def test_death_of_the_guard_takes_postgres_with_it() -> None:
    with Platform.start() as platform:
        traces = Traces(platform.pid, platform.state)
        (guard,) = [one for one in traces.host.children() if "-D" in one.cmdline()]
        postgres = guard.children(recursive=True)
        guard.kill()
        until(lambda: not any(map(psutil.Process.is_running, postgres)), 60, "PostgreSQL gone")
        with pytest.raises(psycopg.OperationalError, match="refused"):
            connect(platform.env)
    traces.wait_until_gone()


@pytest.mark.slow
@pytest.mark.parametrize("started", ["initdb", "postgres"])
def test_death_in_the_middle_of_starting_leaves_nothing(
    started: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", tempfile.mkdtemp(prefix="runbook-death-", dir="/tmp"))
    temporary = Path(os.environ["TMPDIR"])
    temporary.chmod(0o755)
    with parent() as process:
        me = psutil.Process(process.pid)

        def begun() -> bool:
            return any(started in one.name() for one in _children(me))

        until(begun, 60, f"{started} runs")
        family = _children(me)
        process.kill()
        process.wait()
        until(lambda: all(map(_is_gone, family)), GONE_SECONDS, "all processes gone")
        until(lambda: not list(temporary.iterdir()), GONE_SECONDS, "all folders gone")
    temporary.rmdir()


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []


def _is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or _is_zombie(process)


@pytest.mark.slow
def test_two_platforms_side_by_side(platform: Platform) -> None:
    with Platform.start() as other:
        assert not set(other.secrets) & set(platform.secrets)
        other.do("postgres", "kill")
        core(other).patch_node("ip-10-0-1-7.ec2.internal", {"metadata": {"labels": {"other": "1"}}})
        with connect(platform.env) as connection:
            assert connection.execute("SELECT count(*) FROM runs").fetchone() == (400,)
        node = core(platform).read_node("ip-10-0-1-7.ec2.internal")
        assert "other" not in node.metadata.labels
        traces = Traces(other.pid, other.state)
    traces.wait_until_gone()
    assert all(platform.control("status")["systems"].values())


@pytest.mark.slow
def test_detached_platform_outlives_its_parent_and_its_folder_serves_again(tmp_path: Path) -> None:
    state = tmp_path / "practice"
    script = (
        "from pathlib import Path; from runbook_lib.practice.platform import Platform;"
        f"Platform.start(Path({str(state)!r}), detached=True)"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)
        platform = Platform.attach(state)
        traces = Traces(platform.pid, state)
        traces.folders.discard(state)
        assert all(platform.control("status")["systems"].values())
        platform.stop()
        traces.wait_until_gone()
        platform.stop()  # twice is once


@pytest.mark.slow
def test_unusable_binaries_say_so_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_PRACTICE_PG_BIN", str(tmp_path))
    with pytest.raises(PracticeError, match="no postgres in"):
        Platform.start(tmp_path / "state")
    assert not (tmp_path / "state" / "platform.json").exists()
