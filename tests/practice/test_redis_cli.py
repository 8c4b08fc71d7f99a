"""redis-cli in the Redis pods, through the Kubernetes API, on the real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runbook_lib.practice import scenario as scenarios
from runbook_lib.practice.platform import Platform

POD, NAMESPACE = "feast-redis-master-0", "mlops-platform"


@pytest.fixture
def breakable(platform: Platform) -> Iterator[Platform]:
    yield platform
    scenarios.heal(platform)


def redis_cli(platform: Platform, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command in the pod."""
    import kubernetes
    from kubernetes.stream import stream

    client = kubernetes.config.new_client_from_config(platform.env["KUBECONFIG"])
    asked = stream(
        kubernetes.client.CoreV1Api(client).connect_get_namespaced_pod_exec,
        POD,
        NAMESPACE,
        command=["redis-cli", *words],
        stdout=True,
        stderr=True,
        _preload_content=False,
    )
    try:
        asked.run_forever(timeout=10)
        return asked.returncode, asked.read_stdout() or "", asked.read_stderr() or ""
    finally:
        asked.sock.shutdown()  # `close` leaves the socket open once the server has closed
        client.close()


def test_the_runbooks_questions_are_answered(platform: Platform) -> None:
    code, said, _ = redis_cli(platform, "INFO", "stats")
    assert code == 0
    assert "keyspace_hits:" in said and "instantaneous_ops_per_sec:" in said
    assert int(redis_cli(platform, "DBSIZE")[1]) > 0
    assert redis_cli(platform, "CONFIG", "GET", "maxmemory")[1].split()[0] == "maxmemory"
    assert redis_cli(platform, "SLOWLOG", "GET", "10")[0] == 0


def test_another_database_and_a_wrong_command(platform: Platform) -> None:
    assert redis_cli(platform, "-n", "5", "DBSIZE") == (0, "0\n", "")
    assert redis_cli(platform, "FROB")[1].startswith("ERR unknown command")


def test_an_option_that_is_not_served_is_refused(platform: Platform) -> None:
    code, _, said = redis_cli(platform, "--latency")
    assert code == 1 and "does not serve option --latency" in said


def test_a_server_that_is_down_refuses(breakable: Platform) -> None:
    breakable.do("redis", "stop")
    assert redis_cli(breakable, "PING")[2].startswith("Could not connect to Redis")
