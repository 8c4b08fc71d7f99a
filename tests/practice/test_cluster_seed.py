"""The healthy platform's objects at work: everything ready, models served, the network as meant."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from practice.conftest import Practice, is_ready

from runbook_lib.practice import seed
from runbook_lib.practice.aws import seed_network
from runbook_lib.practice.cluster.network import End, blocked
from runbook_lib.practice.objects.fields import rules

SERVICES = "/apis/serving.kserve.io/v1beta1/namespaces/models/inferenceservices"
REVISIONS = "/apis/serving.knative.dev/v1/namespaces/models/revisions"
MERGE = {"Content_Type": "application/merge-patch+json"}
CLOUD = {"alb_hostname": "lb.example", "certificate_arn": "arn:aws:acm:x"}
DATABASE = {"host": "db", "port": "5432", "username": "u", "password": "p", "database": "mlflow"}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Practice]:
    """The seeded platform, all pods ready."""
    running = Practice(tmp_path_factory.mktemp("seeded"))
    running.call(running.api.load, seed.objects(DATABASE, "jwt", "postgresql://x", CLOUD))

    def ready() -> bool:
        pods = running.raw("GET", "/api/v1/pods")[1]["items"]
        return len(pods) > 30 and all(map(is_ready, pods))

    running.until(ready, "all pods ready")
    yield running
    running.stop()


def test_its_objects_keep_the_rules_of_fields() -> None:
    """Else every patch of them would be refused."""
    for one in seed.objects(DATABASE, "jwt", "postgresql://x", CLOUD):
        assert list(rules.broken(one["kind"], one)) == []


def test_every_model_that_is_served_lies_in_its_bucket(healthy: Practice) -> None:
    stored: dict[tuple[str, str], bytes] = {}

    def ask(service: str, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if (service, operation) == ("s3", "PutObject"):
            stored[arguments["Bucket"], arguments["Key"]] = arguments["Body"]
        return {}

    seed_network.buckets(ask)
    served = [healthy.raw("GET", SERVICES)[1]["items"], healthy.raw("GET", REVISIONS)[1]["items"]]
    uris = set(re.findall(r"s3://[^\s\"'\\\]]+", json.dumps(served)))
    assert len(uris) >= 3
    for bucket, path in (uri.removeprefix("s3://").split("/", 1) for uri in uris):
        assert any(b == bucket and key.startswith(f"{path}/") for b, key in stored), (bucket, path)


def test_the_cluster_autoscaler_wrote_its_log_today(healthy: Practice) -> None:
    pods = healthy.raw("GET", "/api/v1/namespaces/kube-system/pods")[1]["items"]
    (pod,) = (p for p in pods if p["metadata"]["name"].startswith("cluster-autoscaler-"))
    log = healthy.core.read_namespaced_pod_log(pod["metadata"]["name"], "kube-system")
    now = datetime.datetime.now(datetime.UTC)
    for line in log.splitlines():
        found = re.match(r"I(\d{4} \d\d:\d\d:\d\d\.\d{6}) {7}1 \w+\.go:\d+\] ", line)
        assert found, line
        at = datetime.datetime.strptime(f"{now.year}{found[1]} +0000", "%Y%m%d %H:%M:%S.%f %z")
        ago = (now - at) % datetime.timedelta(days=365)  # a log of last year's last minutes too
        assert ago < datetime.timedelta(hours=12), line


def service(healthy: Practice, name: str) -> dict[str, Any]:
    found: dict[str, Any] = healthy.as_director("GET", f"{SERVICES}/{name}")
    return found


def status_of(healthy: Practice, name: str, type_: str = "Ready") -> tuple[str, str]:
    """(status, reason) of a condition of an InferenceService."""
    listed = service(healthy, name).get("status", {}).get("conditions", [])
    one = next((c for c in listed if c["type"] == type_), {})
    return one.get("status", ""), one.get("reason", "")


def pods_of(healthy: Practice, name: str) -> list[dict[str, Any]]:
    selector = f"serving.kserve.io%2Finferenceservice%3D{name}"
    path = f"/api/v1/namespaces/models/pods?labelSelector={selector}"
    items: list[dict[str, Any]] = healthy.raw("GET", path)[1]["items"]
    return items


def patch(healthy: Practice, name: str, body: dict[str, Any]) -> None:
    code, answer = healthy.raw("PATCH", f"{SERVICES}/{name}", body, **MERGE)
    assert code == 200, answer


def predictor(healthy: Practice, name: str, **fields: Any) -> None:
    patch(healthy, name, {"spec": {"predictor": fields}})


def create(healthy: Practice, name: str, mode: str, program: Any = None, **model: Any) -> None:
    annotations = {
        "serving.kserve.io/deploymentMode": mode,
        "practice.runbook/program": json.dumps(program or {}),
    }
    body = {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "predictor": {
                "model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://m/x", **model}
            }
        },
    }
    code, answer = healthy.raw("POST", SERVICES, body)
    assert code == 201, answer


@pytest.fixture
def temporary(healthy: Practice) -> Iterator[str]:
    """The name of an InferenceService that is removed afterwards."""
    yield "temporary"
    healthy.raw("DELETE", f"{SERVICES}/temporary")
    healthy.until(lambda: not pods_of(healthy, "temporary"), "the end of its pods")


def test_everything_is_well_and_long_since(healthy: Practice) -> None:
    events = healthy.raw("GET", "/api/v1/events")[1]["items"]
    assert not [e["message"] for e in events if e["type"] == "Warning"]
    for name in ("mlflow", "platform-api"):
        path = f"/apis/networking.k8s.io/v1/namespaces/mlops-platform/ingresses/{name}"
        ingress = healthy.raw("GET", path)[1]
        assert ingress["status"]["loadBalancer"]["ingress"] == [{"hostname": "lb.example"}]
    deployments = healthy.raw("GET", "/apis/apps/v1/deployments")[1]["items"]
    for one in deployments:
        assert one["status"]["readyReplicas"] == one["spec"]["replicas"], one["metadata"]["name"]
    claims = healthy.raw("GET", "/api/v1/persistentvolumeclaims")[1]["items"]
    assert {claim["status"]["phase"] for claim in claims} == {"Bound"}


def test_roles_reach_the_pods_of_their_accounts(healthy: Practice) -> None:
    for name, role in (("mlflow", "mlops-mlflow-role"), ("feast", "mlops-feast-role")):
        path = f"/api/v1/namespaces/mlops-platform/pods?labelSelector=app%3D{name}"
        for pod in healthy.raw("GET", path)[1]["items"]:
            env = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
            assert env["AWS_ROLE_ARN"] == f"arn:aws:iam::123456789012:role/{role}"


@pytest.mark.parametrize(
    ("source", "target", "port", "open_"),
    [
        (("mlops-platform", {"app": "platform-api"}), {"app": "mlflow"}, 5000, True),
        (("models", {"app": "m"}), {"app": "mlflow"}, 5000, True),
        (("mlops-platform", {"app": "feast"}), {"app": "feast-redis"}, 6379, True),
        (("mlops-platform", {"app": "mlflow"}), {"app": "feast-redis"}, 6379, False),
        (("monitoring", {}), {"app": "platform-api"}, 8000, True),
        (("kserve", {}), {"app": "mlflow"}, 5000, False),
        (("", {}), {"app": "platform-api"}, 8000, True),  # the load balancer
        (("", {}), {"app": "feast-redis"}, 6379, False),
    ],
)
def test_the_network_lets_through_what_it_must(
    source: tuple[str, dict[str, str]], target: dict[str, str], port: int, open_: bool
) -> None:
    policies = [o for o in seed.objects(DATABASE, "j", "u") if o["kind"] == "NetworkPolicy"]
    labels = {"kubernetes.io/metadata.name": source[0]}
    address = "10.0.2.8" if source[0] else "10.0.101.7"
    one = End(address, source[0], source[0] and "a", source[1], labels)
    own = {"kubernetes.io/metadata.name": "mlops-platform"}
    other = End("10.0.1.9", "mlops-platform", "b", target, own)
    assert (blocked(policies, one, other, port) is None) is open_


# standard mode


def test_a_standard_service_has_its_workload(healthy: Practice) -> None:
    assert status_of(healthy, "churn-model") == ("True", "")
    (container,) = pods_of(healthy, "churn-model")[0]["spec"]["containers"]
    assert container["name"] == "kserve-container"
    assert "--model_name=churn-model" in container["args"]
    found = service(healthy, "churn-model")["status"]["modelStatus"]
    assert (found["transitionStatus"], found["states"]["activeModelState"]) == (
        "UpToDate",
        "Loaded",
    )
    path = "/apis/autoscaling/v2/namespaces/models/horizontalpodautoscalers/churn-model-predictor"
    assert healthy.raw("GET", path)[1]["spec"]["maxReplicas"] == 5
    predictor(healthy, "churn-model", minReplicas=3)
    healthy.until(lambda: len(pods_of(healthy, "churn-model")) == 3, "three replicas")
    predictor(healthy, "churn-model", minReplicas=2)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"minReplicas": 5, "maxReplicas": 2}, "MinReplicas cannot be greater than MaxReplicas."),
        ({"minReplicas": -1}, "MinReplicas cannot be less than 0."),
        ({"maxReplicas": -1}, "MaxReplicas cannot be less than 0."),
    ],
)
def test_bounds_that_cross_are_denied(healthy: Practice, bounds: Any, said: str) -> None:
    path, before = f"{SERVICES}/churn-model", service(healthy, "churn-model")["spec"]
    code, answer = healthy.raw("PATCH", path, {"spec": {"predictor": bounds}}, **MERGE)
    webhook = "inferenceservice.kserve-webhook-server.validator"
    assert (code, answer["reason"]) == (403, "Forbidden")
    assert answer["message"] == f'admission webhook "{webhook}" denied the request: {said}'
    body = {"metadata": {"name": "new"}, "spec": {"predictor": {**before["predictor"], **bounds}}}
    assert healthy.raw("POST", SERVICES, body)[0] == 403
    assert service(healthy, "churn-model")["spec"] == before


def test_a_stopped_service(healthy: Practice) -> None:
    stop = "serving.kserve.io/stop"
    patch(healthy, "churn-model", {"metadata": {"annotations": {stop: "true"}}})
    healthy.until(lambda: status_of(healthy, "churn-model") == ("False", "Stopped"), "Stopped")
    healthy.until(lambda: not pods_of(healthy, "churn-model"), "no pods")
    patch(healthy, "churn-model", {"metadata": {"annotations": {stop: None}}})
    healthy.until(lambda: status_of(healthy, "churn-model") == ("True", ""), "Ready again")


@pytest.mark.parametrize(
    ("model", "reason", "message"),
    [
        (
            {"modelFormat": {"name": "sclearn"}},
            "NoSupportingRuntime",
            "no runtime found to support predictor with model type: {sclearn <nil>}",
        ),
        (
            {"runtime": "gone"},
            "RuntimeNotRecognized",
            "no ServingRuntimes or ClusterServingRuntimes with the name: gone",
        ),
        (
            {"runtime": "kserve-torchserve"},
            "NoSupportingRuntime",
            "specified runtime kserve-torchserve does not support specified framework/version",
        ),
    ],
)
def test_no_runtime(
    healthy: Practice, temporary: str, model: Any, reason: str, message: str
) -> None:
    create(healthy, temporary, "Standard", **model)

    def failure() -> Any:
        found = service(healthy, temporary).get("status", {}).get("modelStatus", {})
        return found if "lastFailureInfo" in found else None

    found = healthy.until(failure, "a failure")
    assert (found["transitionStatus"], found["lastFailureInfo"]["reason"]) == (
        "InvalidSpec",
        reason,
    )
    assert not pods_of(healthy, temporary)
    healthy.until(lambda: "InternalError" in healthy.events(temporary), "the event")
    items = healthy.raw("GET", "/api/v1/events")[1]["items"]
    assert message in [e["message"] for e in items if e["reason"] == "InternalError"]


def test_a_missing_model(healthy: Practice, temporary: str) -> None:
    log = ["RuntimeError: Failed to fetch model. No model found in s3://m/x."]
    program = {"storage-initializer": {"exit_code": 1, "last_log": log}}
    create(healthy, temporary, "Standard", program)

    def failed() -> Any:
        found = service(healthy, temporary).get("status", {}).get("modelStatus", {})
        return found if found.get("transitionStatus") == "BlockedByFailedLoad" else None

    found = healthy.until(failed, "BlockedByFailedLoad")
    assert found["states"]["targetModelState"] == "FailedToLoad"
    assert found["lastFailureInfo"]["message"].endswith("No model found in s3://m/x.")

    def looping() -> bool:
        statuses = pods_of(healthy, temporary)[0]["status"].get("initContainerStatuses", [{}])
        return bool(
            statuses[0].get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
        )

    healthy.until(looping, "an init container in back-off")
    assert status_of(healthy, temporary) == ("False", "MinimumReplicasUnavailable")
    assert status_of(healthy, temporary, "IngressReady")[1] == "Predictor ingress not created"


def test_ready_hides_crashing_pods_of_a_new_revision(healthy: Practice) -> None:
    before = service(healthy, "churn-model")["metadata"]["annotations"]["practice.runbook/program"]
    program = json.dumps({"kserve-container": {"exit_code": 1}})
    annotations = {"practice.runbook/program": program}
    patch(healthy, "churn-model", {"metadata": {"annotations": annotations}})

    def crashes() -> bool:
        text = json.dumps([p["status"] for p in pods_of(healthy, "churn-model")])
        return "CrashLoopBackOff" in text

    healthy.until(crashes, "a crashing pod")
    assert status_of(healthy, "churn-model") == ("True", "")
    annotations = {"practice.runbook/program": before}
    patch(healthy, "churn-model", {"metadata": {"annotations": annotations}})
    healthy.until(
        lambda: [is_ready(p) for p in pods_of(healthy, "churn-model")] == [True, True], "all ready"
    )


# Knative mode


def traffic(healthy: Practice) -> list[tuple[str, int]]:
    component = service(healthy, "recommender")["status"]["components"]["predictor"]
    return [(t["revisionName"][-5:], t["percent"]) for t in component["traffic"]]


def test_a_canary_and_its_promotion(healthy: Practice) -> None:
    assert traffic(healthy) == [("00002", 10), ("00001", 90)]
    names = [c["name"] for c in pods_of(healthy, "recommender")[0]["spec"]["containers"]]
    assert names == ["kserve-container", "queue-proxy"]
    path = "/apis/serving.knative.dev/v1/namespaces/models/revisions"
    revisions = healthy.raw("GET", path)[1]["items"]
    assert len(revisions) == 2
    assert {c["status"] for r in revisions for c in r["status"]["conditions"]} == {"True"}
    predictor(healthy, "recommender", canaryTrafficPercent=100)
    healthy.until(lambda: traffic(healthy) == [("00002", 100)], "all traffic on the new one")
    healthy.until(lambda: len(pods_of(healthy, "recommender")) == 1, "one revision's pods")


def test_a_revision_that_fails_gets_no_traffic(healthy: Practice) -> None:
    before = service(healthy, "recommender")["metadata"]["annotations"]["practice.runbook/program"]
    served = traffic(healthy)
    annotations = {"practice.runbook/program": json.dumps({"kserve-container": {"exit_code": 3}})}
    patch(healthy, "recommender", {"metadata": {"annotations": annotations}})
    healthy.until(
        lambda: status_of(healthy, "recommender") == ("False", "RevisionFailed"),
        "a failed revision",
    )
    component = service(healthy, "recommender")["status"]["components"]["predictor"]
    assert component["latestCreatedRevision"] != component["latestReadyRevision"]
    assert traffic(healthy) == served
    annotations = {"practice.runbook/program": before}
    patch(healthy, "recommender", {"metadata": {"annotations": annotations}})
    healthy.until(lambda: status_of(healthy, "recommender") == ("True", ""), "Ready again")


def test_a_route_without_a_gateway(healthy: Practice, temporary: str) -> None:
    scale = healthy.apps.patch_namespaced_deployment_scale
    gateway = ("3scale-kourier-gateway", "kourier-system")
    scale(*gateway, {"spec": {"replicas": 0}})

    def down() -> bool:
        path = "/apis/apps/v1/namespaces/kourier-system/deployments/3scale-kourier-gateway"
        return not healthy.raw("GET", path)[1]["status"].get("readyReplicas")

    healthy.until(down, "no gateway")
    create(healthy, temporary, "Knative")
    wanted = ("Unknown", "IngressNotConfigured")
    healthy.until(lambda: status_of(healthy, temporary) == wanted, "IngressNotConfigured")
    scale(*gateway, {"spec": {"replicas": 1}})
    healthy.until(lambda: status_of(healthy, temporary) == ("True", ""), "Ready")
