"""What each verb of the database leaves, seen through psycopg, and that heal undoes it."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from practice.hosted import Hosted
from practice.ordinary import connect

from runbook_lib.practice.postgres.server import MAX_CONNECTIONS
from runbook_lib.practice.postgres.system import Database
from runbook_lib.practice.wait import until

# idle sessions of the healthy platform, by application
QUIET = {"mlflow": 4, "platform-api": 6}
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state = %s"


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    database = Database(tmp_path_factory.mktemp("database"))
    with Hosted(database) as hosted:
        yield hosted
    database.server.remove()


@pytest.fixture
def database(hosted: Hosted) -> Iterator[Database]:
    """The database, healed afterwards; that it is healthy then is part of every test."""
    assert isinstance(hosted.system, Database)
    yield hosted.system
    hosted.do("heal")
    assert_healthy(hosted.system)


def pods_changed(hosted: Hosted, pods: dict[str, list[str]]) -> None:
    assert isinstance(hosted.system, Database)
    hosted.run(functools.partial(hosted.system.pods_changed, pods))


def as_role(database: Database, role: str) -> psycopg.Connection:
    return connect(database.environment(), user=role, password=database.server.passwords[role])


def ask(database: Database, question: str, *arguments: Any) -> Any:
    """The first value of the answer, as the monitoring role sees it."""
    with connect(database.environment()) as connection:
        row = connection.execute(question, arguments).fetchone()
    return row[0] if row else None


def assert_healthy(database: Database) -> None:
    with connect(database.environment(), application_name="test") as connection:
        sessions = connection.execute(
            "SELECT application_name, state, count(*) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY 1, 2"
        ).fetchall()
        assert {(name, "idle", count) for name, count in QUIET.items()} == set(sessions)
        counts = connection.execute(
            "SELECT (SELECT count(*) FROM experiments), (SELECT count(*) FROM runs),"
            " (SELECT count(*) FROM metrics), (SELECT version_num FROM alembic_version),"
            " (SELECT count(*) FROM pg_indexes WHERE tablename = 'metrics'),"
            " current_setting('max_wal_size'), current_setting('default_transaction_read_only')"
        ).fetchone()
        assert counts == (20, 400, 4000, "dc11669786a5", 3, "1GB", "off")
        share = connection.execute(
            "SELECT coalesce(max(total_exec_time), 0) FROM pg_stat_statements"
        ).fetchone()
        assert share and share[0] < 100
    for role in ("mlflow", "platform_api", "reporting"):
        with as_role(database, role) as client:
            assert client.execute("SELECT count(*) FROM runs").fetchone() == (400,)
    assert database.pools.errors == {}


def test_leak_shuts_ordinary_clients_out(hosted: Hosted, database: Database) -> None:
    held = hosted.do("leak", application="platform-api", until="refused")
    assert held == database.server.usable_slots() - sum(QUIET.values())
    with pytest.raises(psycopg.OperationalError, match="connection slots"):
        as_role(database, "mlflow")
    assert ask(database, SESSIONS, "platform-api", "idle") == held + QUIET["platform-api"]


def test_leak_that_goes_on_comes_back(hosted: Hosted, database: Database) -> None:
    hosted.do("leak", application="platform-api", sessions=5, per_second=20)
    ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    assert ask(database, f"{ended} WHERE application_name = 'platform-api'") >= 11
    until(lambda: ask(database, SESSIONS, "platform-api", "idle") > 15, 60, "more than before")


def test_rollout_ends_a_leak_and_moves_the_pools(hosted: Hosted, database: Database) -> None:
    hosted.do("leak", application="platform-api", sessions=9)
    assert ask(database, SESSIONS, "platform-api", "idle") == 9 + QUIET["platform-api"]
    before = database.sessions.pods["platform-api"]
    # One of three pods is replaced: a third of the leak goes with it.
    pods_changed(hosted, {"platform-api": [*before[:2], "platform-api-new"]})
    until(lambda: ask(database, SESSIONS, "platform-api", "idle") == 6 + 6, 60, "a third ended")
    pods_changed(hosted, {"platform-api": ["x", "y"]})
    until(lambda: ask(database, SESSIONS, "platform-api", "idle") == 4, 60, "no leak, 2 pools")
    pods_changed(hosted, {"platform-api": []})
    until(lambda: ask(database, SESSIONS, "platform-api", "idle") == 0, 60, "no session")
    with pytest.raises(ValueError, match="no pod of platform-api runs"):
        hosted.do("leak", application="platform-api", sessions=1)
    pods_changed(hosted, {"platform-api": before})


def test_storm_brings_many_young_sessions(hosted: Hosted, database: Database) -> None:
    let_in = hosted.do("storm", application="mlflow", sessions=20)
    young = ask(
        database,
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mlflow'"
        " AND backend_start > now() - interval '20 s'",
    )
    assert let_in == 20 <= young
    assert (
        hosted.do("storm", application="platform-api", sessions=MAX_CONNECTIONS) < MAX_CONNECTIONS
    )


def test_pools_can_be_larger_than_the_slots(hosted: Hosted, database: Database) -> None:
    hosted.do("pool_size", application="platform-api", sessions=7)
    assert ask(database, SESSIONS, "platform-api", "idle") == 21
    assert database.pools.errors == {}
    hosted.do("pool_size", application="mlflow", sessions=8)
    until(lambda: "connection slots" in database.pools.errors.get("mlflow", ""), 60, "refused")


def test_churn_counts_sessions(hosted: Hosted, database: Database) -> None:
    question = "SELECT sessions FROM pg_stat_database WHERE datname = 'mlflow'"
    before = ask(database, question)
    hosted.do("churn", application="platform-api", per_second=30)
    until(lambda: ask(database, question) > before + 10, 60, "sessions counted")
    assert "connection authorized: user=platform_api" in database.server.log.read_text()


def test_idle_in_transaction_holds_rows(hosted: Hosted, database: Database) -> None:
    hosted.do("idle_in_transaction", application="platform-api", sessions=3, holding="runs")
    assert ask(database, SESSIONS, "platform-api", "idle in transaction") == 3
    locks = ask(
        database,
        "SELECT count(*) FROM pg_locks WHERE relation = 'runs'::regclass"
        " AND mode = 'RowExclusiveLock' AND granted",
    )
    assert locks == 3


def test_locked_table_makes_readers_wait(hosted: Hosted, database: Database) -> None:
    hosted.do("idle_in_transaction", application="reporting", holding="runs", lock="table")
    with (
        as_role(database, "platform_api") as client,
        pytest.raises(psycopg.errors.LockNotAvailable),
    ):
        client.execute("SET lock_timeout = '50ms'")
        client.execute("SELECT count(*) FROM runs")


def test_lock_chain_leads_to_its_blocker(hosted: Hosted, database: Database) -> None:
    hosted.do("lock_chain", depth=3)
    with connect(database.environment()) as monitoring:
        rows = monitoring.execute(
            "SELECT pid, application_name, state, pg_blocking_pids(pid) FROM pg_stat_activity"
            " WHERE datname = 'mlflow' AND state IN ('active', 'idle in transaction')"
            " AND pid <> pg_backend_pid()"
        ).fetchall()
    blockers = {pid: blocked_by for pid, _, _, blocked_by in rows}
    assert len(rows) == 4 and all(len(blocked_by) <= 1 for blocked_by in blockers.values())
    (root,) = [row for row in rows if not row[3]]
    assert root[1:3] == ("reporting", "idle in transaction")
    with connect(database.environment()) as monitoring:
        monitoring.execute("SELECT pg_terminate_backend(%s)", [root[0]])
    until(lambda: ask(database, SESSIONS, "mlflow", "active") < 3, 60, "the chain moves on")


def test_job_that_locks_a_table_makes_readers_slow(hosted: Hosted, database: Database) -> None:
    hosted.do("locking_job", table="runs", seconds=0.4, pause=0.1)

    def waited() -> float:
        began = time.monotonic()
        ask(database, "SELECT count(*) FROM runs")
        return time.monotonic() - began

    until(lambda: waited() > 0.2, 60, "a reader that waits, and is answered")
    assert hosted.do("end_sessions", application="reporting") == 1
    ended = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'reporting'"
    until(lambda: ask(database, ended), 60, "the job's session is over")
    locks = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'"
    assert ask(database, locks) == 0


def test_long_query_computes(hosted: Hosted, database: Database) -> None:
    hosted.do("long_query", application="reporting")
    with connect(database.environment()) as monitoring:
        row = monitoring.execute(
            "SELECT state, wait_event_type, query FROM pg_stat_activity"
            " WHERE application_name = 'reporting'"
        ).fetchone()
    assert row and row[0] == "active" and row[1] in (None, "IO") and "CROSS JOIN" in row[2]


def test_slow_statements_hold_slots(hosted: Hosted, database: Database) -> None:
    held = hosted.do("slow_queries_hold_slots")
    assert ask(database, SESSIONS, "mlflow", "active") == held > 20
    with pytest.raises(psycopg.OperationalError, match="connection slots"):
        as_role(database, "platform_api")


@pytest.mark.parametrize("table", ["metrics", pytest.param("tags", marks=pytest.mark.slow)])
def test_missing_index_is_scanned(hosted: Hosted, database: Database, table: str) -> None:
    hosted.do("missing_index", table=table)
    counted = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = %s"
    first = ask(database, counted, table)
    until(lambda: ask(database, counted, table) > first, 60, "it goes on")
    assert ask(database, "SELECT n_live_tup FROM pg_stat_user_tables WHERE relname = %s", table) > (
        100_000
    )
    plan = ask(database, f"EXPLAIN SELECT key FROM {table} WHERE run_uuid = 'x'")
    assert "Seq Scan" in plan


def test_dominant_query_takes_most_of_the_time(hosted: Hosted, database: Database) -> None:
    hosted.do("dominant_query")
    share = ask(
        database, "SELECT max(total_exec_time) / sum(total_exec_time) FROM pg_stat_statements"
    )
    assert share > 0.5


def test_bloat_and_a_vacuum_of_it(hosted: Hosted, database: Database) -> None:
    hosted.do("bloat", table="runs")
    dead = "SELECT n_dead_tup > 3 * n_live_tup FROM pg_stat_user_tables WHERE relname = 'runs'"
    until(lambda: ask(database, dead), 60, "dead rows counted")
    hosted.do("vacuum_running", table="metrics")
    assert ask(database, "SELECT count(*) FROM pg_stat_progress_vacuum") == 1


def test_checkpoints_come_often(hosted: Hosted, database: Database) -> None:
    hosted.do("frequent_checkpoints")
    until(
        lambda: "checkpoints are occurring too frequently" in database.server.log.read_text(),
        15,
        "told by the log",
    )


def test_limits_of_role_and_database(hosted: Hosted, database: Database) -> None:
    hosted.do("role_limit", role="mlflow", connections=4)
    with pytest.raises(psycopg.OperationalError, match='too many connections for role "mlflow"'):
        as_role(database, "mlflow")
    as_role(database, "platform_api").close()
    hosted.do("database_limit", connections=10)
    with pytest.raises(psycopg.OperationalError, match="too many connections for database"):
        as_role(database, "platform_api")


def test_changed_password_leaves_secrets_stale(hosted: Hosted, database: Database) -> None:
    hosted.do("password_changed", role="mlflow")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        as_role(database, "mlflow")
    new = database.password_of("mlflow")
    connect(database.environment(), user="mlflow", password=new).close()
    assert new in database.secrets()


def test_rejected_role(hosted: Hosted, database: Database) -> None:
    hosted.do("refuse_from", role="mlflow")
    with pytest.raises(psycopg.OperationalError, match=r"pg_hba.conf rejects connection"):
        as_role(database, "mlflow")
    as_role(database, "platform_api").close()


def test_read_only_database(hosted: Hosted, database: Database) -> None:
    hosted.do("read_only")
    with (
        as_role(database, "mlflow") as client,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        client.execute("DELETE FROM tags")


def test_older_schema_and_no_statement_statistics(hosted: Hosted, database: Database) -> None:
    hosted.do("schema_behind")
    assert ask(database, "SELECT version_num FROM alembic_version") == "75868b020152"
    hosted.do("statement_statistics_absent")
    with pytest.raises(psycopg.errors.UndefinedTable):
        ask(database, "SELECT count(*) FROM pg_stat_statements")


def test_heal_undoes_what_it_knows_nothing_of(hosted: Hosted, database: Database) -> None:
    base = database.server.state / "postgres" / "data" / "base"
    folders = set(base.iterdir())
    with as_role(database, "postgres") as root:
        root.execute("CREATE DATABASE left_behind")
        root.execute("DROP TABLE metrics CASCADE")
        root.execute("REASSIGN OWNED BY reporting TO mlflow")
        root.execute("DROP OWNED BY reporting")
        root.execute("DROP ROLE reporting")
        root.execute("ALTER ROLE mlops_admin PASSWORD 'forgotten'")
        root.execute("ALTER SYSTEM SET work_mem = '64kB'")
    hosted.do("heal")
    assert ask(database, "SHOW work_mem") == "4MB"
    assert set(base.iterdir()) == folders


def test_kill_stop_and_start(hosted: Hosted, database: Database) -> None:
    hosted.do("long_query")
    for end in ("kill", "stop"):
        hosted.do(end)
        assert not database.running
        with pytest.raises(psycopg.OperationalError, match="refused"):
            connect(database.environment())
        hosted.do("start")
        assert_healthy(database)
    # What a client has changed survives a restart, and heal undoes it.
    with as_role(database, "mlflow") as client:
        client.execute("DELETE FROM metrics")
        client.execute("DROP TABLE params")
    hosted.do("restart")
    assert ask(database, "SELECT count(*) FROM metrics") == 0


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("leak", {"application": "platform-api"}),
        ("leak", {"application": "nobody", "sessions": 1}),
        ("leak", {"application": "mlflow", "sessions": 0}),
        ("leak", {"application": "mlflow", "until": "full"}),
        ("storm", {"application": "mlflow", "sessions": 1000}),
        ("pool_size", {"application": "reporting", "sessions": 1}),
        ("churn", {"application": "mlflow", "per_second": 1000}),
        ("idle_in_transaction", {"application": "mlflow", "holding": "pg_class"}),
        ("idle_in_transaction", {"application": "mlflow", "lock": "table", "sessions": 2}),
        ("lock_chain", {"depth": 100}),
        ("long_query", {"count": 99}),
        ("missing_index", {"table": "experiments"}),
        ("bloat", {"table": "tags"}),
        ("role_limit", {"role": "postgres", "connections": 1}),
        ("password_changed", {"role": "postgres"}),
        ("refuse_from", {"role": "x"}),
    ],
)
def test_what_cannot_be_asked_is_refused(
    hosted: Hosted, verb: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError):
        hosted.do(verb, **arguments)
