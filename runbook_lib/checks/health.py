"""Judges of the health check: ten independent points, asked side by side.

Each says whether one part of the platform works now, and which runbook to open if it does not.
Why a part is broken is that runbook's business. Judges of nodes' figures are in `health_nodes`, and
the points outside Kubernetes in `health_outside`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from runbook_lib.checks.health_nodes import disk_space, nodes_ready, resource_pressure
from runbook_lib.checks.health_outside import alerts_quiet, database_reachable, endpoints_answer
from runbook_lib.checks.health_pods import (
    CRASH,
    ENDPOINTS,
    IMAGE,
    LEFT_OVER,
    NODES,
    RESOURCES,
    RUNBOOK_OF_APP,
    SHOWN,
    Trouble,
    span,
    trouble,
)
from runbook_lib.checks.nodes_common import moment
from runbook_lib.core import check
from runbook_lib.model import Finding, Status, fail, ok, unknown, warn
from runbook_lib.sources import kubernetes, services
from runbook_lib.sources.workloads import statuses, workload

__all__ = [
    "alerts_quiet",
    "cluster_reachable",
    "critical_services",
    "database_reachable",
    "disk_space",
    "endpoints_answer",
    "events_quiet",
    "nodes_ready",
    "pods_healthy",
    "resource_pressure",
]

SERVICES = "critical-service-down"
HINTS = {
    CRASH: "runbook run crashloopbackoff reads the previous log. A restart would only hide it.",
    IMAGE: "The event called Failed names the reason; BackOff only says that it waits.",
    NODES: "Its node is the likelier cause: runbook run nodes-not-ready.",
    RESOURCES: "Compare its requests with what each node has free, before you add nodes.",
}


@check("cluster-unreachable", probe=kubernetes.reachable)
def cluster_reachable(server: dict[str, Any]) -> Finding:
    """The cluster's API server answers and calls itself ready.

    Without it the points that ask Kubernetes are UNKNOWN; the others are judged all the same.
    """
    evidence = {"host": server["host"], "version": server["version"]}
    if server["ready"].strip() == "ok":
        summary = f"{server['host']} answers and is ready (version {server['version']})."
        return ok("cluster", summary, evidence=evidence)
    return fail(
        "cluster",
        f"{server['host']} answers, but is not ready: {server['ready'].strip()[:200]}",
        hint="The control plane is AWS's: look at its health issues with aws eks describe-cluster.",
        evidence=evidence,
        runbook="eks-cluster-unreachable",
    )


def _pod_rows(pods: list[dict[str, Any]], now: datetime, patience_minutes: int = 5) -> list[dict]:
    """Pods in trouble; the healthy ones are only counted."""
    found = _troubled(pods, now, patience_minutes)
    return [
        {
            "pod": f"{p['metadata']['namespace']}/{p['metadata']['name']}",
            "ready": f"{sum(c.get('ready', False) for c in _app(p))}/{len(_app(p))}",
            "state": t.word,
            "restarts": sum(c.get("restartCount", 0) for c in statuses(p)),
            "node": p.get("spec", {}).get("nodeName"),
        }
        for p, t in sorted(found, key=lambda one: one[1].status is not Status.FAIL)
    ]


def _app(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return list(pod.get("status", {}).get("containerStatuses", []))


def _troubled(
    pods: list[dict[str, Any]], now: datetime, patience_minutes: int
) -> list[tuple[dict[str, Any], Trouble]]:
    patience = timedelta(minutes=patience_minutes)
    return [(pod, found) for pod in pods if (found := trouble(pod, now, patience))]


@check("pods-not-healthy", probe=kubernetes.pods, explains=(SERVICES, ENDPOINTS), rows=_pod_rows)
def pods_healthy(
    pods: list[dict[str, Any]], now: datetime, patience_minutes: int = 5
) -> Iterable[Finding]:
    """Every pod is ready, or finished.

    Read from container statuses: `Running` may be 0/1, and restarts of last month hurt nobody.
    """
    if not pods:
        return [
            unknown(
                "pods",
                "The cluster has no pod at all, as far as this identity sees: nothing was judged.",
                hint="A working cluster runs its own pods too. Is it the right cluster?",
            )
        ]
    found = _troubled(pods, now, patience_minutes)
    if not found:
        return [ok("pods", _calm(pods), evidence={"pods": len(pods)})]
    groups: dict[tuple[str, str, Status], list[tuple[dict[str, Any], Trouble]]] = defaultdict(list)
    for pod, ill in found:
        groups[workload(pod), ill.word, ill.status].append((pod, ill))
    return [_sick(*key, group) for key, group in groups.items()]


def _calm(pods: list[dict[str, Any]]) -> str:
    phases = [p.get("status", {}).get("phase") for p in pods]
    restarted = sum(any(c.get("restartCount") for c in statuses(p)) for p in pods)
    parts = [f"{phases.count('Running')} pods run and are ready"]
    if done := phases.count("Succeeded"):
        parts.append(f"{done} finished")
    if old := phases.count("Failed"):
        parts.append(f"{old} left over, failed more than {span(LEFT_OVER)} ago")
    if waiting := phases.count("Pending"):
        parts.append(f"{waiting} starting")
    if restarted:
        parts.append(f"{restarted} restarted earlier and run since")
    return "; ".join(parts) + "."


def _sick(
    whose: str, word: str, status: Status, group: list[tuple[dict[str, Any], Trouble]]
) -> Finding:
    """One finding for all pods of one owner that suffer from the same."""
    pod, ill = group[0]
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    alone = len(group) == 1
    subject = f"Pod {name}" if alone else f"{len(group)} pods of {whose.split('/')[-1]}, as {name}"
    hint = f"`kubectl describe pod {name} -n {namespace}`, the events at its end first."
    if ill.runbook == CRASH:
        hint = "runbook run crashloopbackoff reads the previous log; a restart would only hide it."
    elif ill.runbook == "nodes-not-ready":
        hint = "Its node is the likelier cause: runbook run nodes-not-ready."
    return Finding(
        status=status,
        about=f"pod/{namespace}/{name}" if alone else whose,
        summary=f"{subject} ({namespace}): {ill.clause}.",
        hint=hint,
        evidence={"owner": whose, "pods": [p["metadata"]["name"] for p, _ in group[:SHOWN]],
                  "node": pod.get("spec", {}).get("nodeName", "")},
        since=min((t.since for _, t in group if t.since), default=None),
        command=f"kubectl describe pod {name} -n {namespace}",
        runbook=ill.runbook,
    )  # fmt: skip


def _service_rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = [
        {
            "service": one["name"],
            "exists": one["exists"],
            "ready": len(one["ready"]),
            "not ready": len(one["not_ready"]),
        }
        for one in found
    ]
    return sorted(rows, key=lambda row: (row["ready"] > 0, row["not ready"] == 0))


@check(SERVICES, probe=services.critical, rows=_service_rows)
def critical_services(found: list[dict[str, Any]]) -> Iterator[Finding]:
    """Every critical service has ready endpoints.

    A Service that exists may have nothing behind it; then every request to it fails.
    """
    for one in found:
        yield _service(one)


def _service(one: dict[str, Any]) -> Finding:
    about = f"service/{one['namespace']}/{one['name']}"
    ready, waiting = one["ready"], one["not_ready"]
    evidence = {"selector": one["selector"], "ready": ready, "not ready": waiting}
    if ready and one["exists"]:
        beside = f", {len(waiting)} not ready" if waiting else ""
        return ok(about, f"{one['name']} has {len(ready)} ready endpoints{beside}.")
    selector = ",".join(f"{k}={v}" for k, v in one["selector"].items())
    if not one["exists"]:
        summary = f"Service {one['name']} does not exist in {one['namespace']}."
        hint = "Was it renamed or deleted? Look at the last release before you create it by hand."
    elif waiting:
        summary = f"{one['name']} has no ready endpoint: none of its {len(waiting)} pods is ready."
        hint = f"Look at the pods first: kubectl get pods -n {one['namespace']} -l {selector}"
    else:
        summary = f"{one['name']} has no endpoint: no pod fits its selector ({selector or 'none'})."
        hint = "Compare the selector with the pods' labels, and the replicas with what is wanted."
    return fail(
        about,
        summary,
        hint=hint,
        evidence=evidence,
        runbook=RUNBOOK_OF_APP.get(one["name"], CRASH if waiting else ""),
    )


def _recent(events: list[dict[str, Any]], now: datetime, minutes: int) -> list[dict[str, Any]]:
    oldest = now - timedelta(minutes=minutes)
    return [e for e in events if (last := moment(e["last"])) is None or last >= oldest]


def _event_rows(
    events: list[dict[str, Any]], now: datetime, since_minutes: int = 15
) -> list[dict[str, Any]]:
    """Warnings by reason and object, the latest first."""
    recent = sorted(
        _recent(events, now, since_minutes), key=lambda e: e["last"] or "", reverse=True
    )
    return [
        {
            "reason": e["reason"],
            "object": f"{e['namespace']}/{e['object']}".lstrip("/"),
            "times": e["count"],
            "last": e["last"],
            "message": e["message"][:160],
        }
        for e in recent
    ]


@check("warning-events", probe=kubernetes.warnings, rows=_event_rows)
def events_quiet(
    events: list[dict[str, Any]], now: datetime, since_minutes: int = 15
) -> Iterable[Finding]:
    """No warning events in the last minutes.

    An event says what somebody noticed, not that it still hurts: it is worth a look at most.
    """
    recent = _recent(events, now, since_minutes)
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in recent:
        groups[one["reason"]].append(one)
    if not groups:
        return [ok("events", f"No warning events in the last {since_minutes} minutes.")]
    return [_noticed(reason, group) for reason, group in groups.items()]


def _noticed(reason: str, group: list[dict[str, Any]]) -> Finding:
    latest = max(group, key=lambda e: e["last"] or "")
    objects = list(dict.fromkeys(f"{e['namespace']}/{e['object']}".lstrip("/") for e in group))
    times = sum(e["count"] for e in group)
    more = f" and {len(objects) - 1} more" if objects[1:] else ""
    return warn(
        f"event/{reason}",
        f"{reason}, {times} times on {objects[0]}{more}: {latest['message'][:200]}",
        hint="Look whether the object is still in trouble; the other points say so.",
        evidence={"objects": objects[:SHOWN], "left out": max(0, len(objects) - SHOWN)},
        since=min((t for e in group if (t := moment(e["first"]))), default=None),
    )
