"""Judges of *Nodes not ready*: memory and process ids of each node."""

from __future__ import annotations

from typing import Any

from runbook_lib import charts_nodes
from runbook_lib.checks.nodes_common import (
    Node,
    about,
    absent,
    condition,
    counted,
    describe,
    gib,
    grouped,
    hour,
    is_pressed,
    known,
    lacking,
    moment,
    name_of,
    pick,
    placed,
    pod_name,
    quantity,
    some,
    unreadable,
)
from runbook_lib.core import check
from runbook_lib.model import Chart, Finding, fail, ok, warn
from runbook_lib.sources import kubernetes


def memory_of(summary: dict[str, Any]) -> tuple[float, float] | None:
    """(working set, total) in bytes, or None where the kubelet does not say."""
    memory = summary.get("memory") or {}
    working, available = memory.get("workingSetBytes"), memory.get("availableBytes")
    return None if working is None or available is None else (working, working + available)


def heavy_rows(
    nodes: list[Node], stats: list[dict[str, Any]], node: str = ""
) -> list[dict[str, Any]]:
    """The heaviest pods of each node by memory, those of the fullest node first."""
    read = [(one, e) for one, e in known(nodes, stats, node) if memory_of(e["summary"])]
    read.sort(key=lambda item: -_memory_percent(item[1]))
    return [
        {
            "node": name_of(one),
            "memory %": round(_memory_percent(entry)),
            "pod": pod["pod"],
            "memory MiB": round((pod["memory_bytes"] or 0) / 2**20),
            "disk MiB": round((pod["disk_bytes"] or 0) / 2**20),
            "processes": pod["processes"],
        }
        for one, entry in read
        for pod in entry.get("pods", [])
    ]


def _memory_percent(entry: dict[str, Any]) -> float:
    working, total = memory_of(entry["summary"]) or (0.0, 1.0)
    return 100 * working / total


def memory_chart(
    nodes: list[Node], stats: list[dict[str, Any]], node: str = "", memory_percent: float = 85
) -> Chart | None:
    """Every node's memory against the limit."""
    values = {
        name_of(one): {"memory": _memory_percent(entry)}
        for one, entry in known(nodes, stats, node)
        if memory_of(entry["summary"])
    }
    return charts_nodes.fullness(values, memory_percent, "Memory")


@check(
    "node-memory-pressure",
    probe=(kubernetes.nodes, kubernetes.node_stats),
    rows=heavy_rows,
    chart=memory_chart,
    explains=("node-heartbeat-lost", "node-lease-stale", "node-kubelet-log", "node-flapping"),
)
def pressure(
    nodes: list[Node], stats: list[dict[str, Any]], node: str = "", memory_percent: float = 85
) -> list[Finding]:
    """Every node has memory to spare.

    Under MemoryPressure the kubelet evicts pods, best-effort ones first; when it is too slow, the
    kernel kills processes, and the node may stop answering.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    stats = lacking(stats, "memory figures", memory_of)
    entries = {name_of(one): entry for one, entry in known(nodes, stats, node)}
    found = [f for one in picked if (f := _memory(one, entries.get(name_of(one)), memory_percent))]
    bad = grouped(found, "nodes are short of memory") + unreadable(stats, picked, "memory figures")
    return bad or [ok("nodes", f"Memory of {len(picked)} nodes is below {memory_percent:g} %.")]


def _memory(node: Node, entry: dict[str, Any] | None, limit: float) -> Finding | None:
    name, pressed = name_of(node), is_pressed(node, "MemoryPressure")
    if not pressed and (entry is None or _memory_percent(entry) < limit):
        return None
    since = moment(condition(node, "MemoryPressure").get("lastTransitionTime"))
    report = f"the kubelet reports MemoryPressure since {hour(since)}"
    if entry is None:
        return fail(
            about(node),
            f"On {name} {report}; its figures cannot be read.",
            since=since,
            hint="free -m on the node: aws ssm start-session.",
            command=describe(node),
        )
    working, total = memory_of(entry["summary"]) or (0.0, 1.0)
    said = (
        f"{name} has {100 * working / total:.0f} % of its memory in use ({gib(working)} of "
        f"{gib(total)})"
    )
    said += f", and {report}" if pressed else f", over the limit of {limit:g} %"
    heavy = [pod for pod in entry.get("pods", []) if pod.get("memory_bytes")]
    heavy.sort(key=lambda pod: -pod["memory_bytes"])
    if heavy:
        said += f"; the heaviest pod is {heavy[0]['pod']} ({gib(heavy[0]['memory_bytes'])})"
    return (fail if pressed else warn)(
        about(node),
        f"{said}.",
        hint="Give the heaviest pod a memory limit that fits, or move it (kubectl delete pod: not "
        "one without a controller). If every pod is as it should be, the group needs more nodes.",
        since=since if pressed else None,
        evidence={"heaviest": {pod["pod"]: gib(pod["memory_bytes"]) for pod in heavy[:3]}},
        command=f"kubectl top node {name}; kubectl top pods -A --sort-by=memory | head -20",
    )


def overcommit_rows(
    nodes: list[Node], pods: list[dict[str, Any]], node: str = ""
) -> list[dict[str, Any]]:
    """What the pods of each node may take of its memory together, the most promised first."""
    by_node = placed(pods)
    rows = [
        {
            "node": name_of(one),
            "memory limits %": round(percent),
            "pods without a limit": len(unlimited),
            "for example": some(unlimited) or None,
        }
        for one in pick(nodes, node)
        for percent, unlimited in [_promised(one, by_node.get(name_of(one), []))]
    ]
    return sorted(rows, key=lambda row: -row["memory limits %"])


def _promised(node: Node, here: list[dict[str, Any]]) -> tuple[float, list[str]]:
    """Memory limits in percent of what the node can give, and the pods that have no limit."""
    total, unlimited = 0.0, []
    for pod in here:
        limits = [
            c.get("resources", {}).get("limits", {}).get("memory")
            for c in pod["spec"]["containers"]
        ]
        total += sum(quantity(limit) for limit in limits if limit)
        if not all(limits):
            unlimited.append(pod_name(pod))
    return 100 * total / quantity(node["status"]["allocatable"]["memory"]), unlimited


@check("node-memory-overcommit", probe=(kubernetes.nodes, kubernetes.pods), rows=overcommit_rows)
def overcommit(nodes: list[Node], pods: list[dict[str, Any]], node: str = "") -> list[Finding]:
    """No node under MemoryPressure has promised more memory than it has.

    Limits above what a node has are usual and harmless until the pods call them in together.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    by_node, found = placed(pods), []
    for one in picked:
        percent, unlimited = _promised(one, by_node.get(name_of(one), []))
        if is_pressed(one, "MemoryPressure") and (percent > 100 or unlimited):
            free = (
                f"; {counted(len(unlimited), 'pod')} without a limit ({some(unlimited)})"
                if unlimited
                else ""
            )
            found.append(
                warn(
                    about(one),
                    f"Memory limits on {name_of(one)} come to {percent:.0f} % of what it can "
                    f"give{free}.",
                    hint="Bring requests near real use: the scheduler goes by requests only.",
                    evidence={"without a limit": unlimited[:5]},
                    command=describe(one),
                )
            )
    return grouped(found, "nodes under pressure have promised too much memory") or [
        ok("nodes", "No node under MemoryPressure has promised more than it has.")
    ]


@check(
    "node-pid-pressure",
    probe=(kubernetes.nodes, kubernetes.node_stats),
    explains=(
        "node-kubelet-not-ready",
        "node-heartbeat-lost",
        "node-lease-stale",
        "node-kubelet-log",
        "node-flapping",
    ),
)
def pids(
    nodes: list[Node], stats: list[dict[str, Any]], node: str = "", pid_percent: float = 85
) -> list[Finding]:
    """Every node has process ids to spare.

    A fork bomb, or a process that never reaps its children, uses them up; then nothing on the
    node can start, the kubelet's own helpers included.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    stats = lacking(stats, "process counts", lambda summary: _processes(summary) is not None)
    entries = {name_of(one): entry for one, entry in known(nodes, stats, node)}
    found = [f for one in picked if (f := _pids(one, entries.get(name_of(one)), pid_percent))]
    bad = grouped(found, "nodes are short of process ids")
    bad += unreadable(stats, picked, "process counts")
    return bad or [ok("nodes", f"Process ids of {len(picked)} nodes are below {pid_percent:g} %.")]


def _processes(summary: dict[str, Any]) -> tuple[int, int] | None:
    limits = summary.get("rlimit") or {}
    most, now = limits.get("maxpid"), limits.get("curproc")
    return (now, most) if most and now is not None else None


def _pids(node: Node, entry: dict[str, Any] | None, limit: float) -> Finding | None:
    name, pressed = name_of(node), is_pressed(node, "PIDPressure")
    taken, most = (entry and _processes(entry["summary"])) or (0, 1)
    if not pressed and 100 * taken / most < limit:
        return None
    since = moment(condition(node, "PIDPressure").get("lastTransitionTime"))
    pods = sorted((entry or {}).get("pods", []), key=lambda pod: -(pod.get("processes") or 0))
    counts = {pod["pod"]: pod["processes"] for pod in pods if pod.get("processes")}
    said = f"{taken} of {most} process ids are taken on {name}" if entry else f"On {name}"
    said += f", and the kubelet reports PIDPressure since {hour(since)}" if pressed else ""
    most_of = f"; most by {next(iter(counts))} ({next(iter(counts.values()))})" if counts else ""
    return (fail if pressed else warn)(
        about(node),
        f"{said}{most_of}.",
        hint="Restart the pod with the most processes, and set podPidsLimit in the kubelet.",
        since=since if pressed else None,
        evidence={"processes": counts},
        command=describe(node),
    )
