"""Judges of the database section: RDS connection exhaustion.

Usable slots are max_connections less what is reserved for superusers and for the roles that may
use reserved slots; counting against max_connections alone would call a full server free.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from runbook_lib import charts_database
from runbook_lib.core import check
from runbook_lib.model import Chart, Finding, fail, ok, unknown, warn
from runbook_lib.sources import aws, kubernetes, pools, postgres

DATABASE = "database"
HEADROOM = "rds-connection-headroom"
BURST_SECONDS = 300
_BLIND = "Postgres has no slot left even for us, so who holds the slots cannot be seen."
_RESERVE = "Look again with a role that may use reserved slots (pg_use_reserved_connections)."


def usable_slots(stats: dict[str, Any]) -> int:
    """The connections that ordinary roles can hold at once."""
    slots = stats["slots"]
    reserved = sum(count for name, count in slots.items() if name != "max_connections")
    return int(slots["max_connections"]) - reserved


def by_application(sessions: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """{application: {state: connections}}, the largest first. Unnamed ones go by their role."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in sessions:
        counts[_owner(one)][_state(one)] += 1
    return dict(sorted(counts.items(), key=lambda item: -sum(item[1].values())))


def _owner(session: dict[str, Any]) -> str:
    return session["application"] or f"role {session['role']}"


def _state(session: dict[str, Any]) -> str:
    state = session["state"] or "active"
    return "idle in transaction" if state.startswith("idle in transaction") else state


def _full(stats: dict[str, Any], percent: float) -> bool:
    return len(stats["sessions"]) >= usable_slots(stats) * percent / 100


def _minutes(seconds: float | None) -> str:
    seconds = seconds or 0
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def session_rows(stats: dict[str, Any]) -> list[dict[str, Any]]:
    """Sessions grouped by application, role and state, the most numerous first."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for one in stats["sessions"]:
        groups[(_owner(one), one["role"], one["database"], _state(one))].append(one)
    rows = [
        {
            "application": owner,
            "role": role,
            "database": database,
            "state": state,
            "connections": len(held),
            "longest in state": _minutes(max(one["state_seconds"] or 0 for one in held)),
        }
        for (owner, role, database, state), held in groups.items()
    ]
    return sorted(rows, key=lambda row: -int(row["connections"]))


def _connections_chart(stats: dict[str, Any]) -> Chart | None:
    if not stats["sessions"]:
        return None
    return charts_database.connections(by_application(stats["sessions"]), usable_slots(stats))


@check(
    HEADROOM,
    probe=postgres.sessions,
    symptom=True,
    rows=session_rows,
    chart=_connections_chart,
)
def connection_headroom(stats: dict[str, Any], connections_percent: float = 80) -> Finding:
    """Postgres has free connection slots.

    A full server refuses every new client, and each application fails in its own way.
    """
    if stats["refused"]:
        return fail(DATABASE, f"Postgres refuses new clients: {stats['refused']}", hint=_RESERVE)
    used, usable = len(stats["sessions"]), usable_slots(stats)
    evidence = {"used": used, "usable": usable, **stats["slots"]}
    if used >= usable:
        return fail(
            DATABASE,
            f"All {usable} usable connection slots are taken, and new clients are refused.",
            evidence=evidence,
            hint="Free slots at their owner first; a higher max_connections only moves the wall.",
        )
    if _full(stats, connections_percent):
        return warn(
            DATABASE, f"{used} of {usable} usable connection slots are taken.", evidence=evidence
        )
    return ok(DATABASE, f"{used} of {usable} usable slots are taken.", evidence=evidence)


@check("rds-connection-leak", probe=postgres.sessions, explains=(HEADROOM,))
def connection_leak(
    stats: dict[str, Any], now: datetime, connections_percent: float = 80
) -> Finding:
    """No application hoards idle connections.

    A pool gives connections back; an application that holds most slots and does nothing with
    them leaks them, or has no pool.
    """
    if stats["refused"]:
        return unknown(DATABASE, _BLIND, hint=_RESERVE)
    idle = [one for one in stats["sessions"] if one["state"] == "idle"]
    owner, held = next(iter(Counter(map(_owner, idle)).most_common(1)), ("", 0))
    hoarded = held >= max(5, len(stats["sessions"]) / 2)
    if not (hoarded and _full(stats, connections_percent)):
        return ok(DATABASE, f"The most idle connections of one application are {held}.")
    mine = [one for one in idle if _owner(one) == owner]
    oldest = max(one["state_seconds"] or 0 for one in mine)
    return fail(
        f"application/{owner}",
        f"{owner} holds {held} of {usable_slots(stats)} usable connection slots idle,"
        f" the oldest for {_minutes(oldest)}.",
        since=now - timedelta(seconds=max(one["connected_seconds"] or 0 for one in mine)),
        hint=f"Restart {owner} to free the slots now, then mend its pool (size, recycle, close)."
        " Do not raise max_connections: a leak fills any limit.",
        evidence={
            "roles": sorted({one["role"] for one in mine}),
            "clients": dict(Counter(one["client"] for one in mine).most_common(5)),
            "idle": held,
            "oldest_seconds": oldest,
        },
    )


@check(
    "rds-idle-in-transaction",
    probe=postgres.sessions,
    explains=(HEADROOM, "rds-slow-queries"),
)
def idle_in_transaction(
    stats: dict[str, Any], now: datetime, connections_percent: float = 80, idle_minutes: float = 5
) -> Finding:
    """No session sits idle in an open transaction.

    Such a session keeps its slot, its locks, and holds back VACUUM; closing it loses its work.
    """
    if stats["refused"]:
        return unknown(DATABASE, _BLIND, hint=_RESERVE)
    stuck = [
        one
        for one in stats["sessions"]
        if _state(one) == "idle in transaction" and (one["state_seconds"] or 0) >= idle_minutes * 60
    ]
    if not stuck:
        return ok(DATABASE, f"No session is idle in a transaction for {idle_minutes:g} min.")
    owner, count = Counter(map(_owner, stuck)).most_common(1)[0]
    longest = max(one["state_seconds"] for one in stuck)
    blocked = [s for s in stats["sessions"] if {o["pid"] for o in stuck} & set(s["blocked_by"])]
    about, fields = (
        f"application/{owner}",
        {
            "since": now - timedelta(seconds=longest),
            "evidence": {"pids": [one["pid"] for one in stuck], "blocked": len(blocked)},
            "hint": "Cancel or end these sessions after a look at their query, then set"
            " idle_in_transaction_session_timeout for the role.",
        },
    )
    words = (
        f"{len(stuck)} sessions are idle in a transaction ({count} of {owner}),"
        f" the longest for {_minutes(longest)}; {len(blocked)} others wait for them."
    )
    holds_slots = len(stuck) >= len(stats["sessions"]) / 4 and _full(stats, connections_percent)
    return fail(about, words, **fields) if blocked or holds_slots else warn(about, words, **fields)


@check("rds-slow-queries", probe=postgres.sessions, explains=(HEADROOM,))
def slow_queries(
    stats: dict[str, Any], connections_percent: float = 80, slow_seconds: float = 60
) -> Finding:
    """Slow queries do not hold the slots.

    When statements take minutes, every pool opens more connections until none is left.
    """
    if stats["refused"]:
        return unknown(DATABASE, _BLIND, hint=_RESERVE)
    slow = [
        one
        for one in stats["sessions"]
        if one["state"] == "active" and (one["query_seconds"] or 0) >= slow_seconds
    ]
    if len(slow) < max(3, len(stats["sessions"]) / 4) or not _full(stats, connections_percent):
        return ok(DATABASE, f"{len(slow)} sessions run a statement for over {slow_seconds:g} s.")
    query, same = Counter(one["query"] for one in slow).most_common(1)[0]
    return fail(
        DATABASE,
        f"{len(slow)} sessions have run a statement for over {slow_seconds:g} s and hold their"
        f" slots; {same} of them the same one.",
        evidence={"query": query, "waits": dict(Counter(one["wait"] or "none" for one in slow))},
        hint="Look at RDS high CPU: a missing index, a lock or one heavy query. Cancel"
        " (pg_cancel_backend) before you terminate.",
    )


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
    if stats["refused"]:
        return unknown(DATABASE, _BLIND, hint=_RESERVE)
    for rollout in rollouts:
        created = datetime.fromisoformat(rollout["created"])
        age = (now - created).total_seconds()
        if age > storm_minutes * 60:
            continue
        burst = [
            one
            for one in stats["sessions"]
            if _owner(one) == rollout["deployment"]
            and 0 <= age - (one["connected_seconds"] or 0) <= BURST_SECONDS
        ]
        if len(burst) >= len(stats["sessions"]) / 2 and _full(stats, connections_percent):
            return fail(
                f"deployment/{rollout['deployment']}",
                f"{rollout['deployment']} was rolled out {_minutes(age)} ago and has opened"
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
    """What the pools may open fits into the slots.

    replicas x workers x (pool + overflow), summed over the Deployments that declare a pool.
    """
    if stats["refused"]:
        return unknown(DATABASE, _BLIND, hint=_RESERVE)
    if not configured:
        return unknown(
            DATABASE,
            "No Deployment declares a pool size, so what they may open cannot be counted.",
            hint="Set DB_POOL_SIZE and DB_MAX_OVERFLOW; unset, SQLAlchemy opens up to 15 a worker.",
        )
    most = {
        p["deployment"]: p["replicas"] * p["workers"] * (p["pool_size"] + p["max_overflow"])
        for p in configured
    }
    total, usable = sum(most.values()), usable_slots(stats)
    sums = ", ".join(f"{name} {count}" for name, count in most.items())
    if total <= usable:
        return ok(DATABASE, f"The pools may open {total} of {usable} usable slots ({sums}).")
    words = f"The pools may open {total} connections, and {usable} slots are usable ({sums})."
    hint = "Lower pool or replicas, or put a pooler (PgBouncer, RDS Proxy) in front."
    say = fail if _full(stats, connections_percent) else warn
    return say(DATABASE, words, evidence={"pools": configured, "usable": usable}, hint=hint)


@check("rds-role-limit", probe=postgres.sessions)
def own_limits(stats: dict[str, Any]) -> Iterator[Finding]:
    """No role and no database is at a limit of its own.

    CONNECTION LIMIT of a role or database refuses clients while the server has free slots.
    """
    if stats["refused"]:
        yield unknown(DATABASE, _BLIND, hint=_RESERVE)
        return
    reached = []
    for limit in stats["limits"]:
        used = sum(one[limit["kind"]] == limit["name"] for one in stats["sessions"])
        if used >= limit["connections"]:
            reached.append(limit["name"])
            yield fail(
                f"{limit['kind']}/{limit['name']}",
                f"{limit['kind'].capitalize()} {limit['name']} is at its own limit:"
                f" {used} of {limit['connections']} connections.",
                evidence=limit,
                hint=f"ALTER {limit['kind'].upper()} … CONNECTION LIMIT, after a look at why it"
                " needs more.",
            )
    if not reached:
        yield ok(
            DATABASE, f"{len(stats['limits'])} roles or databases have a limit; none is at it."
        )


@check("rds-instance", probe=aws.database_instance)
def instance_available(instance: dict[str, Any]) -> Iterator[Finding]:
    """The RDS instance is available, and its parameters are in force.

    An instance that reboots, fails over or is out of storage refuses clients too.
    """
    waiting = [g["name"] for g in instance["parameter_groups"] if g["apply"] != "in-sync"]
    if waiting:
        yield warn(
            DATABASE,
            f"Parameter group {', '.join(waiting)} waits for a reboot to take effect.",
            hint="A raised max_connections is not in force yet. A reboot cuts every client.",
        )
    if instance["status"] == "available":
        yield ok(DATABASE, f"The RDS instance ({instance['class']}) is available.")
    else:
        yield fail(
            DATABASE,
            f"The RDS instance is {instance['status']}, not available.",
            evidence=instance,
            hint="aws rds describe-events tells why; clients are refused until it is available.",
        )


def _trend_chart(metric: dict[str, Any]) -> Chart | None:
    return charts_database.trend(metric["points"])


@check("rds-connection-trend", probe=aws.database_metric, chart=_trend_chart)
def connection_trend(metric: dict[str, Any]) -> Finding:
    """The number of connections does not climb.

    A leak climbs steadily, a storm jumps; a level line near the limit is a sizing question.
    """
    values = [point["maximum"] for point in metric["points"]]
    if len(values) < 3:
        return unknown(DATABASE, f"CloudWatch has {len(values)} points, too few for a trend.")
    first, last = min(values[: max(1, len(values) // 3)]), values[-1]
    words = f"Connections went from {first:g} to {last:g} over {len(values) * 5} minutes."
    climbed = last - first >= 10 and last >= 2 * first
    return warn(DATABASE, words) if climbed else ok(DATABASE, words)
