"""PostgreSQL from other places than an ordinary virtual environment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook_lib.practice.postgres.binaries import PostgresError, find_binaries
from runbook_lib.practice.postgres.server import Postgres

INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    server = Postgres(tmp_path)
    yield server
    server.stop()
    server.remove()
    assert not (tmp_path / "postgres").is_symlink()


def monitoring_role_is_superuser(server: Postgres) -> bool:
    with server.connect("mlops_admin", application="test") as connection:
        connection.execute("SELECT count(*) FROM pg_stat_statements")
        row = connection.execute("SELECT current_setting('is_superuser')").fetchone()
    assert row
    return bool(row[0] == "on")


@pytest.mark.skipif(not INSTALLED, reason="no PostgreSQL is installed on this machine")
def test_installed_postgres_serves_too(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    binaries = INSTALLED[-1].parent
    monkeypatch.setenv("RUNBOOK_PRACTICE_PG_BIN", str(binaries))
    server.create()
    assert server.major == int(binaries.parent.name)
    assert monitoring_role_is_superuser(server) == (server.major < 16)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the server to another user")
def test_binaries_below_a_private_home_are_copied(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "home"
    package = find_binaries().parents[1]
    shutil.copytree(package, private / package.name)
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, private / libraries.name)
    private.chmod(0o700)
    monkeypatch.setenv("RUNBOOK_PRACTICE_PG_BIN", str(private / package.name / "pginstall" / "bin"))
    server.create()
    assert not monitoring_role_is_superuser(server)


def test_missing_binaries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_PRACTICE_PG_BIN", str(tmp_path))
    with pytest.raises(PostgresError, match=f"no postgres in {tmp_path}"):
        find_binaries()
