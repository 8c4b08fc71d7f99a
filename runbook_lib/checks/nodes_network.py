"""Judges of *Nodes not ready*: the pod network of each node, and where its addresses come from."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from runbook_lib.checks.nodes import lacks_network
from runbook_lib.checks.nodes_common import (
    Node,
    absent,
    counted,
    grouped,
    moment,
    name_of,
    no_pods,
    pick,
    pod_name,
    some,
)
from runbook_lib.core import check
from runbook_lib.model import Finding, fail, ok, unknown, warn
from runbook_lib.sources import kubernetes
from runbook_lib.sources import nodes as source

LABEL = ("k8s-app", "aws-node")
# The pods of other network plugins' DaemonSets: NAME-7xk2p.
OTHER_PLUGIN = re.compile(
    r"(calico-node|canal|cilium|kube-flannel(-ds)?|weave-net|antrea-agent|kube-router)-[a-z0-9]{5}"
)
JOINING = timedelta(minutes=3)
SANDBOX_MINUTES = 15  # a sandbox is tried again every few seconds: older events are history
NO_ADDRESS = re.compile(
    r"failed to assign an IP address|InsufficientFreeAddresses|no available IP", re.IGNORECASE
)
PLUGIN_WORDS = re.compile(r"plugin|cni|network", re.IGNORECASE)
SANDBOXES = "nodes start no pods for want of a network"
ADDON = (
    "Was the vpc-cni add-on removed? aws eks describe-addon --addon-name vpc-cni "
    "--cluster-name CLUSTER."
)
CNI_COMMAND = "kubectl get pods -n kube-system -l k8s-app=aws-node -o wide"


def cni_rows(
    nodes: list[Node], pods: list[dict[str, Any]], _: list[dict[str, Any]], node: str = ""
) -> list[dict[str, Any]]:
    """The aws-node pod of each node, the unready first."""
    by_node = _cni_pods(pods)
    rows = [
        {
            "node": name_of(one),
            "aws-node": pod["metadata"]["name"] if pod else None,
            "ready": bool(pod) and not _why_unready(pod),
            "restarts": sum(c.get("restartCount", 0) for c in _containers(pod)) if pod else None,
            "why": _why_unready(pod) if pod else None,
        }
        for one in pick(nodes, node)
        for pod in [by_node.get(name_of(one), {})]
    ]
    return sorted(rows, key=lambda row: row["ready"])


def _cni_pods(pods: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    key, value = LABEL
    return {
        pod["spec"].get("nodeName", ""): pod
        for pod in pods
        if (pod["metadata"].get("labels") or {}).get(key) == value and _is_there(pod)
    }


def _is_there(pod: dict[str, Any]) -> bool:
    """Neither finished nor being deleted: its successor on the node is the one that counts."""
    ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not ended and not pod["metadata"].get("deletionTimestamp")


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _why_unready(pod: dict[str, Any]) -> str:
    """Why the pod is not ready; empty when it is."""
    states = pod.get("status", {}).get("containerStatuses") or []
    if states and all(state.get("ready") for state in states):
        return ""
    for one in _containers(pod):
        state = one.get("state", {})
        if waiting := state.get("waiting"):
            return f"{one['name']} waits: {waiting.get('reason', '')} {waiting.get('message', '')}"
        if (ended := state.get("terminated")) and ended.get("exitCode"):
            return f"{one['name']} ended with exit code {ended['exitCode']}"
    return f"its phase is {pod.get('status', {}).get('phase')}; a probe fails"


@check(
    "node-cni-not-running",
    probe=(kubernetes.nodes, kubernetes.pods, kubernetes.warnings),
    rows=cni_rows,
    explains=("node-network-not-ready", "pod-addresses-missing", "node-flapping"),
)
def cni(
    nodes: list[Node],
    pods: list[dict[str, Any]],
    warnings: list[dict[str, Any]],
    now: datetime,
    node: str = "",
) -> list[Finding]:
    """A ready aws-node pod runs on every node, and no new pod waits for its network.

    It is the network plugin: without it, no pod on the node gets an address, and a new node never
    turns Ready. A node that was Ready before stays so: its new pods hang in ContainerCreating.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    if not pods:
        return [no_pods("a network plugin")]
    by_node = _cni_pods(pods)
    failing = _failing_sandboxes(picked, pods, warnings, now)
    if not by_node:
        return grouped(failing, SANDBOXES) + _no_plugin(picked, pods, bool(failing))
    found = [f for one in picked if (f := _cni(one, by_node.get(name_of(one)), now))]
    told = {finding.about for finding in found}
    found += [finding for finding in failing if finding.about not in told]
    return grouped(found, "nodes have no working network plugin") or [
        ok("daemonset/kube-system/aws-node", f"aws-node is ready on all {len(picked)} nodes.")
    ]


def _no_plugin(picked: list[Node], pods: list[dict[str, Any]], failing: bool) -> list[Finding]:
    """What is known of the network where no aws-node runs."""
    thing, own = "daemonset/kube-system/aws-node", [one for one in picked if _needs_plugin(one)]
    without = [name_of(one) for one in own if lacks_network(one)]
    if without:
        return [
            fail(
                thing,
                f"No aws-node pod runs in this cluster, and {some(without)} wait for a network "
                "plugin.",
                hint=ADDON,
                command=CNI_COMMAND,
            )
        ]
    others = {
        pod["spec"].get("nodeName", ""): pod["metadata"]["name"].rpartition("-")[0]
        for pod in pods
        if OTHER_PLUGIN.fullmatch(pod["metadata"]["name"])
        and _is_there(pod)
        and not _why_unready(pod)
    }
    unserved = [name_of(one) for one in own if name_of(one) not in others]
    if unserved:
        return [
            unknown(
                thing,
                f"No aws-node pod runs in this cluster, and no ready pod of another network plugin "
                f"is seen on {some(unserved)}: a node stays Ready without one, its new pods do "
                "not start.",
                hint=ADDON,
                command=CNI_COMMAND,
            )
        ]
    if failing:
        return []
    served = ", ".join(sorted(set(others.values()))) or "the nodes' own (Auto Mode or Fargate)"
    return [ok(thing, f"No aws-node here; the network plugin is {served}.")]


def _failing_sandboxes(
    picked: list[Node], pods: list[dict[str, Any]], warnings: list[dict[str, Any]], now: datetime
) -> list[Finding]:
    """One FAIL for each node whose pending pods get no sandbox, for want other than addresses."""
    refused = {
        name: event
        for name, event in _refused(warnings, now, SANDBOX_MINUTES).items()
        if not NO_ADDRESS.search(event["message"])
    }
    return [
        fail(
            f"node/{where}",
            (
                f"On {where} the network plugin fails: "
                if PLUGIN_WORDS.search(refused[names[0]]["message"])
                else f"On {where} pods get no sandbox: "
            )
            + f"{counted(len(names), 'pod')} stuck in ContainerCreating ({some(names)}): "
            f"{_tail(refused[names[0]]['message'])}",
            hint="Is there an aws-node pod on this node, and ready? Read its log (kubectl logs -n "
            f"kube-system POD -c aws-node) before restarting it. {ADDON}",
            since=min(datetime.fromisoformat(refused[name]["first"]) for name in names),
            evidence={"event": refused[names[0]]["message"]},
            command="kubectl get events -A --field-selector reason=FailedCreatePodSandBox",
        )
        for where, names in _stuck(picked, pods, refused).items()
    ]


def _tail(message: str) -> str:
    """The end of a long message: the reason stands there."""
    return message if len(message) <= 240 else f"… {message[-240:]}"


def _refused(
    warnings: list[dict[str, Any]], now: datetime, minutes: float
) -> dict[str, dict[str, Any]]:
    """{namespace/pod: the recent event that says that it got no sandbox}."""
    return {
        event["namespace"] + "/" + event["object"].removeprefix("pod/"): event
        for event in warnings
        if event["reason"] == "FailedCreatePodSandBox"
        and datetime.fromisoformat(event["last"]) >= now - timedelta(minutes=minutes)
    }


def _stuck(
    picked: list[Node], pods: list[dict[str, Any]], refused: dict[str, dict[str, Any]]
) -> dict[str, list[str]]:
    """{picked node: its pods that are still Pending and were refused}."""
    names, found = set(map(name_of, picked)), dict[str, list[str]]()
    for pod in pods:
        where = pod["spec"].get("nodeName", "")
        if pod_name(pod) in refused and where in names and pod["status"].get("phase") == "Pending":
            found.setdefault(where, []).append(pod_name(pod))
    return found


def _needs_plugin(node: Node) -> bool:
    """Fargate's and Auto Mode's nodes bring their network along."""
    labels = node["metadata"].get("labels") or {}
    return labels.get("eks.amazonaws.com/compute-type") not in ("fargate", "auto")


def _cni(node: Node, pod: dict[str, Any] | None, now: datetime) -> Finding | None:
    name, created = name_of(node), moment(node["metadata"].get("creationTimestamp"))
    joining = created is not None and now - created < JOINING
    if joining or not _needs_plugin(node):
        return None
    if pod is None:
        return fail(
            f"node/{name}",
            f"{name} has no aws-node pod, so its pods get no network.",
            hint="kubectl describe daemonset aws-node -n kube-system: which taint or selector "
            "keeps it away?",
            command=CNI_COMMAND,
        )
    if why := _why_unready(pod):
        return fail(
            f"node/{name}",
            f"The network plugin on {name} does not work: {pod_name(pod)}: {why.strip()}.",
            hint="Read its log first (kubectl logs -n kube-system POD -c aws-node): a missing IAM "
            "permission or a bad setting survives `rollout restart`.",
            evidence={"pod": pod_name(pod)},
            command=f"kubectl logs -n kube-system {pod['metadata']['name']} -c aws-node --tail 100",
        )
    return None


@check(
    "pod-addresses-missing",
    probe=(kubernetes.nodes, kubernetes.pods, kubernetes.warnings),
    explains=("pods-pending",),
)
def pod_addresses(
    nodes: list[Node],
    pods: list[dict[str, Any]],
    warnings: list[dict[str, Any]],
    now: datetime,
    node: str = "",
    event_minutes: float = SANDBOX_MINUTES,
) -> list[Finding]:
    """Every pod gets an address.

    A node can be Ready and yet have none left to give: its pods hang in ContainerCreating.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    if not pods:
        return [no_pods("one without an address")]
    refused = {
        name: event
        for name, event in _refused(warnings, now, event_minutes).items()
        if NO_ADDRESS.search(event["message"])
    }
    found = [
        fail(
            f"node/{where}",
            f"{where} has no address for {counted(len(names), 'pod')}: {some(names)}, stuck in "
            "ContainerCreating.",
            hint="Are the subnets below exhausted? If not: the node's limit of addresses, or "
            "aws-node's IAM permission to assign them (its log, ipamd.log).",
            since=min(datetime.fromisoformat(refused[name]["first"]) for name in names),
            evidence={"event": refused[names[0]]["message"]},
            command="kubectl get events -A --field-selector reason=FailedCreatePodSandBox",
        )
        for where, names in _stuck(picked, pods, refused).items()
    ]
    return grouped(found, "nodes have no address left for their pods") or [
        ok("pods", "No pod is waiting for an address.")
    ]


def _not_in_ec2(names: set[str]) -> list[Finding]:
    """One UNKNOWN for the nodes whose instance EC2 does not list."""
    if not names:
        return []
    return [
        unknown(
            f"nodes ({len(names)})",
            f"EC2 lists no instance for {some(sorted(names))}, so its network is not known.",
            hint="Is this the right account and region? aws sts get-caller-identity.",
        )
    ]


def subnet_rows(nodes: list[Node], subnets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The nodes' subnets, the emptiest first."""
    rows = [{**one, "nodes": some(one["nodes"])} for one in subnets]
    return sorted(rows, key=lambda row: row["free"])


@check(
    "subnet-exhausted",
    probe=(kubernetes.nodes, source.subnets),
    rows=subnet_rows,
    explains=("pod-addresses-missing", "node-network-not-ready", "pods-pending"),
)
def subnet_addresses(
    nodes: list[Node], subnets: list[dict[str, Any]], node: str = "", free_addresses: int = 16
) -> list[Finding]:
    """The nodes' subnets have free addresses.

    Every pod takes one from its node's subnet, and so do load balancers and other services there.
    With prefix delegation, 16 free in a row are needed.
    """
    names = {name_of(one) for one in pick(nodes, node)}
    if not names:
        return [absent(node)]
    served = [one for one in subnets if names & set(one["nodes"])]
    blind = _not_in_ec2(names - {name for one in served for name in one["nodes"]})
    found = [
        (warn if one["free"] else fail)(
            f"subnet/{one['subnet']}",
            f"The subnet {one['subnet']} ({one['cidr']}, {one['zone']}) of "
            f"{some(one['nodes'])} has {one['free'] or 'no'} free addresses.",
            hint="Add a subnet or a secondary CIDR with custom networking, or set "
            "WARM_IP_TARGET / MINIMUM_IP_TARGET on aws-node. New nodes in this subnet make it "
            "worse.",
            evidence={"free": one["free"], "nodes": one["nodes"]},
            command=f"aws ec2 describe-subnets --subnet-ids {one['subnet']}",
        )
        for one in served
        if one["free"] < free_addresses
    ]
    return found + blind or [
        ok("subnets", f"Each of {len(served)} subnets has {free_addresses} addresses free or more.")
    ]


@check(
    "node-egress-blocked",
    probe=(kubernetes.nodes, source.egress),
    explains=("node-heartbeat-lost", "node-lease-stale", "node-kubelet-log"),
)
def egress(nodes: list[Node], rules: list[dict[str, Any]], node: str = "") -> list[Finding]:
    """The nodes' security groups let TCP 443 out.

    The kubelet speaks to the API server, and containerd to the registry, on that port.
    """
    names = {name_of(one) for one in pick(nodes, node)}
    if not names:
        return [absent(node)]
    worn = [one for one in rules if one["node"] in names]
    blind = _not_in_ec2(names - {one["node"] for one in worn})
    found = [
        fail(
            f"node/{one['node']}",
            f"No security group of {one['node']} ({', '.join(one['groups'])}) lets TCP 443 out.",
            hint="Restore the egress rule; who changed it stands in CloudTrail.",
            evidence={"rules": one["rules"]},
            command=f"aws ec2 describe-security-groups --group-ids {' '.join(one['groups'])}",
        )
        for one in worn
        if not any(map(_lets_https_out, one["rules"]))
    ]
    return grouped(found, "nodes may not open TCP 443") + blind or [
        ok("security groups", f"The groups of {len(worn)} nodes let TCP 443 out.")
    ]


def _lets_https_out(rule: dict[str, Any]) -> bool:
    if rule["protocol"] == "-1":
        return True
    first, last = rule["from_port"], rule["to_port"]
    return rule["protocol"] in ("tcp", "6") and first is not None and first <= 443 <= last
