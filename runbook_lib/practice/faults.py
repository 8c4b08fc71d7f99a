"""Break a running practice platform as life would, and heal it.

Each fault leaves what an engineer would find: the system really misbehaves, its history in
CloudWatch shows since when, and the alert that would have paged fires.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from typing import Any

from runbook_lib.practice.access import Cluster, pod_is_ready
from runbook_lib.practice.aws import seed as aws_seed
from runbook_lib.practice.platform import Platform
from runbook_lib.practice.postgres.server import MAX_CONNECTIONS, SUPERUSER_RESERVED
from runbook_lib.practice.seed import parts
from runbook_lib.practice.seed import platform as platform_objects
from runbook_lib.practice.wait import until

API_SECRET = f"/api/v1/namespaces/{parts.PLATFORM}/secrets/platform-api-secrets"
API_DEPLOYMENT = f"/apis/apps/v1/namespaces/{parts.PLATFORM}/deployments/platform-api"
API_PODS = f"/api/v1/namespaces/{parts.PLATFORM}/pods"
EFFECT_SECONDS = 20.0
LEAK_SECONDS = 3600.0
DISK_FULL_AGO = "25m"
CRASHING_AGO = "14m"


def leak_connections(platform: Platform) -> int:
    """platform-api holds idle connections until PostgreSQL refuses ordinary clients.

    Returns how many it holds. CloudWatch shows them rising over the last hour.
    """
    held: int = platform.control("leak-connections")["held"]
    full = float(MAX_CONNECTIONS - SUPERUSER_RESERVED)
    calm = aws_seed.calm_history("DatabaseConnections")
    rising = [
        (age, round(value + (full - value) * max(0.0, 1 - age / LEAK_SECONDS)))
        for age, value in calm
    ]
    platform.control("aws-history", metric="DatabaseConnections", points=rising)
    _fire(
        platform,
        "PostgresqlTooManyConnections",
        "critical",
        f"PostgreSQL instance {aws_seed.DB_INSTANCE} has too many connections (> 80%)",
        age_seconds=12 * 60.0,
        labels={"instance": aws_seed.DB_INSTANCE, "namespace": parts.PLATFORM},
    )
    return held


def fill_node_disk(platform: Platform, node: str | None = None) -> str:
    """The kubelet of `node` (default: the second) reports DiskPressure; returns its name."""
    name = node or parts.NODES[1].name
    stats = {**parts.CALM_NODE, "fs_used_percent": 96}
    with _cluster(platform) as cluster:
        _annotate_node(cluster, name, stats, since=DISK_FULL_AGO)
        _wait_for_disk_pressure(cluster, name, "True")
    _fire(
        platform,
        "KubeNodePressure",
        "warning",
        f"{name} has active condition DiskPressure.",
        age_seconds=15 * 60.0,
        labels={"node": name, "condition": "DiskPressure"},
    )
    return name


def drop_secret_key(platform: Platform) -> None:
    """Secret platform-api-secrets loses jwt-secret; platform-api crash-loops since its roll-out.

    Its log has a line that gives away the database password, and one with markup in it: both
    must be harmless in whatever shows the log.
    """
    password = platform.passwords["platform_api"]
    # The traceback of the missing variable follows by itself.
    log = [
        *platform_objects.API_LOG[:1],
        f"DEBUG config: DATABASE_URL=postgresql://platform_api:{password}@database/mlflow",
        "WARNING request ignored: GET /models?q=</script><img src=x onerror=alert(1)>",
    ]
    with _cluster(platform) as cluster:
        cluster.patch(API_SECRET, {"data": {"jwt-secret": None}})
        _roll_out_api(cluster, {"log": log, "started_ago": CRASHING_AGO})
        until(
            lambda: any(_is_crash_looping(pod) for pod in _api_pods(cluster)),
            EFFECT_SECONDS,
            "a platform-api pod in CrashLoopBackOff",
        )
        crashing = next(pod for pod in _api_pods(cluster) if _is_crash_looping(pod))
    name = crashing["metadata"]["name"]
    _fire(
        platform,
        "KubePodCrashLooping",
        "warning",
        f"Pod {parts.PLATFORM}/{name} is in waiting state (reason: CrashLoopBackOff).",
        age_seconds=10 * 60.0,
        labels={
            "namespace": parts.PLATFORM,
            "pod": name,
            "container": "platform-api",
            "reason": "CrashLoopBackOff",
        },
    )


def heal_connections(platform: Platform) -> None:
    """Undo leak_connections; the healthy pools are opened anew."""
    platform.control("release-connections")
    platform.control("aws-history", metric="DatabaseConnections")


def heal_node_disks(platform: Platform) -> None:
    """Undo fill_node_disk, on every node."""
    with _cluster(platform) as cluster:
        for node in parts.NODES:
            _annotate_node(cluster, node.name, parts.CALM_NODE, since=None)
        for node in parts.NODES:
            _wait_for_disk_pressure(cluster, node.name, "False")


def heal_secret_key(platform: Platform) -> None:
    """Undo drop_secret_key."""
    value = base64.b64encode(platform.jwt_secret.encode()).decode()
    with _cluster(platform) as cluster:
        cluster.patch(API_SECRET, {"data": {"jwt-secret": value}})
        _roll_out_api(cluster, {})
        wanted = platform_objects.platform_api()["spec"]["replicas"]

        def recovered() -> bool:
            pods = _api_pods(cluster)
            return len(pods) == wanted and all(pod_is_ready(pod) for pod in pods)

        until(recovered, EFFECT_SECONDS, "all platform-api pods ready")


FAULTS: dict[str, Callable[[Platform], Any]] = {
    "leaked-connections": leak_connections,
    "full-node-disk": fill_node_disk,
    "missing-secret-key": drop_secret_key,
}


def heal(platform: Platform) -> None:
    """Put everything back: systems running, faults off, objects and history as in health."""
    platform.control("kubernetes-fault", fault=None)
    platform.control("aws-faults", rules=[])
    for name, running in platform.control("status")["systems"].items():
        if not running:
            platform.control("system", name=name, do="start")
    for name in platform.endpoints:
        platform.control("web", name=name)
    heal_connections(platform)
    heal_node_disks(platform)
    heal_secret_key(platform)
    _forget_warnings(platform)
    platform.control("resolve-alerts")


def _forget_warnings(platform: Platform) -> None:
    """Delete the Warning events: the API would show them for an hour more."""
    with _cluster(platform) as cluster:
        for namespace in ("default", *parts.NAMESPACES):
            cluster.delete(f"/api/v1/namespaces/{namespace}/events", fieldSelector="type=Warning")


def _cluster(platform: Platform) -> contextlib.closing[Cluster]:
    return contextlib.closing(platform.cluster())


def _fire(platform: Platform, name: str, severity: str, summary: str, **more: Any) -> None:
    alert = {"name": name, "severity": severity, "summary": summary, **more}
    platform.control("fire-alerts", alerts=[alert])


def _annotate_node(
    cluster: Cluster, name: str, stats: dict[str, int], *, since: str | None
) -> None:
    annotations = {"practice.runbook/stats": json.dumps(stats), "practice.runbook/since": since}
    cluster.patch(f"/api/v1/nodes/{name}", {"metadata": {"annotations": annotations}})


def _wait_for_disk_pressure(cluster: Cluster, node: str, status: str) -> None:
    def reported() -> bool:
        conditions = cluster.get(f"/api/v1/nodes/{node}")["status"].get("conditions", [])
        return {"DiskPressure": status} in [{one["type"]: one["status"]} for one in conditions]

    until(reported, EFFECT_SECONDS, f"DiskPressure {status} on node {node}")


def _roll_out_api(cluster: Cluster, program: dict[str, Any]) -> None:
    """Give platform-api's pods the healthy program with these changes; the template rolls."""
    annotation = "practice.runbook/program"
    healthy = platform_objects.platform_api()["spec"]["template"]["metadata"]["annotations"][
        annotation
    ]
    behaviour = {"platform-api": {**json.loads(healthy)["platform-api"], **program}}
    annotations = {annotation: json.dumps(behaviour)}
    cluster.patch(
        API_DEPLOYMENT, {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    )


def _api_pods(cluster: Cluster) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = cluster.get(API_PODS, labelSelector="app=platform-api")["items"]
    return items


def _is_crash_looping(pod: dict[str, Any]) -> bool:
    statuses = pod["status"].get("containerStatuses", [])
    return any(
        one.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
        for one in statuses
    )
