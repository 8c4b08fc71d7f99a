"""The platform API through an ordinary HTTP client, and every way in which it fails."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from practice.apiclient import Api, Cache
from practice.inside import PLATFORM, SECONDS, Inside, NoCloud

from runbook_lib.practice.redis.system import OnlineStore
from runbook_lib.practice.services import tokens
from runbook_lib.practice.services.mlflow import Mlflow
from runbook_lib.practice.services.platform_api import (
    AUDIENCE,
    EXPERIMENTS,
    ISSUER,
    LOGIN,
    MODELS,
    PlatformApi,
)
from runbook_lib.practice.services.routing import ATTRIBUTES
from runbook_lib.practice.services.rules import SERVING
from runbook_lib.practice.wait import until

JWT = "jwt-secret-of-the-healthy-platform"


@pytest.fixture
def cache(inside: Inside, redis: OnlineStore) -> Cache:
    return Cache(inside, redis)


@pytest.fixture(scope="module")
def mlflow(inside: Inside) -> Mlflow:
    made: Mlflow = inside.add(Mlflow(inside.api.store, inside.api.kubelet, NoCloud()))
    made.traffic(0)
    return made


@pytest.fixture(scope="module")
def server(inside: Inside, mlflow: Mlflow, redis: OnlineStore) -> PlatformApi:
    where = inside.addresses(mlflow=mlflow, redis=redis)

    made: PlatformApi = inside.add(PlatformApi(inside.api.store, inside.api.kubelet, where))
    made.traffic(0)
    inside.until_ready("platform-api", 3)
    return made


@pytest.fixture
def api(inside: Inside, server: PlatformApi, mlflow: Mlflow, cache: Cache) -> Iterator[Api]:
    cache.call("flushdb")
    yield Api(inside, server)
    for system in (server, mlflow):
        inside.run(system.heal())
    for system in (server, mlflow):
        system.traffic(0)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    usual = {"sub": "x", "role": "viewer", "aud": AUDIENCE, "iss": ISSUER, "iat": now}
    return {**usual, "exp": now + 60, **changes}


def test_models_join_the_database_and_mlflow(api: Api) -> None:
    body = api.models().json()
    assert [one["name"] for one in body["models"]] == ["churn-model", "recommender"]
    assert [one["version"] for one in body["models"][0]["versions"]] == [1, 2]
    one = api.ask(f"{MODELS}/recommender", api.token())
    assert (one.status_code, one.json()["name"]) == (200, "recommender")
    assert api.ask(f"{MODELS}/nope", api.token()).status_code == 404
    assert len(api.ask(EXPERIMENTS, api.token()).json()["experiments"]) >= 20


def test_the_cache_answers_for_mlflow(api: Api, cache: Cache) -> None:
    assert api.models().status_code == 200
    key = "platform-api:models:1"
    kept = json.loads(cache.call("get", key))
    assert [one["name"] for one in kept] == ["churn-model", "recommender"]
    assert 0 < cache.call("ttl", key) <= 300
    cache.call("set", key, json.dumps([{"name": "from-the-cache"}]))
    assert api.models().json()["models"][0]["name"] == "from-the-cache"


def test_roles(api: Api) -> None:
    refused = api.ask(EXPERIMENTS, api.token(), "POST", json={"name": "by-viewer"})
    assert refused.status_code == 403
    assert refused.json()["detail"] == "Role 'viewer' may not create experiments"
    name = f"by-admin-{time.time_ns()}"
    assert api.ask(EXPERIMENTS, api.token("admin"), "POST", json={"name": name}).status_code == 201
    assert "403 Forbidden" in api.log()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": 1}, "Signature has expired"),
        ({"aud": "other"}, "Audience doesn't match"),
        ({"iss": "other"}, "Invalid issuer"),
        ({"iat": 2**33}, "The token is not yet valid (iat)"),
    ],
)
def test_tokens_are_refused_with_a_reason(api: Api, changes: Any, reason: str) -> None:
    answer = api.ask(MODELS, tokens.encode(claims(**changes), JWT))
    assert (answer.status_code, answer.json()["detail"]) == (401, f"Invalid token: {reason}")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert f"401 Unauthorized on {MODELS}: {reason}" in api.log()


def test_other_refusals(api: Api) -> None:
    assert api.login(password="wrong").json()["detail"] == "Incorrect username or password"
    assert api.ask(LOGIN, method="POST", json={}).status_code == 422
    assert api.ask(MODELS).status_code == 401
    assert "Not enough segments" in api.ask(MODELS, "x").text
    assert api.ask("/nothing").status_code == 404
    foreign = tokens.encode(claims(), "another secret")
    assert "Signature verification failed" in api.ask(MODELS, foreign).text


def test_replicas_that_started_with_different_secrets_fail_in_turn(api: Api) -> None:
    inside = api.inside
    inside.set_secret("platform-api-secrets", **{"jwt-secret": "the new secret"})
    try:
        token = api.token()
        assert [api.ask(MODELS, token).status_code for _ in range(6)] == [200] * 6
        inside.delete_pod(inside.ready("platform-api")[0])
        inside.until_ready("platform-api", 3)
        answers = [api.ask(MODELS, token) for _ in range(9)]
        assert sorted(one.status_code for one in answers) == [200] * 6 + [401] * 3
    finally:
        inside.set_secret("platform-api-secrets", **{"jwt-secret": JWT})
    api.roll_out(ROLLED="1")


def test_a_skewed_clock_makes_tokens_of_tomorrow(api: Api) -> None:
    nodes = {pod["spec"]["nodeName"] for pod in api.inside.pods("platform-api")}
    node = sorted(nodes)[0]
    api.inside.verb(api.server, "skew_clock", node=node, seconds=300)
    answers = [api.ask(MODELS, api.token()) for _ in range(12)]
    refused = [one.json()["detail"] for one in answers if one.status_code == 401]
    assert set(refused) == {"Invalid token: The token is not yet valid (iat)"}
    with pytest.raises(ValueError, match="no node 'x'"):
        api.inside.verb(api.server, "skew_clock", node="x", seconds=1)


def test_signing_keys_that_cannot_be_fetched(api: Api) -> None:
    api.roll_out(OIDC_JWKS_URL="https://auth.example.com/keys")
    answer = api.ask(MODELS, tokens.encode(claims(), JWT))
    api.roll_out(OIDC_JWKS_URL="")
    assert answer.status_code == 401
    assert "Fail to fetch data from the url, err" in answer.text
    assert "Name or service not known" in answer.text


def test_a_leak_exhausts_the_pool_of_a_pod(api: Api) -> None:
    api.roll_out(DB_POOL_SIZE="1", DB_MAX_OVERFLOW="0", DB_POOL_TIMEOUT="0.2")
    token = api.token()
    api.inside.verb(api.server, "leak", path=MODELS)
    first = [api.ask(MODELS, token).status_code for _ in range(3)]
    answer = api.ask(MODELS, token)
    log = api.log()
    held = sessions(api.inside)
    api.inside.run(api.server.heal())
    assert (first, answer.status_code) == ([200] * 3, 500)
    assert "Exception in ASGI application" in log
    assert "sqlalchemy.exc.TimeoutError: QueuePool limit of size 1 overflow 0 reached" in log
    assert held == 3
    assert api.ask(MODELS, token).status_code == 200
    api.roll_out(DB_POOL_SIZE="5", DB_MAX_OVERFLOW="2", DB_POOL_TIMEOUT="30")
    with pytest.raises(ValueError, match="use connections"):
        api.inside.verb(api.server, "leak", path="/health")


def sessions(inside: Inside) -> int:
    with inside.postgres.connect("postgres", application="test") as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'platform-api'"
        ).fetchone()
    return int(row[0]) if row else 0


def test_the_pools_of_pods_that_are_gone_are_closed(api: Api) -> None:
    for _ in range(3):
        api.models()
    assert sessions(api.inside) == 3
    api.roll_out(ROLLED="2")
    until(lambda: sessions(api.inside) == 0, SECONDS, "the old pods' sessions end")


def test_stopped_database(api: Api) -> None:
    token = api.token()
    api.inside.postgres.stop()
    try:
        answer = api.ask(MODELS, token)
    finally:
        api.inside.postgres.start()
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    assert "sqlalchemy.exc.OperationalError: (psycopg.OperationalError)" in api.log()


def test_stopped_redis(api: Api, redis: OnlineStore) -> None:
    token = api.token()
    api.inside.run(redis.stop())
    try:
        answer = api.ask(MODELS, token)
    finally:
        api.inside.run(redis.start())
    assert answer.status_code == 500
    assert "redis.exceptions.ConnectionError: Error" in api.log()


def test_mlflow_too_slow(api: Api, mlflow: Mlflow, cache: Cache) -> None:
    api.roll_out(MLFLOW_TIMEOUT="0.2")
    token = api.token()
    cache.call("flushdb")
    mlflow.slow(1, "/api/2.0/mlflow/registered-models")
    answer = api.ask(MODELS, token)
    log = api.log()
    api.inside.run(mlflow.heal())
    api.roll_out(MLFLOW_TIMEOUT="10")
    assert answer.status_code == 500
    assert "httpx.ReadTimeout: no answer from http://mlflow:5000/api/2.0/mlflow/reg" in log


def test_mlflow_without_endpoints(api: Api, cache: Cache) -> None:
    token = api.token()
    selector = {"spec": {"selector": {"app": "other"}}}
    api.inside.patch("core/services/mlflow", selector)

    def answered(status: int) -> bool:
        cache.call("flushdb")
        return api.ask(MODELS, token).status_code == status

    refused = "httpx.ConnectError: [Errno 111] Connection refused"
    until(lambda: answered(500) and refused in api.log(), SECONDS, "MLflow is out of reach")
    api.inside.patch("core/services/mlflow", {"spec": {"selector": {"app": "mlflow"}}})
    until(lambda: answered(200), SECONDS, "MLflow is back")


def test_a_policy_cuts_the_way_to_mlflow(api: Api, cache: Cache) -> None:
    """Dropped packets: the API waits for as long as it is told to, then fails."""
    api.roll_out(MLFLOW_TIMEOUT="0.2")
    token = api.token()
    cache.call("flushdb")
    path = "networking.k8s.io/networkpolicies/allow-mlops-traffic"
    where = "/apis/networking.k8s.io/v1/namespaces/mlops-platform/networkpolicies"
    allowed = api.inside.kubernetes("GET", f"{where}/allow-mlops-traffic")
    nobody = [{"from": [{"namespaceSelector": {"matchLabels": {"name": "mlops-platform"}}}]}]
    api.inside.patch(path, {"spec": {"ingress": nobody}})
    answer = api.ask(MODELS, token)
    log = api.log()
    api.inside.patch(path, {"spec": {"ingress": allowed["spec"]["ingress"]}})
    healed = api.ask(MODELS, token)
    api.roll_out(MLFLOW_TIMEOUT="10")
    assert (answer.status_code, healed.status_code) == (500, 200)
    assert "httpx.ConnectTimeout" in log


def test_without_core_dns_no_name_resolves(api: Api) -> None:
    token = api.token()
    scale = "/apis/apps/v1/namespaces/kube-system/deployments/coredns/scale"
    api.inside.kubernetes("PATCH", scale, {"spec": {"replicas": 0}})
    until(lambda: api.ask(MODELS, token).status_code == 500, SECONDS, "names are unknown")
    log = api.log()
    api.inside.kubernetes("PATCH", scale, {"spec": {"replicas": 2}})
    until(lambda: api.ask(MODELS, token).status_code == 200, SECONDS, "names are known again")
    assert "[Errno -3] Temporary failure in name resolution" in log


def test_an_unhandled_exception_leaves_its_traceback_in_one_pods_log(api: Api) -> None:
    api.inside.verb(
        api.server, "raise_error", path=EXPERIMENTS, exception="KeyError", message="'owner'"
    )
    assert api.ask(EXPERIMENTS, api.token()).status_code == 500
    logs = [api.inside.log(name) for name in api.inside.ready("platform-api")]
    assert sum("KeyError: 'owner'" in log for log in logs) == 1


def test_the_way_in_breaks_link_by_link(api: Api) -> None:
    """Ingress, Service, port, endpoints: each with the load balancer's own answer."""
    service = "core/services/platform-api"
    ingress = "networking.k8s.io/ingresses/platform-api"
    spec = api.inside.kubernetes("GET", f"/api/v1/namespaces/{PLATFORM}/services/platform-api")[
        "spec"
    ]
    port = {**spec["ports"][0]}

    def health() -> tuple[int, str]:
        answer = api.ask("/health")
        return answer.status_code, answer.headers.get("Server", "")[:6]

    def becomes(status: int) -> None:
        until(lambda: health()[0] == status, SECONDS, f"/health answers {status}")
        assert (health()[1] == "awselb") == (status != 200)

    api.inside.patch(service, {"spec": {"selector": {"app": "other"}}})
    becomes(503)
    api.inside.patch(service, {"spec": {"selector": spec["selector"]}})
    becomes(200)
    api.inside.patch(service, {"spec": {"ports": [{**port, "targetPort": 9999}]}})
    becomes(502)
    api.inside.patch(service, {"spec": {"ports": [port]}})
    becomes(200)
    found = api.inside.kubernetes(
        "GET", f"/apis/networking.k8s.io/v1/namespaces/{PLATFORM}/ingresses/platform-api"
    )
    rules = found["spec"]["rules"]
    api.inside.patch(ingress, {"spec": {"rules": [{**rules[0], "host": "other.example"}]}})
    becomes(404)
    api.inside.patch(ingress, {"spec": {"rules": rules}})
    becomes(200)


def test_a_slow_answer_meets_the_load_balancers_patience(api: Api) -> None:
    ingress = "networking.k8s.io/ingresses/platform-api"
    found = api.inside.kubernetes(
        "GET", f"/apis/networking.k8s.io/v1/namespaces/{PLATFORM}/ingresses/platform-api"
    )
    before = found["metadata"].get("annotations", {}).get(ATTRIBUTES)
    short = {ATTRIBUTES: "idle_timeout.timeout_seconds=1"}
    api.inside.patch(ingress, {"metadata": {"annotations": short}})
    api.inside.verb(api.server, "slow", seconds=5, path="/health")
    answer = api.ask("/health")
    api.inside.patch(ingress, {"metadata": {"annotations": {ATTRIBUTES: before}}})
    assert (answer.status_code, "504 Gateway Time-out" in answer.text) == (504, True)


def test_one_replica_misbehaves_by_its_own_rules(api: Api) -> None:
    name = api.inside.ready("platform-api")[0]
    rule = json.dumps([{"path": "/health", "status": 503, "body": "draining"}])
    api.inside.patch(f"core/pods/{name}", {"metadata": {"annotations": {SERVING: rule}}})
    statuses = [api.ask("/health").status_code for _ in range(6)]
    api.inside.patch(f"core/pods/{name}", {"metadata": {"annotations": {SERVING: None}}})
    assert sorted(statuses) == [200] * 4 + [503] * 2


def test_background_traffic_logs_in_and_asks(api: Api) -> None:
    def counted() -> set[tuple[str, str]]:
        return {
            (one.labels["path"], one.labels["status"])
            for one in api.server.collect()
            if one.name == "http_requests_total"
        }

    api.server.traffic(50)
    wanted = {(LOGIN, "200"), (MODELS, "200"), (EXPERIMENTS, "200")}
    until(lambda: wanted <= counted(), SECONDS, "the usual requests were counted")
