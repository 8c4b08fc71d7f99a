"""The configuration: defaults, one file, the environment over it, and one message for a fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook_lib import config
from runbook_lib.config import Config, ConfigError


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, and no RUNBOOK_… variable."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNBOOK_CONFIG", raising=False)


def write(text: str, path: Path = Path(config.FILE_NAME)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path.absolute()


def test_the_defaults_are_the_written_runbooks_names() -> None:
    found = config.load()
    assert (found.cluster.name, found.cluster.region) == ("mlops-platform-production", "us-east-1")
    assert found.namespaces.all()[:4] == ["mlops-platform", "models", "kserve", "kube-system"]
    assert (found.database.instance, found.database.user, found.database.secret) == (
        "mlops-platform-production-mlflow", "mlops_admin", "mlflow-db-secret",
    )  # fmt: skip
    limits = found.limits
    assert (limits.cpu_percent, limits.memory_percent, limits.disk_percent) == (80, 85, 85)
    assert found.endpoints.mlflow == "https://mlflow.mlops-platform.com/health"


def test_the_environment_is_over_the_file_over_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write('[database]\nhost = "file"\nport = 6000\n[services]\ncritical = ["a"]\n')
    monkeypatch.setenv("RUNBOOK_DATABASE__HOST", "environment")
    found = config.load()
    assert (found.database.host, found.database.port) == ("environment", 6000)
    assert (found.database.name, found.services.critical) == ("mlflow", ("a",))


def test_the_file_is_found_above_or_where_the_variable_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    above = write('[cluster]\nname = "above"\n')
    named = write('[cluster]\nname = "named"\n', tmp_path / "elsewhere" / "my.toml")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert (config.find_file(), config.load().cluster.name) == (above, "above")
    monkeypatch.setenv("RUNBOOK_CONFIG", str(named))
    assert (config.find_file(), config.load().cluster.name) == (named, "named")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[database]\nhots = "x"', "database.hots: there is no such name"),
        ("[databse]\nport = 1", "databse: there is no such name"),
        ('[database]\nport = "many"', "database.port: input should be a valid integer"),
        ("[database]\nport = 70000", "database.port: input should be less than or equal to 65535"),
        ("[limits]\ncpu_percent = 0", "limits.cpu_percent: input should be greater than 0"),
        ("[limits]\ncpu_percent = nan", "limits.cpu_percent: input should be"),
        ("[limits]\nprobe_seconds = inf", "limits.probe_seconds: input should be"),
        ("database = 3", "database: input should be"),
        ("[database\nport = 1", "is not valid TOML"),
        ("[database]\nport = 1\nport = 2", "is not valid TOML"),
    ],
)
def test_a_fault_of_the_file_is_one_line_that_names_it(text: str, says: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as refused:
        config.load()
    message = str(refused.value)
    assert says in message
    assert str(path) in message
    assert len(message.splitlines()) == 1


def test_several_faults_are_named_together() -> None:
    write('[database]\nport = 0\nhots = "x"\n')
    with pytest.raises(ConfigError, match=r"database\.port.*; database\.hots"):
        config.load()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RUNBOOK_DATABASE__PORT", "many", "database.port: input should be a valid integer"),
        ("RUNBOOK_DATABASE__HOTS", "x", "Did you mean RUNBOOK_DATABASE__HOST?"),
        ("RUNBOOK_DATABSE__HOST", "x", "Did you mean RUNBOOK_DATABASE__HOST?"),
        ("RUNBOOK_CLUSTER_NAME", "x", "Did you mean RUNBOOK_CLUSTER__NAME?"),
        ("RUNBOOK_DATABASE", "not json", "RUNBOOK_… variable cannot be read.*database"),
        ("RUNBOOK_LIMITS__CPU_PERCENT", "nan", "limits.cpu_percent: input should be"),
        ("RUNBOOK_CONFIG", "/nowhere/runbook.toml", "names /nowhere/runbook.toml.* no such file"),
    ],
)
def test_a_fault_of_the_environment_is_named(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=says):
        config.load()


def test_a_file_that_is_no_text_is_refused() -> None:
    Path(config.FILE_NAME).write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        config.load()


def test_every_table_is_immutable_and_documented() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config.load().database.host = "x"  # type: ignore[misc]
    assert Config.__doc__
