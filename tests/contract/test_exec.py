"""Commands in containers, with the official client's websocket stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from contract.cluster import Space
from contract.objects import container, pod, saying
from kubernetes import client, stream

from runbook_lib.practice.wait import until

SECONDS = 180.0


@pytest.fixture(scope="module")
def shell(space: Space, image: str, lacking: dict[str, str]) -> Iterator[str]:
    """The name of a pod with a shell that runs."""
    if why := lacking.get("needs_nodes"):
        pytest.skip(f"needs_nodes: {why}")
    annotations, says = saying("hello")
    made = pod("shell", schedulerName="default-scheduler")
    made["metadata"]["annotations"] = annotations
    made["spec"]["containers"] = [container(image=image, **says)]
    space.pods.create(made)
    read = space.pods.read
    until(lambda: read("shell")["status"]["phase"] == "Running", SECONDS, "the pod runs")
    yield "shell"
    space.pods.delete("shell", gracePeriodSeconds=0)


def run(space: Space, pod_name: str, *command: str) -> tuple[str, str, dict[str, Any]]:
    """What a command writes to both streams, and the Status at its end."""
    core = client.CoreV1Api(client.ApiClient(space.cluster.client.configuration))
    socket = stream.stream(
        core.connect_get_namespaced_pod_exec,
        pod_name,
        space.name,
        command=list(command),
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
        _preload_content=False,
    )
    socket.run_forever(timeout=30)
    out, err = socket.read_stdout(timeout=1), socket.read_stderr(timeout=1)
    status = json.loads(socket.read_channel(3))
    socket.sock.shutdown()  # `close` leaves it open once the server has closed
    return out or "", err or "", status


@pytest.mark.needs_nodes
def test_a_command_writes_and_succeeds(space: Space, shell: str) -> None:
    out, err, status = run(space, shell, "echo", "hi")
    assert (out, err, status["status"]) == ("hi\n", "", "Success")


@pytest.mark.needs_nodes
def test_a_command_that_fails_says_with_which_code(space: Space, shell: str) -> None:
    out, err, status = run(space, shell, "cat", "/no/such/file")
    assert out == "" and "No such file" in err
    assert (status["status"], status["reason"]) == ("Failure", "NonZeroExitCode")
    assert {"reason": "ExitCode", "message": "1"} in status["details"]["causes"]


def test_a_pod_without_a_node_runs_no_command(space: Space, name: str) -> None:
    space.pods.create(pod(name))
    with pytest.raises(client.ApiException) as raised:
        run(space, name, "true")
    assert "400" in str(raised.value.reason)
    space.pods.delete(name, gracePeriodSeconds=0)
