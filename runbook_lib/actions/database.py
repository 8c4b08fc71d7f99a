"""Plans for the database section. Runbook: RDS Connection Exhaustion, solutions 1 and 3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runbook_lib.checks import database
from runbook_lib.core import action
from runbook_lib.model import Step
from runbook_lib.sources import postgres


@action(
    "end-idle-sessions",
    probe=postgres.sessions,
    repairs=database.connection_leak,
    risk="each client loses its session; one without pool_pre_ping sees an error once",
)
def end_idle_sessions(
    stats: dict[str, Any], application: str = "", idle_minutes: float = 30
) -> Iterator[Step]:
    """End the sessions of one application that have been idle for long, one step a session.

    application: empty plans for none. The written runbook ends every idle session of everybody;
    here each is named, and its state is asked once more in the statement that ends it.
    """
    for one in stats["sessions"]:
        long_idle = one["state"] == "idle" and (one["state_seconds"] or 0) >= idle_minutes * 60
        if application and one["application"] == application and long_idle:
            yield Step(
                about=f"session/{one['pid']}",
                summary=f"End session {one['pid']} of {application} ({one['role']} from"
                f" {one['client']}), idle for {one['state_seconds'] / 60:.0f} min.",
                command=f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                f" pid = {one['pid']} AND state = 'idle'"
                f" AND backend_start < now() - interval '{int(one['connected_seconds'])} seconds';",
            )
