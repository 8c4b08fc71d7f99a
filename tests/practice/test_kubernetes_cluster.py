"""The practice cluster at work: controllers, and nodes that break and mend."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException
from practice.shop import age, annotate_node, clear, until_condition

DEPLOYMENTS = "/apis/apps/v1/namespaces/shop/deployments"
MERGE = "application/merge-patch+json"


@pytest.fixture(autouse=True)
def clean(practice: Any) -> Iterator[None]:
    """Afterwards nodes are healthy and shop is empty."""
    yield
    clear(practice)


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

    def given_up() -> list[dict[str, Any]]:
        there = [pod for pod in practice.pods("web") if pod["spec"].get("nodeName") == "node-a"]
        return [pod for pod in there if "deletionTimestamp" in pod["metadata"]]

    left = practice.until(given_up, "a pod that is given up")
    practice.until_ready("web", 3)
    assert len(left) == 1
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
