"""Judges of *Nodes not ready*: the machine below a node, its kubelet's log, and its history."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from runbook_lib.checks.nodes_common import (
    Node,
    absent,
    counted,
    describe,
    grouped,
    hour,
    moment,
    name_of,
    pick,
    some,
)
from runbook_lib.core import check
from runbook_lib.model import Finding, fail, ok, unknown, warn
from runbook_lib.sources import kubernetes
from runbook_lib.sources import nodes as source
from runbook_lib.sources.nodes import is_troubled

# Conditions that are bad when True. Source: node-problem-detector. EKS's node monitoring agent
# adds conditions that end in Ready (StorageReady, KernelReady …), bad when False.
PROBLEMS = (
    "KernelDeadlock",
    "ReadonlyFilesystem",
    "XfsShutdown",
    "CperHardwareErrorFatal",
    "KubeletUnhealthy",
    "ContainerRuntimeUnhealthy",
    "FrequentKubeletRestart",
    "FrequentContainerdRestart",
    "FrequentUnregisterNetDevice",
)

# What shows in a kubelet's log and is itself a cause. Source: client-go and kubelet messages.
LOG_CAUSES = (
    (
        re.compile(r"x509: certificate has expired|certificate is not yet valid"),
        "its certificate is not valid now",
        "Is the node's clock right? If so, replace the node.",
    ),
    (
        re.compile(r"Unauthorized|provide credentials"),
        "the API server does not accept its identity",
        "Is the node role in the access entries (or aws-auth)? aws eks list-access-entries.",
    ),
    (
        re.compile(r"container runtime is down|containerd\.sock: connect"),
        "its container runtime does not answer",
        "On the node: systemctl status containerd. Do not force-delete pods meanwhile.",
    ),
    (
        re.compile(r"PLEG is not healthy"),
        "its container runtime answers too slowly",
        "Look at the node's disk and CPU, or replace the node.",
    ),
    (
        re.compile(
            r"(Failed to (ensure|update) lease|Error updating node status).*"
            r"(timeout|refused|no such host|no route)"
        ),
        "it cannot reach the API server",
        "Look at the node's security groups, routes and DNS, and at the cluster's endpoint.",
    ),
    (
        re.compile(r"System OOM encountered"),
        "the whole machine ran out of memory",
        "Find the pods without memory limits; reserve memory with kube-reserved.",
    ),
)


def _rows_of(nodes: list[Node], found: list[dict[str, Any]], node: str) -> list[dict[str, Any]]:
    names = {name_of(one) for one in pick(nodes, node)}
    return [row for row in found if row["node"] in names]


def instance_rows(
    nodes: list[Node], instances: list[dict[str, Any]], node: str = ""
) -> list[dict[str, Any]]:
    """Each node's instance with its status checks, the unsound first."""
    columns = ("node", "instance", "state", "system", "reachability", "since", "planned", "error")
    rows = sorted(_rows_of(nodes, instances, node), key=_is_sound)
    told = [column for column in columns if any(row.get(column) for row in rows)]
    return [{column: row.get(column) or None for column in told} for row in rows]


@check(
    "ec2-status-failed",
    probe=(kubernetes.nodes, source.instances),
    rows=instance_rows,
    explains=(
        "node-heartbeat-lost",
        "node-lease-stale",
        "node-kubelet-not-ready",
        "node-network-not-ready",
        "node-cni-not-running",
        "node-kubelet-log",
        "node-flapping",
    ),
)
def ec2_status(nodes: list[Node], instances: list[dict[str, Any]], node: str = "") -> list[Finding]:
    """EC2 runs every node's instance, and both of its status checks pass.

    A failed system check is AWS's hardware or network; a failed instance check is the machine's
    own kernel, memory or network settings.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    elsewhere = {name_of(one) for one in picked if _is_elsewhere(one)}
    named = [r for r in _rows_of(nodes, instances, node) if r["node"] not in elsewhere]
    untold = {name_of(one) for one in picked} - elsewhere - {row["node"] for row in named}
    named += [{"node": name, "error": "EC2's answer leaves it out."} for name in sorted(untold)]
    found = [f for row in named if (f := _ec2_finding(row))]
    said = f"EC2 runs all {len(named)} instances; their status checks pass."
    if elsewhere:
        said += f" No instances of EC2, so not judged: {some(sorted(elsewhere))}."
    return grouped(found, "instances are not sound in EC2's eyes") or [ok("instances", said)]


def _is_elsewhere(node: Node) -> bool:
    """Whether another provider than AWS runs the machine: `eks-hybrid:///…`, `kind://…`."""
    provider = node["spec"].get("providerID") or "aws"
    return not provider.startswith("aws")


def _is_sound(row: dict[str, Any]) -> bool:
    checks = {row.get("system"), row.get("reachability")}
    return row.get("state") == "running" and checks == {"ok"} and not row.get("planned")


def _ec2_finding(row: dict[str, Any]) -> Finding | None:
    thing, instance = f"node/{row['node']}", row.get("instance", "")
    command = f"aws ec2 describe-instance-status --include-all-instances --instance-ids {instance}"
    if "error" in row:
        return unknown(
            thing,
            f"{row['node']}: {row['error']}",
            hint="Right account and region? A machine long gone is listed no more: "
            "then kubectl delete node is safe.",
        )
    if row["state"] != "running":
        # EC2 puts the time into its words: "User initiated (2026-11-20 03:05:00 UTC)".
        said = re.search(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:UTC|GMT)\)", row["why"])
        return fail(
            thing,
            f"The instance {instance} of {row['node']} is {row['state']} "
            f"({row['why'] or 'EC2 gives no reason'}).",
            hint="Its node group replaces it; see that the Node object goes too.",
            since=moment(f"{said[1]}+00:00") if said else None,
            evidence=row,
            command=command,
        )
    failed = [kind for kind in ("system", "reachability") if row[kind] == "impaired"]
    if failed:
        since = moment(row.get("since"))
        side = "AWS's side (host or network)" if "system" in failed else "the machine's own side"
        return fail(
            thing,
            f"EC2's status check of {instance} ({row['node']}) fails since "
            f"{hour(since)}: the fault is on {side}.",
            since=since,
            command=command,
            evidence=row,
            hint="Drain if it still answers, then terminate it: the group "
            "replaces it. A reboot stays on the same host, a new instance does not.",
        )
    if unsure := [
        row[kind] or "no answer"
        for kind in ("system", "reachability")
        if row[kind] not in ("ok", "not-applicable")
    ]:
        return unknown(
            thing,
            f"EC2's status checks of {instance} ({row['node']}) say "
            f"{' and '.join(dict.fromkeys(unsure))}.",
            command=command,
            hint="Ask again in two minutes.",
        )
    if row["planned"]:
        return warn(
            thing,
            f"AWS plans something for {instance} ({row['node']}): {row['planned'][0]}.",
            command=command,
            hint="Drain and replace it before that, at a time of your choosing.",
        )
    return None


@check(
    "node-problem-reported",
    probe=kubernetes.nodes,
    explains=(
        "node-kubelet-not-ready",
        "node-network-not-ready",
        "node-heartbeat-lost",
        "node-lease-stale",
        "node-cni-not-running",
        "node-kubelet-log",
        "node-flapping",
    ),
)
def problems(nodes: list[Node], node: str = "") -> list[Finding]:
    """No agent on a node reports a broken kernel, filesystem or device.

    Where node-problem-detector or EKS's node monitoring agent runs, it says so in conditions of
    its own; where none runs, nobody watches for these.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    reports = [
        (one, reported)
        for one in picked
        for reported in one["status"].get("conditions") or []
        if _is_problem(reported)
    ]
    found = [
        fail(
            f"node/{name_of(one)}",
            f"{name_of(one)} reports {reported['type']}={reported['status']} since "
            f"{hour(moment(reported.get('lastTransitionTime')))}: {reported.get('reason', '')}: "
            f"{reported.get('message', '')}.",
            hint="Replace the node; a restart of the kubelet mends none of these.",
            since=moment(reported.get("lastTransitionTime")),
            command=describe(one),
        )
        for one, reported in reports
    ]
    return grouped(found, "nodes report a broken part") or [
        ok("nodes", "No node carries a condition that reports a broken part.")
    ]


def _is_problem(condition: dict[str, Any]) -> bool:
    kind, status = condition["type"], condition["status"]
    if kind in PROBLEMS:
        return bool(status == "True")
    return bool(kind != "Ready" and kind.endswith("Ready") and status == "False")


@check(
    "node-kubelet-log",
    probe=(kubernetes.nodes, source.kubelet_logs),
    explains=("node-heartbeat-lost", "node-lease-stale", "node-kubelet-not-ready", "node-flapping"),
)
def kubelet_log(
    nodes: list[Node], logs: dict[str, Any], now: datetime, node: str = "", log_minutes: float = 15
) -> list[Finding]:
    """The kubelet's log of a node in trouble names no further cause.

    Only nodes in trouble are asked for their log, and only recent lines count.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    troubled = [name_of(one) for one in picked if is_troubled(one)]
    if not troubled:
        return [ok("nodes", "No node is in trouble, so no kubelet's log was read.")]
    found: list[Finding] = []
    for one in logs["logs"]:
        if "error" in one:
            found.append(
                unknown(
                    f"node/{one['node']}",
                    f"The kubelet's log of {one['node']} could not be read: {one['error']}",
                    hint="Set enableSystemLogQuery, or open a "
                    "shell: aws ssm start-session; journalctl -u kubelet -n 100.",
                )
            )
        elif not one["lines"]:
            found.append(
                unknown(
                    f"node/{one['node']}",
                    f"The kubelet's log of {one['node']} is empty, so it says nothing.",
                    hint="Is the kubelet's unit named kubelet there? aws ssm start-session; "
                    "journalctl -u kubelet -n 100.",
                )
            )
        else:
            found += _log_findings(one, now, log_minutes)
    told = {one["node"] for one in logs["logs"]} | set(logs["left_out"])
    if untold := [name for name in troubled if name not in told]:
        found.append(
            unknown(
                f"nodes ({len(untold)})",
                f"The kubelet's log of {some(untold)} is not in the answer.",
                hint="Did it turn bad just now? Run again.",
            )
        )
    if logs["left_out"]:
        found.append(
            unknown(
                "nodes",
                f"The kubelet's log of {some(logs['left_out'])} was not read: five are at once.",
                hint="Run again for one of them.",
            )
        )
    return grouped(found, "kubelet logs") or [
        ok(
            "nodes",
            f"The kubelet logs of {counted(len(logs['logs']), 'node')} in trouble add no cause.",
        )
    ]


def _log_findings(log: dict[str, Any], now: datetime, minutes: float) -> list[Finding]:
    found = []
    for words, meaning, hint in LOG_CAUSES:
        lines = [line for line in log["lines"] if words.search(line)]
        lines = [line for line in lines if _is_recent(line, now, minutes)]
        if lines:
            found.append(
                fail(
                    f"node/{log['node']}",
                    f"The kubelet of {log['node']} logs that {meaning} "
                    f"({counted(len(lines), 'line')} in the last {minutes:g} min).",
                    hint=hint,
                    evidence={"last line": lines[-1]},
                )
            )
    return found


def _is_recent(line: str, now: datetime, minutes: float) -> bool:
    """By klog's `E1120 03:12:44.1` in UTC; a line without its time counts as recent."""
    if not (stamp := re.search(r"\b[IWEF](\d\d)(\d\d) (\d\d):(\d\d):(\d\d)", line)):
        return True
    month, day, at_hour, minute, second = map(int, stamp.groups())
    try:
        said = now.replace(month=month, day=day, hour=at_hour, minute=minute, second=second)
    except ValueError:  # 29 February seen from another year
        return True
    return timedelta(0) <= now - said + timedelta(minutes=5) <= timedelta(minutes=minutes + 5)


FLAPS = ("NodeNotReady", "NodeHasDiskPressure", "NodeHasInsufficientMemory")


@check("node-flapping", probe=(kubernetes.nodes, source.events))
def flapping(
    nodes: list[Node], events: list[dict[str, Any]], now: datetime, node: str = "", flaps: int = 3
) -> list[Finding]:
    """No node goes to and fro between ready and not ready.

    Being Ready at the moment proves little: a node that fails again and again moves its pods
    each time. Events are kept for an hour.
    """
    picked = {name_of(one) for one in pick(nodes, node)}
    if not picked:
        return [absent(node)]
    turns: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        name, hour_ago = event["object"].removeprefix("node/"), now - timedelta(hours=1)
        if event["reason"] in FLAPS and name in picked and _time(event, "last") >= hour_ago:
            turns[name, event["reason"]].append(event)
    found = [f for (name, reason), seen in turns.items() if (f := _flap(name, reason, seen, flaps))]
    return grouped(found, "nodes flap") or [
        ok("nodes", f"No node turned bad {flaps} times or more within the last hour.")
    ]


def _time(event: dict[str, Any], which: str) -> datetime:
    return datetime.fromisoformat(event[which])


def _flap(name: str, reason: str, seen: list[dict[str, Any]], flaps: int) -> Finding | None:
    count = sum(event["count"] for event in seen)
    first, last = min(_time(e, "first") for e in seen), max(_time(e, "last") for e in seen)
    # An event that repeats is counted, not listed: over days a few repeats are no flapping.
    if count < flaps or (last - first) / (count - 1) > timedelta(minutes=30):
        return None
    return fail(
        f"node/{name}",
        f"{name} flaps: {reason} {count} times between {hour(first)} and {hour(last)}.",
        hint="Cordon it now, so that nothing new lands there; then find what comes and goes.",
        since=first,
        evidence={"reason": reason, "count": count},
        command=f"kubectl get events -A --field-selector involvedObject.name={name}",
    )
