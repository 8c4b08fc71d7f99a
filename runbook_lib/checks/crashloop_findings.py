"""The sentences of the runbook CrashLoopBackOff: what a finding says about a crash's cause."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from runbook_lib.checks import crashloop_logs
from runbook_lib.checks.crashloop_causes import Explained
from runbook_lib.checks.crashloop_pods import (
    Crash,
    crash_of,
    describe,
    evidence,
    exit_words,
    first_since,
    logs_command,
    scale,
    words_for,
)
from runbook_lib.model import Finding, fail, ok, warn
from runbook_lib.sources import workloads

RECOVERED_DAYS = 7  # an older crash is history, not a recovery worth a report
SETTLED = timedelta(minutes=1)  # and thrice the last run: then it is no longer that crash
QUICK = timedelta(minutes=1)  # memory that is gone within a minute went into starting up


def loop(group: list[Crash], pods: list[dict[str, Any]], now: datetime) -> Finding:
    worst = max(group, key=lambda crash: crash.restarts)
    starts = worst.code is not None and worst.waiting != "CreateContainerConfigError"
    what = f"crash-loops, each run ending with {exit_words(worst)}" if starts else "cannot start"
    others = [
        pod
        for pod in pods
        if workloads.workload(pod) == worst.about
        and pod["metadata"].get("labels", {}).get("pod-template-hash")
        != worst.pod["metadata"].get("labels", {}).get("pod-template-hash")
        and all(one.get("ready") for one in workloads.statuses(pod) if not one["init"])
    ]
    hint = "The other checks say why. Do not delete the pods: new ones crash the same, and the "
    hint += "previous logs go with the old ones."
    found = evidence(group)
    if others:
        found["ready pods of another revision"] = len(others)
        hint += " Another revision still serves: kubectl rollout undo, if the rollout is the cause."
    return fail(
        worst.about,
        f"{worst.who} in {worst.namespace} {what} {scale(group, now)}.",
        hint=hint,
        evidence=found,
        since=first_since(group),
        command=describe(worst),
    )


def past(
    pod: dict[str, Any], status: dict[str, Any], now: datetime, since_minutes: int
) -> Finding | None:
    """What to say of a container that runs now and crashed earlier."""
    crash = crash_of(pod, status)
    up = now - workloads.time_of(status["state"]["running"]["startedAt"])
    if not crash.ended or now - crash.ended > timedelta(days=RECOVERED_DAYS):
        return None
    about = f"pod/{crash.namespace}/{crash.pod_name}"
    times = "once" if crash.restarts == 1 else f"{crash.restarts} times"
    told = (
        f"{crash.who} restarted {times}, the last time {words_for(now - crash.ended)} ago after "
        f"{words_for(crash.ran or timedelta())} with {exit_words(crash)}, and has been up for "
        f"{words_for(up)}"
    )
    long_ago = now - crash.ended > timedelta(minutes=since_minutes)
    if not long_ago and (up < SETTLED or up < 3 * (crash.ran or timedelta())):
        return warn(
            about,
            f"{told}, too short to call it stable.",
            hint="Look again in ten minutes; read the previous log meanwhile.",
            evidence=evidence([crash]),
            command=logs_command(crash),
        )
    return ok(
        about, f"{told}.", recovered=True, evidence=evidence([crash]), command=logs_command(crash)
    )


def _failing(one: Explained, now: datetime, why: str, hint: str, **fields: Any) -> Finding:
    """A cause's finding: "platform-api crash-loops because WHY (14 min, 7 restarts, 3 pods)." """
    worst = max(one.crashes, key=lambda crash: crash.restarts)
    looping = worst.code is not None and worst.waiting != "CreateContainerConfigError"
    verb = "crash-loops" if looping else "cannot start"
    fields["evidence"] = {**evidence(one.crashes, one.log), **fields.get("evidence", {})}
    if one.left_out:
        fields["evidence"]["logs left out"] = f"{one.left_out} more containers crash"
    return fail(
        worst.about,
        f"{worst.who} {verb} because {why.rstrip('.')} {scale(one.crashes, now)}.",
        hint=hint,
        **{"since": first_since(one.crashes), "command": describe(worst), **fields},
    )


def missing(one: Explained, now: datetime) -> Finding:
    missing = one.missing
    assert missing is not None
    more: dict[str, Any] = {"keys that it has": ", ".join(sorted(missing.there)) or "none"}
    if missing.changed:
        more["last changed"] = missing.changed
    return _failing(
        one, now, missing.sentence, missing.hint,
        evidence=more if missing.exists else {},
        command=missing.command or describe(one.crashes[0]),
    )  # fmt: skip


def command(one: Explained, now: datetime) -> Finding:
    worst = one.crashes[0]
    words = [*(worst.spec.get("command") or []), *(worst.spec.get("args") or [])]
    line = crashloop_logs.final_error(one.log)
    said = worst.message if worst.reason == "StartError" or not line else line
    said = said[said.find("exec:") :].removesuffix(": unknown") if "exec:" in said else said
    image = worst.spec.get("image", "its image")
    return _failing(
        one, now,
        f"its command cannot be run in {image}: {said or exit_words(worst)}",
        "Compare command and args with the image's entrypoint; was the image built for this "
        "architecture, and the script marked executable? Roll back if it came with a rollout.",
        evidence={"command": " ".join(words) or "the image's own"},
    )  # fmt: skip


def refused(one: Explained, now: datetime) -> Finding:
    return _failing(
        one, now, f"the node refuses to run it: {one.crashes[0].message or 'no reason given'}",
        "Correct the specification that the message names; new pods are refused the same.",
    )  # fmt: skip


def memory(group: list[Crash], now: datetime) -> Finding:
    """Killed for memory, again and again."""
    worst = max(group, key=lambda crash: crash.restarts)
    limit = (worst.spec.get("resources") or {}).get("limits", {}).get("memory")
    ran = f" after {words_for(worst.ran)}" if worst.ran is not None else ""
    if limit:
        why = f"it needs more memory than its limit of {limit} and is OOM-killed{ran}"
    else:
        why = f"it is OOM-killed{ran} and has no memory limit, so its node ran out"
    if worst.ran is not None and worst.ran < QUICK:
        hint = "It does not get through its start: raise the limit to what starting takes, or "
        hint += "load less at once."
    else:
        hint = "It grows until it is killed: look at its memory over time before raising the "
        hint += "limit, which only delays a leak."
    return fail(
        worst.about,
        f"{worst.who} crash-loops because {why} {scale(group, now)}.",
        hint=hint,
        evidence={**evidence(group), "memory limit": limit or "none"},
        since=first_since(group),
        command=describe(worst),
    )


def killed_for_memory(pod: dict[str, Any], status: dict[str, Any], now: datetime) -> Finding:
    """Killed for memory lately, and up at this moment."""
    crash = crash_of(pod, status)
    assert crash.ended is not None
    return warn(
        f"pod/{crash.namespace}/{crash.pod_name}",
        f"{crash.who} was OOM-killed {words_for(now - crash.ended)} ago and runs again "
        f"(restarts: {crash.restarts}).",
        hint="It will be killed again if its memory grows again: watch it.",
        evidence=evidence([crash]),
        command=describe(crash),
    )


def killed(one: Explained, now: datetime) -> Finding:
    """Killed by the kubelet because a probe failed."""
    worst, event = one.crashes[0], one.event or {}
    name = event["probe"]
    probe = worst.spec.get(f"{name}Probe") or {}
    gives = budget(probe)
    ran = f" after {words_for(worst.ran)}" if worst.ran is not None else ""
    said = event["complaint"].partition(": ")[2].strip().rstrip(".")
    complaint = f": {said[:120]}" if said else ""
    slow = worst.ran is not None and worst.ran <= gives * 1.5 + timedelta(seconds=30)
    if slow:
        hint = (
            "It never answers in the time that it is given. If its log shows it still starting, "
            "give it a startupProbe with a handler and failureThreshold x periodSeconds above its "
            "slowest start; initialDelaySeconds alone is not valid. Not if it hangs or the path or "
            "port is wrong: correct that."
        )
    else:
        hint = (
            "It answered for a while and then stopped: look for a deadlock or overload in its log. "
            "Do not loosen the probe to hide it."
        )
    return _failing(
        one, now, f"its {name} probe fails and Kubernetes kills it{ran}{complaint}", hint,
        evidence={
            f"{name} probe": f"{handler(probe)}, gives {words_for(gives)}",
            "event": event["killed"]["message"],
        },
    )  # fmt: skip


def budget(probe: dict[str, Any]) -> timedelta:
    """How long after the start a probe lets a container go unanswered."""
    seconds = probe.get("initialDelaySeconds", 0)
    seconds += probe.get("failureThreshold", 3) * probe.get("periodSeconds", 10)
    return timedelta(seconds=seconds)


def handler(probe: dict[str, Any]) -> str:
    """What a probe does: "GET :8000/health", "tcp :6379", "exec pg_isready", "grpc :9000"."""
    if http := probe.get("httpGet"):
        return f"GET :{http.get('port', '?')}{http.get('path', '/')}"
    if tcp := probe.get("tcpSocket"):
        return f"tcp :{tcp.get('port', '?')}"
    if grpc := probe.get("grpc"):
        return f"grpc :{grpc.get('port', '?')}"
    return f"exec {' '.join((probe.get('exec') or {}).get('command', []))}".strip()


def finishes(one: Explained, now: datetime) -> Finding:
    """It does its work and ends, and is started again for ever."""
    ran = one.crashes[0].ran
    after = f" after {words_for(ran)}" if ran is not None else ""
    return _failing(
        one, now,
        f"its process ends by itself{after} with exit code 0, and Kubernetes starts it again",
        "Nothing failed: the command is no server. Run it in the foreground, or make it a Job.",
        command=logs_command(one.crashes[0]),
    )  # fmt: skip


def application(one: Explained, now: datetime) -> Finding:
    """It ends by its own error, and nothing around it explains that."""
    worst = max(one.crashes, key=lambda crash: crash.restarts)
    line = crashloop_logs.final_error(one.log)
    said = f": {line}" if line else ", and its log is empty"
    return _failing(
        one, now,
        f"it ends by its own error, {exit_words(worst)}{said}",
        "Read the traceback from its end. If it began with a rollout, roll back "
        "(kubectl rollout undo); deleting pods does not help.",
        command=logs_command(worst),
    )  # fmt: skip


def unreachable(one: Explained, now: datetime, also_failing: set[str]) -> Finding:
    """Something that it needs at its start is not there."""
    down, worst = one.dependency, one.crashes[0]
    assert down is not None
    service, _, rest = down.host.partition(".")
    namespace = rest.split(".")[0] if rest else worst.namespace
    cause = f"it cannot reach what it depends on: {down} {down.how}"
    if (culprit := f"{namespace}/{service}") in also_failing:
        return warn(
            worst.about,
            f"{worst.who} crash-loops because {down} {down.how}, and {culprit} is itself down "
            f"{scale(one.crashes, now)}.",
            hint=f"Mend {service} first; this one comes back by itself within five minutes.",
            evidence=evidence(one.crashes, one.log),
            since=first_since(one.crashes),
            command=logs_command(worst),
        )
    inside = down.host and ("." not in down.host or rest.endswith((".svc", ".cluster.local")))
    hint = "Is it up, does its name resolve in the cluster, and do security group and network "
    hint += "policy let this pod through? Restarting this workload does not help."
    return _failing(
        one, now, cause, hint,
        command=f"kubectl get service,endpointslices -n {namespace}" if inside
        else logs_command(worst),
        evidence={"depends on": str(down)},
    )  # fmt: skip


def volume(one: Explained, now: datetime) -> Finding:
    """A volume that cannot be mounted, or a path that cannot be written."""
    worst = one.crashes[0]
    if one.event:
        return _failing(
            one, now, f"a volume cannot be mounted: {one.event['message'][:200].rstrip('.')}",
            "Look at the claim and at where the volume is attached; do not force it off a node "
            "that may still write to it.",
        )  # fmt: skip
    assert one.volume is not None
    wrong, path = one.volume
    mount = mounted(worst, path)
    where = f"volume {mount} at {path}" if mount else (path or "its file system")
    advice = {
        "is full": "Find what fills it before enlarging it; deleting files by hand can lose data.",
        "is read-only": "Mount a writable volume there; a file system that turned read-only by "
        "itself has errors: look at the node.",
        "refuses this user": "Compare the files' owner with runAsUser and fsGroup; do not run the "
        "container as root to get round it.",
    }
    return _failing(
        one, now, f"{where} {wrong}: {crashloop_logs.final_error(one.log)}", advice[wrong],
        command=f"kubectl get pvc -n {worst.namespace}" if "PVC" in mount else describe(worst),
        evidence={"path": path or "not named"},
    )  # fmt: skip


def mounted(crash: Crash, path: str) -> str:
    """The volume that holds this path: "data (PVC mlflow-data)", or ''."""
    mounts = [
        one
        for one in crash.spec.get("volumeMounts") or []
        if path == one["mountPath"] or path.startswith(one["mountPath"].rstrip("/") + "/")
    ]
    if not mounts:
        return ""
    name = max(mounts, key=lambda one: len(one["mountPath"]))["name"]
    volumes = crash.pod["spec"].get("volumes") or []
    found: dict[str, Any] = next((one for one in volumes if one["name"] == name), {})
    claim = (found.get("persistentVolumeClaim") or {}).get("claimName")
    return f"{name} (PVC {claim})" if claim else name
