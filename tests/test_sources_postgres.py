"""The probes of Postgres against a practice platform: refusing, limited, half blind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from asking import data, failure
from psycopg import sql

from runbook_lib.practice.platform import Platform
from runbook_lib.sources import pools, postgres, services

# --- Postgres refusing ---


def test_a_wrong_password_is_unauthenticated_and_not_shown(
    connected: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "wrong-password")
    found = failure(postgres.sessions)
    assert found.kind == "unauthenticated"
    assert "wrong-password" not in found.model_dump_json()
    assert "PGPASSWORD" in found.next


@pytest.mark.parametrize(("port", "kind"), [("1", "unreachable")])
def test_nobody_listening_is_unreachable(
    connected: Platform, monkeypatch: pytest.MonkeyPatch, port: str, kind: str
) -> None:
    monkeypatch.setenv("RUNBOOK_DATABASE__PORT", port)
    found = failure(postgres.sessions)
    assert found.kind == kind
    assert f":{port}/mlflow as mlops_admin" in found.message


@pytest.mark.parametrize("whose", ["ROLE mlflow", "DATABASE mlflow"])
def test_a_limit_of_the_role_or_database_is_a_refusal_of_its_own(
    connected: Platform, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    monkeypatch.setenv("RUNBOOK_DATABASE__USER", "mlflow")
    monkeypatch.setenv("PGPASSWORD", connected.passwords["mlflow"])
    with limited(connected, whose):
        found = data(postgres.sessions)
        reached = data(postgres.reachable)
    assert found["refused"] == ""
    kind, name = whose.split()
    assert (found["refused_by"]["kind"], found["refused_by"]["name"]) == (kind.lower(), name)
    assert "too many connections for" in found["refused_by"]["said"]
    assert (reached["reached"], reached["kind"]) == (False, "refused")


@contextmanager
def ungranted(platform: Platform, name: str, password: str) -> Iterator[None]:
    """A role that may log in and is a member of nothing."""
    with superuser(platform) as session:
        role = sql.Identifier(name)
        session.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
        try:
            yield
        finally:
            session.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_role_that_may_not_see_others_does_not_take_a_full_server_for_an_empty_one(
    connected: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without pg_monitor other roles' rows are there, but not known for clients'."""
    monkeypatch.setenv("RUNBOOK_DATABASE__USER", "onlooker")
    monkeypatch.setenv("PGPASSWORD", "onlookers-password")
    with ungranted(connected, "onlooker", "onlookers-password"):
        found = failure(postgres.sessions)
        seen = data(services.database)
    assert (found.kind, found.next) == ("forbidden", "GRANT pg_monitor TO onlooker;")
    assert "may not see other roles' sessions" in found.message
    assert (seen["reached"], seen["slots"], seen["used"]) == (True, {}, None)


def test_a_superuser_sees_all(connected: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_DATABASE__USER", "postgres")
    monkeypatch.setenv("PGPASSWORD", connected.passwords["postgres"])
    assert "mlflow" in {one["role"] for one in data(postgres.sessions)["sessions"]}


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({"env": [{"name": "DB_POOL_SIZE", "value": "5"}]}, (1, 5, 10)),
        ({"command": ["gunicorn", "-w", "4"], "args": ["app"]}, (4, None, 10)),
        ({"args": ["server", "--workers=3"]}, (3, None, 10)),
        ({"command": ["sh", "-c", "exec gunicorn --workers 2 app"]}, (2, None, 10)),
        ({"args": ["--workers", "2"], "env": [{"name": "WEB_CONCURRENCY", "value": "6"}]},
         (6, None, 10)),
    ],
)  # fmt: skip
def test_a_pool_is_read_from_environment_and_command(
    container: dict[str, Any], expected: tuple[int, int | None, int]
) -> None:
    spec = {"replicas": 2, "template": {"spec": {"containers": [container]}}}
    found = pools.declared({"metadata": {"name": "api"}, "spec": spec}, {})
    assert (found["workers"], found["pool_size"], found["max_overflow"]) == expected


def superuser(platform: Platform) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=platform.env["PGHOST"], port=platform.env["PGPORT"], dbname="postgres",
        user="postgres", password=platform.passwords["postgres"], autocommit=True,
    )  # fmt: skip


@contextmanager
def limited(platform: Platform, whose: str) -> Iterator[None]:
    """A role or a database without a connection to give, except to a superuser."""
    with superuser(platform) as session:
        session.execute(sql.SQL(f"ALTER {whose} CONNECTION LIMIT 0"))
        try:
            yield
        finally:
            session.execute(sql.SQL(f"ALTER {whose} CONNECTION LIMIT -1"))


def test_the_databases_address_is_read_from_its_secret(
    connected: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_DATABASE__HOST", "")
    assert data(postgres.reachable)["reached"]
    monkeypatch.setenv("RUNBOOK_DATABASE__SECRET", "absent")
    assert failure(postgres.reachable).kind == "missing"
    monkeypatch.setenv("RUNBOOK_DATABASE__SECRET", "platform-api-secrets")
    found = failure(postgres.reachable)
    assert found.kind == "not-configured"
    assert "has no key host (it has " in found.message
