"""What the judges of nodes share: picking nodes, reading conditions and times, and grouping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from runbook_lib.model import Finding, Status, unknown
from runbook_lib.sources.nodes import is_asked, status_of

FEW = 4
GIB = 1024**3
Node = dict[str, Any]


def pick(nodes: list[Node], node: str) -> list[Node]:
    """The nodes asked for; all of them where `node` is empty."""
    return [one for one in nodes if is_asked(one, node)]


def quantity(text: str | int | float) -> float:
    """A Kubernetes quantity ("250m", "1536Ki", "2") as a number. Raises ValueError."""
    from kubernetes.utils.quantity import parse_quantity  # the client takes 1 s to import

    return float(parse_quantity(text))


def name_of(node: Node) -> str:
    return str(node["metadata"]["name"])


def about(node: Node | str) -> str:
    return f"node/{node if isinstance(node, str) else name_of(node)}"


def absent(node: str) -> Finding:
    """There is nothing to judge: that is never healthy."""
    if not node:
        return unknown(
            "nodes",
            "The API server lists no node at all, so there is none to judge.",
            hint="Open the runbook for the cluster autoscaler.",
        )
    return unknown(
        f"node/{node}",
        f"The cluster has no node {node}: it was replaced or removed, or the name is misspelt.",
        hint="kubectl get nodes; if it was replaced, look at all nodes instead (empty parameter).",
    )


def no_pods(what: str) -> Finding:
    """A cluster has system pods at least: an empty list is no evidence that none is ill."""
    return unknown(
        "pods",
        f"The API lists no pod at all, so {what} cannot be looked for.",
        hint="May this identity list pods in every namespace? kubectl auth can-i list pods -A",
    )


def condition(node: Node, kind: str) -> dict[str, Any]:
    """The node's condition of this type, or an empty dict where it does not report it."""
    found = node.get("status", {}).get("conditions") or []
    return next((dict(c) for c in found if c["type"] == kind), {})


def is_pressed(node: Node, kind: str) -> bool:
    return status_of(node, kind) == "True"


def moment(text: str | None) -> datetime | None:
    """An RFC 3339 time, or None for an empty one."""
    return datetime.fromisoformat(text) if text else None


def hour(time: datetime | None) -> str:
    return f"{time:%H:%M} UTC" if time else "an unknown time"


def age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def gib(count: float) -> str:
    """`77 GiB`, `1.5 GiB`, `26 MiB`."""
    if count < GIB:
        return f"{count / 2**20:.0f} MiB"
    return f"{count / GIB:.0f} GiB" if count >= 10 * GIB else f"{count / GIB:.1f} GiB"


def some(names: Iterable[str], keep: int = 3) -> str:
    """The first names, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:keep]) + (f" and {len(listed) - keep} more" if listed[keep:] else "")


def counted(number: int, noun: str) -> str:
    """`1 pod`, `3 pods`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def describe(node: Node | str) -> str:
    return f"kubectl describe {about(node)}"


def grouped(found: list[Finding], what: str) -> list[Finding]:
    """One finding for each thing while they are few; beyond that, one for each status.

    what: said of many, such as "nodes have sent no heartbeat".
    """
    result: list[Finding] = []
    for status in Status:
        same = [finding for finding in found if finding.status is status]
        result += [_as_one(same, what)] if len(same) > FEW else same
    return result


def _as_one(found: list[Finding], what: str) -> Finding:
    first = found[0]
    names = [finding.about.rpartition("/")[2] for finding in found]
    return first.model_copy(
        update={
            "about": f"nodes ({len(found)}): {some(names)}",
            "summary": f"{len(found)} {what}. The first: {first.summary}",
            "evidence": {"all": names, "first": first.evidence},
            "since": min((f.since for f in found if f.since), default=None),
        }
    )


def unreadable(stats: list[dict[str, Any]], picked: list[Node], what: str) -> list[Finding]:
    """One UNKNOWN for the picked nodes whose kubelet's figures could not be read."""
    read = {one["node"]: one for one in stats}
    failed = {
        name: read[name]["error"] if name in read else "It was not asked."
        for name in map(name_of, picked)
        if name not in read or "error" in read[name]
    }
    if not failed:
        return []
    names, (reason, *_) = list(failed), failed.values()
    return [
        unknown(
            about(names[0]) if len(names) == 1 else f"nodes ({len(names)}): {some(names)}",
            f"The {what} of {some(names)} could not be read from the kubelet: {reason}",
            hint="Is the kubelet alive, and may this identity get nodes/proxy?",
            evidence={"nodes": names},
        )
    ]


def known(
    nodes: list[Node], stats: list[dict[str, Any]], node: str
) -> Iterator[tuple[Node, dict[str, Any]]]:
    """The picked nodes whose kubelet answered, each with its entry in the stats."""
    read = {one["node"]: one for one in stats if "summary" in one}
    for one in pick(nodes, node):
        if name_of(one) in read:
            yield one, read[name_of(one)]


def lacking(
    stats: list[dict[str, Any]], part: str, complete: Callable[[dict[str, Any]], Any]
) -> list[dict[str, Any]]:
    """The stats, where a summary without the part that we need counts as unreadable."""
    return [
        one
        if "error" in one or complete(one["summary"])
        else {"node": one["node"], "error": f"the summary has no {part}."}
        for one in stats
    ]


def placed(pods: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """{node name: the pods that hold a place on it}; finished pods hold none."""
    found: dict[str, list[dict[str, Any]]] = {}
    for pod in pods:
        if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            found.setdefault(pod["spec"].get("nodeName", ""), []).append(pod)
    return found


def pod_name(pod: dict[str, Any]) -> str:
    return f"{pod['metadata'].get('namespace', 'default')}/{pod['metadata']['name']}"
