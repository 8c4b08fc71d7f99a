"""The probes against a practice platform, over ordinary sockets: healthy, refusing, and gone."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from asking import ask, data, failure, faulty

from runbook_lib import config
from runbook_lib.practice.platform import Platform
from runbook_lib.sources import aws, kubernetes, nodes, pools, postgres, prometheus, services
from runbook_lib.sources.clients import Sources
from runbook_lib.sources.redaction import Redactor
from runbook_lib.sources.seam import Probe

PLATFORM = "mlops-platform"


# --- the shapes that the docstrings promise ---

SHAPES: list[tuple[Probe, dict[str, Any], set[str]]] = [
    (kubernetes.reachable, {}, {"host", "version", "ready"}),
    (kubernetes.nodes, {}, {"metadata", "spec", "status"}),
    (kubernetes.node_stats, {}, {"node", "summary", "pods"}),
    (kubernetes.node_metrics, {}, {"name", "cpu", "memory", "timestamp"}),
    (kubernetes.pods, {}, {"metadata", "spec", "status"}),
    (kubernetes.pods, {"namespace": PLATFORM}, {"metadata", "spec", "status"}),
    (kubernetes.pod_metrics, {}, {"namespace", "pod", "container", "cpu", "memory"}),
    (
        kubernetes.pod_metrics,
        {"namespace": PLATFORM},
        {"namespace", "pod", "container", "cpu", "memory"},
    ),
    (kubernetes.rollouts, {}, {"deployment", "created", "replicas", "ready"}),
    (
        pools.database_pools,
        {},
        {"deployment", "replicas", "workers", "pool_size", "max_overflow"},
    ),
    (
        aws.database_instance,
        {},
        {"status", "class", "multi_az", "storage_gb", "pending", "parameter_groups"},
    ),
    (aws.database_metric, {}, {"metric", "points"}),
    (postgres.sessions, {}, {"refused", "refused_by", "slots", "sessions", "limits"}),
    (postgres.reachable, {}, {"reached", "version", "kind", "reason"}),
    (services.critical, {}, {"name", "namespace", "exists", "selector", "ready", "not_ready"}),
    (
        services.database,
        {},
        {"reached", "version", "kind", "reason", "slots", "used", "tried_from"},
    ),
    (
        prometheus.alerts,
        {},
        {"name", "severity", "state", "since", "labels", "summary", "runbook_url"},
    ),
    (
        nodes.instances,
        {},
        {"node", "instance", "state", "why", "system", "reachability", "since", "planned"},
    ),
    (nodes.subnets, {}, {"subnet", "zone", "cidr", "free", "nodes"}),
    (nodes.egress, {}, {"node", "groups", "rules"}),
]


@pytest.mark.parametrize(
    ("probe", "params", "keys"), SHAPES, ids=[f"{p.name}{params or ''}" for p, params, _ in SHAPES]
)
def test_an_answer_has_the_shape_that_is_promised(
    connected: Platform, probe: Probe, params: dict[str, Any], keys: set[str]
) -> None:
    found = data(probe, **params)
    rows = found if isinstance(found, list) else [found]
    assert rows
    assert all(set(row) == keys for row in rows)


def test_leases_are_times_by_node(connected: Platform) -> None:
    leases = data(kubernetes.node_leases)
    assert set(leases) == {node["metadata"]["name"] for node in data(kubernetes.nodes)}
    assert all(datetime.fromisoformat(time).tzinfo for time in leases.values())


def test_sessions_are_the_applications_and_not_our_own(connected: Platform) -> None:
    found = data(postgres.sessions)
    assert {one["role"] for one in found["sessions"]} >= {"mlflow", "platform_api"}
    assert "runbook" not in {one["application"] for one in found["sessions"]}
    assert found["slots"]["max_connections"] > 0
    assert all(isinstance(one["connected_seconds"], int) for one in found["sessions"])


def test_a_metric_is_asked_by_name_and_oldest_first(connected: Platform) -> None:
    points = data(aws.database_metric, metric="DatabaseConnections", minutes=60)["points"]
    assert len(points) >= 11
    times = [datetime.fromisoformat(point["time"]) for point in points]
    assert times == sorted(times)
    assert all(set(point) == {"time", "maximum", "average"} for point in points)


def test_pods_show_no_value_of_their_environment(connected: Platform) -> None:
    answer = ask(kubernetes.pods).model_dump_json()
    assert not [secret for secret in connected.secrets if secret in answer]
    names = [
        entry
        for pod in data(kubernetes.pods, namespace=PLATFORM)
        for container in pod["spec"]["containers"]
        for entry in container.get("env", [])
    ]
    assert names
    assert all("value" not in entry for entry in names)


# --- Kubernetes refusing ---


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "unauthenticated"), (403, "forbidden"), (404, "missing"), (429, "throttled"),
     (500, "bad-answer"), (503, "bad-answer")],
)  # fmt: skip
def test_kubernetes_refusals_name_path_host_and_status(
    connected: Platform, status: int, kind: str
) -> None:
    with faulty(connected, status=status, match="/api/v1/nodes"):
        found = failure(kubernetes.nodes)
        assert data(kubernetes.pods)  # the fault is of nodes alone
    assert found.kind == kind
    assert (
        f"GET /api/v1/nodes?limit=500 of {connected.kubernetes_url} gave {status}" in found.message
    )
    assert found.next


def test_kubernetes_too_slow_is_a_timeout(
    connected: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_LIMITS__PROBE_SECONDS", "0.3")
    with faulty(connected, delay=20):
        assert failure(kubernetes.nodes).kind == "timeout"


def test_one_silent_kubelet_does_not_hide_the_others(connected: Platform) -> None:
    name = data(kubernetes.nodes)[0]["metadata"]["name"]
    with faulty(connected, status=503, match=f"/api/v1/nodes/{name}/proxy"):
        found = {row["node"]: row for row in data(kubernetes.node_stats)}
    assert "gave 503" in found.pop(name)["error"]
    assert found
    assert all(row["summary"] for row in found.values())


def kubeconfig(folder: Path, text: str) -> str:
    path = folder / "kubeconfig"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("text", [None, "", "{not: [yaml", "kind: Config\n"])
def test_no_usable_kubeconfig_is_named_with_what_to_do(
    connected: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    path = str(tmp_path / "absent") if text is None else kubeconfig(tmp_path, text)
    monkeypatch.setenv("KUBECONFIG", path)
    found = failure(kubernetes.nodes)
    assert (found.kind, found.next.split(" --")[0]) == (
        "not-configured", "aws eks update-kubeconfig",
    )  # fmt: skip
    assert path in found.message


def test_a_refused_connection_is_unreachable_and_no_timeout(
    connected: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = Path(connected.env["KUBECONFIG"]).read_text()
    nowhere = right.replace(connected.kubernetes_url, "https://127.0.0.1:1")
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, nowhere))
    found = failure(kubernetes.nodes)
    assert found.kind == "unreachable"
    assert "Connection refused" in found.message


def test_a_context_that_is_not_there_is_named(
    connected: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_CLUSTER__CONTEXT", "staging")
    found = failure(kubernetes.nodes)
    assert found.kind == "not-configured"
    assert "staging" in found.message


def test_a_wrong_token_is_refused_and_not_shown(
    connected: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = Path(connected.env["KUBECONFIG"]).read_text()
    token = next(secret for secret in connected.secrets if secret in right)
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, right.replace(token, "wrong-tokenn")))
    found = failure(kubernetes.nodes)
    assert found.kind == "unauthenticated"
    assert "wrong-tokenn" not in found.message


def test_a_login_that_hangs_keeps_nobody_else_waiting(
    connected: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client that takes long to make does not hold up another's making."""
    from runbook_lib.sources.kubernetes_client import KubernetesClient

    connecting, released = threading.Event(), threading.Event()
    connect = KubernetesClient.connect

    def slow(*arguments: Any) -> KubernetesClient:
        connecting.set()
        released.wait(30)
        return connect(*arguments)

    monkeypatch.setattr(KubernetesClient, "connect", slow)
    sources = Sources(config.load(), Redactor())
    hanging = threading.Thread(target=lambda: sources.kubernetes)
    hanging.start()
    try:
        assert connecting.wait(10)
        assert aws.database_instance.ask(sources)["status"] == "available"
    finally:
        released.set()
        hanging.join()
        sources.close()


# --- AWS refusing ---


@pytest.mark.parametrize(
    ("rule", "kind"),
    [("denied", "forbidden"), ("throttled", "throttled"), ("expired", "unauthenticated"),
     ("unavailable", "bad-answer")],
)  # fmt: skip
@pytest.mark.parametrize(
    "probe", [aws.database_instance, aws.database_metric], ids=lambda p: p.name
)
def test_aws_refusals_name_the_operation_and_the_code(
    connected: Platform, probe: Probe, rule: str, kind: str
) -> None:
    with faulty(connected, {"kind": rule}):
        found = failure(probe)
    assert found.kind == kind
    assert found.message.split(" of ")[0] in (
        "rds:DescribeDBInstances", "cloudwatch:GetMetricStatistics",
    )  # fmt: skip
    assert " gave " in found.message
    assert not [secret for secret in connected.secrets if secret in found.model_dump_json()]


def test_aws_too_slow_is_a_timeout(connected: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_LIMITS__PROBE_SECONDS", "0.5")
    with faulty(connected, {"kind": "delay", "seconds": 20}):
        assert failure(aws.database_instance).kind == "timeout"


@pytest.mark.parametrize(
    ("variables", "kind", "says"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "unreachable", "127.0.0.1:1"),
        ({"AWS_PROFILE": "nobody"}, "not-configured", "nobody"),
        ({"RUNBOOK_DATABASE__INSTANCE": "absent"}, "missing", "absent"),
        (
            {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
            "unauthenticated",
            "credentials",
        ),
    ],
)
def test_aws_misconfigured_says_so(
    connected: Platform,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: dict[str, str | None],
    kind: str,
    says: str,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.aws
    for name, value in variables.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    found = failure(aws.database_instance)
    assert found.kind == kind
    assert says in found.message
    assert found.next
