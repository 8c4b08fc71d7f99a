"""MLflow through an ordinary HTTP client: healthy, and as its dependencies break it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from practice.inside import Inside

from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.services.mlflow import API, ARTIFACTS, HOST, Mlflow
from runbook_lib.practice.services.pool import Limits, Pool, PoolTimeoutError
from runbook_lib.practice.services.rules import SERVING, rules_of
from runbook_lib.practice.wait import until

SECONDS = 20.0


@pytest.fixture(scope="module")
def server(inside: Inside, account: Aws) -> Mlflow:
    made: Mlflow = inside.add(Mlflow(inside.api.store, inside.api.kubelet, account))
    made.traffic(0)
    return made


@pytest.fixture
def mlflow(inside: Inside, server: Mlflow) -> Iterator[Client]:
    yield Client(inside, server)
    inside.heal()
    server.traffic(0)


class Client:
    def __init__(self, inside: Inside, server: Mlflow) -> None:
        self.inside, self.server = inside, server

    def ask(self, method: str, path: str, json: Any = None, **more: Any) -> httpx.Response:
        where = path if path.startswith("/") else API + path
        headers = {"Host": "mlflow:5000", **more.pop("headers", {})}
        return self.inside.http.request(
            method, self.server.url + where, json=json, headers=headers, **more
        )

    def post(self, path: str, **json: Any) -> httpx.Response:
        return self.ask("POST", path, json)

    def search(self) -> httpx.Response:
        return self.post("experiments/search", max_results=2)


def test_experiments_are_those_of_the_database(mlflow: Client) -> None:
    with mlflow.inside.postgres.connect("mlflow", application="test") as connection:
        connection.execute("UPDATE experiments SET name = 'renamed' WHERE experiment_id = 7")
        found = mlflow.ask("GET", "experiments/get?experiment_id=7").json()["experiment"]
        connection.execute("UPDATE experiments SET name = 'experiment-7' WHERE experiment_id = 7")
    assert found["name"] == "renamed"
    assert found["artifact_location"] == "s3://mlops-platform-production-artifacts/7"


def test_pages_join_to_all_experiments(mlflow: Client) -> None:
    names, token = set[str](), ""
    for _ in range(20):
        body = mlflow.post("experiments/search", max_results=7, page_token=token).json()
        names |= {one["name"] for one in body["experiments"]}
        if not (token := body.get("next_page_token", "")):
            break
    assert {f"experiment-{number}" for number in range(1, 21)} <= names


def test_an_experiment_lives_through_its_run(mlflow: Client) -> None:
    name = f"test-{uuid.uuid4().hex}"
    made = mlflow.post("experiments/create", name=name).json()["experiment_id"]
    run = mlflow.post("runs/create", experiment_id=made, start_time=1, run_name="first").json()
    identity = run["run"]["info"]["run_id"]
    mlflow.post("runs/log-metric", run_id=identity, key="loss", value=0.5, timestamp=1, step=0)
    mlflow.post(
        "runs/log-batch",
        run_id=identity,
        metrics=[{"key": "loss", "value": 0.25, "timestamp": 2, "step": 1}],
        params=[{"key": "depth", "value": "3"}],
    )
    mlflow.post("runs/update", run_id=identity, status="FINISHED", end_time=2)
    found = mlflow.post("runs/search", experiment_ids=[made]).json()["runs"]
    data = found[0]["data"]
    assert [(one["key"], one["value"], one["step"]) for one in data["metrics"]] == [
        ("loss", 0.25, 1)
    ]
    assert data["params"] == [{"key": "depth", "value": "3"}]
    assert found[0]["info"]["status"] == "FINISHED"
    assert mlflow.post("experiments/delete", experiment_id=made).json() == {}
    gone = mlflow.post("runs/create", experiment_id=made)
    assert (gone.status_code, "must be in the 'active' state" in gone.text) == (400, True)


def test_models_have_their_latest_versions(mlflow: Client) -> None:
    models = mlflow.ask("GET", "registered-models/search").json()["registered_models"]
    assert [one["name"] for one in models] == ["churn-model", "recommender"]
    asked = mlflow.post("registered-models/get-latest-versions", name="churn-model").json()
    assert {one["current_stage"] for one in asked["model_versions"]} == {"Production", "Archived"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "experiments/get?experiment_id=99999", None, 404, "RESOURCE_DOES_NOT_EXIST"),
        ("GET", "experiments/get?experiment_id=abc", None, 400, "INVALID_PARAMETER_VALUE"),
        ("GET", "runs/get?run_id=nope", None, 404, "RESOURCE_DOES_NOT_EXIST"),
        ("POST", "experiments/create", {"name": "experiment-1"}, 400, "RESOURCE_ALREADY_EXISTS"),
        ("POST", "experiments/search", {}, 400, "INVALID_PARAMETER_VALUE"),
        ("POST", "experiments/search", {"filter": "x"}, 400, "INVALID_PARAMETER_VALUE"),
        ("GET", "experiments/list", None, 404, None),
        ("POST", "registered-models/search", {}, 405, None),
    ],
)
def test_refusals(
    mlflow: Client, method: str, path: str, body: Any, status: int, code: str | None
) -> None:
    answer = mlflow.ask(method, path, body)
    assert answer.status_code == status
    if code:
        assert answer.json()["error_code"] == code


def test_stopped_database_is_503_but_health_stays(mlflow: Client) -> None:
    mlflow.inside.postgres.stop()
    try:
        answer, health = mlflow.search(), mlflow.ask("GET", "/health")
    finally:
        mlflow.inside.postgres.start()
    assert (answer.status_code, answer.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    assert "(psycopg.OperationalError)" in answer.json()["message"]
    assert health.status_code == 200
    assert "Error in _experiments_search" in mlflow.inside.logs("mlflow")
    assert mlflow.search().status_code == 200


def test_a_new_password_fails_only_where_the_container_is_new(mlflow: Client) -> None:
    inside, password = mlflow.inside, mlflow.inside.postgres.passwords["mlflow"]
    inside.set_secret("mlflow-db-secret", password="wrong")
    try:
        assert mlflow.search().status_code == 200  # all started with the old one
        assert "password authentication failed" in inside.log_of_a_crash("mlflow")
        assert mlflow.search().status_code == 200  # the old pod serves on
    finally:
        inside.set_secret("mlflow-db-secret", password=password)
    inside.until_ready("mlflow", 2)


def test_a_server_ends_on_another_schema(mlflow: Client) -> None:
    inside = mlflow.inside
    with inside.postgres.connect("mlflow", application="test") as connection:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        connection.execute("UPDATE alembic_version SET version_num = 'older'")
        try:
            log = inside.log_of_a_crash("mlflow")
        finally:
            connection.execute("UPDATE alembic_version SET version_num = %s", row)
    assert row and f"schema (found version older, but expected {row[0]})" in log
    inside.until_ready("mlflow", 2)


def test_requests_beyond_a_pods_pool_wait_for_a_connection(mlflow: Client) -> None:
    """Pool 2, overflow 1, two pods: six statements run at once, the seventh request waits."""
    from concurrent.futures import ThreadPoolExecutor

    connect, seen = mlflow.inside.postgres.connect, list[int]()
    with connect("mlflow", application="lock") as lock, connect("mlflow", application="w") as watch:
        lock.autocommit = False
        lock.execute("LOCK TABLE experiments IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(8) as threads:
            asked = [threads.submit(mlflow.search) for _ in range(8)]

            def waiting() -> bool:
                row = watch.execute(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE application_name = 'mlflow' AND wait_event_type = 'Lock'"
                ).fetchone()
                seen.append(row[0] if row else 0)
                return seen[-1] == 6

            until(waiting, SECONDS, "six sessions of two pods wait for the lock")
            assert not any(one.done() for one in asked)
            lock.rollback()
            assert [one.result().status_code for one in asked] == [200] * 8
    assert max(seen) == 6


def test_a_pool_words_its_end_as_sqlalchemy_does(inside: Inside) -> None:
    connect = {
        "host": "127.0.0.1",
        "port": inside.postgres.port,
        "user": "mlflow",
        "password": inside.postgres.passwords["mlflow"],
        "dbname": "mlflow",
    }

    async def exhaust() -> None:
        pool = Pool(connect, Limits(1, 0, timeout=0.05), "test")
        try:
            async with pool.connection(leak=True):
                pass
            async with pool.connection():
                pass
        finally:
            await pool.close()

    with pytest.raises(PoolTimeoutError, match=r"size 1 overflow 0 reached, connection timed out"):
        inside.run(exhaust())


def test_host_header(mlflow: Client) -> None:
    headers = {"Host": "other.example"}
    answer = mlflow.ask("POST", "experiments/search", {"max_results": 1}, headers=headers)
    assert (answer.status_code, answer.text.partition(" -")[0]) == (403, "Invalid Host header")
    assert mlflow.ask("GET", "/health", headers=headers).status_code == 200
    forwarded = {"Host": mlflow.server.url.partition("://")[2]}
    answer = mlflow.ask("POST", "experiments/search", {"max_results": 1}, headers=forwarded)
    assert answer.status_code == 200
    outside = {"Host": HOST}
    answer = mlflow.ask("POST", "experiments/search", {"max_results": 1}, headers=outside)
    assert answer.status_code == 200


def test_artifacts_go_through_to_the_bucket_and_back(mlflow: Client, account: Aws) -> None:
    path = f"{ARTIFACTS}/1/run/artifacts/model.pkl"
    assert mlflow.ask("PUT", path, content=b"x").status_code == 200
    stored = account.client("s3").get_object(
        Bucket="mlops-platform-production-artifacts", Key="1/run/artifacts/model.pkl"
    )
    assert stored["Body"].read() == b"x"
    assert mlflow.ask("GET", path).content == b"x"
    listed = mlflow.ask("GET", f"{ARTIFACTS}?path=1/run/artifacts").json()
    assert listed == {"files": [{"path": "model.pkl", "is_dir": False, "file_size": 1}]}
    missing = mlflow.ask("GET", f"{ARTIFACTS}/1/run/artifacts/none")
    assert (missing.status_code, missing.json()["error_code"]) == (500, "INTERNAL_ERROR")


def test_artifacts_may_be_denied_while_the_api_is_healthy(mlflow: Client, account: Aws) -> None:
    denied = {"kind": "denied", "service": "s3", "operation": "PutObject"}
    account.faults([denied])
    answer = mlflow.ask("PUT", f"{ARTIFACTS}/1/run/artifacts/model.pkl", content=b"x")
    account.faults([])
    assert answer.status_code == 500
    assert "S3UploadFailedError: Failed to upload" in mlflow.inside.logs("mlflow")
    assert "AccessDenied" in mlflow.inside.logs("mlflow")
    assert mlflow.search().status_code == 200


def test_a_pod_whose_role_trusts_another_account_may_do_nothing(
    mlflow: Client, breakable_account: Aws
) -> None:
    """New containers get no session; those that had one keep it, and a right policy is enough."""
    path = f"{ARTIFACTS}/1/run/artifacts/model.pkl"
    iam = breakable_account.client("iam")
    role = iam.get_role(RoleName="mlops-mlflow-role")["Role"]
    trusted = json.dumps(role["AssumeRolePolicyDocument"])
    assert [mlflow.ask("PUT", path, content=b"x").status_code for _ in range(2)] == [200, 200]
    wrong = trusted.replace("mlops-platform:mlflow-sa", "mlflow:mlflow")
    iam.update_assume_role_policy(RoleName="mlops-mlflow-role", PolicyDocument=wrong)
    assert [mlflow.ask("PUT", path, content=b"x").status_code for _ in range(2)] == [200, 200]
    for name in mlflow.inside.ready("mlflow"):
        mlflow.inside.delete_pod(name)
    mlflow.inside.until_ready("mlflow", 2)
    assert [mlflow.ask("PUT", path, content=b"x").status_code for _ in range(2)] == [500, 500]
    log = mlflow.inside.logs("mlflow")
    assert "AccessDenied) when calling the AssumeRoleWithWebIdentity operation" in log
    iam.update_assume_role_policy(RoleName="mlops-mlflow-role", PolicyDocument=trusted)
    assert [mlflow.ask("PUT", path, content=b"x").status_code for _ in range(2)] == [200, 200]


def test_a_pod_without_a_role_has_its_nodes(mlflow: Client, breakable_account: Aws) -> None:
    annotations = {"eks.amazonaws.com/role-arn": None}
    account = "core/serviceaccounts/mlflow-sa"
    mlflow.inside.patch(account, {"metadata": {"annotations": annotations}})
    for name in mlflow.inside.ready("mlflow"):
        mlflow.inside.delete_pod(name)
    mlflow.inside.until_ready("mlflow", 2)
    answer = mlflow.ask("PUT", f"{ARTIFACTS}/1/run/artifacts/model.pkl", content=b"x")
    log = mlflow.inside.logs("mlflow")
    arn = "arn:aws:iam::123456789012:role/mlops-mlflow-role"
    annotations = {"eks.amazonaws.com/role-arn": arn}
    mlflow.inside.patch(account, {"metadata": {"annotations": annotations}})
    for name in mlflow.inside.ready("mlflow"):
        mlflow.inside.delete_pod(name)
    mlflow.inside.until_ready("mlflow", 2)
    assert answer.status_code == 500
    assert "assumed-role/eks-node-role/i-node is not authorized to perform: s3:PutObject" in log


def test_requests_leave_their_traces(mlflow: Client) -> None:
    mlflow.server.behave(500, "broken", path=f"{API}runs")
    answer = mlflow.post("runs/search", experiment_ids=["1"])
    assert (answer.status_code, answer.text) == (500, "broken")
    log = mlflow.inside.logs("mlflow")
    assert f'"POST {API}runs/search HTTP/1.1" 500 Internal Server Error' in log
    counted = [
        one
        for one in mlflow.server.collect()
        if one.name == "http_requests_total" and one.labels["status"] == "500"
        if one.labels["path"] == f"{API}runs/search"
    ]
    assert sum(one.value for one in counted) >= 1
    assert {one.labels["app"] for one in counted} == {"mlflow"}


def test_a_slow_rule_is_seen_and_healed(mlflow: Client) -> None:
    mlflow.inside.verb(mlflow.server, "slow", seconds=0.3, path="/health")
    began = time.monotonic()
    mlflow.ask("GET", "/health")
    assert time.monotonic() - began >= 0.3
    mlflow.inside.heal()
    assert not mlflow.server._rules


def test_verbs_refuse_what_cannot_be_asked(mlflow: Client) -> None:
    for verb, arguments in (
        ("behave", {"status": 99}),
        ("behave", {"status": 500, "path": "x"}),
        ("raise_error", {"path": "/", "exception": ""}),
        ("slow", {"seconds": -1}),
        ("traffic", {"rate": 1000}),
        ("sing", {}),
    ):
        with pytest.raises(ValueError):
            mlflow.inside.verb(mlflow.server, verb, **arguments)


def test_stopped_it_refuses_connections(mlflow: Client) -> None:
    url = mlflow.server.url
    mlflow.inside.run(mlflow.server.stop())
    with pytest.raises(httpx.ConnectError):
        mlflow.search()
    with pytest.raises(ConnectionRefusedError):
        list(mlflow.server.collect())
    mlflow.inside.run(mlflow.server.start())
    assert mlflow.server.url == url
    assert mlflow.search().status_code == 200


def test_rules_that_a_pod_carries_are_read_strictly() -> None:
    pod = {"metadata": {"annotations": {SERVING: '[{"path": "/x", "colour": "red"}]'}}}
    with pytest.raises(ValueError, match="a rule has no colour"):
        rules_of(pod)
