"""The sentences of the runbook CrashLoopBackOff about what could not be judged, and why."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from runbook_lib.checks.crashloop_causes import Explained
from runbook_lib.checks.crashloop_pods import (
    SHOWN_PODS,
    describe,
    evidence,
    exit_words,
    first_since,
    logs_command,
    scale,
    words_for,
)
from runbook_lib.model import Finding, unknown, warn
from runbook_lib.sources import workloads


def nothing_asked(namespace: str, name: str) -> Finding:
    """No pod passed the filter, so nothing was judged."""
    where = f"in namespace {namespace}" if namespace else "in the platform's namespaces"
    if name:
        summary = f"No pod or workload is called {name} {where}: nothing was looked at."
    elif namespace:
        summary = f"Namespace {namespace} has no pod, or does not exist: nothing was looked at."
    else:
        summary = "None of the platform's namespaces has a pod: nothing was looked at."
    hint = "Is the name right, the namespace, and the cluster? Or is it scaled to nothing?"
    return unknown(
        f"pods/{namespace or 'all'}/{name}".rstrip("/"),
        summary,
        hint=hint,
        command=f"kubectl get pods -n {namespace}" if namespace else "kubectl get pods -A",
    )


def unreported(group: list[dict[str, Any]], now: datetime) -> Finding:
    """Pods without a single container status: not scheduled, or their kubelet is silent."""
    pod = group[0]
    conditions = pod.get("status", {}).get("conditions") or []
    waits = [c for c in conditions if c["type"] == "PodScheduled" and c.get("status") == "False"]
    why = f"no node takes it: {waits[0].get('message', 'no reason given')}" if waits else ""
    born = [p["metadata"].get("creationTimestamp") for p in group]
    since = min((workloads.time_of(one) for one in born if one), default=None)
    age = f" {words_for(now - since)} after its creation" if since else ""
    pods = f"{len(group)} pods" if group[1:] else "1 pod"
    about = workloads.workload(pod)
    return unknown(
        about,
        f"No container of {about.split('/')[2]} has a status{age}, so none can be judged: "
        f"{(why or 'its node reports nothing').rstrip('.')} ({pods}).",
        hint="It has not started even once: look at the pod's events, and at its node.",
        evidence={"pods": ", ".join(p["metadata"]["name"] for p in group[:SHOWN_PODS])},
        since=since,
        command=f"kubectl describe pod -n {pod['metadata']['namespace']} {pod['metadata']['name']}",
    )


def blind(one: Explained, now: datetime) -> Finding:
    worst = one.crashes[0]
    if one.blind == "creating":
        return still_creating(one, now)
    if one.blind not in ("killed", "ended"):
        summary = f"Why {worst.who} crashes is in its previous log, which cannot be read: {one.why}"
        hint = "Grant get on pods/log to this identity, or read the log where logs are collected."
        command = logs_command(worst)
    else:
        no_memory = " without OOMKilled" if one.blind == "killed" else ""
        summary = f"{worst.who} ended with {exit_words(worst)}{no_memory}, and {one.why}"
        hint = (
            "Look for SystemOOM and evictions on its node, for what may send it signals, and at "
            "the pod's events with an identity that may list them."
        )
        command = describe(worst)
    return unknown(
        worst.about, f"{summary.rstrip('.')} {scale(one.crashes, now)}.", hint=hint,
        evidence=evidence(one.crashes), command=command, since=first_since(one.crashes),
    )  # fmt: skip


def still_creating(one: Explained, now: datetime) -> Finding:
    """Long in ContainerCreating: UNKNOWN where the events are unread, else worth a look."""
    worst, since = one.crashes[0], first_since(one.crashes)
    age = f" for {words_for(now - since)}" if since else ""
    pods = "1 pod" if len(one.crashes) == 1 else f"{len(one.crashes)} pods"
    why = f"the events that would tell why cannot be read: {one.why.rstrip('.')}"
    return (unknown if one.why else warn)(
        worst.about,
        f"{worst.who} has been creating{age}, and {why if one.why else 'nothing says why'} "
        f"({pods}).",
        hint="Does it pull a large image, is its volume attached, does its node's network plugin "
        "give it an address? Deleting the pod starts the same over again.",
        evidence=evidence(one.crashes),
        since=since,
        command=describe(worst),
    )


def cannot_tell(one: Explained, now: datetime) -> Finding:
    missing, who = one.missing, one.crashes[0].who
    assert missing is not None
    verb = "crash-loops" if one.crashes[0].code is not None else "cannot start"
    key = missing.key or ("a key" if missing.env else "")
    return unknown(
        one.crashes[0].about,
        f"Whether {who} {verb} for want of {key}{' in ' * bool(key)}{missing.kind} "
        f"{missing.namespace}/{missing.name}, {missing.need}, cannot be told: "
        f"{missing.unread.rstrip('.')} {scale(one.crashes, now)}.",
        hint="Look at the key names by hand; never print the values.",
        evidence=evidence(one.crashes, one.log),
        command=missing.command,
    )
