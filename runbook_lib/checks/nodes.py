"""Judges of *Nodes not ready*: what the nodes, their kubelets and EC2 say of themselves."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from runbook_lib.checks.nodes_common import (
    Node,
    about,
    absent,
    age,
    condition,
    describe,
    grouped,
    hour,
    is_pressed,
    moment,
    name_of,
    pick,
    some,
)
from runbook_lib.core import check
from runbook_lib.model import Finding, fail, ok, unknown
from runbook_lib.sources import kubernetes
from runbook_lib.sources.nodes import PRESSURES, status_of

TROUBLES = (*PRESSURES, "NetworkUnavailable")
NETWORK_WORDS = re.compile(r"NetworkPluginNotReady|cni\b|network plugin", re.IGNORECASE)
NEW_NODE = timedelta(minutes=10)
HEARTBEAT_SECONDS = 40  # the Lease's own duration; after about as long the node turns Unknown
# What the kubelet says, and what helps. Source: the kubelet's runtime state and node status.
KUBELET_REASONS = (
    (
        "PLEG is not healthy",
        "The container runtime answers too slowly: look at the node's disk and "
        "CPU, then restart containerd, or replace the node.",
    ),
    (
        "container runtime is down",
        "On the node: systemctl status containerd; journalctl -u "
        "containerd -n 100. A full disk stops it too.",
    ),
    ("shutting down", "The machine is going down on purpose: is it a spot or scale-in event?"),
    ("CSINode", "The storage driver has not registered: look at the ebs-csi-node pod there."),
)


def node_rows(nodes: list[Node], node: str = "") -> list[dict[str, Any]]:
    """Every node with its conditions, those in trouble first."""
    picked = sorted(pick(nodes, node), key=lambda one: not _complaints(one))
    return [
        {
            "node": name_of(one),
            "Ready": status_of(one, "Ready") or "not reported",
            "Ready since": condition(one, "Ready").get("lastTransitionTime"),
            "reason": condition(one, "Ready").get("reason"),
            "pressures": ", ".join(kind for kind in TROUBLES if is_pressed(one, kind)) or "none",
            "taints": ", ".join(t["key"] for t in one["spec"].get("taints") or []) or "none",
            "type": _label(one, "node.kubernetes.io/instance-type"),
            "zone": _label(one, "topology.kubernetes.io/zone"),
            "kubelet": one["status"].get("nodeInfo", {}).get("kubeletVersion"),
            "created": one["metadata"].get("creationTimestamp"),
        }
        for one in picked
    ]


def _label(node: Node, key: str) -> str | None:
    return (node["metadata"].get("labels") or {}).get(key)


def _complaints(node: Node) -> list[dict[str, Any]]:
    """The conditions that hurt: Ready other than True, or a trouble that is True."""
    ready = condition(node, "Ready") or {"type": "Ready", "status": "not reported"}
    troubles = [condition(node, kind) for kind in TROUBLES if is_pressed(node, kind)]
    return ([] if ready["status"] == "True" else [ready]) + troubles


@check("node-conditions", probe=kubernetes.nodes, symptom=True, rows=node_rows)
def conditions(
    nodes: list[Node], now: datetime, node: str = "", recent_minutes: float = 60
) -> list[Finding]:
    """Every node is Ready and reports no pressure.

    The Ready condition is the symptom that pages: False comes from the kubelet, Unknown from the
    control plane that no longer hears it. The other checks say why.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    ill = [_hurts(one) for one in picked if _complaints(one)]
    mended = [f for one in picked if (f := _mended(one, now, recent_minutes))]
    if ill or mended:
        return grouped(ill, "nodes are not Ready or under pressure") + grouped(
            mended, "nodes were in trouble and are not now"
        )
    return [ok("nodes", f"{len(picked)} of {len(picked)} nodes are Ready, under no pressure.")]


def _hurts(node: Node) -> Finding:
    complaints = _complaints(node)
    first = complaints[0]
    said = f"Ready is {first['status']}" if first["type"] == "Ready" else f"it has {first['type']}"
    since = moment(first.get("lastTransitionTime"))
    more = "".join(f", and {other['type']}" for other in complaints[1:])
    return fail(
        about(node),
        f"{name_of(node)} is in trouble: {said}{more} since {hour(since)}"
        f" ({first.get('reason', 'no reason given')}: {first.get('message', '')}).",
        hint="A symptom: the other checks say why.",
        since=since,
        evidence={one["type"]: f"{one['status']} {one.get('reason', '')}" for one in complaints},
        command=describe(node),
    )


def _mended(node: Node, now: datetime, recent_minutes: float) -> Finding | None:
    """A condition that turned good lately, on a node that is fine now and is not simply new."""
    created = moment(node["metadata"].get("creationTimestamp"))
    turned = {
        kind: moment(condition(node, kind).get("lastTransitionTime"))
        for kind in ("Ready", *PRESSURES)
    }
    lately = {
        kind: time
        for kind, time in turned.items()
        if time
        and now - time <= timedelta(minutes=recent_minutes)
        and (created is None or time - created > NEW_NODE)
    }
    if _complaints(node) or not lately:
        return None
    kind, time = max(lately.items(), key=lambda item: item[1])
    was = "was not Ready" if kind == "Ready" else f"had {kind}"
    return ok(
        about(node),
        f"{name_of(node)} {was} until {hour(time)} and is fine now.",
        recovered=True,
        hint="Look at what ended it before closing: a restart, an eviction, or chance.",
        evidence={"condition": kind, "turned": str(time)},
    )


@check(
    "node-kubelet-not-ready",
    probe=kubernetes.nodes,
    explains=("node-cni-not-running", "node-flapping"),
)
def kubelet_not_ready(nodes: list[Node], node: str = "") -> list[Finding]:
    """No kubelet reports that its node cannot run pods.

    Ready=False is the kubelet's own word, with its reason. A missing pod network has a check of
    its own.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    found = [_not_ready(one) for one in picked if _is_false(one) and not lacks_network(one)]
    return grouped(found, "kubelets report their node not ready") or [
        ok("nodes", "No kubelet reports its node not ready.")
    ]


def _is_false(node: Node) -> bool:
    return status_of(node, "Ready") == "False"


def lacks_network(node: Node) -> bool:
    """Whether the kubelet waits for its network plugin."""
    message = condition(node, "Ready").get("message", "")
    return _is_false(node) and bool(NETWORK_WORDS.search(message))


def _not_ready(node: Node) -> Finding:
    ready = condition(node, "Ready")
    said = f"{ready.get('reason', '')}: {ready.get('message', '')}"
    advice = next((hint for words, hint in KUBELET_REASONS if words in said), "")
    since = moment(ready.get("lastTransitionTime"))
    return fail(
        about(node),
        f"The kubelet of {name_of(node)} reports its node not ready since {hour(since)}: {said}.",
        hint=advice or "Read the kubelet's log below, then cordon, drain and replace the node.",
        since=since,
        evidence={"reason": ready.get("reason"), "message": ready.get("message")},
        command=describe(node),
    )


@check("node-network-not-ready", probe=kubernetes.nodes, explains=("node-flapping",))
def no_network(nodes: list[Node], node: str = "") -> list[Finding]:
    """Every node has its pod network.

    Either the node has NetworkUnavailable, or the kubelet says that its network plugin is not
    ready. The plugin on EKS is the DaemonSet aws-node.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    found = [
        _no_network(one)
        for one in picked
        if is_pressed(one, "NetworkUnavailable") or lacks_network(one)
    ]
    return grouped(found, "nodes have no pod network") or [
        ok("nodes", "No node reports that its network is unavailable.")
    ]


def _no_network(node: Node) -> Finding:
    kind = "NetworkUnavailable" if is_pressed(node, "NetworkUnavailable") else "Ready"
    reported = condition(node, kind)
    since = moment(reported.get("lastTransitionTime"))
    return fail(
        about(node),
        f"{name_of(node)} has no pod network since {hour(since)}: {reported.get('reason', '')}: "
        f"{reported.get('message', '')}.",
        hint="Look at aws-node on this node first; restarting it everywhere hides the reason.",
        since=since,
        evidence={"condition": f"{kind}={reported.get('status')}"},
        command=describe(node),
    )


@check(
    "node-heartbeat-lost",
    probe=kubernetes.nodes,
    explains=("node-lease-stale", "node-cni-not-running", "node-flapping"),
)
def heartbeat_lost(nodes: list[Node], node: str = "") -> list[Finding]:
    """The control plane hears every kubelet.

    Ready=Unknown: the kubelet stopped, the machine died, or the path to the API server is cut.
    Pods there may still run, unseen.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    found = [_lost(one) for one in picked if status_of(one, "Ready") in ("Unknown", "")]
    if len(found) == len(picked) > 1:
        found = [
            f.model_copy(
                update={
                    "hint": "All at once: suspect the API endpoint or the "
                    "network between, not the nodes. Do not replace them."
                }
            )
            for f in found
        ]
    return grouped(found, "nodes have lost their heartbeat") or [
        ok("nodes", f"The control plane hears all {len(picked)} kubelets.")
    ]


def _lost(node: Node) -> Finding:
    ready = condition(node, "Ready")
    since = moment(ready.get("lastTransitionTime"))
    said = ready.get("message") or "the node has reported no status yet"
    return fail(
        about(node),
        f"The control plane has not heard {name_of(node)} since {hour(since)}: Ready is Unknown "
        f"({said.rstrip('.')}).",
        hint="See EC2's status checks below. Do not force-delete its pods: if the machine runs, "
        "a StatefulSet pod would run twice.",
        since=since,
        evidence={"lastHeartbeatTime": ready.get("lastHeartbeatTime")},
        command=describe(node),
    )


def lease_rows(nodes: list[Node], leases: dict[str, str], node: str = "") -> list[dict[str, Any]]:
    """When each kubelet last renewed its Lease, the oldest first."""
    rows = [
        {
            "node": name_of(one),
            "Ready": status_of(one, "Ready"),
            "renewed": leases.get(name_of(one)) or None,
        }
        for one in pick(nodes, node)
    ]
    return sorted(rows, key=lambda row: row["renewed"] or "")


@check("node-lease-stale", probe=(kubernetes.nodes, kubernetes.node_leases), rows=lease_rows)
def lease_stale(
    nodes: list[Node], leases: dict[str, str], now: datetime, node: str = ""
) -> list[Finding]:
    """Every kubelet renewed its Lease within the last 40 seconds.

    The Lease is the heartbeat itself, every 10 seconds: it shows a dead kubelet before Ready
    turns Unknown, and exactly since when.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    renewed = {name: moment(text) for name, text in leases.items()}
    none = [name_of(one) for one in picked if not renewed.get(name_of(one))]
    ages = {
        name: (now - time).total_seconds()
        for one in picked
        if (name := name_of(one)) and (time := renewed.get(name))
    }
    late = {name: seconds for name, seconds in ages.items() if seconds > HEARTBEAT_SECONDS}
    all_ready = all(status_of(one, "Ready") == "True" for one in picked)
    if len(late) == len(picked) > 1 and all_ready and min(late.values()) > 5 * HEARTBEAT_SECONDS:
        return [
            unknown(
                "leases",
                f"Every Lease looks at least {age(min(late.values()))} old, yet "
                "every node is Ready: this machine's clock is probably ahead.",
                hint="Compare `date -u` here with a pod's.",
            )
        ]
    missing = (
        [
            unknown(
                "leases",
                f"There is no Lease of {some(none)}, so its heartbeat cannot be seen.",
                hint="A node that just joined has none yet; ask again in a minute.",
            )
        ]
        if none
        else []
    )
    if ahead := [name for name, seconds in ages.items() if seconds < -HEARTBEAT_SECONDS]:
        missing.append(
            unknown(
                "leases",
                f"The Lease of {some(ahead)} lies {age(-min(ages.values()))} in the future: "
                "this machine's clock is behind, so no heartbeat's age can be told.",
                hint="Compare `date -u` here with a pod's.",
            )
        )
    found = [
        fail(
            f"node/{name}",
            f"The kubelet of {name} last renewed its Lease at {renewed[name]:%H:%M:%S} UTC, "
            f"{age(seconds)} ago; it should every 10 s.",
            hint="The kubelet is dead, stuck or cut off; see EC2's status checks.",
            since=renewed[name],
            command=f"kubectl get lease {name} -n kube-node-lease -o yaml",
        )
        for name, seconds in late.items()
    ]
    good = [ok("leases", f"All {len(ages)} Leases are fresh.")]
    return grouped(found, "kubelets no longer renew their Lease") + missing or good
