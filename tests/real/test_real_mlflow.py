"""The same requests to a real `mlflow server` and to ours, on one real Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from practice.inside import Inside
from real.conftest import Process, Side, environment, outline

from runbook_lib.config import Config, Endpoints
from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.services.mlflow import API, ARTIFACTS, Mlflow
from runbook_lib.sources import http
from runbook_lib.sources.clients import Sources
from runbook_lib.sources.redaction import Redactor

pytestmark = pytest.mark.real

DATABASE = "real_mlflow"
BUCKET = "mlops-platform-production-artifacts"
METRIC = {"run_id": "<run>", "key": "loss", "value": 0.5, "timestamp": 1, "step": 0}
BATCH = {"run_id": "<run>", "params": [{"key": "depth", "value": "3"}]}


@pytest.fixture(scope="module")
def uri(inside: Inside) -> str:
    with inside.postgres.connect("postgres", application="test", database="postgres") as one:
        one.execute(f"CREATE DATABASE {DATABASE} OWNER mlflow")
    password = inside.postgres.passwords["mlflow"]
    return f"postgresql+psycopg://mlflow:{password}@127.0.0.1:{inside.postgres.port}/{DATABASE}"


def cloud(account: Aws) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": account.access_key_id,
        "AWS_SECRET_ACCESS_KEY": account.secret_access_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": account.url,
        "MLFLOW_S3_ENDPOINT_URL": account.url,
    }


def command(binaries: Path, uri: str, port: int) -> list[str]:
    return [
        str(binaries / "mlflow"),
        "server",
        "--backend-store-uri",
        uri,
        "--artifacts-destination",
        f"s3://{BUCKET}/real",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]


@pytest.fixture(scope="module")
def real(uri: str, account: Aws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    binaries = environment("mlflow")
    process = Process(tmp_path_factory.mktemp("mlflow") / "mlflow.log")
    process.start(command(binaries, uri, process.port), wait="/health", **cloud(account))
    side = filled(Side(process.url, {}, {}))
    side.ask("POST", f"{API}registered-models/create", {"name": "compared"})
    yield side
    process.stop()


@pytest.fixture(scope="module")
def ours(inside: Inside, account: Aws) -> Side:
    made = inside.add(Mlflow(inside.api.store, inside.api.kubelet, account))
    made.traffic(0)
    return filled(Side(made.url, {}, {"Host": "mlflow:5000"}))


def filled(side: Side) -> Side:
    """A server with an experiment that has a run."""
    made = side.ask("POST", f"{API}experiments/create", {"name": "compared"}).json()
    experiment = made["experiment_id"]
    body = {"experiment_id": experiment, "run_name": "first", "start_time": 1}
    run = side.ask("POST", f"{API}runs/create", body).json()["run"]["info"]["run_id"]
    return Side(side.url, {"experiment": experiment, "run": run}, side.headers)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/health", None),
        ("GET", "/version", None),
        ("GET", "/metrics", None),
        ("GET", "/nothing", None),
        ("POST", f"{API}experiments/search", {"max_results": 500}),
        ("GET", f"{API}experiments/search?max_results=500", None),
        ("POST", f"{API}experiments/search", {"max_results": 500, "view_type": "ALL"}),
        ("POST", f"{API}experiments/search", {}),
        ("POST", f"{API}experiments/search", {"max_results": 500000}),
        ("POST", f"{API}experiments/search", {"max_results": "x"}),
        ("POST", f"{API}experiments/search", {"max_results": 1, "filter": "nonsense"}),
        ("POST", f"{API}experiments/search", b"nonsense"),
        ("GET", f"{API}experiments/list", None),
        ("GET", f"{API}experiments/get?experiment_id=<experiment>", None),
        ("GET", f"{API}experiments/get?experiment_id=99999", None),
        ("GET", f"{API}experiments/get?experiment_id=abc", None),
        ("GET", f"{API}experiments/get", None),
        ("GET", f"{API}experiments/get-by-name?experiment_name=compared", None),
        ("GET", f"{API}experiments/get-by-name?experiment_name=nope", None),
        ("POST", f"{API}experiments/create", {"name": "compared"}),
        ("POST", f"{API}experiments/create", {}),
        ("POST", f"{API}experiments/delete", {"experiment_id": "99999"}),
        ("POST", f"{API}runs/create", {"experiment_id": "<experiment>", "start_time": 1}),
        ("POST", f"{API}runs/create", {"experiment_id": "99999"}),
        ("POST", f"{API}runs/log-metric", METRIC),
        ("POST", f"{API}runs/log-metric", {"run_id": "<run>", "key": "loss"}),
        ("POST", f"{API}runs/log-metric", {**METRIC, "run_id": "nope"}),
        ("POST", f"{API}runs/log-batch", BATCH),
        ("POST", f"{API}runs/update", {"run_id": "<run>", "status": "FINISHED", "end_time": 9}),
        ("GET", f"{API}runs/get?run_id=<run>", None),
        ("GET", f"{API}runs/get?run_id=nope", None),
        ("GET", f"{API}runs/get", None),
        ("POST", f"{API}runs/search", {"experiment_ids": ["<experiment>"], "max_results": 5}),
        ("POST", f"{API}runs/search", {"experiment_ids": ["99999"]}),
        ("POST", f"{API}runs/search", {"experiment_ids": ["1"], "filter": "bad bad"}),
        ("GET", f"{API}artifacts/list?run_id=<run>", None),
        ("GET", f"{API}artifacts/list?run_id=nope", None),
        ("POST", f"{API}registered-models/search", {}),
        ("GET", f"{API}registered-models/get-latest-versions?name=nope", None),
        ("POST", f"{API}registered-models/get-latest-versions", {"name": "nope"}),
        ("PUT", f"{ARTIFACTS}/compared/a.txt", b"content"),
        ("GET", f"{ARTIFACTS}/compared/a.txt", None),
        ("GET", f"{ARTIFACTS}?path=compared", None),
        ("GET", f"{ARTIFACTS}/compared/nope.txt", None),
    ],
)
def test_same(real: Side, ours: Side, method: str, path: str, body: Any) -> None:
    assert outline(ours.ask(method, path, body)) == outline(real.ask(method, path, body))


def test_runs_have_the_same_fields(real: Side, ours: Side) -> None:
    path = f"{API}runs/get?run_id=<run>"
    one, other = (side.ask("GET", path).json()["run"] for side in (ours, real))
    assert sorted(one) == sorted(other)
    assert sorted(one["info"]) == sorted(other["info"])


BROKEN = [
    ("GET", "/health", None),
    ("GET", "/version", None),
    ("POST", f"{API}experiments/search", {"max_results": 500}),
    ("GET", f"{API}experiments/get?experiment_id=<experiment>", None),
    ("POST", f"{API}runs/log-metric", METRIC),
    ("GET", f"{API}registered-models/search", None),
    ("POST", f"{API}experiments/search", {}),
]


def compared(real: Side, ours: Side, requests: list[tuple[str, str, Any]]) -> None:
    answers = [(ours.ask(*one), real.ask(*one)) for one in requests]
    assert [outline(one) for one, _ in answers] == [outline(other) for _, other in answers]


def test_same_without_a_database(real: Side, ours: Side, inside: Inside) -> None:
    inside.postgres.stop()
    try:
        compared(real, ours, BROKEN)
    finally:
        inside.postgres.start()
    compared(real, ours, BROKEN)


def test_same_with_a_wrong_password(real: Side, ours: Side, inside: Inside) -> None:
    password = inside.postgres.passwords["mlflow"]
    with inside.postgres.connect("postgres", application="test") as admin:
        admin.execute("ALTER ROLE mlflow PASSWORD 'another'")
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mlflow'"
        admin.execute(end)
        try:
            compared(real, ours, BROKEN)
        finally:
            admin.execute(f"ALTER ROLE mlflow PASSWORD '{password}'")
    compared(real, ours, BROKEN)


def test_same_without_a_table(real: Side, ours: Side, inside: Inside) -> None:
    """Any database error that SQLAlchemy does not call OperationalError."""
    for database in ("mlflow", DATABASE):
        rename(inside, database, "experiments", "taken_away")
    try:
        compared(real, ours, [("POST", f"{API}experiments/search", {"max_results": 500})])
    finally:
        for database in ("mlflow", DATABASE):
            rename(inside, database, "taken_away", "experiments")


def rename(inside: Inside, database: str, old: str, new: str) -> None:
    with inside.postgres.connect("postgres", application="test", database=database) as admin:
        admin.execute(f"ALTER TABLE {old} RENAME TO {new}")


def test_same_with_uploads_denied(real: Side, ours: Side, account: Aws) -> None:
    account.faults([{"kind": "denied", "service": "s3", "operation": "PutObject"}])
    try:
        compared(real, ours, [("PUT", f"{ARTIFACTS}/compared/b.txt", b"x"), *BROKEN[:4]])
    finally:
        account.faults([])


def test_a_real_server_ends_on_another_schema_too(
    real: Side, uri: str, inside: Inside, account: Aws, tmp_path: Path
) -> None:
    where = {"application": "test", "database": DATABASE}
    with inside.postgres.connect("postgres", **where) as admin:
        row = admin.execute("SELECT version_num FROM alembic_version").fetchone()
        admin.execute("UPDATE alembic_version SET version_num = 'older'")
        try:
            process = Process(tmp_path / "second.log")
            binaries = environment("mlflow")
            ended = process.run_to_its_end(command(binaries, uri, process.port), **cloud(account))
        finally:
            admin.execute("UPDATE alembic_version SET version_num = %s", row)
    assert ended == 1
    assert "out-of-date database schema (found version older" in process.log or (
        "Can't locate revision identified by 'older'" in process.log
    )


def test_the_products_probe_sees_a_real_server_as_ours(real: Side, ours: Side) -> None:
    """Health check, point 8: status 200 from both, though neither has looked at its database."""
    config = Config(endpoints=Endpoints(mlflow=f"{real.url}/health", api=f"{ours.url}/health"))
    found = http.endpoints.ask(Sources(config, Redactor([])))
    assert [(one["status"], one["kind"], one["said"]) for one in found] == [(200, "", "")] * 2
