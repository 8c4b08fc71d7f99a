"""What a kubelet and a scheduler make of pods.

A kubelet runs the commands; the practice platform's stand-in reads the annotations beside them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from contract.cluster import Space
from contract.objects import container, deployment, pod, saying, service

from runbook_lib.practice.wait import until

SECONDS = 180.0  # a node may have to pull an image first
pytestmark = pytest.mark.needs_nodes
Waiting = Callable[[Space, str], dict]


def scheduled(name: str, *containers: dict, **annotations: str) -> dict:
    made = pod(name, labels={"app": name}, schedulerName="default-scheduler")
    made["metadata"]["annotations"] = {k.replace("__", "/"): v for k, v in annotations.items()}
    made["spec"] |= {"containers": list(containers), "terminationGracePeriodSeconds": 0}
    return made


def speaking(name: str, image: str, *lines: str, exit_code: int | None = None) -> dict:
    annotations, says = saying(*lines, exit_code=exit_code)
    made = scheduled(name, container(image=image, **says))
    made["metadata"]["annotations"] = annotations
    return made


def until_pod(space: Space, name: str, right: Callable[[dict], Any], what: str) -> dict:
    last: dict = {}

    def holds() -> bool:
        last.update(space.pods.read(name))
        return bool(right(last))

    until(holds, SECONDS, what)
    return last


def status_of(body: dict) -> dict:
    """The status of the only container."""
    (status,) = body["status"].get("containerStatuses") or [{"state": {}, "lastState": {}}]
    return dict(status)


def is_ready(body: dict) -> bool:
    conditions = body["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def waits_because(body: dict) -> str:
    return str(status_of(body)["state"].get("waiting", {}).get("reason", ""))


def test_a_running_pod_has_a_node_an_address_and_a_start(
    space: Space, name: str, image: str
) -> None:
    space.pods.create(speaking(name, image, "hello"))
    body = until_pod(space, name, is_ready, "ready")
    assert body["spec"]["nodeName"] in [n["metadata"]["name"] for n in _nodes(space)]
    status = body["status"]
    assert (status["phase"], status["qosClass"]) == ("Running", "BestEffort")
    assert status["podIP"] and status["hostIP"] and status["startTime"]
    one = status_of(body)
    assert one["ready"] and one["started"] and one["restartCount"] == 0
    assert one["state"]["running"]["startedAt"]
    assert {c["type"] for c in status["conditions"]} >= {
        "PodScheduled",
        "Initialized",
        "ContainersReady",
        "Ready",
    }
    space.pods.delete(name, gracePeriodSeconds=0)


def _nodes(space: Space) -> list[dict]:
    return list(space.cluster.get("/api/v1/nodes")["items"])


def test_scheduling_and_starting_a_pod_are_told_in_events(
    space: Space, name: str, image: str
) -> None:
    space.pods.create(speaking(name, image, "hello"))
    until_pod(space, name, is_ready, "ready")
    about = f"involvedObject.name={name},involvedObject.kind=Pod"

    def reasons() -> set[str]:
        return {e["reason"] for e in space.events.list(fieldSelector=about)["items"]}

    until(lambda: {"Scheduled", "Created", "Started"} <= reasons(), SECONDS, "the events")
    space.pods.delete(name, gracePeriodSeconds=0)


def test_a_container_that_keeps_failing_backs_off_and_remembers(
    space: Space, name: str, image: str
) -> None:
    space.pods.create(speaking(name, image, "oh", exit_code=3))
    body = until_pod(space, name, lambda b: waits_because(b) == "CrashLoopBackOff", "backs off")
    one = status_of(body)
    assert one["restartCount"] >= 1 and not one["ready"]
    assert one["lastState"]["terminated"]["exitCode"] == 3
    assert one["lastState"]["terminated"]["reason"] == "Error"
    assert "oh" in space.pods.read(name, "log", previous="true")
    space.pods.delete(name, gracePeriodSeconds=0)


def test_a_container_that_ends_well_and_may_not_restart_has_succeeded(
    space: Space, name: str, image: str
) -> None:
    made = speaking(name, image, "done", exit_code=0)
    made["spec"]["restartPolicy"] = "Never"
    space.pods.create(made)
    body = until_pod(space, name, lambda b: b["status"]["phase"] == "Succeeded", "succeeded")
    ended = status_of(body)["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
    space.pods.delete(name, gracePeriodSeconds=0)


@pytest.mark.parametrize("source", ["configMapKeyRef", "secretKeyRef"])
def test_a_variable_from_nowhere_keeps_the_container_from_being_created(
    space: Space, name: str, image: str, source: str
) -> None:
    variable = {"name": "A", "valueFrom": {source: {"name": f"{name}-absent", "key": "a"}}}
    space.pods.create(scheduled(name, container(image=image, env=[variable])))
    body = until_pod(
        space, name, lambda b: waits_because(b) == "CreateContainerConfigError", "cannot create"
    )
    assert f'"{name}-absent" not found' in status_of(body)["state"]["waiting"]["message"]
    assert body["status"]["phase"] == "Pending"
    space.pods.delete(name, gracePeriodSeconds=0)


def test_an_image_that_cannot_be_pulled_is_told(space: Space, name: str) -> None:
    program = {"practice.runbook__program": json.dumps({"app": {"image_error": "not found"}})}
    space.pods.create(scheduled(name, container(image="registry.invalid/none:1"), **program))
    until_pod(
        space,
        name,
        lambda b: waits_because(b) in ("ErrImagePull", "ImagePullBackOff"),
        "cannot pull",
    )
    space.pods.delete(name, gracePeriodSeconds=0)


def test_a_pod_that_fits_nowhere_is_told_why(space: Space, name: str, image: str) -> None:
    resources = {"requests": {"cpu": "5000"}}
    space.pods.create(scheduled(name, container(image=image, resources=resources)))
    until_unschedulable(space, name, "Insufficient cpu")
    space.pods.delete(name, gracePeriodSeconds=0)


def test_a_pod_that_selects_no_node_is_told_why(space: Space, name: str, image: str) -> None:
    made = scheduled(name, container(image=image))
    made["spec"]["nodeSelector"] = {"no": "such-node"}
    space.pods.create(made)
    until_unschedulable(space, name, "didn't match Pod's node affinity/selector")
    space.pods.delete(name, gracePeriodSeconds=0)


def until_unschedulable(space: Space, name: str, why: str) -> None:
    def conditions(body: dict) -> list[dict]:
        listed = body["status"].get("conditions", [])
        return [c for c in listed if c["type"] == "PodScheduled" and c["status"] == "False"]

    (condition,) = conditions(until_pod(space, name, conditions, "unschedulable"))
    assert condition["reason"] == "Unschedulable"
    number = len(_nodes(space))
    assert condition["message"].startswith(f"0/{number} nodes are available: ")
    assert why in condition["message"]
    about = f"involvedObject.name={name},reason=FailedScheduling"
    until(lambda: space.events.names(fieldSelector=about) != [], SECONDS, "the event")
    (event,) = space.events.list(fieldSelector=about)["items"]
    assert event["type"] == "Warning" and why in event["message"]


def test_a_service_lists_the_address_of_a_ready_pod(space: Space, name: str, image: str) -> None:
    space.services.create(service(name))
    space.pods.create(speaking(name, image, "hello"))
    address = until_pod(space, name, is_ready, "ready")["status"]["podIP"]

    def ready_addresses() -> list[str]:
        slices = space.slices.list(labelSelector=f"kubernetes.io/service-name={name}")["items"]
        endpoints = [e for one in slices for e in one.get("endpoints") or []]
        return [a for e in endpoints if e["conditions"]["ready"] for a in e["addresses"]]

    until(lambda: ready_addresses() == [address], SECONDS, "the address is listed")
    space.pods.delete(name, gracePeriodSeconds=0)
    until(lambda: ready_addresses() == [], SECONDS, "the address goes")
    space.services.delete(name)


def test_a_deployment_becomes_available(space: Space, name: str, image: str) -> None:
    made = deployment(name, replicas=2)
    made["spec"]["template"]["spec"] = speaking(name, image, "hello")["spec"]
    space.deployments.create(made)

    def available() -> bool:
        return space.deployments.read(name).get("status", {}).get("availableReplicas") == 2

    until(available, SECONDS, "two available replicas")
    space.deployments.delete(name)


def test_a_daemon_set_has_a_pod_on_every_node_that_takes_it(
    space: Space, name: str, image: str
) -> None:
    made = deployment(name)
    for field in ("replicas",):
        made["spec"].pop(field)
    made["kind"] = "DaemonSet"
    made["spec"]["template"]["spec"] = speaking(name, image, "hello")["spec"]
    space.daemon_sets.create(made)

    def status() -> dict:
        return dict(space.daemon_sets.read(name).get("status", {}))

    until(lambda: status().get("numberReady", 0) >= 1, SECONDS, "a ready pod")
    wanted = status()["desiredNumberScheduled"]
    until(lambda: status()["numberReady"] == wanted, SECONDS, "all ready")
    pods = space.pods.list(labelSelector=f"app={name}")["items"]
    assert len({one["spec"]["nodeName"] for one in pods}) == len(pods) == wanted
    space.daemon_sets.delete(name)
