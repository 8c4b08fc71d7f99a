"""`runbook practice`: as typed in a shell, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook_lib.practice.platform import LEFTOVERS, Platform, running_in

SECONDS = 180


class Shell:
    """A shell that stands in one folder and has no other variables than it needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = ("PATH", "HOME", "PYTHONPATH", "TMPDIR")
        self.env = {name: os.environ[name] for name in kept if name in os.environ}

    def runbook(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "runbook_lib.cli", *words, code=code)

    def practice(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.runbook("practice", *words, code=code)

    def run(self, *command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == code, done.stderr + done.stdout
        return done


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell whose folder has a platform up, with the variables that `env` prints."""
    shell = Shell(tmp_path_factory.mktemp("rehearsal"))
    told = shell.practice("up").stderr
    assert "up after" in told and "runbook practice env" in told
    try:
        shell.env |= json.loads(shell.practice("env", "--json").stdout)
        yield shell
    finally:
        shell.practice("down")
    left = [name for name in LEFTOVERS if (shell.folder / ".practice" / name).exists()]
    assert not left


def test_env_is_for_a_shell_to_evaluate(shell: Shell) -> None:
    lines = shell.practice("env").stdout
    script = lines + 'echo "$KUBECONFIG $PGPORT $AWS_ENDPOINT_URL"'
    said = shell.run("sh", "-c", script).stdout.split()
    assert said == [shell.env[name] for name in ("KUBECONFIG", "PGPORT", "AWS_ENDPOINT_URL")]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl is installed")
def test_kubectl_needs_nothing_else(shell: Shell) -> None:
    assert "ip-10-0-1-7.ec2.internal" in shell.run("kubectl", "get", "nodes").stdout


@pytest.mark.skipif(shutil.which("psql") is None, reason="no psql is installed")
def test_psql_needs_nothing_else(shell: Shell) -> None:
    assert shell.run("psql", "-Atc", "SELECT current_user").stdout == "mlops_admin\n"


def test_status_of_a_healthy_a_broken_and_a_healed_platform(shell: Shell) -> None:
    assert shell.practice("status").stdout.splitlines()[-1] == "healthy"
    told = shell.practice("break", "rds-connection-exhaustion/leaking-client").stderr
    assert "next: runbook run rds-connection-exhaustion" in told
    broken = json.loads(shell.practice("status", "--json", code=10).stdout)
    assert broken["broken"] == ["rds-connection-exhaustion/leaking-client"]
    assert any("connection slots" in said for said in broken["ailments"].values())
    assert "healthy after" in shell.practice("heal").stderr
    healed = json.loads(shell.practice("status", "--json").stdout)
    assert (healed["broken"], healed["ailments"], healed["troubles"]) == ([], {}, [])


def test_a_second_platform_in_the_same_folder_is_refused(shell: Shell) -> None:
    assert "already runs in" in shell.practice("up", code=3).stderr
    assert shell.practice("status").stdout.splitlines()[-1] == "healthy"


def test_a_state_that_can_be_no_folder_is_said_in_a_line(shell: Shell) -> None:
    (shell.folder / "taken").write_text("mine\n")
    said = shell.practice("up", "--state", "taken", code=3).stderr
    assert said.endswith("taken cannot be the platform's folder: File exists\n")
    assert len(said.splitlines()) == 1
    assert "starts one" in shell.practice("status", "--state", "taken", code=2).stderr
    assert (shell.folder / "taken").read_text() == "mine\n"


def test_another_folder_is_another_platform(shell: Shell) -> None:
    try:
        shell.practice("up", "--state", "other", "--scenario", "full-disk")
        other = json.loads(shell.practice("env", "--state", "other", "--json").stdout)
        assert not {shell.env[name] for name in ("PGPORT", "AWS_ENDPOINT_URL")} & set(
            other.values()
        )
        assert shell.practice("status", "--state", "other", code=10)
        assert shell.practice("status")
    finally:
        shell.practice("down", "--state", "other")
    assert running_in(shell.folder / "other") is None
    assert shell.practice("status").stdout.splitlines()[-1] == "healthy"


def test_an_unknown_scenario_is_refused_before_anything_starts(shell: Shell) -> None:
    for words in (("break", "gremlins"), ("up", "--state", "third", "--scenario", "gremlins")):
        refused = shell.practice(*words, code=2).stderr
        assert "There is no scenario 'gremlins'; `runbook practice list` shows them." in refused
    assert not (shell.folder / "third").exists()


@pytest.mark.parametrize("words", [("status",), ("env",), ("heal",), ("break", "full-disk")])
def test_without_a_platform_it_says_how_to_start_one(shell: Shell, words: tuple[str, ...]) -> None:
    refused = shell.practice(*words, "--state", "nowhere", code=2).stderr
    assert "`runbook practice up` starts one" in refused


def test_down_without_a_platform_is_harmless(shell: Shell) -> None:
    assert "no platform runs in nowhere" in shell.practice("down", "--state", "nowhere").stderr


def test_the_list_names_every_scenario(shell: Shell) -> None:
    listed = json.loads(shell.practice("list", "--json").stdout)
    ids = [one["id"] for one in listed]
    assert "rds-connection-exhaustion/leaking-client" in ids
    told = shell.practice("list").stdout.splitlines()
    assert [line.split()[0] for line in told[1:]] == ids


def test_a_folder_of_somebody_else_is_left_alone(shell: Shell) -> None:
    """Names that a platform uses too, in a folder that none has made."""
    theirs = shell.folder / "infra"
    (theirs / "kubernetes").mkdir(parents=True)
    (theirs / "kubernetes" / "prod.yaml").write_text("precious\n")
    (theirs / "kubeconfig").write_text("theirs\n")
    theirs.chmod(0o755)
    assert "no platform runs in infra" in shell.practice("down", "--state", "infra").stderr
    refused = shell.practice("up", "--state", "infra", code=3).stderr
    assert refused.endswith("no practice platform's: name an empty folder\n")
    assert (theirs / "kubernetes" / "prod.yaml").read_text() == "precious\n"
    assert sorted(one.name for one in theirs.iterdir()) == ["kubeconfig", "kubernetes"]
    assert theirs.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("text", ["{not json", "{}", "[]", "\x00\xff"])
def test_a_description_that_is_none_is_said_in_a_line(shell: Shell, text: str) -> None:
    folder = shell.folder / "garbage"
    folder.mkdir(exist_ok=True)
    (folder / "platform.json").write_text(text)
    for command in ("status", "env", "heal"):
        said = shell.practice(command, "--state", "garbage", code=2).stderr
        assert "platform.json is no description of a practice platform" in said
        assert len(said.splitlines()) == 1


def test_one_change_at_a_time(shell: Shell) -> None:
    with Platform.attach(shell.folder / ".practice").changing():
        for command in (("heal",), ("break", "full-disk")):
            assert "somebody breaks or heals" in shell.practice(*command, code=3).stderr
    assert "nothing" in shell.practice("status").stdout


def test_a_start_that_fails_says_why(shell: Shell) -> None:
    odd = Shell(shell.folder)
    odd.env["RUNBOOK_PRACTICE_PROMETHEUS"] = "frob"
    said = odd.practice("up", "--state", "odd", code=3).stderr
    assert "frob" in said
    assert "Traceback" not in said
    assert (shell.folder / "odd" / "host.log").exists()


def test_a_proxy_is_none_of_its_business(shell: Shell) -> None:
    """Everything of it is on loopback; the shell's variables let other programs know."""
    behind = Shell(shell.folder)
    behind.env |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    assert behind.practice("status").stdout.splitlines()[-1] == "healthy"
    assert "127.0.0.1" in shell.env["NO_PROXY"]
