"""Each reason for which a pod finds no node, in the scheduler's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from practice.shop import empty, put, tell, waiting

NOT_HELPFUL = "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
NO_VICTIMS = "preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."
ZONE = "topology.kubernetes.io/zone"
HOST = "kubernetes.io/hostname"


@pytest.fixture(autouse=True)
def clean(practice: Any) -> Iterator[None]:
    yield
    empty(practice)


def asks(**requests: str) -> dict[str, Any]:
    return {"container": {"resources": {"requests": requests, "limits": requests}}}


def away_from(app: str, kind: str = "podAntiAffinity") -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": HOST}
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


@pytest.mark.parametrize(
    ("spec", "reason", "helps"),
    [
        (asks(cpu="64"), "3 Insufficient cpu", NOT_HELPFUL),
        (asks(memory="1Ti"), "3 Insufficient memory", NOT_HELPFUL),
        (asks(**{"nvidia.com/gpu": "1"}), "3 Insufficient nvidia.com/gpu", NOT_HELPFUL),
        (asks(**{"ephemeral-storage": "1Ti"}), "3 Insufficient ephemeral-storage", NOT_HELPFUL),
        (
            {"nodeSelector": {"disk": "ssd"}},
            "3 node(s) didn't match Pod's node affinity/selector",
            NOT_HELPFUL,
        ),
        (
            away_from("nobody", "podAffinity"),
            "3 node(s) didn't match pod affinity rules",
            NOT_HELPFUL,
        ),
        (
            {"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "gone"}}]},
            'persistentvolumeclaim "gone" not found',
            NOT_HELPFUL,
        ),
    ],
)
def test_no_node_will_do(practice: Any, spec: dict[str, Any], reason: str, helps: str) -> None:
    practice.deploy("odd", **spec)
    assert waiting(practice, "odd") == f"0/3 nodes are available: {reason}. {helps}"
    assert tell(practice, "odd-", "FailedScheduling").startswith("0/3 nodes are available")


def test_what_others_take_is_not_free(practice: Any) -> None:
    practice.deploy("big", replicas=3, **asks(cpu="3"), **away_from("big"))
    practice.until_ready("big", 3)
    practice.deploy("late", **asks(cpu="2"))
    assert waiting(practice, "late") == f"0/3 nodes are available: 3 Insufficient cpu. {NO_VICTIMS}"
    practice.apps.delete_namespaced_deployment("big", "shop")
    practice.until_ready("late")


def test_one_more_important_takes_the_place_of_others(practice: Any) -> None:
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"
    practice.raw("POST", path, {"metadata": {"name": "vital"}, "value": 1000})
    practice.deploy("big", replicas=3, **asks(cpu="3"), **away_from("big"))
    practice.until_ready("big", 3)
    practice.deploy("late", **asks(cpu="2"), priorityClassName="vital")
    practice.until_ready("late")
    assert "Preempted by pod" in tell(practice, "big-", "Preempted")


def test_replicas_that_keep_away_from_each_other(practice: Any) -> None:
    practice.deploy("one", replicas=4, **away_from("one"))
    reason = "3 node(s) didn't match pod anti-affinity rules"
    assert waiting(practice, "one") == f"0/3 nodes are available: {reason}. {NO_VICTIMS}"


def test_pods_that_others_keep_away(practice: Any) -> None:
    practice.deploy("shy", replicas=3, **away_from("loud"))
    practice.until_ready("shy", 3)
    practice.deploy("loud")
    reason = "3 node(s) didn't satisfy existing pods anti-affinity rules"
    assert reason in waiting(practice, "loud")


def test_a_taken_host_port(practice: Any) -> None:
    port = {"container": {"ports": [{"containerPort": 80, "hostPort": 8080}]}}
    practice.deploy("edge", replicas=4, **port)
    reason = "3 node(s) didn't have free ports for the requested pod ports"
    assert waiting(practice, "edge") == f"0/3 nodes are available: {reason}. {NO_VICTIMS}"


def test_taints_cordons_and_full_nodes_are_told_apart(practice: Any) -> None:
    practice.core.patch_node("node-a", {"spec": {"unschedulable": True}})
    taint = {"key": "team", "value": "ml", "effect": "NoSchedule"}
    practice.core.patch_node("node-b", {"spec": {"taints": [taint]}})
    patch = {"status": {"allocatable": {"pods": "0"}}}
    path = "/api/v1/nodes/node-c/status"
    merge = {"Content_Type": "application/merge-patch+json"}
    practice.raw("PATCH", path, patch, **merge)
    practice.deploy("web")
    assert waiting(practice, "web").startswith(
        "0/3 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint {team: ml}, "
        "1 node(s) were unschedulable. preemption: 0/3 nodes are available: 1 No preemption "
        "victims found for incoming pod, 2 Preemption is not helpful for scheduling."
    )
    practice.raw("PATCH", path, {"status": {"allocatable": {"pods": "58"}}}, **merge)
    practice.until_ready("web")


def test_a_claim_is_bound_where_its_first_pod_stands_and_stays_there(practice: Any) -> None:
    for name in ("node-a", "node-b", "node-c"):
        practice.core.patch_node(name, {"metadata": {"labels": {ZONE: f"zone-{name[-1]}"}}})
    late = {"provisioner": "ebs.csi.aws.com", "volumeBindingMode": "WaitForFirstConsumer"}
    practice.raw(
        "POST", "/apis/storage.k8s.io/v1/storageclasses", {"metadata": {"name": "late"}} | late
    )
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claims = "/api/v1/namespaces/shop/persistentvolumeclaims"
    put(practice, claims, {"metadata": {"name": "d"}, "spec": {**spec, "storageClassName": "late"}})
    assert "first consumer" in tell(practice, "d", "WaitForFirstConsumer")
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "d"}}]
    practice.deploy("db", volumes=volumes, nodeSelector={HOST: "node-b"})
    practice.until_ready("db")
    practice.until(
        lambda: practice.raw("GET", f"{claims}/d")[1]["status"]["phase"] == "Bound", "a bound claim"
    )
    practice.apps.delete_namespaced_deployment("db", "shop")
    practice.deploy("other", volumes=volumes, nodeSelector={HOST: "node-a"})
    message = waiting(practice, "other")
    assert "1 node(s) had volume node affinity conflict" in message
    assert "2 node(s) didn't match Pod's node affinity/selector" in message


def test_a_claim_of_a_missing_class(practice: Any) -> None:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "gp9",
    }
    claims = "/api/v1/namespaces/shop/persistentvolumeclaims"
    put(practice, claims, {"metadata": {"name": "d"}, "spec": spec})
    practice.deploy("db", volumes=[{"name": "d", "persistentVolumeClaim": {"claimName": "d"}}])
    assert "pod has unbound immediate PersistentVolumeClaims" in waiting(practice, "db")
    why = 'storageclass.storage.k8s.io "gp9" not found'
    assert tell(practice, "d", "ProvisioningFailed") == why
