"""What the runbooks ask of Postgres: catalogue views, read-only, one short statement each."""

from __future__ import annotations

from typing import Any

from runbook_lib.config import Config
from runbook_lib.sources.clients import Sources
from runbook_lib.sources.seam import SourceError, probe

# Grouping by state alone lumps background processes under NULL; only client backends hold slots.
_SESSIONS = """
SELECT pid, datname AS database, usename AS role, application_name AS application,
       host(client_addr) AS client, state, wait_event_type AS wait,
       round(extract(epoch FROM now() - backend_start)) AS connected_seconds,
       round(extract(epoch FROM now() - state_change)) AS state_seconds,
       round(extract(epoch FROM now() - xact_start)) AS transaction_seconds,
       round(extract(epoch FROM now() - query_start)) AS query_seconds,
       pg_blocking_pids(pid) AS blocked_by, left(query, 160) AS query
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
ORDER BY state_change
"""
_SLOTS = """
SELECT name, setting::int AS value FROM pg_settings
WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections',
               'rds.rds_superuser_reserved_connections')
"""
_LIMITS = """
SELECT 'role' AS kind, rolname AS name, rolconnlimit AS connections FROM pg_roles
WHERE rolconnlimit >= 0 AND rolcanlogin
UNION ALL
SELECT 'database', datname, datconnlimit FROM pg_database WHERE datconnlimit >= 0
"""


def psql(config: Config, sql: str) -> str:
    """The psql command that asks the same."""
    db = config.database
    host = db.host or "RDS_ENDPOINT"
    one_line = " ".join(sql.split())
    return f'psql -h {host} -p {db.port} -U {db.user} -d {db.name} -c "{one_line}"'


@probe(
    lambda config: psql(
        config,
        "SELECT application_name, usename, state, count(*) FROM pg_stat_activity "
        "WHERE backend_type = 'client backend' GROUP BY 1, 2, 3 ORDER BY 4 DESC",
    )
)
def sessions(sources: Sources) -> dict[str, Any]:
    """Who holds the connection slots. Runbook: RDS Connection Exhaustion.

    {refused, slots: {setting: count}, sessions: [{pid, database, role, application, client,
    state, wait, connected_seconds, state_seconds, transaction_seconds, query_seconds,
    blocked_by, query}], limits: [{kind: role|database, name, connections}]}.
    `refused` is the server's sentence when it has no slot left even for us; then the rest is
    empty. That refusal is evidence, so it is an answer and no error.
    """
    try:
        with sources.postgres() as session:
            rows = session.execute(_SESSIONS).fetchall()
            slots = session.execute(_SLOTS).fetchall()
            limits = session.execute(_LIMITS).fetchall()
    except SourceError as error:
        if error.kind != "refused":
            raise
        return {"refused": str(error), "slots": {}, "sessions": [], "limits": []}
    if any(row["state"] is None and "insufficient" in (row["query"] or "") for row in rows):
        raise SourceError(
            "forbidden",
            f"{sources.config.database.user} may not see other roles' sessions.",
            f"GRANT pg_monitor TO {sources.config.database.user};",
        )
    return {
        "refused": "",
        "slots": {row["name"]: row["value"] for row in slots},
        "sessions": [{k: _plain(v) for k, v in row.items()} for row in rows],
        "limits": limits,
    }


@probe(lambda config: psql(config, "SELECT version()"))
def reachable(sources: Sources) -> dict[str, Any]:
    """Whether the database lets a client in and answers: {reached, version, kind, reason}.

    Not being let in is what this asks, so it is an answer: kind and reason say how it failed.
    Without an address or a password nothing can be asked, and that is an error. Health check,
    point 9.
    """
    try:
        with sources.postgres() as session:
            version = session.execute("SHOW server_version").fetchone()["server_version"]
    except SourceError as error:
        if error.kind in ("refused", "unreachable", "timeout"):
            return {"reached": False, "version": "", "kind": error.kind, "reason": str(error)}
        raise
    return {"reached": True, "version": version, "kind": "", "reason": ""}


def _plain(value: Any) -> Any:
    """Postgres' numeric as an int, so that evidence is JSON."""
    from decimal import Decimal

    return int(value) if isinstance(value, Decimal) else value
