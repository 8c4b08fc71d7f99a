"""What an engineer asks of the RDS instance, the real Postgres behind it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from practice.ordinary import connect

from runbook_lib.practice import scenario
from runbook_lib.practice.lookers import aws_client
from runbook_lib.practice.platform import Platform
from runbook_lib.practice.postgres.binaries import PostgresError
from runbook_lib.practice.postgres.server import Postgres
from runbook_lib.practice.wait import until

INSTANCE = {"DBInstanceIdentifier": "mlops-platform-production-mlflow"}
GROUP = "mlops-mlflow-params"
SECONDS = 30.0


@pytest.fixture
def breakable(platform: Platform) -> Iterator[Platform]:
    """The session's platform, healed afterwards."""
    yield platform
    scenario.heal(platform)


def setting(platform: Platform, name: str) -> str:
    with connect(platform.env) as monitoring:
        row = monitoring.execute("SELECT current_setting(%s)", [name]).fetchone()
    assert row
    return str(row[0])


def change(platform: Platform, method: str, **values: str) -> None:
    aws_client(platform, "rds").modify_db_parameter_group(
        DBParameterGroupName=GROUP,
        Parameters=[
            {"ParameterName": name, "ParameterValue": value, "ApplyMethod": method}
            for name, value in values.items()
        ],
    )


def status(platform: Platform) -> str:
    (found,) = aws_client(platform, "rds").describe_db_instances(**INSTANCE)["DBInstances"]
    return str(found["DBInstanceStatus"])


def waits(platform: Platform) -> str:
    (found,) = aws_client(platform, "rds").describe_db_instances(**INSTANCE)["DBInstances"]
    return str(found["DBParameterGroups"][0]["ParameterApplyStatus"])


def until_status(platform: Platform, wanted: str) -> None:
    until(lambda: status(platform) == wanted, SECONDS, f"DB instance {wanted}")


def reboot(platform: Platform) -> None:
    answer = aws_client(platform, "rds").reboot_db_instance(**INSTANCE)
    assert answer["DBInstance"]["DBInstanceStatus"] == "rebooting"


def gets_in(platform: Platform) -> bool:
    try:
        connect(
            platform.env, user="platform_api", password=platform.passwords["platform_api"]
        ).close()
    except psycopg.OperationalError:
        return False
    return True


def answers(platform: Platform) -> bool:
    try:
        connect(platform.env).close()
    except psycopg.OperationalError:
        return False
    return True


def test_more_connections_come_with_a_reboot(breakable: Platform) -> None:
    breakable.do("postgres", "leak", application="platform-api", until="refused")
    assert not gets_in(breakable)
    change(breakable, "pending-reboot", max_connections="100")
    assert (waits(breakable), setting(breakable, "max_connections")) == ("pending-reboot", "40")
    with connect(breakable.env) as session:
        reboot(breakable)
        until_status(breakable, "available")
        with pytest.raises(psycopg.OperationalError):  # it was cut off
            session.execute("SELECT 1")
    assert (waits(breakable), setting(breakable, "max_connections")) == ("in-sync", "100")
    assert gets_in(breakable)
    # There really are more, for a client that leaks again.
    assert breakable.do("postgres", "leak", application="platform-api", until="refused") > 60

    scenario.heal(breakable)
    assert (status(breakable), setting(breakable, "max_connections")) == ("available", "40")
    assert gets_in(breakable)


@pytest.mark.slow
def test_a_formula_leaves_the_limit_as_it_is(breakable: Platform) -> None:
    change(
        breakable, "pending-reboot", max_connections="LEAST({DBInstanceClassMemory/9531392},5000)"
    )
    reboot(breakable)
    until_status(breakable, "available")
    assert setting(breakable, "max_connections") == "40"


@pytest.mark.slow
def test_parameters_with_which_it_does_not_start(breakable: Platform) -> None:
    change(breakable, "pending-reboot", max_connections="8000000")
    reboot(breakable)
    until_status(breakable, "incompatible-parameters")
    assert not answers(breakable)
    change(breakable, "pending-reboot", max_connections="50")
    reboot(breakable)
    until_status(breakable, "available")
    assert setting(breakable, "max_connections") == "50"


@pytest.mark.slow
def test_settings_that_the_server_refuses_are_taken_back(tmp_path: Path) -> None:
    server = Postgres(tmp_path)
    try:
        server.create()
        with pytest.raises(PostgresError, match="ended while starting"):
            server.restart({"max_connections": "50", "statement_timeout": "soon"})
        assert (server.pid, server.max_connections) == (None, 40)
        server.start()
        assert server.client_sessions() == 0
    finally:
        server.stop()
        server.remove()


def test_a_heal_brings_it_back_from_parameters_that_do_not_fit(breakable: Platform) -> None:
    change(breakable, "pending-reboot", max_connections="8000000")
    reboot(breakable)
    until_status(breakable, "incompatible-parameters")
    scenario.heal(breakable)
    assert (status(breakable), setting(breakable, "max_connections")) == ("available", "40")


def test_it_stops_and_starts_with_the_instance(breakable: Platform) -> None:
    rds = aws_client(breakable, "rds")
    change(breakable, "pending-reboot", max_connections="45")
    rds.stop_db_instance(**INSTANCE)
    until_status(breakable, "stopped")
    assert not answers(breakable)
    rds.start_db_instance(**INSTANCE)
    until_status(breakable, "available")
    assert setting(breakable, "max_connections") == "45"  # a start is a boot too
    until(lambda: pooled(breakable) >= 10, SECONDS, "the applications to be back")


def pooled(platform: Platform) -> int:
    with connect(platform.env) as monitoring:
        row = monitoring.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename IN ('platform_api', 'mlflow')"
        ).fetchone()
    assert row
    return int(row[0])


@pytest.mark.slow
def test_a_heal_starts_what_was_stopped(breakable: Platform) -> None:
    aws_client(breakable, "rds").stop_db_instance(**INSTANCE)
    until_status(breakable, "stopped")
    scenario.heal(breakable)
    assert status(breakable) == "available"
    assert answers(breakable)


@pytest.mark.slow
def test_a_heal_comes_after_a_reboot_that_runs(breakable: Platform) -> None:
    for _ in range(4):  # wherever in the restart the heal comes
        change(breakable, "pending-reboot", max_connections="60")
        reboot(breakable)
        scenario.heal(breakable)
        assert (status(breakable), setting(breakable, "max_connections")) == ("available", "40")


@pytest.mark.slow
def test_a_server_that_died_runs_again_after_a_reboot(breakable: Platform) -> None:
    breakable.do("postgres", "kill")
    assert not answers(breakable)
    reboot(breakable)
    until_status(breakable, "available")
    assert answers(breakable)


def test_dynamic_parameters_hold_at_once(breakable: Platform) -> None:
    change(breakable, "immediate", statement_timeout="200", log_min_duration_statement="5000")
    assert waits(breakable) == "in-sync"
    until(lambda: setting(breakable, "statement_timeout") == "200ms", SECONDS, "it to hold")
    assert setting(breakable, "log_min_duration_statement") == "5s"
    with connect(breakable.env) as session, pytest.raises(psycopg.errors.QueryCanceled):
        session.execute("SELECT pg_sleep(5)")
    scenario.heal(breakable)
    assert setting(breakable, "statement_timeout") == "0"


def test_idle_transactions_end_when_a_parameter_says_so(breakable: Platform) -> None:
    breakable.do("postgres", "idle_in_transaction", application="reporting", sessions=2)
    change(breakable, "immediate", idle_in_transaction_session_timeout="100")
    until(
        lambda: setting(breakable, "idle_in_transaction_session_timeout") == "100ms",
        SECONDS,
        "it to hold",
    )
    # Those that idle already are left alone, as PostgreSQL has it.
    breakable.do(
        "postgres", "idle_in_transaction", application="reporting", sessions=1, holding="metrics"
    )
    until(lambda: idle(breakable) <= 2, SECONDS, "the new one to be ended")


def idle(platform: Platform) -> int:
    with connect(platform.env) as monitoring:
        row: Any = monitoring.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
            " AND application_name = 'reporting'"
        ).fetchone()
    return int(row[0])


@pytest.mark.slow
def test_a_timeout_of_all_does_not_shut_the_platform_out(breakable: Platform) -> None:
    change(breakable, "immediate", statement_timeout="1")
    until(lambda: setting(breakable, "statement_timeout") == "1ms", SECONDS, "it to hold")
    breakable.do("postgres", "statement_statistics_absent")
    scenario.heal(breakable)


@pytest.mark.slow
def test_a_dynamic_parameter_may_wait_for_a_reboot(breakable: Platform) -> None:
    change(breakable, "pending-reboot", statement_timeout="60000", shared_buffers="1000000")
    assert (waits(breakable), setting(breakable, "statement_timeout")) == ("pending-reboot", "0")
    reboot(breakable)
    until_status(breakable, "available")
    assert setting(breakable, "statement_timeout") == "1min"
    assert setting(breakable, "shared_buffers") == "16MB"  # of another machine's memory
