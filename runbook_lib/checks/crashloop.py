"""Judges of the runbook CrashLoopBackOff: that containers crash-loop, and the one cause of each.

A cause is told from what the kubelet says (the status), then from events, then from what the pod
refers to and is not there, then from the last error of the previous log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from runbook_lib import charts_pods
from runbook_lib.checks import crashloop_findings as say
from runbook_lib.checks import crashloop_unjudged as unjudged
from runbook_lib.checks.crashloop_causes import Explained, explain
from runbook_lib.checks.crashloop_pods import (
    crash_of,
    crashes,
    exit_words,
    grouped,
    restart_points,
    unreported,
    words_for,
)
from runbook_lib.core import check
from runbook_lib.model import Chart, Finding, ok, unknown
from runbook_lib.sources import workloads

PODS = "pods"
EVIDENCE = (workloads.pods, workloads.previous_logs, workloads.referred, workloads.pod_events)
CHART_LINES = 6


def _restarted(
    pods: list[dict[str, Any]], now: datetime
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Containers that run now and have crashed before: (pod, status)."""
    for pod in pods:
        failing = {one["name"] for one in workloads.failing(pod, now)}
        for status in workloads.statuses(pod):
            last = status.get("lastState", {}).get("terminated")
            running = "running" in status.get("state", {})
            if running and last and last.get("exitCode") and status["name"] not in failing:
                yield pod, status


def _container_rows(
    pods: list[dict[str, Any]], events: dict[str, Any], now: datetime
) -> list[dict[str, Any]]:
    failing = [(pod, status) for pod in pods for status in workloads.failing(pod, now)]
    rows = []
    for pod, status in [*failing, *_restarted(pods, now)]:
        crash = crash_of(pod, status)
        rows.append(
            {
                "namespace": crash.namespace,
                "pod": crash.pod_name,
                "container": ("init: " if crash.init else "") + crash.container,
                "state": crash.waiting or next(iter(status.get("state", {})), ""),
                "restarts": crash.restarts,
                "ended with": exit_words(crash) if crash.code is not None else None,
                "reason": crash.reason or None,
                "last run": words_for(crash.ran) if crash.ran is not None else None,
                "ended": f"{crash.ended:%H:%M:%S UTC}" if crash.ended else None,
            }
        )
    return rows


def _restart_chart(
    pods: list[dict[str, Any]], events: dict[str, Any], now: datetime, since_minutes: int = 60
) -> Chart | None:
    shown = [(pod, one) for pod in pods for one in workloads.failing(pod, now)]
    shown += [
        (pod, one) for pod, one in _restarted(pods, now)
        if now - workloads.time_of(one["lastState"]["terminated"]["finishedAt"])
        < timedelta(minutes=since_minutes)
    ]  # fmt: skip
    shown = sorted(shown, key=lambda one: -one[1].get("restartCount", 0))
    lines = {
        _line_name(pod, one): restart_points(pod, one, events["events"], now)
        for pod, one in shown[:CHART_LINES]
        if one.get("restartCount")
    }
    start = now - timedelta(minutes=since_minutes)
    return charts_pods.restarts(lines, start, now, left_out=len(shown[CHART_LINES:]))


def _line_name(pod: dict[str, Any], status: dict[str, Any]) -> str:
    crash = crash_of(pod, status)
    one_of_many = crash.init or len(pod["spec"].get("containers") or []) > 1
    return f"{crash.pod_name} {crash.container}" if one_of_many else crash.pod_name


@check(
    "crash-looping",
    probe=(workloads.pods, workloads.pod_events),
    symptom=True,
    rows=_container_rows,
    chart=_restart_chart,
)
def crash_looping(
    pods: list[dict[str, Any]], events: dict[str, Any], now: datetime, since_minutes: int = 60,
    namespace: str = "", name: str = "",
) -> Iterator[Finding]:  # fmt: skip
    """No container crash-loops.

    Crash-looping: it cannot start, it waits in back-off, or it restarted twice or more and has
    not stayed up for ten minutes since (then the kubelet forgets the back-off).
    """
    if not pods:
        # Said here for all checks of this notebook: what rests on no pod at all is not healthy.
        yield unjudged.nothing_asked(namespace, name)
        return
    silent = unreported(pods, now)
    yield from (unjudged.unreported(group, now) for group in silent)
    groups = grouped(crashes(pods, now, events["events"]))
    for group in groups:
        yield say.loop(group, pods, now)
    past = [say.past(pod, status, now, since_minutes) for pod, status in _restarted(pods, now)]
    yield from (one for one in past if one)
    if groups:
        return
    count = sum(len(workloads.statuses(pod)) for pod in pods)
    if count:
        starting = sum(_is_starting(pod) for pod in pods)
        more = f"; {starting} still within the time that their startup probe gives" * bool(starting)
        yield ok(PODS, f"None of {count} containers in {len(pods)} pods crash-loops{more}.")
    elif not silent:
        summary = f"None of {len(pods)} pods has a container that could be judged."
        yield unknown(
            PODS, summary, hint="Look again once they have started, or see why they failed."
        )


def _is_starting(pod: dict[str, Any]) -> bool:
    probed = {c["name"] for c in pod["spec"].get("containers") or [] if c.get("startupProbe")}
    return any(
        one["name"] in probed and "running" in one.get("state", {}) and not one.get("started")
        for one in workloads.statuses(pod)
    )


def _judge(
    cause: str,
    fine: str,
    finding: Callable[[Explained, datetime], Finding],
    found: list[Explained],
    now: datetime,
    hidden_by: tuple[str, ...] = (),
) -> Iterator[Finding]:
    """One finding for each workload with this cause; UNKNOWN where it could not be looked for.

    hidden_by: what kinds of blindness hide this cause (`Explained.blind`); a pod that is long in
    creation, though all was read, is worth a look.
    """
    said = [finding(one, now) for one in found if one.cause == cause]
    said += [unjudged.blind(one, now) for one in found if one.blind in hidden_by]
    yield from said or [ok(PODS, fine)]


@check("missing-configuration", probe=EVIDENCE)
def missing_configuration(
    pods: list[dict[str, Any]], logs: dict[str, Any], referred: list[dict[str, Any]],
    events: dict[str, Any], now: datetime,
) -> Iterator[Finding]:  # fmt: skip
    """Every Secret, ConfigMap and key that the pods need is there.

    Without a required key the kubelet does not create the container; without an optional one it
    does, and the program ends in its own error, such as KeyError: 'JWT_SECRET'.
    """
    found = explain(pods, logs, referred, events, now)
    said = [say.missing(one, now) for one in found if one.cause == "missing-configuration"]
    said += [unjudged.cannot_tell(one, now) for one in found if one.missing and one.missing.unread]
    yield from said or [ok(PODS, "No pod fails for want of a Secret, a ConfigMap or a key.")]


@check("command-not-found", probe=EVIDENCE)
def command_not_found(
    pods: list[dict[str, Any]], logs: dict[str, Any], referred: list[dict[str, Any]],
    events: dict[str, Any], now: datetime,
) -> Iterator[Finding]:  # fmt: skip
    """Every container's command is in its image and can be executed.

    Exit code 127 is a shell's "not found", 126 its "not executable"; StartError is the runtime's.
    """
    found = explain(pods, logs, referred, events, now)
    fine = "No container fails because its command is not found or cannot be executed."
    yield from _judge("command-not-found", fine, say.command, found, now)


@check("container-refused", probe=EVIDENCE)
def container_refused(
    pods: list[dict[str, Any]], logs: dict[str, Any], referred: list[dict[str, Any]],
    events: dict[str, Any], now: datetime,
) -> Iterator[Finding]:  # fmt: skip
    """Kubernetes and the runtime accept every container as it is specified.

    They refuse, for example, an image that runs as root under runAsNonRoot, or a bad mount.
    """
    found = explain(pods, logs, referred, events, now)
    fine = "No container is refused by the kubelet or the runtime."
    yield from _judge("container-refused", fine, say.refused, found, now)


@check("out-of-memory", probe=(workloads.pods, workloads.pod_events))
def out_of_memory(
    pods: list[dict[str, Any]], events: dict[str, Any], now: datetime, since_minutes: int = 60
) -> Iterator[Finding]:
    """No container is killed for its memory.

    Read from the status, the present one and the last, of init containers too. Exit code 137
    without OOMKilled is a kill for another reason. Events only tell since when.
    """
    looping = crashes(pods, now, events["events"])
    groups = grouped(crash for crash in looping if crash.reason == "OOMKilled")
    said = [say.memory(group, now) for group in groups]
    for pod, status in _restarted(pods, now):
        ended = status["lastState"]["terminated"]
        age = now - workloads.time_of(ended["finishedAt"])
        if ended.get("reason") == "OOMKilled" and age < timedelta(minutes=since_minutes):
            said.append(say.killed_for_memory(pod, status, now))
    yield from said or [
        ok(PODS, f"No container was OOM-killed in the last {since_minutes} minutes.")
    ]


def _probe_rows(
    pods: list[dict[str, Any]], logs: dict[str, Any], referred: list[dict[str, Any]],
    events: dict[str, Any], now: datetime,
) -> list[dict[str, Any]]:  # fmt: skip
    """The probes of crashing containers: what each asks, and how long it lets them go."""
    return [
        {
            "container": group[0].who,
            "probe": kind,
            "asks": say.handler(probe),
            "gives": words_for(say.budget(probe)),
            "last run": words_for(group[0].ran) if group[0].ran is not None else None,
        }
        for group in grouped(crashes(pods, now))
        for kind in ("startup", "liveness", "readiness")
        if (probe := group[0].spec.get(f"{kind}Probe"))
    ]


@check("liveness-kill", probe=EVIDENCE, rows=_probe_rows)
def liveness_kill(
    pods: list[dict[str, Any]], logs: dict[str, Any], referred: list[dict[str, Any]],
    events: dict[str, Any], now: datetime,
) -> Iterator[Finding]:  # fmt: skip
    """No container is killed for failing its liveness or startup probe.

    Told by the kubelet's Killing and Unhealthy events during the last run. A program that handles
    SIGTERM may even end with exit code 0.
    """
    found = explain(pods, logs, referred, events, now)
    fine = "No container is killed by a probe."
    yield from _judge("liveness-kill", fine, say.killed, found, now, ("killed", "ended"))


@check("dependency-down", probe=EVIDENCE)
def dependency_down(
    pods: list[dict[str, Any]], logs: dict[str, Any], referred: list[dict[str, Any]],
    events: dict[str, Any], now: datetime,
) -> Iterator[Finding]:  # fmt: skip
    """No program ends because something that it depends on is out of reach.

    Told by the last error of the previous log: refused, not resolved, timed out, full.
    """
    found = explain(pods, logs, referred, events, now)
    down = {f"{c.namespace}/{c.about.split('/')[2]}" for one in found for c in one.crashes}

    def finding(one: Explained, now: datetime) -> Finding:
        return say.unreachable(one, now, down)

    fine = "No previous log ends with a dependency that is out of reach."
    yield from _judge("dependency-down", fine, finding, found, now, ("log", "init log"))


@check("volume-unusable", probe=EVIDENCE)
def volume_unusable(
    pods: list[dict[str, Any]], logs: dict[str, Any], referred: list[dict[str, Any]],
    events: dict[str, Any], now: datetime,
) -> Iterator[Finding]:  # fmt: skip
    """Every volume can be mounted, and has room, for the user that the program runs as.

    Told by FailedMount events, and by the last error of the previous log.
    """
    found = explain(pods, logs, referred, events, now)
    fine = "No pod fails for a volume that is full, read-only, forbidden or not mountable."
    hidden_by = ("log", "init log", "creating")
    yield from _judge("volume-unusable", fine, say.volume, found, now, hidden_by)


@check("process-finishes", probe=EVIDENCE)
def process_finishes(
    pods: list[dict[str, Any]], logs: dict[str, Any], referred: list[dict[str, Any]],
    events: dict[str, Any], now: datetime,
) -> Iterator[Finding]:  # fmt: skip
    """No program that should stay up ends by itself without an error.

    Exit code 0 under restartPolicy Always: Kubernetes starts it again, with growing pauses.
    """
    found = explain(pods, logs, referred, events, now)
    fine = "No container's process ends with exit code 0 and is started again."
    yield from _judge("process-finishes", fine, say.finishes, found, now, ("ended",))


@check("init-container-failing", probe=EVIDENCE)
def init_container_failing(
    pods: list[dict[str, Any]], logs: dict[str, Any], referred: list[dict[str, Any]],
    events: dict[str, Any], now: datetime,
) -> Iterator[Finding]:  # fmt: skip
    """Every init container does its work and ends.

    While one fails, the pod's own containers never start.
    """
    found = explain(pods, logs, referred, events, now)
    fine = "No init container fails by an error of its own."
    yield from _judge("init-container-failing", fine, say.application, found, now, ("init log",))


@check("application-error", probe=EVIDENCE)
def application_error(
    pods: list[dict[str, Any]], logs: dict[str, Any], referred: list[dict[str, Any]],
    events: dict[str, Any], now: datetime,
) -> Iterator[Finding]:  # fmt: skip
    """No program ends by its own error.

    What is left when nothing around the program explains the crash: the last lines of its log.
    """
    found = explain(pods, logs, referred, events, now)
    fine = "No container ends by an error of its own."
    yield from _judge("application-error", fine, say.application, found, now, ("log",))
