"""Crashes as a pod's status tells them, and the words that every finding about them shares."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from runbook_lib.sources import workloads

SIGNALS = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV",
           13: "SIGPIPE", 15: "SIGTERM"}  # fmt: skip
CREATING = "ContainerCreating"
PATIENCE = timedelta(minutes=5)  # what a pod may take until its containers are there
SHOWN_LINES = 12
SHOWN_PODS = 5


@dataclass(frozen=True)
class Crash:
    """One container that cannot start or does not stay up.

    about: its workload, as in `workloads.workload`. waiting, message: why it waits now. code,
    reason, ended: how its last run ended, where one did. ran: how long that run lasted, where it
    ran at all. since: when the pod stopped being ready, at the latest.
    """

    pod: dict[str, Any]
    about: str
    container: str
    init: bool
    waiting: str
    message: str
    code: int | None
    reason: str
    ran: timedelta | None
    began: datetime | None
    ended: datetime | None
    restarts: int
    since: datetime | None
    spec: dict[str, Any] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        """The pod's namespace."""
        return str(self.pod["metadata"]["namespace"])

    @property
    def pod_name(self) -> str:
        """The pod's name."""
        return str(self.pod["metadata"]["name"])

    @property
    def who(self) -> str:
        """ "platform-api", or "init container migrate of platform-api"."""
        name = self.about.split("/")[2]
        if self.init:
            return f"init container {self.container} of {name}"
        return name if self.container in (name, "") else f"container {self.container} of {name}"


def crashes(
    pods: list[dict[str, Any]], now: datetime, events: Sequence[dict[str, Any]] = ()
) -> list[Crash]:
    """Every container that cannot start or does not stay up at this moment.

    A pod that becomes ready between two crashes hides when the loop began; its events may tell.
    """
    return [crash_of(pod, status, events) for pod in pods for status in workloads.failing(pod, now)]


def creating(pods: list[dict[str, Any]]) -> list[Crash]:
    """One for each pod whose containers wait to be created, as they do for a volume."""
    return [
        crash_of(pod, {"name": "", "init": False, "state": {"waiting": {"reason": CREATING}}})
        for pod in pods
        if workloads.is_creating(pod)
    ]


def unreported(pods: list[dict[str, Any]], now: datetime) -> list[list[dict[str, Any]]]:
    """Pods that should run and have, past their patience, no container status to judge by; those
    of one workload together.
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for pod in pods:
        created = pod["metadata"].get("creationTimestamp")
        young = created and now - workloads.time_of(created) < PATIENCE
        over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if not (
            workloads.statuses(pod) or young or over or pod["metadata"].get("deletionTimestamp")
        ):
            groups[workloads.workload(pod)].append(pod)
    return list(groups.values())


def crash_of(
    pod: dict[str, Any], status: dict[str, Any], events: Sequence[dict[str, Any]] = ()
) -> Crash:
    """A failing container's status as a Crash."""
    state, last = status.get("state", {}), status.get("lastState", {})
    waiting = state.get("waiting", {})
    ended = state.get("terminated") or last.get("terminated") or {}
    ran = workloads.run_time(ended) if ended else None
    containers = [
        *(pod["spec"].get("initContainers") or []),
        *(pod["spec"].get("containers") or []),
    ]
    return Crash(
        pod=pod,
        about=workloads.workload(pod),
        container=status["name"],
        init=status["init"],
        waiting=waiting.get("reason", ""),
        message=_message(waiting, ended),
        code=ended.get("exitCode"),
        reason=ended.get("reason", ""),
        ran=ran,
        began=workloads.time_of(ended["startedAt"]) if ran is not None else None,
        ended=workloads.time_of(ended["finishedAt"]) if ended.get("finishedAt") else None,
        restarts=status.get("restartCount", 0),
        since=min([*_unready_since(pod, ended), *_backing_off(pod, status, events)], default=None),
        spec=next((one for one in containers if one["name"] == status["name"]), {}),
    )


def _message(waiting: dict[str, Any], ended: dict[str, Any]) -> str:
    """What Kubernetes says, but for the back-off's own words, which name no cause."""
    looping = waiting.get("reason") == "CrashLoopBackOff"
    said = [ended.get("message"), *([] if looping else [waiting.get("message")])]
    return next((one for one in reversed(said) if one), "")


def _unready_since(pod: dict[str, Any], ended: dict[str, Any]) -> list[datetime]:
    ready: dict[str, Any] = next(
        (c for c in pod["status"].get("conditions") or [] if c["type"] == "Ready"), {}
    )
    since = ready.get("lastTransitionTime") if ready.get("status") == "False" else None
    since = since or ended.get("finishedAt") or pod["metadata"].get("creationTimestamp")
    return [workloads.time_of(since)] if since else []


def _backing_off(
    pod: dict[str, Any], status: dict[str, Any], events: Sequence[dict[str, Any]]
) -> list[datetime]:
    return [
        workloads.time_of(event["first"])
        for event in events
        if _tells_a_crash(event) and is_about(event, pod, status["name"])
    ]


def _tells_a_crash(event: dict[str, Any]) -> bool:
    # "Failed to pull image …" has the reason Failed too, and is no crash.
    refused = event["reason"] == "Failed" and event["message"].startswith("Error: ")
    return refused or event["reason"] in ("BackOff", "Killing")


def is_about(event: dict[str, Any], pod: dict[str, Any], container: str) -> bool:
    """Whether an event is about this container, or about its pod as a whole."""
    same = event["namespace"] == pod["metadata"].get("namespace")
    named = event["object"] == f"pod/{pod['metadata']['name']}"
    return same and named and event.get("container", "") in ("", container)


def grouped(found: Iterable[Crash]) -> list[list[Crash]]:
    """The crashes of the same container of one workload together."""
    groups: dict[tuple[str, str, bool], list[Crash]] = defaultdict(list)
    for crash in found:
        groups[crash.about, crash.container, crash.init].append(crash)
    return list(groups.values())


def first_since(group: list[Crash]) -> datetime | None:
    """When the first of them stopped being ready."""
    return min((crash.since for crash in group if crash.since), default=None)


def scale(group: list[Crash], now: datetime) -> str:
    """ "(14 min, 7 restarts each, 3 pods)": since when, how often and in how many pods."""
    since, restarts = first_since(group), [crash.restarts for crash in group]
    parts = [words_for(now - since)] if since else []
    if max(restarts):
        up_to = "up to " if len(set(restarts)) > 1 else ""
        times = "restart" if max(restarts) == 1 else "restarts"
        each = " each" if len(group) > 1 else ""
        parts.append(f"{up_to}{max(restarts)} {times}{each}")
    parts.append("1 pod" if len(group) == 1 else f"{len(group)} pods")
    return f"({', '.join(parts)})"


def words_for(length: timedelta) -> str:
    """A length of time in words: "8 s", "14 min", "3 h", "6 days"."""
    seconds = max(length.total_seconds(), 0)
    for size, word in ((172800, "days"), (5400, "h"), (90, "min")):
        if seconds >= size:
            return f"{seconds / {'days': 86400, 'h': 3600, 'min': 60}[word]:.0f} {word}"
    return f"{seconds:.0f} s"


def exit_words(crash: Crash) -> str:
    """ "exit code 1", "exit code 139 (SIGSEGV)"."""
    if crash.code is None:
        return crash.waiting
    signal = SIGNALS.get(crash.code - 128, "") if crash.code > 128 else ""
    return f"exit code {crash.code}" + (f" ({signal})" if signal else "")


def evidence(group: list[Crash], log: list[str] | None = None) -> dict[str, Any]:
    """What a finding about these crashes rests on."""
    names, worst = [crash.pod_name for crash in group], max(group, key=lambda c: c.restarts)
    shown = names[:SHOWN_PODS] + (
        [f"and {len(names) - SHOWN_PODS} more"] if names[SHOWN_PODS:] else []
    )
    found: dict[str, Any] = {"pods": ", ".join(shown)}
    if worst.container:
        found["container"] = ("init container " if worst.init else "") + worst.container
    if worst.code is not None:
        found["last run ended with"] = f"{exit_words(worst)}, {worst.reason or 'no reason given'}"
    if worst.ran is not None:
        found["last run lasted"] = words_for(worst.ran)
    if worst.restarts:
        found["restarts"] = worst.restarts
    if worst.message:
        found["Kubernetes says"] = worst.message
    if log:
        found["last lines of its log"] = "\n".join(log[-SHOWN_LINES:])
    return found


def describe(crash: Crash) -> str:
    """The command that shows this pod's state and events."""
    return f"kubectl describe pod -n {crash.namespace} {crash.pod_name}"


def logs_command(crash: Crash) -> str:
    """The command that shows the log of this container's previous run."""
    return (
        f"kubectl logs -n {crash.namespace} {crash.pod_name} -c {crash.container} "
        f"--previous --tail={workloads.LINES}"
    )


def restart_points(
    pod: dict[str, Any], status: dict[str, Any], events: list[dict[str, Any]], now: datetime
) -> list[tuple[datetime, int]]:
    """What is still known of when a container had restarted how often, oldest first.

    Creation and the last two starts are exact. A counted Started event tells its first start; the
    first BackOff of a pod that is younger than its events comes after one restart.
    """
    count, created = status.get("restartCount", 0), pod["metadata"].get("creationTimestamp")
    state, last = status.get("state", {}), status.get("lastState", {}).get("terminated")
    running, ended = state.get("running"), state.get("terminated")
    points = {now: count}
    if created:
        points[workloads.time_of(created)] = 0
    newest = running or ended or last
    if newest and _is_known(newest):
        points[workloads.time_of(newest["startedAt"])] = count
    if last and newest is not last and count and _is_known(last):
        points[workloads.time_of(last["startedAt"])] = count - 1
    for event in events:
        if not is_about(event, pod, status["name"]):
            continue
        first = workloads.time_of(event["first"])
        if event["reason"] == "Started" and event["count"] <= count + 1:
            points[first] = count + 1 - event["count"]
        young = created and now - workloads.time_of(created) < timedelta(hours=1)
        if event["reason"] == "BackOff" and young and count:
            points[first] = 1
    known = sorted(points.items())
    return [p for n, p in enumerate(known) if all(p[1] >= before[1] for before in known[:n])]


def _is_known(run: dict[str, Any]) -> bool:
    return bool(run.get("startedAt")) and workloads.time_of(run["startedAt"]).year > 1970
