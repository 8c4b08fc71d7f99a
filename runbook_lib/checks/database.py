"""Judges of RDS connection exhaustion: who holds the slots, the instance, its trend.

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
from runbook_lib.sources import aws, postgres

DATABASE = "database"
HEADROOM = "rds-connection-headroom"
INSTANCE_REFUSES = (
    "stopped", "stopping", "starting", "rebooting", "failed", "storage-full", "creating",
    "deleting", "inaccessible-encryption-credentials", "restore-error",
)  # fmt: skip
_OTHER_ROLE = "Look again as a role, or through a database, that is not at a limit of its own."
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
        counts[owner_of(one)][_state(one)] += 1
    return dict(sorted(counts.items(), key=lambda item: -sum(item[1].values())))


def owner_of(session: dict[str, Any]) -> str:
    return session["application"] or f"role {session['role']}"


def _state(session: dict[str, Any]) -> str:
    state = session["state"] or "active"
    return "idle in transaction" if state.startswith("idle in transaction") else state


def limit_of(stats: dict[str, Any]) -> dict[str, str] | None:
    """The role's or database's own limit that keeps us out; older recordings know of none."""
    return stats.get("refused_by")


def kept_out(stats: dict[str, Any]) -> bool:
    """Whether Postgres did not let us in, so that its sessions are unseen."""
    return bool(stats["refused"] or limit_of(stats))


def blind(stats: dict[str, Any]) -> Finding:
    """Why who holds the slots is unseen."""
    if limit := limit_of(stats):
        why, hint = f"{limit['kind'].capitalize()} {limit['name']} is at its own limit", _OTHER_ROLE
    else:
        why, hint = "Postgres has no slot left even for us", _RESERVE
    return unknown(DATABASE, f"{why}, so who holds the slots cannot be seen.", hint=hint)


def nearly_full(stats: dict[str, Any], percent: float) -> bool:
    return len(stats["sessions"]) >= usable_slots(stats) * percent / 100


def span(seconds: float | None) -> str:
    seconds = seconds or 0
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def session_rows(stats: dict[str, Any]) -> list[dict[str, Any]]:
    """Sessions grouped by application, role and state, the most numerous first."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for one in stats["sessions"]:
        groups[(owner_of(one), one["role"], one["database"], _state(one))].append(one)
    rows = [
        {
            "application": owner,
            "role": role,
            "database": database,
            "state": state,
            "connections": len(held),
            "longest in state": span(max(one["state_seconds"] or 0 for one in held)),
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
    if limit_of(stats):
        return blind(stats)
    used, usable = len(stats["sessions"]), usable_slots(stats)
    evidence = {"used": used, "usable": usable, **stats["slots"]}
    if used >= usable:
        return fail(
            DATABASE,
            f"All {usable} usable connection slots are taken, and new clients are refused.",
            evidence=evidence,
            hint="Free slots at their owner first; a higher max_connections only moves the wall.",
        )
    if nearly_full(stats, connections_percent):
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
    if kept_out(stats):
        return blind(stats)
    idle = [one for one in stats["sessions"] if one["state"] == "idle"]
    owner, held = next(iter(Counter(map(owner_of, idle)).most_common(1)), ("", 0))
    hoarded = held >= max(5, len(stats["sessions"]) / 2)
    if not (hoarded and nearly_full(stats, connections_percent)):
        return ok(DATABASE, f"The most idle connections of one application are {held}.")
    mine = [one for one in idle if owner_of(one) == owner]
    oldest = max(one["state_seconds"] or 0 for one in mine)
    return fail(
        f"application/{owner}",
        f"{owner} holds {held} of {usable_slots(stats)} usable connection slots idle,"
        f" the oldest for {span(oldest)}.",
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
    if kept_out(stats):
        return blind(stats)
    stuck = [
        one
        for one in stats["sessions"]
        if _state(one) == "idle in transaction" and (one["state_seconds"] or 0) >= idle_minutes * 60
    ]
    if not stuck:
        return ok(DATABASE, f"No session is idle in a transaction for {idle_minutes:g} min.")
    owner, count = Counter(map(owner_of, stuck)).most_common(1)[0]
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
        f" the longest for {span(longest)}; {len(blocked)} others wait for them."
    )
    holds_slots = len(stuck) >= len(stats["sessions"]) / 4 and nearly_full(
        stats, connections_percent
    )
    return fail(about, words, **fields) if blocked or holds_slots else warn(about, words, **fields)


@check("rds-slow-queries", probe=postgres.sessions, explains=(HEADROOM,))
def slow_queries(
    stats: dict[str, Any], connections_percent: float = 80, slow_seconds: float = 60
) -> Finding:
    """Slow queries do not hold the slots.

    When statements take minutes, every pool opens more connections until none is left.
    """
    if kept_out(stats):
        return blind(stats)
    slow = [
        one
        for one in stats["sessions"]
        if one["state"] == "active" and (one["query_seconds"] or 0) >= slow_seconds
    ]
    if len(slow) < max(3, len(stats["sessions"]) / 4) or not nearly_full(
        stats, connections_percent
    ):
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


@check("rds-instance", probe=aws.database_instance)
def instance_available(instance: dict[str, Any]) -> Iterator[Finding]:
    """The RDS instance is available, and its parameters are in force.

    One that reboots, is stopped or out of storage refuses clients; one that is backed up or
    modified serves them.
    """
    waiting = [g["name"] for g in instance["parameter_groups"] if g["apply"] != "in-sync"]
    if waiting:
        yield warn(
            DATABASE,
            f"Parameter group {', '.join(waiting)} waits for a reboot to take effect.",
            hint="A raised max_connections is not in force yet. A reboot cuts every client.",
        )
    status = instance["status"]
    if status == "available":
        yield ok(DATABASE, f"The RDS instance ({instance['class']}) is available.")
    elif status in INSTANCE_REFUSES or status.startswith("incompatible-"):
        yield fail(
            DATABASE,
            f"The RDS instance is {status}: it refuses clients.",
            evidence=instance,
            hint="aws rds describe-events tells why; clients are refused until it is available.",
        )
    else:
        yield warn(
            DATABASE,
            f"The RDS instance is {status}: it may serve clients, but is not at rest.",
            evidence=instance,
            hint="aws rds describe-events tells since when. Leave it alone until it is available.",
        )


def _trend_chart(metric: dict[str, Any]) -> Chart | None:
    return charts_database.trend(metric["points"])


@check("rds-connection-trend", probe=aws.database_metric, chart=_trend_chart)
def connection_trend(metric: dict[str, Any], now: datetime, stale_minutes: float = 15) -> Finding:
    """The number of connections does not climb.

    A leak climbs steadily, a storm jumps; a level line near the limit is a sizing question.
    """
    values = [point["maximum"] for point in metric["points"]]
    if len(values) < 3:
        return unknown(DATABASE, f"CloudWatch has {len(values)} points, too few for a trend.")
    start, end = (datetime.fromisoformat(metric["points"][at]["time"]) for at in (0, -1))
    age = (now - end).total_seconds()
    if age > stale_minutes * 60:
        return unknown(
            DATABASE,
            f"CloudWatch's last point is {span(age)} old, too old for how it goes now.",
            hint="An instance that is down sends none. Is it the right instance and region?",
        )
    first, last = min(values[: max(1, len(values) // 3)]), values[-1]
    words = (
        f"Connections went from {first:g} to {last:g} over {span((end - start).total_seconds())}."
    )
    climbed = last - first >= 10 and last >= 2 * first
    return warn(DATABASE, words) if climbed else ok(DATABASE, words)
