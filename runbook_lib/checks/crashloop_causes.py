"""Which one cause explains a crash: the status first, then events, references, and the log."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from runbook_lib.checks import crashloop_config, crashloop_logs
from runbook_lib.checks.crashloop_config import Missing
from runbook_lib.checks.crashloop_logs import Dependency
from runbook_lib.checks.crashloop_pods import (
    CREATING,
    PATIENCE,
    Crash,
    crashes,
    creating,
    is_about,
)

_NOT_EXECUTABLE = re.compile(
    r"(?i)exec:|executable file not found|exec format error|no such file or directory"
)
_KILL = re.compile(r"(?i)failed (?P<probe>liveness|startup) probe")
_KILLED = (137, 143)  # SIGKILL and SIGTERM; a program that handles SIGTERM well exits with 0
_RECENT = timedelta(minutes=10)


@dataclass(frozen=True)
class Explained:
    """Crashes of one container of one workload with the same cause.

    cause: "" where it could not be told; then `blind` is the kind of blindness (log, init log,
    killed, ended, or creating), `why` its reason ("" where all was read and nothing tells), and
    `missing` may name what is suspected. log: one of their logs.
    left_out: how many containers' logs, of all that crash, were not asked for.
    """

    crashes: list[Crash]
    cause: str
    log: list[str] = field(default_factory=list)
    blind: str = ""
    why: str = ""
    missing: Missing | None = None
    dependency: Dependency | None = None
    volume: tuple[str, str] | None = None
    event: dict[str, Any] | None = None
    left_out: int = 0


def explain(
    pods: list[dict[str, Any]],
    logs: dict[str, Any],
    referred: list[dict[str, Any]],
    events: dict[str, Any],
    now: datetime,
) -> list[Explained]:
    """Every crash, and every pod stuck for a volume, with its cause, replicas together."""
    found = [*crashes(pods, now, events["events"]), *creating(pods)]
    groups: dict[Any, list[Explained]] = defaultdict(list)
    for crash in found:
        one = _explain(crash, *_log_of(crash, found, logs), referred, events, now)
        if one:
            detail = (one.missing and one.missing.sentence, str(one.dependency), one.volume)
            key = (crash.about, crash.container, crash.init, one.cause, detail)
            groups[key].append(one)
    return [_together(group, logs["left_out"]) for group in groups.values()]


def _together(group: list[Explained], left_out: int) -> Explained:
    every = [crash for one in group for crash in one.crashes]
    return replace(group[0], crashes=every, left_out=left_out)


def _log_of(crash: Crash, found: list[Crash], logs: dict[str, Any]) -> tuple[list[str] | None, str]:
    """(lines, "") of its own previous log, else of a replica's; (None, why) where none is there."""
    read = {(one["namespace"], one["pod"], one["container"]): one for one in logs["logs"]}
    replicas = [c for c in found if (c.about, c.container) == (crash.about, crash.container)]
    mine = [crash, *replicas] if crash.code is not None else []
    entries = [entry for c in mine if (entry := read.get((c.namespace, c.pod_name, c.container)))]
    for entry in entries:
        if "lines" in entry:
            return entry["lines"], ""
    return None, entries[0]["error"] if entries else "it was not among the logs asked for"


def _explain(
    crash: Crash,
    log: list[str] | None,
    no_log: str,
    referred: list[dict[str, Any]],
    events: dict[str, Any],
    now: datetime,
) -> Explained | None:
    by_status = _by_status(crash)
    missing = crashloop_config.find(crash, log, referred)
    lines = log or []
    if missing and not missing.unread and by_status not in ("out-of-memory",):
        return Explained([crash], "missing-configuration", lines, missing=missing)
    if crash.waiting == CREATING:
        mount = _recent(crash, events, now, "FailedMount", "FailedAttachVolume")
        if mount:
            return Explained([crash], "volume-unusable", event=mount, missing=missing)
        return _still_creating(crash, missing, events, now)
    if by_status:
        return Explained([crash], by_status, lines)
    if kill := _kill(crash, events):
        return Explained([crash], "liveness-kill", lines, event=kill)
    if crash.code in _KILLED or (crash.code == 0 and _unseen(crash, events)):
        blind = "ended" if crash.code == 0 else "killed"
        return Explained([crash], "", lines, blind, _unseen(crash, events), missing)
    if crash.code == 0:
        return Explained([crash], "process-finishes", lines)
    if log is None:
        blind = "init log" if crash.init else "log"
        return Explained([crash], "", [], blind, no_log, missing)
    return _by_log(crash, log, missing)


def _still_creating(
    crash: Crash, missing: Missing | None, events: dict[str, Any], now: datetime
) -> Explained | None:
    """A pod that no event explains: nothing yet while it is young, later a blindness."""
    if crash.since and now - crash.since < PATIENCE:
        return None
    why = events["unread"].get(crash.namespace, "")
    if missing and not why:  # the events are silent about a volume, the object itself is unread
        return Explained([crash], "", missing=missing)
    return Explained([crash], "", [], "creating", why, missing)


def _by_status(crash: Crash) -> str:
    if crash.waiting in ("CreateContainerConfigError", "CreateContainerError"):
        return "container-refused"
    if crash.code in (126, 127):
        return "command-not-found"
    if crash.reason in ("StartError", "ContainerCannotRun") or crash.waiting in (
        "RunContainerError",
        "StartError",
    ):
        return "command-not-found" if _NOT_EXECUTABLE.search(crash.message) else "container-refused"
    if crash.reason == "OOMKilled":
        return "out-of-memory"
    return "container-refused" if crash.waiting == "PostStartHookError" else ""


def _by_log(crash: Crash, log: list[str], missing: Missing | None) -> Explained:
    if trouble := crashloop_logs.volume(log):
        return Explained([crash], "volume-unusable", log, volume=trouble)
    if down := crashloop_logs.dependency(log):
        return Explained([crash], "dependency-down", log, dependency=down)
    cause = "init-container-failing" if crash.init else "application-error"
    return Explained([crash], cause, log, missing=missing)


def _recent(
    crash: Crash, events: dict[str, Any], now: datetime, *reasons: str
) -> dict[str, Any] | None:
    found = [
        event
        for event in events["events"]
        if event["reason"] in reasons
        and is_about(event, crash.pod, crash.container)
        and now - datetime.fromisoformat(event["last"]) < _RECENT
    ]
    return max(found, key=lambda event: event["last"], default=None)


def _kill(crash: Crash, events: dict[str, Any]) -> dict[str, Any] | None:
    """The kubelet's word that a probe made it end the last run, with the probe's own complaint."""
    began = crash.began
    mine = [
        event
        for event in events["events"]
        if event["reason"] in ("Killing", "Unhealthy")
        and is_about(event, crash.pod, crash.container)
        and (not began or datetime.fromisoformat(event["last"]) >= began)
    ]
    kills = [one for one in mine if one["reason"] == "Killing" and _KILL.search(one["message"])]
    said = [
        one
        for one in mine
        if one["reason"] == "Unhealthy" and one["message"].startswith(("Liveness", "Startup"))
    ]
    if not kills and not (said and crash.code in _KILLED):
        return None
    named = _KILL.search(kills[-1]["message"]) if kills else None
    probe = named["probe"].lower() if named else said[-1]["message"].split()[0].lower()
    complaint = next((s["message"] for s in said if s["message"].lower().startswith(probe)), "")
    return {"probe": probe, "complaint": complaint, "killed": kills[-1] if kills else said[-1]}


def _unseen(crash: Crash, events: dict[str, Any]) -> str:
    """Why it cannot be told whether a probe had it killed; '' where it can."""
    if not (crash.spec.get("livenessProbe") or crash.spec.get("startupProbe")):
        return "" if crash.code == 0 else "it has no liveness probe, so something else killed it"
    if why := events["unread"].get(crash.namespace):
        return f"the events that would tell cannot be read: {why}"
    return "" if crash.code == 0 else "no event says that a probe had it killed"
