"""The database sessions that the platform's applications hold, well-behaved and leaking."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from runbook_lib.practice.postgres.server import MAX_CONNECTIONS, Postgres
from runbook_lib.practice.wait import until

if TYPE_CHECKING:
    import psycopg

# (role, application_name, sessions) of a quiet hour.
POOLS = (("platform_api", "platform-api", 4), ("mlflow", "mlflow", 3))
RELEASE_SECONDS = 5.0
LAST_QUERY = "SELECT run_uuid, status FROM runs WHERE experiment_id = 7 ORDER BY start_time DESC"


class Clients:
    """Idle sessions, as connection pools keep them. Its methods block."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._pooled: list[psycopg.Connection] = []
        self._leaked: list[psycopg.Connection] = []

    def open_pools(self) -> None:
        """The sessions of a healthy platform and no other; those of before are given up."""
        self.close()
        # A session's end reaches the server a moment later; its slot may be the last one.
        until(lambda: not self._known_to_server(), RELEASE_SECONDS, "old sessions ended")
        for role, application, count in POOLS:
            self._pooled += [self._open(role, application) for _ in range(count)]

    def leak(self) -> int:
        """Hold sessions as platform-api until the server refuses one; how many are held.

        Raises psycopg.OperationalError when the server refuses for another reason.
        """
        import psycopg

        while len(self._leaked) < MAX_CONNECTIONS:
            try:
                self._leaked.append(self._open("platform_api", "platform-api"))
            except psycopg.OperationalError as refusal:
                # libpq gives no SQLSTATE for a refused connection; the server speaks C locale.
                if "connection slots" in str(refusal) or "too many clients" in str(refusal):
                    break
                raise
        return len(self._leaked)

    def close(self) -> None:
        """Give all sessions back."""
        self._close(self._leaked)
        self._close(self._pooled)

    def _known_to_server(self) -> int:
        applications = [application for _, application, _ in POOLS]
        with self._postgres.connect("postgres", application="practice") as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = ANY(%s)",
                [applications],
            ).fetchone()
        return int(row[0]) if row else 0

    def _open(self, role: str, application: str) -> psycopg.Connection:
        connection = self._postgres.connect(role, application=application)
        connection.execute(LAST_QUERY)
        return connection

    @staticmethod
    def _close(connections: list[psycopg.Connection]) -> None:
        import psycopg

        while connections:
            # The server may have ended it, or be gone itself.
            with contextlib.suppress(psycopg.OperationalError):
                connections.pop().close()
