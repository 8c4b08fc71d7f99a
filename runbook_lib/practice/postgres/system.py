"""The database as a system of the platform: the server, its applications' pools, its faults."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runbook_lib.practice.postgres import loads
from runbook_lib.practice.postgres.pools import SIZES, Pools
from runbook_lib.practice.postgres.server import (
    ADMIN,
    APPLICATION_ROLES,
    DATABASE,
    MAX_CONNECTIONS,
    Postgres,
)
from runbook_lib.practice.postgres.sessions import LAST_QUERY, PODS, Sessions, role_of
from runbook_lib.practice.system import System

# The migration before the last of those in mlflow.sql.
OLDER_SCHEMA = "75868b020152"
ROWS_TO_HOLD = 15
DEEPEST_CHAIN = 15
MOST_LONG_QUERIES = 4
LONGEST_LOCK = 60
BLOAT_ROUNDS = 12


class Database(System):
    """PostgreSQL with MLflow's tables. `server` is the process, `pools` the healthy sessions."""

    def __init__(
        self,
        state: Path,
        *,
        remove_when_orphaned: bool = False,
        pools: Mapping[str, int] = SIZES,
    ) -> None:
        """`state` is the platform's folder, which an orphaned server's guard may remove.

        `pools` says how many sessions each pod of an application keeps in a quiet hour; none of
        those applications whose pods connect by themselves.
        """
        self.server = Postgres(state, remove_when_orphaned=remove_when_orphaned)
        self.sessions = Sessions(self.server)
        self.pools = Pools(self.sessions, pools)
        self._sizes = dict(pools)
        self._first_passwords = dict(self.server.passwords)
        self._next_passwords = {role: secrets.token_urlsafe(18) for role in APPLICATION_ROLES}
        self._created = False

    @property
    def running(self) -> bool:
        return self.server.pid is not None

    async def start(self) -> None:
        if not self._created:
            await asyncio.to_thread(self.server.create)
            self._created = True
        await asyncio.to_thread(self.server.start)
        await self.pools.follow()

    async def stop(self) -> None:
        # In this order no client waits for an answer: the server's end ends their statements.
        await asyncio.to_thread(self.server.stop)
        await self._end_sessions()

    async def heal(self) -> None:
        await self.stop()
        self.server.passwords.update(self._first_passwords)
        self.pools.sizes.update(self._sizes)
        await asyncio.to_thread(self.server.restore)
        await self.pools.follow()

    async def restart(self, settings: Mapping[str, str]) -> None:
        """The server anew with these settings; clients are cut off, and come back as they do.

        Raises PostgresError where it does not start with them.
        """
        await asyncio.to_thread(self.server.restart, settings)
        await self.pools.follow()

    async def remove(self) -> None:
        """Stop for good and delete what the server wrote."""
        await self.stop()
        await asyncio.to_thread(self.server.remove)

    async def pods_changed(self, pods: dict[str, list[str]]) -> None:
        """The pods that live now, by application (platform-api, mlflow).

        Sessions of pods that are gone end, leaked ones too; new pods open a pool each.
        """
        for application in pods:
            if application not in PODS:
                raise ValueError(f"{application!r} has no pods; {', '.join(PODS)} have")
        self.sessions.pods.update({name: list(names) for name, names in pods.items()})
        await self.sessions.end_of_gone_pods()
        if self.running:
            await self.pools.follow()

    def verbs(self) -> Mapping[str, Callable[..., Any]]:
        return {
            "leak": self.leak,
            "storm": self.storm,
            "pool_size": self.pool_size,
            "churn": self.churn,
            "idle_in_transaction": self.idle_in_transaction,
            "lock_chain": self.lock_chain,
            "locking_job": self.locking_job,
            "end_sessions": self.end_sessions,
            "long_query": self.long_query,
            "slow_queries_hold_slots": self.slow_queries_hold_slots,
            "missing_index": self.missing_index,
            "dominant_query": self.dominant_query,
            "bloat": self.bloat,
            "vacuum_running": self.vacuum_running,
            "frequent_checkpoints": self.frequent_checkpoints,
            "role_limit": self.role_limit,
            "database_limit": self.database_limit,
            "password_changed": self.password_changed,
            "refuse_from": self.refuse_from,
            "read_only": self.read_only,
            "schema_behind": self.schema_behind,
            "statement_statistics_absent": self.statement_statistics_absent,
            "kill": self.kill,
        }

    def environment(self) -> dict[str, str]:
        return {
            "PGHOST": self.server.host,
            "PGPORT": str(self.server.port),
            "PGUSER": ADMIN,
            "PGPASSWORD": self._first_passwords[ADMIN],
            "PGDATABASE": DATABASE,
            "PGSSLMODE": "disable",
        }

    def settings(self) -> dict[str, dict[str, Any]]:
        return {
            "database": {
                "host": self.server.host,
                "port": self.server.port,
                "name": DATABASE,
                "user": ADMIN,
                "sslmode": "disable",
            }
        }

    def secrets(self) -> list[str]:
        return [*self._first_passwords.values(), *self._next_passwords.values()]

    async def leak(
        self,
        *,
        application: str,
        sessions: int | None = None,
        until: str | None = None,
        per_second: float | None = None,
    ) -> int:
        """Idle sessions of one application, so many or `until="refused"`; how many are held.

        With `per_second` the leak goes on. The sessions belong to the pods that live now and end
        with them.
        """
        if (sessions is None) == (until is None) or until not in (None, "refused"):
            raise ValueError('leak: either sessions or until="refused"')
        if per_second is not None:
            self._rate(per_second)
        held = await self.sessions.hold(application, self._number(sessions))
        for connection in held:
            await connection.execute(LAST_QUERY)
        if per_second is not None:
            await loads.leak_on(self.sessions, application, per_second)
        return len(held)

    async def storm(self, *, application: str, sessions: int) -> int:
        """So many sessions at once, as after a roll-out; how many the server let in."""
        self._number(sessions)
        return await self.sessions.hold_at_once(application, sessions)

    async def pool_size(self, *, application: str, sessions: int) -> None:
        """Each pod keeps so many sessions, and uses them: high but normal, or more than fit."""
        if application not in self._sizes or not 0 <= sessions <= MAX_CONNECTIONS:
            known = ", ".join(self._sizes) or "no application"
            raise ValueError(f"pool_size: {known} has pools here; 0 to {MAX_CONNECTIONS}")
        self.pools.sizes[application] = sessions
        await self.pools.follow()

    async def churn(self, *, application: str, per_second: float = 15.0) -> None:
        """Sessions that are opened, used once and closed, so many a second."""
        self._rate(per_second)
        await loads.churn(self.sessions, application, per_second)

    async def idle_in_transaction(
        self, *, application: str, sessions: int = 1, holding: str = "runs", lock: str = "row"
    ) -> None:
        """Sessions idle in transaction, each holding a row of a table, or one of them all of it.

        `lock` is "row", or "table": an ACCESS EXCLUSIVE lock, which every reader waits for.
        """
        self._number(sessions)
        if holding not in loads.WRITES or sessions > ROWS_TO_HOLD:
            raise ValueError(
                f"idle_in_transaction: holding is one of {', '.join(loads.WRITES)}, "
                f"by at most {ROWS_TO_HOLD} sessions"
            )
        if lock not in ("row", "table") or (lock == "table" and sessions != 1):
            raise ValueError('idle_in_transaction: lock is "row", or "table" by one session')
        await loads.hold_in_transaction(
            self.sessions, application, sessions, holding, whole_table=lock == "table"
        )

    async def lock_chain(
        self, *, depth: int = 3, blocker: str = "reporting", waiter: str = "mlflow"
    ) -> None:
        """A session idle in transaction, and `depth` others that wait, each for the one before."""
        if not 1 <= depth <= DEEPEST_CHAIN:
            raise ValueError(f"lock_chain: depth is 1 to {DEEPEST_CHAIN}")
        await loads.lock_chain(self.sessions, depth, blocker, waiter)

    async def locking_job(
        self,
        *,
        application: str = "reporting",
        table: str = "runs",
        seconds: float = 3.0,
        pause: float = 0.5,
    ) -> None:
        """A job that locks a whole table for so many seconds, again and again: readers are slow."""
        if table not in loads.WRITES:
            raise ValueError(f"locking_job: table is one of {', '.join(loads.WRITES)}")
        if not (0 < seconds <= LONGEST_LOCK and 0 < pause <= LONGEST_LOCK):
            raise ValueError(f"locking_job: more than 0 and at most {LONGEST_LOCK} seconds")
        await loads.lock_on(self.sessions, application, table, seconds, pause)

    async def end_sessions(self, *, application: str) -> int:
        """pg_terminate_backend for each session of an application; how many."""
        role_of(application)
        return await asyncio.to_thread(loads.terminate, self.server, application)

    async def long_query(self, *, application: str = "reporting", count: int = 1) -> None:
        """Statements that compute until they are ended; their backends are niced."""
        if not 1 <= count <= MOST_LONG_QUERIES:
            raise ValueError(f"long_query: count is 1 to {MOST_LONG_QUERIES}")
        await loads.run_endlessly(self.sessions, application, count)

    async def slow_queries_hold_slots(
        self, *, application: str = "mlflow", sessions: int | None = None
    ) -> int:
        """Active statements that take minutes, in so many sessions or until none gets in."""
        return await loads.hold_with_slow_reports(
            self.sessions, application, self._number(sessions)
        )

    async def missing_index(self, *, table: str = "metrics", application: str = "mlflow") -> None:
        """A big table without its indexes by run, and a client that asks by run."""
        if table not in loads.BY_RUN:
            raise ValueError(f"missing_index: table is one of {', '.join(loads.BY_RUN)}")
        await loads.scan_without_index(self.sessions, table, application)

    async def dominant_query(self, *, application: str = "mlflow") -> None:
        """One statement takes nearly all the time that statements take."""
        await loads.repeat_dominant(self.sessions, application)

    def bloat(self, *, table: str = "runs") -> None:
        """Far more dead rows than live ones, and autovacuum off for the table."""
        if table not in loads.WRITES:
            raise ValueError(f"bloat: table is one of {', '.join(loads.WRITES)}")
        column = {"metrics": "is_nan"}.get(table, "lifecycle_stage")
        loads.as_superuser(
            self.server,
            f"ALTER TABLE {table} SET (autovacuum_enabled = off)",
            *[f"UPDATE {table} SET {column} = {column}"] * BLOAT_ROUNDS,
        )

    async def vacuum_running(self, *, table: str = "metrics") -> None:
        """A bloated table, and a VACUUM of it that goes on."""
        await asyncio.to_thread(self.bloat, table=table)
        await loads.vacuum_slowly(self.sessions, table)

    async def frequent_checkpoints(self) -> None:
        """Checkpoints on demand every few seconds, because max_wal_size is small."""
        await asyncio.to_thread(
            loads.as_superuser,
            self.server,
            "ALTER SYSTEM SET max_wal_size = '2MB'",
            "ALTER SYSTEM SET min_wal_size = '2MB'",
            "SELECT pg_reload_conf()",
        )
        await loads.write_much(self.sessions)

    def role_limit(self, *, role: str, connections: int) -> None:
        """CONNECTION LIMIT of a role."""
        self._role(role)
        loads.as_superuser(self.server, f"ALTER ROLE {role} CONNECTION LIMIT {int(connections)}")

    def database_limit(self, *, connections: int) -> None:
        """CONNECTION LIMIT of the database."""
        loads.as_superuser(
            self.server, f"ALTER DATABASE {DATABASE} CONNECTION LIMIT {int(connections)}"
        )

    async def password_changed(self, *, role: str) -> None:
        """A new password for a role, whose sessions end: the Secrets hold the old one."""
        self._role(role)
        await asyncio.to_thread(
            loads.as_superuser,
            self.server,
            f"ALTER ROLE {role} PASSWORD '{self._next_passwords[role]}'",
            end_sessions_of(role),
        )

    def password_of(self, role: str) -> str:
        """The password that password_changed gives a role."""
        return self._next_passwords[role]

    def refuse_from(self, *, role: str) -> None:
        """pg_hba.conf rejects a role, whose sessions end."""
        self._role(role)
        self.server.reject(role)
        loads.as_superuser(self.server, "SELECT pg_reload_conf()", end_sessions_of(role))

    def read_only(self) -> None:
        """Every transaction is read-only by default, as on a replica or a full disk."""
        loads.as_superuser(
            self.server,
            f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on",
            *map(end_sessions_of, APPLICATION_ROLES),
        )

    def schema_behind(self) -> None:
        """MLflow's schema is of the migration before the last."""
        loads.as_superuser(
            self.server, f"UPDATE alembic_version SET version_num = '{OLDER_SCHEMA}'"
        )

    def statement_statistics_absent(self) -> None:
        """The extension pg_stat_statements is not installed in the database."""
        loads.as_superuser(self.server, "DROP EXTENSION IF EXISTS pg_stat_statements")

    async def kill(self) -> None:
        """SIGKILL to the server; `start` makes it recover."""
        await asyncio.to_thread(self.server.kill)
        await self._end_sessions()

    async def _end_sessions(self) -> None:
        await asyncio.gather(self.sessions.end(), self.pools.end())

    @staticmethod
    def _number(sessions: int | None) -> int | None:
        if sessions is not None and not 1 <= sessions <= MAX_CONNECTIONS:
            raise ValueError(f"sessions: 1 to {MAX_CONNECTIONS}")
        return sessions

    @staticmethod
    def _rate(per_second: float) -> None:
        if not 0 < per_second <= loads.MOST_PER_SECOND:
            raise ValueError(f"more than 0 and at most {loads.MOST_PER_SECOND} a second")

    @staticmethod
    def _role(role: str) -> None:
        if role not in APPLICATION_ROLES:
            raise ValueError(f"no role {role!r}; there are {', '.join(APPLICATION_ROLES)}")


def end_sessions_of(role: str) -> str:
    """The statement that ends a role's sessions."""
    return f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
