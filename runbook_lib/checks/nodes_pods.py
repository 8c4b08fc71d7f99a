"""Judges of *Nodes not ready*: nodes that are Ready and yet take no pods, and who waits."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from runbook_lib.checks.nodes_common import (
    Node,
    about,
    absent,
    age,
    condition,
    counted,
    describe,
    grouped,
    moment,
    name_of,
    no_pods,
    pick,
    placed,
    pod_name,
    some,
)
from runbook_lib.core import check
from runbook_lib.model import Finding, fail, ok, unknown, warn
from runbook_lib.sources import kubernetes

Pod = dict[str, Any]
MANAGED = "node.kubernetes.io/"  # taints that follow the node's conditions by themselves
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"  # set by hand; mirrors no condition
CORDON = "node.kubernetes.io/unschedulable"
REMOVAL = ("ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted", "karpenter.sh/disruption")
STARTUP = ("/uninitialized", "/agent-not-ready")
STARTUP_TIME = timedelta(minutes=10)


def unschedulable(pods: list[Pod]) -> list[tuple[Pod, dict[str, Any]]]:
    """Pods for which the scheduler found no node, with the condition that says why."""
    found = [(pod, condition(pod, "PodScheduled")) for pod in pods]
    return [
        (pod, said)
        for pod, said in found
        if said.get("status") == "False" and said.get("reason") == "Unschedulable"
    ]


def _blocked_by(pods: list[Pod], *words: str) -> list[str]:
    """Names of the waiting pods whose scheduler message has one of these words."""
    return [
        pod_name(pod)
        for pod, said in unschedulable(pods)
        if any(word in said.get("message", "") for word in words)
    ]


def _keeps(waiting: list[str]) -> str:
    return f"keeps {counted(len(waiting), 'pod')} waiting: {some(waiting)}"


def pending_rows(pods: list[Pod]) -> list[dict[str, Any]]:
    """Pods that wait for a node, the longest first."""
    rows = [
        {
            "pod": pod_name(pod),
            "since": said.get("lastTransitionTime"),
            "scheduler": said.get("message"),
        }
        for pod, said in unschedulable(pods)
    ]
    return sorted(rows, key=lambda row: row["since"] or "")


@check("pods-pending", probe=kubernetes.pods, symptom=True, rows=pending_rows)
def pending(pods: list[Pod], now: datetime, pending_seconds: float = 60) -> Finding:
    """No pod waits for a node.

    What users feel when nodes are lost. The scheduler's own words say which nodes refuse it.
    """
    if not pods:
        return no_pods("one that waits for a node")
    waiting = {
        pod_name(pod): (since, said.get("message", ""))
        for pod, said in unschedulable(pods)
        if (since := moment(said.get("lastTransitionTime")))
        and now - since >= timedelta(seconds=pending_seconds)
    }
    if not waiting:
        return ok("pods", "No pod waits for a node.")
    first = min(since for since, _ in waiting.values())
    message = next(iter(waiting.values()))[1]
    return fail(
        f"pod/{next(iter(waiting))}" if len(waiting) == 1 else f"pods ({len(waiting)})",
        f"No node takes {counted(len(waiting), 'pod')}, for up to "
        f"{age((now - first).total_seconds())}: {some(waiting)}. The scheduler says: {message}",
        hint="If no check here finds a cause, look at requests, affinity, volumes and quotas, and "
        "at the cluster autoscaler.",
        since=first,
        command="kubectl get pods -A --field-selector status.phase=Pending",
    )


@check("pods-evicted", probe=(kubernetes.nodes, kubernetes.pods), symptom=True)
def evicted(
    nodes: list[Node], pods: list[Pod], now: datetime, node: str = "", recent_minutes: float = 60
) -> Finding:
    """No pod was evicted by its kubelet lately.

    An evicted pod stays listed as Failed with what the node was short of.
    """
    picked = {name_of(one) for one in pick(nodes, node)}
    if not picked:
        return absent(node)
    if not pods:
        return no_pods("an evicted one")
    lately: dict[str, tuple[datetime, str]] = {}
    timeless: list[str] = []
    for pod in pods:
        status = pod.get("status", {})
        if status.get("reason") != "Evicted" or pod["spec"].get("nodeName") not in picked:
            continue
        time = _evicted_at(pod)
        if time is None:
            timeless.append(pod_name(pod))
        elif now - time <= timedelta(minutes=recent_minutes):
            lately[pod_name(pod)] = (time, status.get("message", ""))
    if not lately and timeless:
        return unknown(
            f"pods ({len(timeless)})",
            f"{counted(len(timeless), 'pod')} evicted, and nothing says when: {some(timeless)}.",
            hint="kubectl get events -A --field-selector reason=Evicted; delete the records of "
            "pods that failed long ago.",
        )
    if not lately:
        return ok("pods", f"No pod was evicted within the last {recent_minutes:g} min.")
    message = next(iter(lately.values()))[1]
    return fail(
        f"pods ({len(lately)})",
        f"{counted(len(lately), 'pod')} evicted within {recent_minutes:g} min: {some(lately)}. "
        f"The kubelet said: {message}",
        hint="Their controllers start them elsewhere, where there is room.",
        since=min(time for time, _ in lately.values()),
        command="kubectl get pods -A --field-selector status.phase=Failed",
    )


def _evicted_at(pod: Pod) -> datetime | None:
    """By its condition; a kubelet that writes none leaves the pod's start, the earliest time."""
    told = condition(pod, "DisruptionTarget").get("lastTransitionTime")
    return moment(told or pod.get("status", {}).get("startTime"))


@check("node-cordoned", probe=(kubernetes.nodes, kubernetes.pods), explains=("pods-pending",))
def cordoned(nodes: list[Node], pods: list[Pod], node: str = "") -> list[Finding]:
    """No node is cordoned.

    Somebody, or a drain that stopped half-way, told the scheduler to leave the node alone. It is
    a cause once pods wait for want of it.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    waiting = _blocked_by(pods, "were unschedulable", CORDON)
    found = [
        (fail if waiting else warn)(
            about(one),
            f"{name_of(one)} is cordoned"
            + (f", and {_keeps(waiting)}." if waiting else "; it takes no new pods."),
            hint=f"Ask who cordoned it and why; then kubectl uncordon {name_of(one)}. Not while "
            "it is being drained.",
            since=next(
                (
                    moment(taint.get("timeAdded"))
                    for taint in _taints(one)
                    if taint["key"] == CORDON
                ),
                None,
            ),
            command=describe(one),
        )
        for one in picked
        if one["spec"].get("unschedulable")
    ]
    return grouped(found, "nodes are cordoned") or [ok("nodes", "No node is cordoned.")]


def _taints(node: Node) -> list[dict[str, Any]]:
    return node["spec"].get("taints") or []


@check("node-tainted", probe=(kubernetes.nodes, kubernetes.pods), explains=("pods-pending",))
def tainted(nodes: list[Node], pods: list[Pod], now: datetime, node: str = "") -> list[Finding]:
    """No taint keeps pods off a node that they should run on.

    A taint for a purpose (GPUs, a team) is as it should be until a pod waits because of it. Taints
    of a node's start should be gone ten minutes later. Those that mirror a condition are not
    judged: the condition is.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    found = [
        finding
        for one in picked
        for taint in _taints(one)
        if taint.get("effect") != "PreferNoSchedule"
        and (taint["key"] == OUT_OF_SERVICE or not taint["key"].startswith(MANAGED))
        if (finding := _taint(one, taint["key"], pods, now))
    ]
    return grouped(found, "taints keep pods off nodes") or [
        ok("nodes", "No taint keeps a waiting pod off a node.")
    ]


def _taint(node: Node, key: str, pods: list[Pod], now: datetime) -> Finding | None:
    name, created = name_of(node), moment(node["metadata"].get("creationTimestamp"))
    if key in REMOVAL:
        return warn(
            about(node),
            f"{name} is being removed by the autoscaler (taint {key}).",
            hint="That is on purpose: leave it.",
            command=describe(node),
        )
    if key.endswith(STARTUP):
        if created and now - created < STARTUP_TIME:
            return None
        return fail(
            about(node),
            f"{name} still has the taint {key} of its start, after "
            f"{age((now - created).total_seconds()) if created else 'a while'}.",
            hint="Its owner (cloud controller, CNI or CSI agent) never finished there: "
            "look at that pod. Do not just remove the taint.",
            command=describe(node),
        )
    waiting = _blocked_by(pods, f"untolerated taint {{{key}:")
    if key == OUT_OF_SERVICE:
        return (fail if waiting else warn)(
            about(node),
            f"{name} was put out of service by hand (taint {key})"
            + (f", and {_keeps(waiting)}." if waiting else ": its pods are force-deleted."),
            hint="It is meant for a machine that is surely off. Once it is back or replaced: "
            f"kubectl taint node {name} {key}-.",
            command=describe(node),
        )
    if not waiting:
        return None
    return fail(
        about(node),
        f"The taint {key} of {name} {_keeps(waiting)}.",
        hint="Add a toleration to the pods that belong there, or "
        f"remove the taint if nobody wants it: kubectl taint node {name} {key}-.",
        command=describe(node),
    )


def place_rows(nodes: list[Node], pods: list[Pod], node: str = "") -> list[dict[str, Any]]:
    """Pods on each node against what it may hold, the fullest first."""
    by_node = placed(pods)
    rows = [
        {
            "node": name_of(one),
            "pods": _count(one, by_node),
            "most": _most(one),
            "cordoned": bool(one["spec"].get("unschedulable")),
        }
        for one in pick(nodes, node)
    ]
    return sorted(rows, key=lambda row: row["pods"] - row["most"], reverse=True)


def _count(node: Node, by_node: dict[str, list[Pod]]) -> int:
    return len(by_node.get(name_of(node), []))


def _most(node: Node) -> int:
    return int(node["status"]["allocatable"]["pods"])


@check(
    "node-max-pods",
    probe=(kubernetes.nodes, kubernetes.pods),
    rows=place_rows,
    explains=("pods-pending",),
)
def max_pods(nodes: list[Node], pods: list[Pod], node: str = "") -> list[Finding]:
    """Every node may hold more pods than it does.

    On EKS the number follows from the instance type's network addresses unless prefixes are
    delegated: CPU and memory may be idle on a node that is full.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    if not pods:
        return [no_pods("a node that is full of them")]
    by_node, waiting = placed(pods), _blocked_by(pods, "Too many pods")
    found = [
        (fail if waiting else warn)(
            about(one),
            f"{name_of(one)} holds {_count(one, by_node)} of at most {_most(one)} pods"
            + (
                f", and keeps {counted(len(waiting), 'pod')} waiting: {some(waiting)}."
                if waiting
                else "."
            ),
            hint="Add a node, or turn on prefix delegation and raise max-pods for new nodes.",
            command=describe(one),
        )
        for one in picked
        if _count(one, by_node) >= _most(one)
    ]
    return grouped(found, "nodes hold as many pods as they may") or [
        ok("nodes", f"All {len(picked)} nodes may hold more pods.")
    ]
