"""What the runbooks ask of Postgres: catalogue views, read-only, one short statement each."""

from __future__ import annotations

import re
from typing import Any

from runbook_lib.config import Config
from runbook_lib.sources.clients import Sources
from runbook_lib.sources.seam import SourceError, probe

# Without this role, pg_stat_activity hides other roles' backend_type, and with it their sessions.
_SEES_ALL = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all"
# The server names whose limit it is; "no slot left" names nobody.
_LIMIT_OF = re.compile(r'too many connections for (role|database) "(.+)"')
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

    {refused, refused_by, slots: {setting: count}, sessions: [{pid, database, role, application,
    client, state, wait, connected_seconds, state_seconds, transaction_seconds, query_seconds,
    blocked_by, query}], limits: [{kind: role|database, name, connections}]}.
    `refused` is the server's sentence when it has no slot left even for us. `refused_by` is
    {kind: role|database, name, said} when a limit of our role or of the database keeps us out,
    else None. Either way the rest is empty: a refusal is evidence, so it is an answer and no
    error. Raises SourceError (forbidden) for a role that may not see other roles' sessions.
    """
    try:
        with sources.postgres() as session:
            if not session.execute(_SEES_ALL).fetchone()["sees_all"]:
                user = sources.config.database.user
                raise SourceError(
                    "forbidden",
                    f"{user} may not see other roles' sessions in pg_stat_activity.",
                    f"GRANT pg_monitor TO {user};",
                )
            rows = session.execute(_SESSIONS).fetchall()
            slots = session.execute(_SLOTS).fetchall()
            limits = session.execute(_LIMITS).fetchall()
    except SourceError as error:
        if error.kind != "refused":
            raise
        said = str(error)
        limit = _LIMIT_OF.search(said)
        by = {"kind": limit[1], "name": limit[2], "said": said} if limit else None
        empty: dict[str, Any] = {"slots": {}, "sessions": [], "limits": []}
        return {"refused": "" if by else said, "refused_by": by, **empty}
    return {
        "refused": "",
        "refused_by": None,
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
