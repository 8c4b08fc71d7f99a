"""Commands in containers of the practice cluster, by the official client and by kubectl."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, stream
from practice.conftest import deployment

from runbook_lib.practice.kubernetes.kubelets import Executed

needs_kubectl = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
LONG = b"line\n" * 50_000


async def shell(pod: Any, container: str, argv: list[str], stdin: bytes) -> Executed:
    match argv:
        case ["echo", *words]:
            return Executed(0, " ".join(words).encode() + b"\n")
        case ["cat"]:
            return Executed(0, stdin)
        case ["long"]:
            return Executed(0, LONG)
        case ["where"]:
            return Executed(0, container.encode(), b"said")
    return Executed(3, b"out\n", b"err\n")


@pytest.fixture(scope="module")
def pod(practice: Any) -> Iterator[str]:
    """A running pod of two containers, app and side."""
    made = deployment("exec")
    made["spec"]["template"]["spec"]["containers"].append({"name": "side", "image": "side:1"})
    practice.apps.create_namespaced_deployment("shop", made)
    practice.until_ready("exec")
    yield practice.pods("exec")[0]["metadata"]["name"]
    practice.apps.delete_namespaced_deployment("exec", "shop")


@pytest.fixture(autouse=True)
def with_shell(practice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(practice.api.kubelets, "exec", shell)


def run(
    practice: Any, pod: str, *argv: str, container: str = "app", typed: str | None = None
) -> tuple[str, str, int]:
    """Output, error output and exit code, as the official client reads them."""
    core = client.CoreV1Api(practice.client("right-token"))  # stream patches its ApiClient
    wanted = {"stdout": True, "stderr": True, "stdin": typed is not None, "tty": False}
    answer = stream.stream(
        core.connect_get_namespaced_pod_exec,
        pod,
        "shop",
        container=container,
        command=list(argv),
        _preload_content=False,
        **wanted,
    )
    try:
        if typed is not None:
            answer.write_stdin(typed)
        answer.run_forever(timeout=10)
        return answer.read_stdout(), answer.read_stderr(), answer.returncode
    finally:
        answer.sock.shutdown()  # `close` leaves the socket open once the server has closed


def test_the_official_client_reads_what_a_command_wrote(practice: Any, pod: str) -> None:
    assert run(practice, pod, "echo", "a", "b") == ("a b\n", "", 0)
    assert run(practice, pod, "where", container="side") == ("side", "said", 0)
    assert run(practice, pod, "fail") == ("out\n", "err\n", 3)
    assert len(run(practice, pod, "echo", "x" * 100_000)[0]) == 100_001


def test_the_official_client_writes_to_a_command(practice: Any, pod: str) -> None:
    assert run(practice, pod, "cat", typed="typed\n") == ("typed\n", "", 0)


def test_nothing_is_lost_at_the_end(practice: Any, pod: str) -> None:
    for _ in range(20):
        assert run(practice, pod, "long")[0] == LONG.decode()


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ("nope", "container nope is not valid for pod"),
        ("", "a container name must be specified for pod"),
    ],
)
def test_a_container_must_be_named(practice: Any, pod: str, container: str, message: str) -> None:
    path = f"/api/v1/namespaces/shop/pods/{pod}/exec?command=id&container={container}"
    code, status = practice.raw("GET", path)
    assert code == 400 and message in status["message"]


def test_a_container_must_run(practice: Any) -> None:
    practice.deploy("ended", {"exit_code": 1})
    practice.container("ended", waiting="CrashLoopBackOff")
    name = practice.pods("ended")[0]["metadata"]["name"]
    _, status = practice.raw("POST", f"/api/v1/namespaces/shop/pods/{name}/exec?command=id")
    assert status["message"] == 'unable to upgrade connection: container not found ("app")'
    practice.apps.delete_namespaced_deployment("ended", "shop")


def test_only_websockets_are_served(practice: Any, pod: str) -> None:
    path = f"/api/v1/namespaces/shop/pods/{pod}/exec?command=id&container=app"
    code, status = practice.raw("POST", path)
    assert code == 400 and "Upgrade request required" in status["message"]


@needs_kubectl
def test_kubectl_exec(practice: Any, pod: str) -> None:
    where = ("exec", "-n", "shop", pod)
    assert practice.kubectl(*where, "-c", "app", "--", "echo", "hello") == "hello\n"
    assert practice.kubectl(*where, "-c", "side", "-i", "--", "cat", typed="piped\n") == "piped\n"
    assert "Defaulted container" in practice.kubectl(*where, "--", "echo")
    failed = practice.kubectl(*where, "-c", "app", "--", "fail", code=3)
    assert "out\n" in failed and "err\n" in failed
    assert "command terminated with exit code 3" in failed


@needs_kubectl
def test_kubectl_loses_nothing_at_the_end(practice: Any, pod: str) -> None:
    for _ in range(10):
        where = ("exec", "-n", "shop", pod, "-c", "app", "--")
        assert practice.kubectl(*where, "long") == LONG.decode()
