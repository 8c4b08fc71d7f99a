"""Judges of RDS connection exhaustion: rollouts, pools, and limits of roles and databases."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from runbook_lib.checks.database import (
    DATABASE,
    HEADROOM,
    blind,
    kept_out,
    limit_of,
    nearly_full,
    span,
    usable_slots,
)
from runbook_lib.core import check
from runbook_lib.model import Finding, fail, ok, unknown, warn
from runbook_lib.sources import kubernetes, pools, postgres

BURST_SECONDS = 300
SURGE = 0.25  # a Deployment's maxSurge when it is not set, rounded up


def _is_of(session: dict[str, Any], deployment: str) -> bool:
    """Whether a session is the Deployment's, by its application or, without one, by its role."""
    name = session["application"] or session["role"] or ""
    return name.replace("_", "-") == deployment.replace("_", "-")


@check(
    "rds-connection-storm",
    probe=(postgres.sessions, kubernetes.rollouts),
    explains=(HEADROOM, "rds-connection-leak"),
)
def connection_storm(
    stats: dict[str, Any],
    rollouts: list[dict[str, Any]],
    now: datetime,
    connections_percent: float = 80,
    storm_minutes: float = 15,
) -> Finding:
    """No rollout floods the database with new connections.

    During a rollout old and new pods hold their pools at the same time, so a storm's sessions
    begin within minutes of it; those that come later have another reason.
    """
    if kept_out(stats):
        return blind(stats)
    for rollout in rollouts:
        created = datetime.fromisoformat(rollout["created"])
        age = (now - created).total_seconds()
        if age > storm_minutes * 60:
            continue
        burst = [
            one
            for one in stats["sessions"]
            if _is_of(one, rollout["deployment"])
            and 0 <= age - (one["connected_seconds"] or 0) <= BURST_SECONDS
        ]
        if len(burst) >= len(stats["sessions"]) / 2 and nearly_full(stats, connections_percent):
            return fail(
                f"deployment/{rollout['deployment']}",
                f"{rollout['deployment']} was rolled out {span(age)} ago and has opened"
                f" {len(burst)} of {len(stats['sessions'])} connections since.",
                since=created,
                evidence=rollout,
                hint="Wait for the old pods to end, or pause the rollout; then lower maxSurge or"
                " the pool, so that old and new pods fit together.",
            )
    return ok(DATABASE, f"No rollout of the last {storm_minutes:g} min holds the slots.")


@check(
    "rds-pool-arithmetic",
    probe=(postgres.sessions, pools.database_pools),
    explains=(HEADROOM, "rds-connection-leak", "rds-connection-storm"),
)
def pool_arithmetic(
    stats: dict[str, Any], configured: list[dict[str, Any]], connections_percent: float = 80
) -> Finding:
    """What the pools may open fits into the slots, during a rollout too.

    replicas x workers x (pool + overflow), summed over the Deployments that declare a pool. One
    that declares none counts by what it holds, which is no bound: near the limit that is unknown.
    """
    if kept_out(stats):
        return blind(stats)
    declared = [p for p in configured if p["pool_size"] is not None]
    if not declared:
        return unknown(
            DATABASE,
            "No Deployment declares a pool size, so what they may open cannot be counted.",
            hint="Set DB_POOL_SIZE and DB_MAX_OVERFLOW; unset, SQLAlchemy opens up to 15 a worker.",
        )
    most = {p["deployment"]: p["replicas"] * _of_replica(p) for p in declared}
    total, usable = sum(most.values()), usable_slots(stats)
    sums = ", ".join(f"{name} {count}" for name, count in most.items())
    evidence = {"pools": configured, "usable": usable}
    hint = "Lower pool or replicas, or put a pooler (PgBouncer, RDS Proxy) in front."
    if total > usable:
        words = f"The pools may open {total} connections, and {usable} slots are usable ({sums})."
        say = fail if nearly_full(stats, connections_percent) else warn
        return say(DATABASE, words, evidence=evidence, hint=hint)
    held = {
        name: count
        for name in (p["deployment"] for p in configured if p["pool_size"] is None)
        if (count := sum(_is_of(one, name) for one in stats["sessions"]))
    }
    without = ", ".join(f"{name} holds {count}" for name, count in held.items())
    if held and (nearly_full(stats, connections_percent) or total + sum(held.values()) > usable):
        return unknown(
            DATABASE,
            f"The pools may open {total} of {usable} usable slots ({sums}), but {without} and"
            " declares no pool size: the sum cannot be completed.",
            hint="Set its pool size and overflow; unset, SQLAlchemy opens up to 15 a worker.",
            evidence=evidence,
        )
    surge = max(math.ceil(p["replicas"] * SURGE) * _of_replica(p) for p in declared)
    if total + surge > usable:
        words = (
            f"The pools may open {total} of {usable} usable slots ({sums}), but a rollout adds up"
            f" to {surge} while old and new pods run together."
        )
        return warn(DATABASE, words, evidence=evidence, hint=f"{hint} Or set maxSurge to 0.")
    beside = f"; beside them, {without} without a declared pool" if held else ""
    return ok(DATABASE, f"The pools may open {total} of {usable} usable slots ({sums}){beside}.")


def _of_replica(pool: dict[str, Any]) -> int:
    return int(pool["workers"] * (pool["pool_size"] + pool["max_overflow"]))


@check("rds-role-limit", probe=postgres.sessions)
def own_limits(stats: dict[str, Any]) -> Iterator[Finding]:
    """No role and no database is at a limit of its own.

    CONNECTION LIMIT of a role or database refuses clients while the server has free slots. A
    limit of 0 is one switched off on purpose, and no cause.
    """
    if limit := limit_of(stats):
        yield fail(
            f"{limit['kind']}/{limit['name']}",
            f"{limit['kind'].capitalize()} {limit['name']} is at its own limit and refuses"
            f" clients: {limit['said']}",
            evidence=limit,
            hint=_raise_hint(limit["kind"]),
        )
        return
    if stats["refused"]:
        yield blind(stats)
        return
    limits = [limit for limit in stats["limits"] if limit["connections"] > 0]
    reached = []
    for one in limits:
        used = sum(session[one["kind"]] == one["name"] for session in stats["sessions"])
        if used >= one["connections"]:
            reached.append(one["name"])
            yield fail(
                f"{one['kind']}/{one['name']}",
                f"{one['kind'].capitalize()} {one['name']} is at its own limit:"
                f" {used} of {one['connections']} connections.",
                evidence=one,
                hint=_raise_hint(one["kind"]),
            )
    if not reached:
        yield ok(DATABASE, f"{len(limits)} roles or databases have a limit; none is at it.")


def _raise_hint(kind: str) -> str:
    return f"ALTER {kind.upper()} … CONNECTION LIMIT, after a look at why it needs more."
