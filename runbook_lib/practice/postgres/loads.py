"""What clients do to the server: sessions that hold, wait, scan, and come and go.

Each load runs until `Sessions.end`, the end of its pod, or of the server. Its share of a processor
is bounded: it rests between its statements, or its backend is niced.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from runbook_lib.practice.postgres.server import ADMIN, Postgres
from runbook_lib.practice.postgres.sessions import LAST_QUERY, Sessions

if TYPE_CHECKING:
    from psycopg import AsyncConnection

# Of the time that a loop lives, what it may spend in statements.
BUSY_SHARE = 0.2
NICE = 10
EFFECT_SECONDS = 60.0
POLL_SECONDS = 0.03
MOST_PER_SECOND = 50
ENDLESS = (
    "SELECT r.experiment_id, count(*), avg(a.value * b.value) FROM runs r"
    " JOIN metrics a USING (run_uuid) CROSS JOIN metrics b CROSS JOIN metrics c GROUP BY 1"
)
DOMINANT = (
    "SELECT r.experiment_id, a.key, avg(a.value - b.value) FROM runs r"
    " JOIN metrics a USING (run_uuid) JOIN metrics b ON b.step = a.step AND b.key = a.key"
    " WHERE r.experiment_id = %s GROUP BY 1, 2"
)
SLOW_REPORT = "SELECT run_uuid, run_report(run_uuid) FROM runs ORDER BY start_time DESC"
SLOW_FUNCTION = """
CREATE OR REPLACE FUNCTION run_report(wanted varchar) RETURNS double precision LANGUAGE plpgsql AS
$$BEGIN
  PERFORM pg_sleep(0.5);
  RETURN (SELECT avg(value) FROM metrics WHERE run_uuid = wanted);
END$$
"""
# A write to one row of a table, or to one run's.
WRITES = {
    "experiments": "UPDATE experiments SET last_update_time = last_update_time"
    " WHERE experiment_id = {}",
    "runs": "UPDATE runs SET status = status WHERE run_uuid = md5('{}')",
    "metrics": "UPDATE metrics SET is_nan = is_nan WHERE run_uuid = md5('{}')",
}
# Many rows more of each run, by keys so different that only an index by run_uuid finds a run's.
BY_RUN = {
    "metrics": "INSERT INTO metrics (key, value, timestamp, run_uuid, step) SELECT 'accuracy',"
    " s / 300.0, r.start_time + s, r.run_uuid, s FROM runs r, generate_series(1, 300) s",
    "latest_metrics": "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)"
    " SELECT 'metric-' || s || '-' || left(r.run_uuid, 8), s, r.start_time, 1, false, r.run_uuid"
    " FROM runs r, generate_series(1, 300) s",
    "params": "INSERT INTO params (key, value, run_uuid)"
    " SELECT 'param-' || s || '-' || left(r.run_uuid, 8), s, r.run_uuid"
    " FROM runs r, generate_series(1, 300) s",
    "tags": "INSERT INTO tags (key, value, run_uuid)"
    " SELECT 'tag-' || s || '-' || left(r.run_uuid, 8), s, r.run_uuid"
    " FROM runs r, generate_series(1, 300) s",
}


async def leak_on(sessions: Sessions, application: str, per_second: float) -> None:
    """One idle session more, again and again; whoever ends some sees them come back."""
    import psycopg

    async def leak() -> None:
        kept: list[AsyncConnection] = []
        try:
            while True:
                await asyncio.sleep(1 / per_second)
                # Refused for want of slots: the client tries again, as clients do.
                with contextlib.suppress(psycopg.OperationalError):
                    kept.append(await sessions.connect(application))
                    await kept[-1].execute(LAST_QUERY)
        finally:
            for connection in kept:
                await connection.close()

    sessions.run(application, leak)


async def hold_in_transaction(
    sessions: Sessions, application: str, number: int, table: str, *, whole_table: bool
) -> None:
    """Sessions idle in transaction: each with a row of `table` locked, or one with all of it."""
    for row, connection in enumerate(await sessions.hold(application, number), start=1):
        await connection.execute("BEGIN")
        if whole_table:
            await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        else:
            await connection.execute(WRITES[table].format(row))


async def lock_chain(sessions: Sessions, depth: int, blocker: str, waiter: str) -> None:
    """One session idle in transaction, and a queue of others behind the row that it holds."""
    update = WRITES["experiments"]
    (first,) = await sessions.hold(blocker, 1)
    await first.execute("BEGIN")
    await first.execute(update.format(1))
    for link in range(depth):
        (connection,) = await sessions.hold(waiter, 1)
        await connection.execute("BEGIN")
        await connection.execute(update.format(link + 2))
        wait = _execute(connection, update.format(link + 1))
        sessions.run(waiter, wait)
        await _until_active(sessions.server, connection, "wait_event_type = 'Lock'")


async def lock_on(
    sessions: Sessions, application: str, table: str, seconds: float, pause: float
) -> None:
    """One session that holds a table for itself most of the time, idle in transaction."""
    (connection,) = await sessions.hold(application, 1)
    held = asyncio.Event()

    async def work() -> None:
        while True:
            await connection.execute("BEGIN")
            await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            held.set()
            await asyncio.sleep(seconds)
            await connection.execute("COMMIT")
            await asyncio.sleep(pause)

    sessions.run(application, work)
    async with asyncio.timeout(EFFECT_SECONDS):
        await held.wait()


def terminate(server: Postgres, application: str) -> int:
    """End an application's sessions as an engineer would; how many there were."""
    with server.connect("postgres", application="practice") as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = %s AND backend_type = 'client backend'",
            [application],
        )
        return ended.rowcount


async def run_endlessly(sessions: Sessions, application: str, number: int) -> None:
    """Statements that compute for hours, at a low priority."""
    for connection in await sessions.hold(application, number):
        # One process each, which is the one that is niced.
        await connection.execute("SET max_parallel_workers_per_gather = 0")
        os.setpriority(os.PRIO_PROCESS, connection.info.backend_pid, NICE)
        sessions.run(application, _execute(connection, ENDLESS))
        await _until_active(sessions.server, connection)


async def hold_with_slow_reports(sessions: Sessions, application: str, number: int | None) -> int:
    """Slots held by active statements, each of which takes minutes; how many."""
    await asyncio.to_thread(as_superuser, sessions.server, SLOW_FUNCTION)
    held = await sessions.hold(application, number)
    for connection in held:
        sessions.run(application, _execute(connection, SLOW_REPORT))
    for connection in held:
        await _until_active(sessions.server, connection)
    return len(held)


async def scan_without_index(sessions: Sessions, table: str, application: str) -> None:
    """120,000 rows more in `table`, no index by run, and a client that asks by run."""
    statements = [BY_RUN[table], *_drop_indexes(sessions.server, table), f"ANALYZE {table}"]
    await asyncio.to_thread(as_superuser, sessions.server, *statements)
    question = f"SELECT key, value FROM {table} WHERE run_uuid = md5(%s)"
    await _repeat(sessions, application, question)
    await _until(
        sessions.server,
        "SELECT seq_scan > 4 AND seq_tup_read > 400000 FROM pg_stat_user_tables WHERE relname = %s",
        table,
    )


async def repeat_dominant(sessions: Sessions, application: str) -> None:
    """One statement that takes most of the time that all statements take together."""
    await _repeat(sessions, application, DOMINANT)
    await _until(
        sessions.server,
        "SELECT sum(total_exec_time) FILTER (WHERE query LIKE %s) > 0.6 * sum(total_exec_time)"
        " FROM pg_stat_statements",
        DOMINANT[:60] + "%",
    )


async def churn(sessions: Sessions, application: str, per_second: float) -> None:
    """A session opened, used and closed, again and again."""

    async def come_and_go() -> None:
        while True:
            async with await sessions.connect(application) as connection:
                await connection.execute(LAST_QUERY)
            await asyncio.sleep(1 / per_second)

    sessions.run(application, come_and_go)


async def vacuum_slowly(sessions: Sessions, table: str) -> None:
    """A VACUUM of `table` that goes on, a page now and then."""
    from psycopg import AsyncConnection

    conninfo = sessions.server.conninfo("postgres", application="maintenance")
    connection = await AsyncConnection.connect(conninfo, autocommit=True)
    await connection.execute("SET vacuum_cost_delay = 100")
    await connection.execute("SET vacuum_cost_limit = 1")

    async def vacuum() -> None:
        async with connection:
            while True:
                await connection.execute(f"VACUUM {table}")

    sessions.run("reporting", vacuum)
    await _until(
        sessions.server,
        "SELECT count(*) > 0 FROM pg_stat_progress_vacuum WHERE relid = %s::regclass",
        table,
    )


async def write_much(sessions: Sessions) -> None:
    """Writes that fill the write-ahead log faster than its size allows: checkpoints on demand."""

    async def write(connection: AsyncConnection) -> None:
        await connection.execute("UPDATE metrics SET is_nan = is_nan")

    async def loop() -> None:
        async with await sessions.connect("mlflow") as connection:
            while True:
                await _rest_after(lambda: write(connection))

    sessions.run("mlflow", loop)


def as_superuser(server: Postgres, *statements: str) -> None:
    """Execute each by itself, as the owner of everything would."""
    with server.connect("postgres", application="practice") as connection:
        for statement in statements:
            connection.execute(statement)


def _drop_indexes(server: Postgres, table: str) -> list[str]:
    """The statements that drop the indexes which find rows of `table` by run."""
    with server.connect(ADMIN, application="practice") as connection:
        rows = connection.execute(
            "SELECT indexname FROM pg_indexes"
            " WHERE tablename = %s AND indexdef LIKE '%%(run_uuid%%'",
            [table],
        ).fetchall()
    return [f"DROP INDEX {name}" for (name,) in rows]


def _execute(connection: AsyncConnection, statement: str) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        await connection.execute(statement)

    return work


async def _repeat(sessions: Sessions, application: str, question: str) -> None:
    """Ask `question` with the numbers from 1 on, resting in between."""

    async def loop() -> None:
        number = 0
        async with await sessions.connect(application) as connection:
            while True:
                number = number % 20 + 1
                await _rest_after(lambda: connection.execute(question, [str(number)]))  # noqa: B023

    sessions.run(application, loop)


async def _rest_after(work: Callable[[], Awaitable[object]]) -> None:
    began = time.monotonic()
    await work()
    await asyncio.sleep((time.monotonic() - began) * (1 / BUSY_SHARE - 1))


async def _until_active(
    server: Postgres, connection: AsyncConnection, condition: str = "true"
) -> None:
    """Until others see what the session does."""
    await _until(
        server,
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
        f" AND {condition}",
        connection.info.backend_pid,
    )


async def _until(server: Postgres, question: str, argument: str | int) -> None:
    """Until the question's answer is true. Raises TimeoutError."""
    from psycopg import AsyncConnection

    conninfo = server.conninfo("postgres", application="practice")
    async with (
        asyncio.timeout(EFFECT_SECONDS),
        await AsyncConnection.connect(conninfo, autocommit=True) as connection,
    ):
        while True:
            row = await (await connection.execute(question, [argument])).fetchone()
            if row and row[0]:
                return
            await asyncio.sleep(POLL_SECONDS)
