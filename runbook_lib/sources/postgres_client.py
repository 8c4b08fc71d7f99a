"""A read-only session with the platform's Postgres, and its errors in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runbook_lib.config import Database
from runbook_lib.sources.seam import SourceError

TOO_MANY_CONNECTIONS = "53300"  # a full server, or a role or database at its own limit
_OPTIONS = (
    "-c default_transaction_read_only=on -c statement_timeout=5000 -c lock_timeout=1000"
    " -c idle_in_transaction_session_timeout=10000"
)


@contextmanager
def connect(database: Database, host: str) -> Iterator[Any]:
    """Open a session that can only read and gives each statement 5 s; rows come as dicts.

    The password is libpq's business: PGPASSWORD or a password file. Raises SourceError.
    """
    import psycopg
    from psycopg.rows import dict_row

    where = f"{host}:{database.port}/{database.name} as {database.user}"
    try:
        session = psycopg.connect(
            host=host,
            port=database.port,
            dbname=database.name,
            user=database.user,
            sslmode=database.sslmode,
            connect_timeout=4,
            application_name="runbook",
            options=_OPTIONS,
            autocommit=True,
            row_factory=dict_row,
        )
    except psycopg.OperationalError as error:
        raise _refusal(where, error) from None
    try:
        yield session
    except psycopg.errors.InsufficientPrivilege as error:
        raise SourceError(
            "forbidden", f"{where}: {_said(error)}", f"GRANT pg_monitor TO {database.user};"
        ) from None
    except psycopg.errors.QueryCanceled as error:
        raise SourceError(
            "timeout", f"{where}: {_said(error)}", "Is the server busy, or something locked?"
        ) from None
    except psycopg.Error as error:
        raise SourceError(
            "bad-answer", f"{where}: {_said(error)}", "Ask by hand with the command."
        ) from None
    finally:
        session.close()


def _refusal(where: str, error: Any) -> SourceError:
    """Tell a full server, a limit of our own, a wrong password and an unreachable host apart."""
    said = _said(error)
    if "too many connections for" in said:
        return SourceError(
            "refused",
            f"Postgres at {where} is at a limit of its own: {said}",
            "Open the runbook of RDS connection exhaustion.",
        )
    if getattr(error, "sqlstate", None) == TOO_MANY_CONNECTIONS or any(
        phrase in said
        for phrase in ("too many clients", "too many connections", "connection slots are reserved")
    ):
        return SourceError(
            "refused",
            f"Postgres at {where} has no slot left: {said}",
            "Open the runbook of RDS connection exhaustion.",
        )
    if "authentication" in said or "password" in said or "pg_hba" in said:
        return SourceError(
            "unauthenticated",
            f"{where}: {said}",
            "Set PGPASSWORD or a password file for this role.",
        )
    if "timeout" in said:
        return SourceError(
            "timeout", f"Connecting to {where}: {said}", "Is its security group open?"
        )
    return SourceError(
        "unreachable",
        f"Connecting to {where}: {said}",
        "Is it running, and is this network let in?",
    )


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
