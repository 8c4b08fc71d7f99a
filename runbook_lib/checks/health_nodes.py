"""Judges of the health check's three points about nodes: readiness, usage, disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from runbook_lib.checks.health_pods import NODES, RESOURCES, span
from runbook_lib.checks.nodes_common import condition, moment, quantity
from runbook_lib.core import check
from runbook_lib.model import Finding, Status, fail, ok, unknown, warn
from runbook_lib.sources import kubernetes

PRESSURES = ("DiskPressure", "MemoryPressure", "PIDPressure", "NetworkUnavailable")
# Past this the kubelet evicts: by default with a tenth of the disk or 100 MiB of memory left.
CRITICAL_PERCENT = 95
STALE = timedelta(minutes=5)


def _node_rows(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = [
        {
            "node": one["metadata"]["name"],
            "ready": condition(one, "Ready").get("status", "not reported"),
            "pressure": ", ".join(_pressures(one)),
            "cordoned": bool(one.get("spec", {}).get("unschedulable")),
        }
        for one in nodes
    ]
    return sorted(rows, key=lambda row: row["ready"] == "True" and not row["pressure"])


def _pressures(node: dict[str, Any]) -> list[str]:
    return [kind for kind in PRESSURES if condition(node, kind).get("status") == "True"]


@check("nodes-not-ready", probe=kubernetes.nodes, rows=_node_rows)
def nodes_ready(nodes: list[dict[str, Any]], now: datetime) -> Iterable[Finding]:
    """Every node is ready and none is under pressure.

    Not ready by the kubelet's word, and silent so that nobody knows, are different causes.
    """
    if not nodes:
        return [
            fail(
                "nodes",
                "The cluster has no node at all.",
                runbook=NODES,
                hint="See the node group's size and health: aws eks describe-nodegroup.",
            )
        ]
    found = [finding for one in nodes if (finding := _node(one, now))]
    broken = sum(one.status is Status.FAIL for one in found)
    if broken:
        return found
    calm = ok("nodes", f"All {len(nodes)} nodes are ready, none under pressure.")
    return [calm, *found]


def _node(node: dict[str, Any], now: datetime) -> Finding | None:
    name = node["metadata"]["name"]
    ready, pressures = condition(node, "Ready"), _pressures(node)
    troubles, since = [], []
    if ready.get("status") != "True":
        troubles.append(_unready(ready))
        since.append(moment(ready.get("lastTransitionTime")))
    for kind in pressures:
        said = condition(node, kind)
        troubles.append(f"has {kind} ({said.get('message') or said.get('reason', '')})")
        since.append(moment(said.get("lastTransitionTime")))
    about, command = f"node/{name}", f"kubectl describe node {name}"
    if troubles:
        begun = min((t for t in since if t), default=None)
        held = f", for {span(now - begun)}" if begun else ""
        return fail(
            about,
            f"Node {name} {' and '.join(troubles)}{held}.",
            hint="runbook run nodes-not-ready tells the cause; do not drain it by force.",
            evidence={"Ready": ready.get("status", "not reported"), "pressure": pressures},
            since=begun,
            command=command,
            runbook=NODES,
        )
    if node.get("spec", {}).get("unschedulable"):
        return warn(
            about,
            f"Node {name} is ready but cordoned: it takes no new pods.",
            hint=f"If nobody works on it: kubectl uncordon {name}",
            command=command,
        )
    return None


def _unready(ready: dict[str, Any]) -> str:
    said = ready.get("message") or ready.get("reason") or "no reason given"
    if ready.get("status") == "False":
        return f"is not ready by its kubelet's word ({said})"
    if ready.get("status") == "Unknown":
        return f"has gone silent ({said})"
    return "has never reported whether it is ready"


def _usage_rows(nodes: list[dict[str, Any]], metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    used = {one["name"]: one for one in metrics}
    rows = [
        {"node": name, **_percents(one, used[name])}
        for one in nodes
        if (name := one["metadata"]["name"]) in used
    ]
    return sorted(rows, key=lambda row: -max(row["CPU %"], row["memory %"]))


def _percents(node: dict[str, Any], used: dict[str, Any]) -> dict[str, float]:
    """Usage in percent of what pods may have on the node."""
    whole = node["status"]["allocatable"]
    return {
        "CPU %": round(100 * quantity(used["cpu"]) / quantity(whole["cpu"]), 1),
        "memory %": round(100 * quantity(used["memory"]) / quantity(whole["memory"]), 1),
    }


@check(
    "node-resource-pressure", probe=(kubernetes.nodes, kubernetes.node_metrics), rows=_usage_rows
)
def resource_pressure(
    nodes: list[dict[str, Any]],
    metrics: list[dict[str, Any]],
    now: datetime,
    cpu_percent: float = 80,
    memory_percent: float = 85,
) -> Iterator[Finding]:
    """Every node has CPU and memory to spare.

    Percentages are of allocatable. A node without figures, or with old ones, is UNKNOWN.
    """
    used = {one["name"]: one for one in metrics}
    calm = 0
    for node in nodes:
        found = _usage(node, used.get(node["metadata"]["name"]), now, cpu_percent, memory_percent)
        calm += found is None
        if found:
            yield found
    if calm:
        yield ok(
            "nodes",
            f"{calm} of {len(nodes)} nodes are below {cpu_percent:g} % CPU and "
            f"{memory_percent:g} % memory.",
        )


def _usage(
    node: dict[str, Any], used: dict[str, Any] | None, now: datetime, cpu: float, memory: float
) -> Finding | None:
    name = node["metadata"]["name"]
    about = f"node/{name}"
    if used is None:
        return unknown(
            about,
            f"The metrics API has no figures for node {name}.",
            hint="Is its kubelet up? kubectl logs -n kube-system deploy/metrics-server",
        )
    sampled = moment(used.get("timestamp"))
    if sampled is None:
        return unknown(
            about,
            f"The figures for node {name} do not say when they were taken.",
            hint="Look at metrics-server before you trust any of them.",
        )
    if now - sampled > STALE:
        return unknown(
            about,
            f"The figures for node {name} are {span(now - sampled)} old.",
            hint="Look at metrics-server before you trust any of them.",
        )
    percent = _percents(node, used)
    high = [f"{percent['CPU %']:.0f} % of its CPU"] if percent["CPU %"] > cpu else []
    if percent["memory %"] > memory:
        high.append(f"{percent['memory %']:.0f} % of its memory")
    if not high:
        return None
    critical = percent["memory %"] >= CRITICAL_PERCENT
    return Finding(
        status=Status.FAIL if critical else Status.WARN,
        about=about,
        summary=f"Node {name} uses {' and '.join(high)} (limits {cpu:g} % and {memory:g} %).",
        hint="Near the end of its memory the kubelet evicts pods: find the largest users first."
        if critical
        else "Find the largest users: kubectl top pods -A --sort-by=cpu (or memory).",
        evidence=percent,
        runbook=NODES if critical else RESOURCES,
    )


def _disk_rows(stats: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = [
        {
            "node": one["node"],
            **{f"{name} %": full for name, full in _filled(one).items()},
            "unreadable": one.get("error", ""),
        }
        for one in stats
    ]
    return sorted(rows, key=lambda row: -max(row["disk %"] or 101, row["image disk %"] or 0))


def _filled(one: dict[str, Any]) -> dict[str, float | None]:
    """How full the node's own and its images' filesystem are, in percent; None if unreadable."""
    summary = one.get("summary") or {}
    images = (summary.get("runtime") or {}).get("imageFs")
    return {"disk": _percent(summary.get("fs")), "image disk": _percent(images)}


def _percent(filesystem: dict[str, Any] | None) -> float | None:
    """What is not free: the kubelet evicts by free space, of which used bytes leave out some."""
    if not filesystem or not filesystem.get("capacityBytes"):
        return None
    free = filesystem.get("availableBytes")
    return None if free is None else round(100 * (1 - free / filesystem["capacityBytes"]), 1)


@check("node-disk-space", probe=kubernetes.node_stats, rows=_disk_rows)
def disk_space(stats: list[dict[str, Any]], disk_percent: float = 85) -> Iterator[Finding]:
    """Every node has disk space left.

    As each kubelet reports it. A node whose figures cannot be read is UNKNOWN, never healthy.
    """
    calm = 0
    for one in stats:
        found = _disk(one, disk_percent)
        calm += not found
        yield from found
    if calm:
        yield ok(
            "nodes",
            f"{calm} of {len(stats)} nodes have less than {disk_percent:g} % of their disk used.",
        )


def _disk(one: dict[str, Any], disk_percent: float) -> list[Finding]:
    """What is wrong with this node's filesystems, and which of the two cannot be read."""
    name, filled = one["node"], _filled(one)
    about = f"node/{name}"
    command = f'kubectl get --raw "/api/v1/nodes/{name}/proxy/stats/summary"'
    found = []
    if blind := [kind for kind, value in filled.items() if value is None]:
        why = one.get("error") or "its kubelet reports no size of it."
        found.append(
            unknown(
                about,
                f"The {' and the '.join(blind)} of node {name} cannot be read: {why}",
                hint="See it on the node by Session Manager: df -h.",
                command=command,
            )
        )
    full = {kind: value for kind, value in filled.items() if (value or 0) > disk_percent}
    if not full:
        return found
    worst = max(value or 0 for value in full.values())
    shown = " and ".join(f"{value:.0f} % of its {kind}" for kind, value in full.items())
    bad = Finding(
        status=Status.FAIL if worst >= CRITICAL_PERCENT else Status.WARN,
        about=about,
        summary=f"Node {name} has used {shown} (limit {disk_percent:g} %).",
        hint="Unused images go first: crictl rmi --prune on the node (containerd, not Docker).",
        evidence=filled,
        command=command,
        runbook=NODES,
    )
    return [bad, *found]
