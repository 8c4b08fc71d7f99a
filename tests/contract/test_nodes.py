"""Nodes: what they report, their leases, their kubelets, and what the metrics API says of them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator

import pytest
from contract.cluster import Cluster, Space, refused
from contract.objects import container, pod, saying

from runbook_lib.practice.wait import until

SECONDS = 180.0
MINUTES = datetime.timedelta(minutes=5)


@pytest.fixture
def node(cluster: Cluster) -> dict:
    """A node that is ready."""
    for node in cluster.get("/api/v1/nodes")["items"]:
        conditions = {c["type"]: c["status"] for c in node["status"].get("conditions", [])}
        if conditions.get("Ready") == "True":
            return dict(node)
    raise AssertionError("no node is ready")


@pytest.mark.needs_nodes
def test_a_node_reports_its_conditions(node: dict) -> None:
    conditions = {c["type"]: c for c in node["status"]["conditions"]}
    assert {"Ready", "MemoryPressure", "DiskPressure", "PIDPressure"} <= set(conditions)
    assert conditions["Ready"]["reason"] == "KubeletReady"
    for condition in conditions.values():
        assert condition["lastHeartbeatTime"] and condition["lastTransitionTime"]


@pytest.mark.needs_nodes
def test_a_node_says_what_it_has_and_who_it_is(node: dict) -> None:
    status = node["status"]
    for listed in (status["capacity"], status["allocatable"]):
        assert {"cpu", "memory", "pods", "ephemeral-storage"} <= set(listed)
    assert status["nodeInfo"]["kubeletVersion"].startswith("v1.")
    assert "InternalIP" in {address["type"] for address in status["addresses"]}
    assert node["metadata"]["labels"]["kubernetes.io/hostname"]


@pytest.mark.needs_nodes
def test_a_node_renews_its_lease(cluster: Cluster, node: dict) -> None:
    name = node["metadata"]["name"]
    lease = cluster.of("coordination.k8s.io/v1", "leases", "kube-node-lease").read(name)["spec"]
    assert lease["holderIdentity"] == name and lease["leaseDurationSeconds"] > 0
    renewed = datetime.datetime.fromisoformat(lease["renewTime"])
    assert abs(datetime.datetime.now(datetime.UTC) - renewed) < MINUTES


@pytest.mark.needs_nodes
def test_a_kubelet_sums_up_its_node(cluster: Cluster, node: dict) -> None:
    name = node["metadata"]["name"]
    summary = cluster.get(f"/api/v1/nodes/{name}/proxy/stats/summary")
    assert summary["node"]["nodeName"] == name
    for resource, figure in (("cpu", "usageNanoCores"), ("memory", "workingSetBytes")):
        assert summary["node"][resource][figure] >= 0
    disk = summary["node"]["fs"]
    assert 0 < disk["usedBytes"] <= disk["capacityBytes"]
    assert isinstance(summary["pods"], list)


@pytest.fixture
def cordoned(cluster: Cluster, space: Space) -> Iterator[str]:
    """The name of a Node object without a machine that takes no pods."""
    nodes, name = cluster.of("v1", "nodes"), f"{space.name}-cordoned"
    nodes.create({"metadata": {"name": name}, "spec": {"unschedulable": True}})
    yield name
    if nodes.has(name):  # a cloud's controller removes nodes without a machine
        nodes.delete(name)


def test_a_cordoned_node_is_found_by_that(cluster: Cluster, cordoned: str) -> None:
    found = cluster.of("v1", "nodes").names
    assert cordoned in found(fieldSelector="spec.unschedulable=true")
    assert cordoned not in found(fieldSelector="spec.unschedulable=false")


@pytest.mark.needs_controllers
def test_a_cordoned_node_is_tainted(cluster: Cluster, cordoned: str) -> None:
    def taints() -> set[tuple[str, str]]:
        spec = cluster.of("v1", "nodes").read(cordoned)["spec"]
        return {(taint["key"], taint["effect"]) for taint in spec.get("taints", [])}

    wanted = ("node.kubernetes.io/unschedulable", "NoSchedule")
    until(lambda: wanted in taints(), SECONDS, "the taint")


@pytest.mark.needs_metrics
def test_metrics_of_nodes_have_usage_time_and_window(cluster: Cluster) -> None:
    listed = cluster.of("metrics.k8s.io/v1beta1", "nodes").list()
    assert listed["kind"] == "NodeMetricsList" and listed["items"]
    for one in listed["items"]:
        assert one["timestamp"] and one["window"]
        assert re.fullmatch(r"\d+[num]?", one["usage"]["cpu"])
        assert re.fullmatch(r"\d+([KMG]i|[kMG])?", one["usage"]["memory"])


@pytest.mark.needs_metrics
@pytest.mark.needs_nodes
def test_metrics_of_a_pod_are_per_container(space: Space, name: str, image: str) -> None:
    annotations, says = saying("hello")
    made = pod(name, labels={"app": name}, schedulerName="default-scheduler")
    made["metadata"]["annotations"] = annotations
    made["spec"]["containers"] = [container(image=image, **says)]
    space.pods.create(made)
    metrics = space.of("metrics.k8s.io/v1beta1", "pods")
    until(lambda: metrics.has(name), SECONDS, "the pod is measured")
    (one,) = metrics.list(labelSelector=f"app={name}")["items"]
    (measured,) = one["containers"]
    assert measured["name"] == "app" and set(measured["usage"]) >= {"cpu", "memory"}
    space.pods.delete(name, gracePeriodSeconds=0)


@pytest.mark.needs_metrics
def test_metrics_of_no_pod_are_not_found(space: Space, name: str) -> None:
    with refused(404, "NotFound"):
        space.of("metrics.k8s.io/v1beta1", "pods").read(name)
