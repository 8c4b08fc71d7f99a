"""The model servers through an ordinary HTTP client: protocols, revisions, queues, cold starts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from practice.inside import SECONDS, Inside

from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.cluster.program import PROGRAM
from runbook_lib.practice.seed.models import MODEL_STORE
from runbook_lib.practice.services.kserve import ModelServers
from runbook_lib.practice.services.rules import SERVING
from runbook_lib.practice.wait import until

CHURN = "/v1/models/churn-model"
ROW = {"instances": [[1, 2, 3, 4], [-1, -2, -3, -4]]}
TENSOR = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [1, 2, 3, 4]}]}
ISVC = "/apis/serving.kserve.io/v1beta1/namespaces/models/inferenceservices"


@pytest.fixture(scope="module")
def server(inside: Inside, account: Aws) -> ModelServers:
    made: ModelServers = inside.add(ModelServers(inside.api.store, inside.api.kubelet, account))
    made.traffic(0)
    for app, number in (
        ("isvc.churn-model-predictor", 2),
        ("recommender-predictor-00001", 1),
        ("recommender-predictor-00002", 1),
    ):
        inside.until_ready(app, number, "models")

    def split() -> bool:
        found = inside.kubernetes("GET", f"{ISVC}/recommender")
        traffic = found["status"]["components"]["predictor"].get("traffic", [])
        return {one["percent"] for one in traffic} == {10, 90}

    until(split, SECONDS, "the traffic of recommender is split")
    return made


@pytest.fixture
def models(inside: Inside, server: ModelServers) -> Iterator[Models]:
    yield Models(inside, server)
    inside.heal()
    server.traffic(0)


class Models:
    def __init__(self, inside: Inside, server: ModelServers) -> None:
        self.inside, self.server = inside, server

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        if isinstance(body, bytes):
            return self.inside.http.request(
                method, self.server.url + path, content=body, headers=more
            )
        return self.inside.http.request(method, self.server.url + path, json=body, headers=more)

    def predict(self, model: str = "churn-model") -> httpx.Response:
        return self.ask("POST", f"/v1/models/{model}:predict", ROW)

    def change(self, name: str, **predictor: Any) -> None:
        """`kubectl patch inferenceservice`."""
        self.inside.kubernetes(
            "PATCH",
            f"{ISVC}/{name}",
            {"spec": {"predictor": predictor}},
            "application/merge-patch+json",
        )

    def annotate(self, pod: str, rules: Any) -> None:
        text = None if rules is None else json.dumps(rules)
        self.inside.kubernetes(
            "PATCH",
            f"/api/v1/namespaces/models/pods/{pod}",
            {"metadata": {"annotations": {SERVING: text}}},
        )


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "answer"),
    [
        ("GET", "/v1/models", None, 200, {"models": ["churn-model"]}),
        ("GET", CHURN, None, 200, {"name": "churn-model", "ready": True}),
        ("POST", f"{CHURN}:predict", ROW, 200, {"predictions": [1, 0]}),
        ("GET", "/v2/health/ready", None, 200, {"ready": True}),
        ("GET", f"{CHURN}/metadata", None, 404, {"detail": "Not Found"}),
        ("GET", "/v2/models/churn-model/versions/1", None, 501, None),
        ("POST", f"{CHURN}:predict", {"instances": [[1]]}, 500, None),
        ("POST", f"{CHURN}:predict", b"nonsense", 400, None),
        ("POST", "/v2/models/churn-model/infer", ROW, 422, None),
        ("POST", "/v1/models/nope:predict", ROW, 404, None),
    ],
)
def test_protocols(
    models: Models, method: str, path: str, body: Any, status: int, answer: Any
) -> None:
    got = models.ask(method, path, body, Host="churn-model-predictor.models")
    assert got.status_code == status
    if answer is not None:
        assert got.json() == answer


def test_the_second_protocol_infers(models: Models) -> None:
    body = models.ask("POST", "/v2/models/churn-model/infer", TENSOR).json()
    assert body["outputs"] == [
        {"name": "output-0", "shape": [1], "datatype": "INT64", "parameters": None, "data": [1]}
    ]


def test_a_server_of_one_protocol_has_no_other(models: Models) -> None:
    model = {"modelFormat": {"name": "sklearn"}, "protocolVersion": "v2"}
    models.change("churn-model", model=model)
    answer = models.ask("GET", CHURN)
    models.change("churn-model", model={**model, "protocolVersion": "v1"})
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


def test_the_host_names_the_model(models: Models) -> None:
    host = "recommender-models.models.mlops-platform.com"
    assert models.ask("GET", "/v1/models", Host=host).json() == {"models": ["recommender"]}
    assert models.ask("GET", "/v1/models/other").status_code == 404


def test_a_failure_in_the_model_leaves_its_traceback(models: Models) -> None:
    answer = models.ask("POST", f"{CHURN}:predict", {"instances": [[1, 2, 3]]})
    assert answer.json() == {
        "error": "X has 3 features, but LogisticRegression is expecting 4 features as input."
    }
    names = models.inside.ready("isvc.churn-model-predictor", "models")
    logs = [
        models.inside.log(name, namespace="models", container="kserve-container") for name in names
    ]
    assert sum("kserve.errors.InferenceError: X has 3 features" in log for log in logs) == 1
    assert all("Traceback (most recent call last):" in log for log in logs if "X has 3" in log)


def test_traffic_is_split_and_only_the_canary_fails(models: Models) -> None:
    canary = models.inside.ready("recommender-predictor-00002", "models")[0]
    models.annotate(canary, [{"path": "/v1", "exception": "IndexError", "message": "out of range"}])
    statuses = [models.predict("recommender").status_code for _ in range(100)]
    models.annotate(canary, None)
    assert (statuses.count(200), statuses.count(500)) == (90, 10)
    log = models.inside.log(canary, namespace="models", container="kserve-container")
    assert log.count("IndexError: out of range") == 10


def test_no_endpoint(models: Models) -> None:
    path = "/apis/apps/v1/namespaces/models/deployments/churn-model-predictor"
    models.inside.kubernetes("PATCH", path, {"spec": {"replicas": 0}})
    until(lambda: models.predict().status_code == 503, SECONDS, "no endpoint is left")
    assert models.predict().text == "no healthy upstream"
    models.inside.kubernetes("PATCH", path, {"spec": {"replicas": 2}})
    models.inside.until_ready("isvc.churn-model-predictor", 2, "models")
    until(lambda: models.predict().status_code == 200, SECONDS, "the model is back")


def test_a_model_that_is_too_slow(models: Models) -> None:
    models.change("churn-model", timeout=1)
    models.inside.verb(models.server, "slow", seconds=5, path=CHURN)
    answer = models.predict()
    models.change("churn-model", timeout=60)
    assert (answer.status_code, answer.text) == (504, "upstream request timeout")


def test_from_zero_the_first_request_waits_for_a_pod(models: Models) -> None:
    models.change("recommender", minReplicas=0, canaryTrafficPercent=None, timeout=20)
    third = "recommender-predictor-00003"

    def takes_all() -> bool:
        found = models.inside.kubernetes("GET", f"{ISVC}/recommender")["status"]["components"]
        shares = [(t["revisionName"], t["percent"]) for t in found["predictor"].get("traffic", [])]
        return shares == [(third, 100)]

    until(takes_all, SECONDS, "the third revision takes all traffic")
    until(lambda: not models.inside.pods(third, "models"), SECONDS, "and has no pod")
    assert [models.predict("recommender").status_code for _ in range(3)] == [200] * 3
    assert len(models.inside.ready(third, "models")) == 1
    models.inside.run(models.server.heal())
    until(lambda: not models.inside.pods(third, "models"), SECONDS, "it is at zero again")


def test_requests_queue_before_a_container_that_takes_one(models: Models) -> None:
    models.change("recommender", minReplicas=1, containerConcurrency=1)
    fourth = "recommender-predictor-00004"
    pod = models.inside.until_ready(fourth, 1, "models")[0]

    def asked() -> bool:
        models.predict("recommender")
        return uid in models.server._slots

    uid = next(
        one["metadata"]["uid"]
        for one in models.inside.pods(fourth, "models")
        if one["metadata"]["name"] == pod
    )
    until(asked, SECONDS, "the fourth revision takes requests")
    slot = models.server._slots[uid]
    models.inside.run(slot.acquire())
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(models.predict, "recommender") for _ in range(2)]
        until(lambda: bool(slot._waiters), SECONDS, "a request waits in front of the container")
        models.inside.run(released(slot))
        assert {one.result().status_code for one in waiting} == {200}


async def released(slot: Any) -> None:
    slot.release()


def test_the_batcher_waits_for_company(models: Models) -> None:
    models.change("churn-model", batcher={"maxBatchSize": 32, "maxLatency": 300})
    began = time.monotonic()
    models.predict()
    alone = time.monotonic() - began
    models.change("churn-model", batcher=None)
    assert alone >= 0.3


def test_series_are_by_model(models: Models) -> None:
    models.predict()
    models.predict("recommender")
    apps = {one.labels["app"] for one in models.server.collect()}
    assert {"churn-model", "recommender"} <= apps


def test_a_model_that_is_not_in_its_bucket(models: Models) -> None:
    """Its initializer ends in the words of KServe's; what ran before goes on."""
    known = models.inside.kubernetes("GET", f"{ISVC}/churn-model")["metadata"]["annotations"]
    behaviours = json.loads(known[PROGRAM])
    behaviours["storage-initializer"]["run_seconds"] = 600  # long enough to be looked at
    path = f"{ISVC}/churn-model"
    missing = f"{MODEL_STORE}/churn-model/none"
    changed = {
        "metadata": {"annotations": {PROGRAM: json.dumps(behaviours)}},
        "spec": {"predictor": {"model": {"storageUri": missing}}},
    }
    models.inside.kubernetes("PATCH", path, changed, "application/merge-patch+json")

    def failed() -> list[str]:
        return [
            ended["message"]
            for pod in models.inside.pods("isvc.churn-model-predictor", "models")
            for one in pod["status"].get("initContainerStatuses", [])
            if (ended := one["lastState"].get("terminated") or one["state"].get("terminated"))
            if ended["exitCode"] == 1
        ]

    until(lambda: bool(failed()), SECONDS, "an initializer fails")
    message = failed()[0]
    assert models.predict().status_code == 200
    back = {
        "metadata": {"annotations": {PROGRAM: known[PROGRAM]}},
        "spec": {"predictor": {"model": {"storageUri": f"{MODEL_STORE}/churn-model"}}},
    }
    models.inside.kubernetes("PATCH", path, back, "application/merge-patch+json")
    assert "RuntimeError: Failed to fetch model. No model found in churn-model/none." in message


def test_more_load_than_its_processor_makes_a_container_slow(models: Models) -> None:
    def behave(**usage: str) -> None:
        for pod in models.inside.pods("isvc.churn-model-predictor", "models"):
            program = json.dumps({"kserve-container": {"usage": usage}})
            where = f"/api/v1/namespaces/models/pods/{pod['metadata']['name']}"
            changed = {"metadata": {"annotations": {PROGRAM: program}}}
            models.inside.kubernetes("PATCH", where, changed)

    def seconds() -> float:
        began = time.monotonic()
        assert models.predict().status_code == 200
        return time.monotonic() - began

    app = ("isvc.churn-model-predictor", "models")
    settled = "nothing rolls out any longer"
    until(lambda: len(models.inside.pods(*app)) == len(models.inside.ready(*app)), SECONDS, settled)
    models.inside.until_ready("isvc.churn-model-predictor", 2, "models")
    behave(cpu_shared="7500m")  # too much for five replicas with a limit of one core each
    until(lambda: seconds() >= 0.3, SECONDS, "answers wait")
    pod = models.inside.api.store.find("pods", models.inside.ready(*app)[0], "models")
    assert models.inside.api.kubelet.usage(pod, "kserve-container", "cpu", "0") == 1.0
    behave(cpu="60m")
    until(lambda: seconds() < 0.3, SECONDS, "answers come at once")
