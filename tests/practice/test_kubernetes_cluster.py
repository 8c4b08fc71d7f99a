"""The practice cluster at work: controllers, containers and nodes that break and mend."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from runbook_lib.practice.cluster.program import PROGRAM, programs

DEPLOYMENTS = "/apis/apps/v1/namespaces/shop/deployments"
MERGE = "application/merge-patch+json"
JWT = {"name": "JWT_SECRET", "valueFrom": {"secretKeyRef": {"name": "jwt", "key": "jwt-secret"}}}


@pytest.fixture(autouse=True)
def clean(practice: Any) -> Iterator[None]:
    """Afterwards nodes are healthy and shop is empty."""
    yield
    for plural in ("deployments", "statefulsets", "daemonsets"):
        practice.raw("DELETE", f"/apis/apps/v1/namespaces/shop/{plural}")
    practice.raw("DELETE", "/apis/policy/v1/namespaces/shop/poddisruptionbudgets")
    for plural in ("pods", "secrets", "services"):
        practice.raw("DELETE", f"/api/v1/namespaces/shop/{plural}")
    for name in ("node-a", "node-b", "node-c"):
        annotate_node(practice, name, stats=None, kubelet=None, since=None)
        practice.core.patch_node(name, {"spec": {"unschedulable": None}})
        until_condition(practice, name, "Ready", "True")


def annotate_node(practice: Any, name: str, **values: str | None) -> None:
    annotations = {f"practice.runbook/{key}": value for key, value in values.items()}
    practice.core.patch_node(name, {"metadata": {"annotations": annotations}})


def until_condition(practice: Any, node: str, type_: str, status: str) -> dict[str, Any]:
    def found() -> Any:
        conditions = practice.raw("GET", f"/api/v1/nodes/{node}")[1]["status"]["conditions"]
        return next((c for c in conditions if (c["type"], c["status"]) == (type_, status)), None)

    condition: dict[str, Any] = practice.until(found, f"{type_}={status} of {node}")
    return condition


def secret(practice: Any, data: dict[str, str]) -> None:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    body = {"metadata": {"name": "jwt"}, "data": encoded}
    practice.core.create_namespaced_secret("shop", body)


def age(stamp: str) -> float:
    return time.time() - datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def log(practice: Any, app: str, **query: Any) -> str:
    pod = practice.pods(app)[0]["metadata"]["name"]
    text: str = practice.core.read_namespaced_pod_log(pod, "shop", **query)
    return text


# controllers


def test_a_deployment_becomes_ready_and_scales(practice: Any) -> None:
    practice.deploy("web", replicas=2)
    practice.until_ready("web", 2)
    practice.apps.patch_namespaced_deployment_scale("web", "shop", {"spec": {"replicas": 3}})
    pods = practice.until_ready("web", 3)
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node-a", "node-b", "node-c"}
    found = practice.until(
        lambda: practice.raw("GET", f"{DEPLOYMENTS}/web")[1]["status"].get("readyReplicas") == 3,
        "three ready replicas in the status",
    )
    scale = practice.apps.read_namespaced_deployment_scale("web", "shop")
    assert found and (scale.spec.replicas, scale.status.selector) == (3, "app=web")


def test_a_broken_revision_never_takes_over(practice: Any) -> None:
    practice.deploy("web", replicas=2)
    old = {pod["metadata"]["name"] for pod in practice.until_ready("web", 2)}
    broken = json.dumps({"app": {"exit_code": 3}})
    template = {"metadata": {"annotations": {"practice.runbook/program": broken}}}
    practice.apps.patch_namespaced_deployment("web", "shop", {"spec": {"template": template}})
    practice.container("web", waiting="CrashLoopBackOff")
    assert old <= {pod["metadata"]["name"] for pod in practice.pods("web")}
    template["metadata"]["annotations"]["practice.runbook/program"] = json.dumps({"app": {}})
    practice.apps.patch_namespaced_deployment("web", "shop", {"spec": {"template": template}})
    practice.until(
        lambda: not old & {pod["metadata"]["name"] for pod in practice.until_ready("web", 2)},
        "the mended revision in place of the old one",
    )
    made = practice.apps.read_namespaced_deployment("web", "shop")
    assert made.metadata.annotations["deployment.kubernetes.io/revision"] == "3"


def test_stateful_and_daemon_sets(practice: Any) -> None:
    template = {
        "metadata": {"labels": {"app": "db"}},
        "spec": {"containers": [{"name": "app", "image": "i"}]},
    }
    spec = {"selector": {"matchLabels": {"app": "db"}}, "template": template, "serviceName": "db"}
    body = {"metadata": {"name": "db"}, "spec": {**spec, "replicas": 2}}
    practice.apps.create_namespaced_stateful_set("shop", body)
    names = [pod["metadata"]["name"] for pod in practice.until_ready("db", 2)]
    assert names == ["db-0", "db-1"]
    practice.apps.delete_namespaced_stateful_set("db", "shop")
    del spec["serviceName"]
    practice.apps.create_namespaced_daemon_set("shop", {"metadata": {"name": "db"}, "spec": spec})
    assert {p["spec"]["nodeName"] for p in practice.until_ready("db", 3)} == {
        "node-a",
        "node-b",
        "node-c",
    }


def test_endpoint_slices_follow_readiness(practice: Any) -> None:
    service = {"spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}
    practice.core.create_namespaced_service("shop", {"metadata": {"name": "web"}, **service})
    practice.deploy("web", {"not_ready": True})
    path = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"

    def ready() -> list[bool]:
        slices = practice.raw("GET", path)[1]["items"]
        return [e["conditions"]["ready"] for s in slices for e in s["endpoints"]]

    practice.until(lambda: ready() == [False], "an endpoint that is not ready")
    assert "Readiness probe failed" in practice.events("web-")["Unhealthy"]["message"]
    annotations = {"practice.runbook/program": None}
    name = practice.pods("web")[0]["metadata"]["name"]
    practice.core.patch_namespaced_pod(name, "shop", {"metadata": {"annotations": annotations}})
    practice.until(lambda: ready() == [True], "an endpoint that is ready")


def test_unschedulable_pods_say_why(practice: Any) -> None:
    practice.core.patch_node("node-c", {"spec": {"unschedulable": True}})
    practice.deploy("huge", container={"resources": {"requests": {"cpu": "64", "memory": "1Ti"}}})
    condition = practice.until(
        lambda: [c for p in practice.pods("huge") for c in p["status"].get("conditions", [])],
        "a PodScheduled condition",
    )[0]
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    assert condition["message"].startswith(
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu, "
        "2 Insufficient memory. preemption: 0/3 nodes are available: 3 Preemption is not helpful"
    )
    assert practice.events("huge-")["FailedScheduling"]["type"] == "Warning"


def test_eviction_honours_the_disruption_budget(practice: Any) -> None:
    practice.deploy("web", replicas=2)
    name = practice.until_ready("web", 2)[0]["metadata"]["name"]
    budget = {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}
    practice.policy.create_namespaced_pod_disruption_budget(
        "shop", {"metadata": {"name": "web"}, "spec": budget}
    )
    with pytest.raises(ApiException) as refused:
        practice.core.create_namespaced_pod_eviction(name, "shop", {"metadata": {"name": name}})
    assert refused.value.status == 429
    patch = {"spec": {"minAvailable": 1}}
    practice.policy.patch_namespaced_pod_disruption_budget("web", "shop", patch)

    def evicted() -> bool:
        path = f"/api/v1/namespaces/shop/pods/{name}/eviction"
        return bool(practice.raw("POST", path, {"metadata": {"name": name}})[0] == 201)

    practice.until(evicted, "the eviction")
    assert name not in [pod["metadata"]["name"] for pod in practice.pods("web")]


# containers


def test_a_missing_key_is_a_configuration_error_until_it_is_there(practice: Any) -> None:
    secret(practice, {"other": "x"})
    practice.deploy("api", container={"env": [JWT]})
    status = practice.container("api", waiting="CreateContainerConfigError")
    message = "couldn't find key jwt-secret in Secret shop/jwt"
    assert status["state"]["waiting"]["message"] == message
    practice.until(lambda: "Failed" in practice.events("api-"), "a Failed event")
    assert practice.events("api-")["Failed"]["message"] == f"Error: {message}"
    practice.core.patch_namespaced_secret("jwt", "shop", {"stringData": {"jwt-secret": "s"}})
    practice.until_ready("api")


def test_a_missing_secret_is_named(practice: Any) -> None:
    practice.deploy("api", container={"envFrom": [{"secretRef": {"name": "gone"}}]})
    status = practice.container("api", waiting="CreateContainerConfigError")
    assert status["state"]["waiting"]["message"] == 'secret "gone" not found'


def test_a_missing_optional_key_crashes_the_application(practice: Any) -> None:
    secret(practice, {})
    reference = {**JWT["valueFrom"]["secretKeyRef"], "optional": True}  # type: ignore[index]
    env = [{"name": "JWT_SECRET", "valueFrom": {"secretKeyRef": reference}}]
    program = {"needs_env": ["JWT_SECRET"], "log": ["starting"], "started_ago": "14m"}
    practice.deploy("api", program, container={"env": env})
    status = practice.container("api", waiting="CrashLoopBackOff")
    pod = practice.pods("api")[0]
    meta = pod["metadata"]
    assert status["state"]["waiting"]["message"] == (
        "back-off 5m0s restarting failed container=app "
        f"pod={meta['name']}_{meta['namespace']}({meta['uid']})"
    )
    assert status["lastState"]["terminated"]["exitCode"] == 1
    # 14 minutes of back-off: at 0, 10, 20, 40, 80, 160 seconds and so on.
    assert status["restartCount"] >= 7
    assert age(meta["creationTimestamp"]) > 13 * 60
    assert log(practice, "api").splitlines()[-1] == "KeyError: 'JWT_SECRET'"
    assert log(practice, "api", previous=True).startswith("starting\n")
    event = practice.until(lambda: practice.events("api-").get("BackOff"), "a BackOff event")
    assert event["count"] > 7 and age(event["firstTimestamp"]) > 10 * 60
    practice.core.patch_namespaced_secret("jwt", "shop", {"stringData": {"jwt-secret": "s"}})
    practice.until_ready("api")


def test_a_restarted_rollout_does_not_repeat_the_past(practice: Any) -> None:
    practice.deploy("api", {"exit_code": 1, "started_ago": "2h"})
    practice.container("api", waiting="CrashLoopBackOff")
    template = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}
    practice.apps.patch_namespaced_deployment("api", "shop", {"spec": {"template": template}})

    def young() -> bool:
        return any(age(p["metadata"]["creationTimestamp"]) < 60 for p in practice.pods("api"))

    practice.until(young, "a young pod")


def test_a_container_killed_for_memory(practice: Any) -> None:
    practice.deploy("api", {"oom": True})
    ended = practice.container("api", last="OOMKilled")["lastState"]["terminated"]
    assert ended["exitCode"] == 137


def test_a_command_that_is_not_there(practice: Any) -> None:
    error = 'exec: "servr": executable file not found in $PATH'
    practice.deploy("api", {"start_error": error})
    ended = practice.container("api", last="StartError")["lastState"]["terminated"]
    assert ended["exitCode"] == 128 and f"{error}: unknown" in ended["message"]
    practice.deploy("shell", {"exit_code": 127, "log": ["sh: 1: servr: not found"]})
    ended = practice.container("shell", last="Error")["lastState"]["terminated"]
    assert ended["exitCode"] == 127
    assert "servr: not found" in log(practice, "shell", previous=True)


def test_a_failing_liveness_probe(practice: Any) -> None:
    practice.deploy("api", {"liveness_fails": True, "exit_code": 143})
    assert practice.container("api", last="Error")["lastState"]["terminated"]["exitCode"] == 143
    practice.until(lambda: {"Unhealthy", "Killing"} <= set(practice.events("api-")), "the events")
    message = practice.events("api-")["Killing"]["message"]
    assert message == "Container app failed liveness probe, will be restarted"


def test_an_image_that_cannot_be_pulled(practice: Any) -> None:
    practice.deploy("api", {"image_error": "registry/api:1: not found"})
    status = practice.container("api", waiting="ImagePullBackOff")
    assert 'Back-off pulling image "registry/api:1"' in status["state"]["waiting"]["message"]
    with pytest.raises(ApiException) as refused:
        log(practice, "api")
    assert refused.value.status == 400


def test_a_failing_init_container_holds_back_the_others(practice: Any) -> None:
    annotations = {"practice.runbook/program": json.dumps({"init": {"exit_code": 2}})}
    pod = {
        "metadata": {"name": "held", "labels": {"app": "held"}, "annotations": annotations},
        "spec": {
            "initContainers": [{"name": "init", "image": "i"}],
            "containers": [{"name": "app", "image": "i"}],
        },
    }
    practice.core.create_namespaced_pod("shop", pod)
    practice.container("held", waiting="PodInitializing")

    def looping() -> bool:
        status = practice.pods("held")[0]["status"].get("initContainerStatuses", [{}])[0]
        return bool("CrashLoopBackOff" in json.dumps(status.get("state", {})))

    practice.until(looping, "an init container in back-off")
    mended = {"metadata": {"annotations": {"practice.runbook/program": None}}}
    practice.core.patch_namespaced_pod("held", "shop", mended)
    practice.until_ready("held")


def test_a_volume_of_a_missing_config_map(practice: Any) -> None:
    practice.deploy("api", volumes=[{"name": "config", "configMap": {"name": "gone"}}])
    event = practice.until(lambda: practice.events("api-").get("FailedMount"), "FailedMount")
    assert event["message"] == (
        'MountVolume.SetUp failed for volume "config" : configmap "gone" not found'
    )
    practice.container("api", waiting="ContainerCreating")


def test_logs_by_tail_time_and_stamp(practice: Any) -> None:
    practice.deploy("api", {"log": ["one", "two", "three"]})
    practice.until_ready("api")
    assert log(practice, "api", tail_lines=2) == "two\nthree\n"
    assert log(practice, "api", since_seconds=600) == "one\ntwo\nthree\n"
    assert log(practice, "api", tail_lines=1, timestamps=True).endswith("Z three\n")
    for wrong in ({"previous": True}, {"container": "nope"}):
        with pytest.raises(ApiException) as refused:
            log(practice, "api", **wrong)
        assert refused.value.status == 400


def test_a_program_that_cannot_be_read_is_reported(practice: Any) -> None:
    practice.deploy("api", {"crashes": True})
    event = practice.until(lambda: practice.events("api-").get("PracticeProgramInvalid"), "event")
    assert "unknown crashes" in event["message"]


@pytest.mark.parametrize(
    "program",
    [
        {"exit_code": "1"},
        {"oom": 1},
        {"log": "a line"},
        {"started_ago": "long"},
        {"usage": {"cpu": "much"}},
        {"needs_host": ["database"]},
        {"answers": {"/": "fine"}},
        {"run_seconds": True},
    ],
)
def test_a_program_of_the_wrong_form_is_refused(program: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(program)) + "|is no"):
        programs({PROGRAM: json.dumps({"app": program})})


# nodes


def test_a_full_disk_is_pressure_until_it_is_not(practice: Any) -> None:
    annotate_node(practice, "node-b", stats='{"fs_used_percent": 96}', since="25m")
    condition = until_condition(practice, "node-b", "DiskPressure", "True")
    assert condition["reason"] == "KubeletHasDiskPressure"
    assert age(condition["lastTransitionTime"]) > 24 * 60
    node = practice.core.read_node("node-b")
    taints = [(taint.key, taint.effect) for taint in node.spec.taints]
    assert taints == [("node.kubernetes.io/disk-pressure", "NoSchedule")]
    practice.until(lambda: "EvictionThresholdMet" in practice.events("node-b"), "the event")
    _, summary = practice.raw("GET", "/api/v1/nodes/node-b/proxy/stats/summary")
    disk = summary["node"]["fs"]
    assert disk["availableBytes"] / disk["capacityBytes"] == pytest.approx(0.04, abs=0.001)
    _, text = practice.raw("GET", "/api/v1/nodes/node-b/proxy/logs/?query=kubelet")
    assert "attempting to reclaim" in text
    annotate_node(practice, "node-b", stats='{"fs_used_percent": 40}', since=None)
    until_condition(practice, "node-b", "DiskPressure", "False")
    assert not practice.core.read_node("node-b").spec.taints


def test_a_stopped_kubelet_is_unknown(practice: Any) -> None:
    practice.deploy("web", replicas=3)
    practice.until_ready("web", 3)
    annotate_node(practice, "node-a", kubelet="stopped", since="25m")
    condition = until_condition(practice, "node-a", "Ready", "Unknown")
    assert condition["reason"] == "NodeStatusUnknown"
    assert condition["message"] == "Kubelet stopped posting node status."
    _, lease = practice.raw(
        "GET", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-a"
    )
    assert age(lease["spec"]["renewTime"]) > 24 * 60
    assert practice.raw("GET", "/api/v1/nodes/node-a/proxy/stats/summary")[0] == 503
    # After five minutes its pods are given up, and stand elsewhere; nobody is there to stop them.
    practice.until_ready("web", 3)
    left = [pod for pod in practice.pods("web") if pod["spec"]["nodeName"] == "node-a"]
    assert [bool(pod["metadata"].get("deletionTimestamp")) for pod in left] == [True]
    with pytest.raises(ApiException) as refused:
        practice.core.read_namespaced_pod_log(left[0]["metadata"]["name"], "shop")
    assert "connection refused" in str(refused.value.body)


def test_a_kubelet_that_reports_a_broken_network(practice: Any) -> None:
    reason = "container runtime network not ready: cni plugin not initialized"
    annotate_node(practice, "node-c", kubelet=json.dumps({"not_ready": reason}))
    condition = until_condition(practice, "node-c", "Ready", "False")
    assert (condition["reason"], condition["message"]) == ("KubeletNotReady", reason)


def test_metrics_come_and_go_with_the_metrics_server(practice: Any) -> None:
    practice.deploy("api", {"usage": {"cpu": "250m", "memory": "300Mi"}})
    practice.until_ready("api")
    path = "/apis/metrics.k8s.io/v1beta1"
    practice.until(lambda: practice.raw("GET", f"{path}/nodes")[0] == 200, "the metrics API")
    _, pods = practice.raw("GET", f"{path}/namespaces/shop/pods?labelSelector=app%3Dapi")
    assert pods["items"][0]["containers"][0]["usage"] == {"cpu": "250000000n", "memory": "307200Ki"}
    scale = practice.apps.patch_namespaced_deployment_scale
    scale("metrics-server", "kube-system", {"spec": {"replicas": 0}})

    def away() -> bool:
        code, status = practice.raw("GET", f"{path}/nodes")
        return bool(code == 503 and status["reason"] == "ServiceUnavailable")

    practice.until(away, "503 of the metrics API")
    scale("metrics-server", "kube-system", {"spec": {"replicas": 1}})
    practice.until(lambda: practice.raw("GET", f"{path}/nodes")[0] == 200, "the metrics API")
