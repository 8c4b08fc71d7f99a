"""What ails a pod, read from its container statuses and conditions, in the present tense.

The phase alone says little: `Running` may be 0/1, and a count of restarts may be a month old.
Source: the Kubernetes pod lifecycle (container states, pod conditions).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from runbook_lib.checks.nodes_common import condition, moment
from runbook_lib.model import Status
from runbook_lib.sources.workloads import run_time, statuses

CRASH, IMAGE, NODES = "crashloopbackoff", "imagepullbackoff", "nodes-not-ready"
RESOURCES = "insufficient-resources"
RUNBOOK_OF_APP = {"mlflow": "mlflow-ui-not-loading", "platform-api": "api-500-errors"}
ENDPOINTS = "endpoint-down"
SHOWN = 8
# The longest back-off is 5 minutes: who crashed within twice that is crashing now.
CRASHING = timedelta(minutes=10)
LEFT_OVER = timedelta(hours=1)
WAITING = {
    "CrashLoopBackOff": CRASH,
    "CreateContainerConfigError": CRASH,
    "CreateContainerError": CRASH,
    "RunContainerError": CRASH,
    "ImagePullBackOff": IMAGE,
    "ErrImagePull": IMAGE,
    "InvalidImageName": IMAGE,
    "ErrImageNeverPull": IMAGE,
    "ImageInspectError": IMAGE,
}


@dataclass(frozen=True)
class Trouble:
    """What one pod suffers from: a word to group by, one clause, and where to go next."""

    word: str
    status: Status
    clause: str
    runbook: str = ""
    since: datetime | None = None


def span(age: timedelta) -> str:
    """`40 s`, `14 min`, `3 h`, `2 days`."""
    seconds = max(0.0, age.total_seconds())
    for size, limit, unit in ((1, 90, "s"), (60, 90, "min"), (3600, 48, "h")):
        if seconds < size * limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def trouble(pod: dict[str, Any], now: datetime, patience: timedelta) -> Trouble | None:
    """The worst that this pod suffers from now, or None. A pod may take `patience` to start."""
    status = pod.get("status", {})
    phase = status.get("phase")
    if phase == "Succeeded":
        return None
    if phase == "Failed":
        return _ended(status, now)
    if leaving := moment(pod["metadata"].get("deletionTimestamp")):
        return _leaving(now - leaving, leaving)
    if phase == "Unknown":
        return Trouble("Unknown", Status.UNKNOWN, "its node no longer reports it", NODES)
    each = [*(_container(pod, c, now) for c in statuses(pod)), _not_ready(pod, now, patience)]
    found = [one for one in each if one]
    return min(found, key=lambda one: one.status is not Status.FAIL, default=None)


def _container(pod: dict[str, Any], one: dict[str, Any], now: datetime) -> Trouble | None:
    state, count = one.get("state", {}), one.get("restartCount", 0)
    last = one.get("lastState", {}).get("terminated") or {}
    name = f"container {one['name']}"
    waiting = state.get("waiting", {}).get("reason", "")
    if waiting in WAITING:
        why = state["waiting"].get("message", "")
        told = f" after {count} restarts, last {_end(last)}" if last else f": {why}" if why else ""
        return Trouble(
            waiting, Status.FAIL, f"{name} is in {waiting}{told}", WAITING[waiting],
            _unready_throughout(pod, last),
        )  # fmt: skip
    if (ended := state.get("terminated", {})) and ended.get("exitCode"):
        bad = count > 0 or ended.get("reason") == "OOMKilled"
        status = Status.FAIL if bad else Status.WARN
        clause = f"{name} has ended: {_end(ended)}, {count} restarts"
        return Trouble(ended.get("reason", "Error"), status, clause, CRASH)
    finished = moment(last.get("finishedAt"))
    if not finished or now - finished > CRASHING:
        return None
    killed, ran = last.get("reason") == "OOMKilled", run_time(last)
    looping = count >= 2 and (ran is None or ran < CRASHING)
    status = Status.FAIL if killed or looping else Status.WARN
    clause = f"{name} restarted {span(now - finished)} ago ({_end(last)}), {count} restarts in all"
    return Trouble("OOMKilled" if killed else "restarting", status, clause, CRASH)


def _end(terminated: dict[str, Any]) -> str:
    """`OOMKilled, exit code 137`."""
    return f"{terminated.get('reason', 'ended')}, exit code {terminated.get('exitCode', '?')}"


def _unready_throughout(pod: dict[str, Any], last: dict[str, Any]) -> datetime | None:
    """Since when the pod is not ready, unless it was ready in between its crashes."""
    turned = moment(condition(pod, "Ready").get("lastTransitionTime"))
    began = moment(last.get("startedAt"))
    return None if turned and began and turned > began else turned


def _not_ready(pod: dict[str, Any], now: datetime, patience: timedelta) -> Trouble | None:
    scheduled, ready = condition(pod, "PodScheduled"), condition(pod, "Ready")
    if scheduled.get("status") == "False":
        since = moment(scheduled.get("lastTransitionTime"))
        status = Status.FAIL if _older(since, now, patience) else Status.WARN
        clause = f"no node takes it: {scheduled.get('message', 'no reason given')}"
        return Trouble("Unschedulable", status, clause, RESOURCES, since)
    if ready.get("status") == "True":
        return None
    since = moment(ready.get("lastTransitionTime")) or moment(
        pod["metadata"].get("creationTimestamp")
    )
    waiting = [c["state"]["waiting"].get("reason", "") for c in statuses(pod)
               if c.get("state", {}).get("waiting")]  # fmt: skip
    word = waiting[0] if waiting else "not ready"
    app = pod["metadata"].get("labels", {}).get("app", "")
    runbook = CRASH if waiting else RUNBOOK_OF_APP.get(app, "")
    said = ready.get("message") or ready.get("reason") or "its Ready condition is not reported"
    held = f" for {span(now - since)}" if since else ""
    clause = f"it is not ready{held}: {said}"
    if _older(since, now, patience):
        return Trouble(word, Status.FAIL, clause, runbook, since)
    starting = any(not _older(began, now, patience) for began in _starts(pod)) or waiting
    return None if starting else Trouble(word, Status.WARN, clause, runbook, since)


def _older(since: datetime | None, now: datetime, than: timedelta) -> bool:
    return since is None or now - since >= than


def _starts(pod: dict[str, Any]) -> list[datetime]:
    """When its running containers began."""
    began = (moment(c.get("state", {}).get("running", {}).get("startedAt")) for c in statuses(pod))
    return [one for one in began if one]


def _ended(status: dict[str, Any], now: datetime) -> Trouble | None:
    """A pod that failed for good: worth a look while it is fresh, a left-over later."""
    times = [moment(c.get("lastTransitionTime")) for c in status.get("conditions", [])]
    terminated = [c.get("state", {}).get("terminated") or {} for c in
                  status.get("containerStatuses", [])]  # fmt: skip
    times += [moment(one.get("finishedAt")) for one in terminated]
    ended = max((t for t in [*times, moment(status.get("startTime"))] if t), default=None)
    if ended and now - ended > LEFT_OVER:
        return None
    reason = status.get("reason") or next((t["reason"] for t in terminated if t.get("reason")), "")
    said = status.get("message") or ", ".join(_end(t) for t in terminated if t) or "no reason given"
    runbook = NODES if reason == "Evicted" else CRASH
    return Trouble(reason or "Failed", Status.WARN, f"it failed for good: {said}", runbook, ended)


def _leaving(overdue: timedelta, since: datetime) -> Trouble | None:
    if overdue < CRASHING:
        return None
    clause = f"it should have been gone {span(overdue)} ago and is still terminating"
    return Trouble("Terminating", Status.WARN, clause, NODES, since)
