"""Controllers beside those of plain workloads: Jobs, autoscalers, load balancers, node groups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from practice.conftest import deployment
from practice.shop import empty, put, tell, waiting

from runbook_lib.practice.cluster.workloads import progress_begun
from runbook_lib.practice.objects.store import stamp

JOBS = "/apis/batch/v1/namespaces/shop/jobs"
SCALERS = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers"
INGRESSES = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses"
DEPLOYMENTS = "/apis/apps/v1/namespaces/kube-system/deployments"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
MERGE = {"Content_Type": "application/merge-patch+json"}


@pytest.fixture(autouse=True)
def clean(practice: Any) -> Iterator[None]:
    yield
    empty(practice)


def job(practice: Any, behaviour: dict[str, Any] | None = None, **spec: Any) -> None:
    annotations = {"practice.runbook/program": json.dumps({"app": behaviour or {}})}
    pods = {"restartPolicy": "Never", "containers": [{"name": "app", "image": "i"}]}
    template = {
        "metadata": {"labels": {"app": "job"}, "annotations": annotations},
        "spec": {**pods, **spec.pop("pod", {})},
    }
    body = {"metadata": {"name": "job"}, "spec": {"template": template, **spec}}
    put(practice, JOBS, body)


def ended(practice: Any, type_: str) -> dict[str, Any]:
    """The Job's status once it has ended so."""

    def found() -> Any:
        status = practice.raw("GET", f"{JOBS}/job")[1].get("status", {})
        return status if type_ in [c["type"] for c in status.get("conditions", [])] else None

    status: dict[str, Any] = practice.until(found, f"{type_} of the Job")
    return status


def system(practice: Any, name: str, **annotations: str) -> None:
    """A controller's own Deployment in kube-system, ready."""
    made = deployment(name)
    made["metadata"] |= {"namespace": "kube-system", "annotations": annotations}
    practice.raw("POST", DEPLOYMENTS, made)
    patch = {"metadata": {"annotations": annotations}, "spec": {"replicas": 1}}
    practice.raw("PATCH", f"{DEPLOYMENTS}/{name}", patch, **MERGE)
    practice.until(
        lambda: (
            practice.raw("GET", f"{DEPLOYMENTS}/{name}")[1].get("status", {}).get("readyReplicas")
        ),
        f"{name} ready",
    )


def test_a_job_completes(practice: Any) -> None:
    job(practice, completions=3, parallelism=2)
    status = ended(practice, "Complete")
    assert status["succeeded"] == 3 and "completionTime" in status
    assert {p["status"]["phase"] for p in practice.pods("job")} == {"Succeeded"}


def test_a_job_gives_up(practice: Any) -> None:
    job(practice, {"exit_code": 2}, backoffLimit=1)
    status = ended(practice, "Failed")
    assert status["failed"] == 2
    assert status["conditions"][0]["reason"] == "BackoffLimitExceeded"
    assert tell(practice, "job", "BackoffLimitExceeded").startswith("Job has reached")


def test_a_job_runs_out_of_time(practice: Any) -> None:
    job(practice, {"run_seconds": 600}, activeDeadlineSeconds=1)
    assert ended(practice, "Failed")["conditions"][0]["reason"] == "DeadlineExceeded"
    assert not practice.pods("job")


# pods' autoscaler


def scaler(practice: Any, most: int) -> None:
    target = {"type": "Utilization", "averageUtilization": 50}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": 1,
        "maxReplicas": most,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    put(practice, SCALERS, {"metadata": {"name": "web"}, "spec": spec})


def condition(practice: Any, type_: str, reason: str) -> dict[str, Any]:
    def found() -> Any:
        status = practice.raw("GET", f"{SCALERS}/web")[1].get("status", {})
        listed = status.get("conditions", [])
        return next((c for c in listed if (c["type"], c["reason"]) == (type_, reason)), None)

    one: dict[str, Any] = practice.until(found, f"{type_} {reason}")
    return one


def test_load_is_met_with_replicas_up_to_the_maximum(practice: Any) -> None:
    requests = {"resources": {"requests": {"cpu": "100m"}}}
    practice.deploy("web", {"usage": {"cpu_shared": "400m"}}, container=requests)
    practice.until_ready("web")
    scaler(practice, 3)
    practice.until_ready("web", 3)
    assert tell(practice, "web", "SuccessfulRescale").startswith(
        "New size: 3; reason: cpu resource"
    )
    limited = condition(practice, "ScalingLimited", "TooManyReplicas")
    assert "more than the maximum replica count" in limited["message"]
    practice.raw("PATCH", f"{SCALERS}/web", {"spec": {"maxReplicas": 20}}, **MERGE)
    practice.until_ready("web", 8)  # 400m over 8 is half of what each asks for
    condition(practice, "ScalingLimited", "DesiredWithinRange")


def targets(practice: Any) -> str:
    """kubectl's TARGETS of the autoscaler."""
    table = practice.raw("GET", f"{SCALERS}/web", Accept=TABLE)[1]
    names = [column["name"] for column in table["columnDefinitions"]]
    assert names == ["Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"]
    cell: str = table["rows"][0]["cells"][2]
    return cell


def test_what_an_autoscaler_aims_at(practice: Any) -> None:
    requests = {"resources": {"requests": {"cpu": "100m", "memory": "200Mi"}}}
    usage = {"cpu": "48m", "memory": "100Mi"}
    practice.deploy("web", {"usage": usage}, container=requests)
    practice.until_ready("web")
    scaler(practice, 3)
    practice.until(lambda: targets(practice) == "cpu: 48%/50%", "the use of the processor")
    memory = {"name": "memory", "target": {"type": "AverageValue", "averageValue": "150Mi"}}
    queue = {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "30"}}
    spec = practice.raw("GET", f"{SCALERS}/web")[1]["spec"]
    metrics = [*spec["metrics"], {"type": "Resource", "resource": memory}]
    practice.raw("PATCH", f"{SCALERS}/web", {"spec": {"metrics": metrics}}, **MERGE)
    both = f"cpu: 48%/50%, memory: {100 * 2**20}/150Mi"
    practice.until(lambda: targets(practice) == both, "both metrics")
    metrics = [{"type": "External", "external": queue}, *metrics]
    practice.raw("PATCH", f"{SCALERS}/web", {"spec": {"metrics": metrics}}, **MERGE)
    unread = "<unknown>/30, cpu: <unknown>/50% + 1 more..."
    practice.until(lambda: targets(practice) == unread, "a metric that cannot be read")


def test_an_autoscaler_without_metrics(practice: Any) -> None:
    practice.deploy("web", container={"resources": {"requests": {"cpu": "100m"}}})
    scale = practice.apps.patch_namespaced_deployment_scale
    scale("metrics-server", "kube-system", {"spec": {"replicas": 0}})
    try:
        scaler(practice, 3)
        inactive = condition(practice, "ScalingActive", "FailedGetResourceMetric")
        assert "unable to fetch metrics from resource metrics API" in inactive["message"]
        assert "get pods.metrics.k8s.io" in tell(practice, "web", "FailedGetResourceMetric")
    finally:
        scale("metrics-server", "kube-system", {"spec": {"replicas": 1}})
    condition(practice, "ScalingActive", "ValidMetricFound")


def test_an_autoscaler_of_pods_that_ask_for_nothing(practice: Any) -> None:
    practice.deploy("web")
    practice.until_ready("web")
    scaler(practice, 3)
    inactive = condition(practice, "ScalingActive", "FailedGetResourceMetric")
    assert "missing request for cpu in container app of Pod web-" in inactive["message"]


# load balancers


def ingress(practice: Any, class_: str = "alb", **annotations: str) -> None:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    meta = {"name": "web", "annotations": {k.replace("__", "/"): v for k, v in annotations.items()}}
    rules = [{"host": "web.shop", "http": {"paths": [path]}}]
    put(
        practice,
        INGRESSES,
        {"metadata": meta, "spec": {"ingressClassName": class_, "rules": rules}},
    )


def address(practice: Any) -> Any:
    status = practice.raw("GET", f"{INGRESSES}/web")[1].get("status", {})
    return status.get("loadBalancer", {}).get("ingress")


@pytest.fixture
def balancer(practice: Any) -> None:
    """The controller of load balancers and its class."""
    system(practice, "aws-load-balancer-controller")
    meta = {"name": "alb", "annotations": {"practice.runbook/load-balancer-hostname": "lb.aws"}}
    body = {"metadata": meta, "spec": {"controller": "ingress.k8s.aws/alb"}}
    practice.raw("POST", "/apis/networking.k8s.io/v1/ingressclasses", body)


@pytest.mark.parametrize(
    ("said", "reason", "message"),
    [
        ("subnet-tags", "FailedBuildModel", "couldn't auto-discover subnets: unable to resolve at"),
        ("certificate-not-found", "FailedDeployModel", "CertificateNotFound"),
        ("access-denied", "FailedDeployModel", "not authorized to perform"),
    ],
)
def test_an_ingress_without_an_address_says_why(
    practice: Any, balancer: None, said: str, reason: str, message: str
) -> None:
    name = "practice.runbook/load-balancer"
    ingress(practice, **{name: said})
    assert message in tell(practice, "web", reason)
    assert not address(practice)
    gone = {"metadata": {"annotations": {name: None}}}
    practice.raw("PATCH", f"{INGRESSES}/web", gone, **MERGE)
    practice.until(lambda: address(practice) == [{"hostname": "lb.aws"}], "the address")
    assert tell(practice, "web", "SuccessfullyReconciled") == "Successfully reconciled"


def test_tls_needs_a_certificate(practice: Any, balancer: None) -> None:
    ports = {"alb.ingress.kubernetes.io/listen-ports": '[{"HTTPS": 443}]'}
    ingress(practice, **ports)
    why = "Failed build model due to ingress: shop/web: no certificate found for host: web.shop"
    assert tell(practice, "web", "FailedBuildModel") == why


def test_nobody_cares_for_an_unknown_class(practice: Any, balancer: None) -> None:
    ingress(practice, "nginx")
    practice.deploy("web")
    practice.until_ready("web")  # the controllers have worked since
    assert not address(practice)


def test_what_one_controller_cannot_read_does_not_stop_the_others(
    practice: Any, balancer: None
) -> None:
    ingress(practice, **{"alb.ingress.kubernetes.io/listen-ports": "[{"})
    practice.deploy("web")
    practice.until_ready("web")
    assert not address(practice)


# node groups


def group(practice: Any, **fields: Any) -> None:
    text = json.dumps({"name": "compute", "max": 3, **fields})
    system(practice, "cluster-autoscaler", **{"practice.runbook/node-group": text})


def status(practice: Any) -> dict[str, Any]:
    import yaml

    path = "/api/v1/namespaces/kube-system/configmaps/cluster-autoscaler-status"

    def found() -> Any:
        code, answer = practice.raw("GET", path)
        return yaml.safe_load(answer["data"]["status"]) if code == 200 else None

    parsed: dict[str, Any] = practice.until(found, "the autoscaler's status")
    return parsed


@pytest.fixture
def crowd(practice: Any) -> Iterator[None]:
    """Three nodes that are full, and one pod too many."""
    resources = {"resources": {"requests": {"cpu": "3"}}}
    practice.deploy("crowd", replicas=4, container=resources)
    yield
    practice.raw("DELETE", f"{DEPLOYMENTS}/cluster-autoscaler")
    for node in practice.core.list_node().items:
        if node.metadata.name.startswith("ip-"):
            practice.core.delete_node(node.metadata.name)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "1 max node group size reached"),
        ({"max": 6, "backoff": "InsufficientInstanceCapacity: no m5.xlarge"}, "1 in backoff after"),
        ({"max": 6, "discovered": False}, ""),
    ],
)
def test_why_no_node_comes(practice: Any, crowd: None, fields: Any, reason: str) -> None:
    waiting(practice, "crowd")
    group(practice, **fields)
    message = tell(practice, "crowd-", "NotTriggerScaleUp")
    assert message.startswith(f"pod didn't trigger scale-up: {reason}")
    listed = status(practice)["nodeGroups"]
    assert bool(listed) == fields.get("discovered", True)
    if "backoff" in fields:
        practice.until(
            lambda: status(practice)["nodeGroups"][0]["scaleUp"]["status"] == "Backoff", "Backoff"
        )
        info = status(practice)["nodeGroups"][0]["scaleUp"]["backoffInfo"]
        assert info["errorCode"] == "InsufficientInstanceCapacity"


def test_a_pod_that_no_new_node_would_help(practice: Any, crowd: None) -> None:
    group(practice)
    practice.deploy("huge", container={"resources": {"requests": {"cpu": "64"}}})
    message = tell(practice, "huge-", "NotTriggerScaleUp")
    assert message == "pod didn't trigger scale-up: 1 Insufficient cpu"


def test_a_new_node_comes_and_takes_the_pod(practice: Any, crowd: None) -> None:
    """One node for one pod: none for the pod that fits on the node that is coming."""
    group(practice, max=6)
    message = tell(practice, "crowd-", "TriggeredScaleUp")
    assert message == "pod triggered scale-up: [{compute 3->4 (max: 6)}]"
    pods = practice.until_ready("crowd", 4)
    assert [p for p in pods if p["spec"]["nodeName"].startswith("ip-10-0-")]
    looked = status(practice)["time"]
    practice.until(lambda: status(practice)["time"] != looked, "another look")
    assert len(practice.core.list_node().items) == 4
    events = practice.core.list_namespaced_event("shop", field_selector="reason=TriggeredScaleUp")
    assert len(events.items) == 1


def test_pods_of_two_nodes_bring_two_nodes(practice: Any, crowd: None) -> None:
    group(practice, max=6)
    practice.apps.patch_namespaced_deployment("crowd", "shop", {"spec": {"replicas": 5}})
    practice.until_ready("crowd", 5)
    assert len(practice.core.list_node().items) == 5


def test_the_status_goes_stale_without_its_writer(practice: Any) -> None:
    group(practice)
    first = status(practice)["time"]
    practice.until(lambda: status(practice)["time"] != first, "a fresh status")
    practice.raw("PATCH", f"{DEPLOYMENTS}/cluster-autoscaler", {"spec": {"replicas": 0}}, **MERGE)
    practice.until(
        lambda: (
            not practice.raw("GET", f"{DEPLOYMENTS}/cluster-autoscaler")[1]["status"].get(
                "readyReplicas"
            )
        ),
        "no autoscaler",
    )
    last = status(practice)["time"]
    practice.deploy("web")
    practice.until_ready("web")
    assert status(practice)["time"] == last
    practice.raw("DELETE", f"{DEPLOYMENTS}/cluster-autoscaler")


def test_a_rollback_has_its_own_deadline() -> None:
    """The ReplicaSet that is taken up again is days old; its progress begins now."""
    old, new = (
        {"metadata": {"name": name, "creationTimestamp": stamp(at)}}
        for name, at in (("web-a", 1_000.0), ("web-b", 900_000.0))
    )
    of_new = {"message": 'ReplicaSet "web-b" is progressing.', "lastUpdateTime": stamp(900_000.0)}
    of_old = {"message": 'ReplicaSet "web-a" is progressing.', "lastUpdateTime": stamp(950_000.0)}
    assert progress_begun(new, [old, new], of_new, 950_000.0) == 900_000.0
    assert progress_begun(old, [old, new], of_new, 950_000.0) == 950_000.0
    assert progress_begun(old, [old, new], of_old, 950_060.0) == 950_000.0
