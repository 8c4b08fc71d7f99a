"""What the controllers make of Deployments, StatefulSets, Jobs and Services.

No scheduler takes the pods; the statements say by hand what a kubelet would say of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from contract.cluster import Resource, Space
from contract.objects import deployment, job, pod, service, stateful_set

from runbook_lib.practice.wait import until

SECONDS = 60.0
pytestmark = pytest.mark.needs_controllers


@pytest.fixture
def app(space: Space, name: str) -> Iterator[str]:
    """The name of a Deployment of two pods."""
    space.deployments.create(deployment(name, replicas=2))
    yield name
    space.deployments.delete(name)


def found(resource: Resource, number: int, selector: str) -> list[dict]:
    """As many objects as said, once they are there."""
    listed: list[dict] = []

    def right() -> bool:
        listed[:] = resource.list(labelSelector=selector)["items"]
        return len(listed) == number

    until(right, SECONDS, f"{number} of {resource.path}?{selector}")
    return listed


def until_status(resource: Resource, name: str, **wanted: Any) -> dict:
    """An object, once its status says so; 0 is not written."""
    last: dict = {}

    def right() -> bool:
        last.update(resource.read(name))
        status = last.get("status", {})
        return all((status.get(field) or 0) == number for field, number in wanted.items())

    until(right, SECONDS, f"{name} with {wanted}")
    return last


def say(space: Space, name: str, phase: str, ready: str = "True") -> None:
    conditions = [{"type": "Ready", "status": ready}]
    status = {"status": {"phase": phase, "conditions": conditions}}
    space.pods.patch(name, status, "strategic", "status")


def say_all_ready(space: Space, pods: list[dict]) -> None:
    for one in pods:
        say(space, one["metadata"]["name"], "Running")


def controller_of(body: dict) -> str:
    (owner,) = (o for o in body["metadata"]["ownerReferences"] if o.get("controller"))
    return f"{owner['kind']}/{owner['name']}"


def test_a_deployment_owns_a_replica_set_that_owns_pods(space: Space, app: str) -> None:
    (owned,) = found(space.replica_sets, 1, f"app={app}")
    digest = owned["metadata"]["labels"]["pod-template-hash"]
    assert owned["metadata"]["name"] == f"{app}-{digest}"
    assert owned["spec"]["selector"]["matchLabels"]["pod-template-hash"] == digest
    assert controller_of(owned) == f"Deployment/{app}"
    for one in found(space.pods, 2, f"app={app}"):
        assert controller_of(one) == f"ReplicaSet/{app}-{digest}"
        assert one["metadata"]["labels"]["pod-template-hash"] == digest
        assert one["metadata"]["name"].startswith(f"{app}-{digest}-")


def test_the_status_of_a_deployment_counts_its_ready_pods(space: Space, app: str) -> None:
    pods = found(space.pods, 2, f"app={app}")
    before = until_status(space.deployments, app, replicas=2, unavailableReplicas=2)
    assert condition(before, "Available")["reason"] == "MinimumReplicasUnavailable"
    say_all_ready(space, pods)
    after = until_status(space.deployments, app, readyReplicas=2, availableReplicas=2)
    until_status(space.deployments, app, unavailableReplicas=0)
    assert after["status"]["observedGeneration"] == after["metadata"]["generation"]
    assert condition(after, "Available")["status"] == "True"


def condition(body: dict, type_: str) -> dict:
    return {c["type"]: c for c in body["status"]["conditions"]}[type_]


def test_a_deleted_pod_is_replaced(space: Space, app: str) -> None:
    first, second = (one["metadata"]["name"] for one in found(space.pods, 2, f"app={app}"))
    space.pods.delete(first)
    until(lambda: not space.pods.has(first), SECONDS, "the pod goes")
    names = {one["metadata"]["name"] for one in found(space.pods, 2, f"app={app}")}
    assert second in names and first not in names


def test_scaling_down_to_nothing_removes_the_pods(space: Space, app: str) -> None:
    found(space.pods, 2, f"app={app}")
    space.deployments.patch(app, {"spec": {"replicas": 0}}, subresource="scale")
    found(space.pods, 0, f"app={app}")
    until_status(space.deployments, app, replicas=0)


def test_a_new_template_rolls_out_behind_ready_pods(space: Space, app: str) -> None:
    old = found(space.pods, 2, f"app={app}")
    say_all_ready(space, old)
    until_status(space.deployments, app, readyReplicas=2)
    image = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "e:2"}]
    space.deployments.patch(app, image, "json")
    found(space.replica_sets, 2, f"app={app}")
    three = found(space.pods, 3, f"app={app}")  # one more at a time: 25 % of 2, rounded up
    assert {one["metadata"]["name"] for one in old} < {one["metadata"]["name"] for one in three}
    rolling = until_status(space.deployments, app, updatedReplicas=1, replicas=3)
    assert rolling["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"

    def settled() -> bool:
        pods = space.pods.list(labelSelector=f"app={app}")["items"]
        new = [one for one in pods if one["spec"]["containers"][0]["image"] == "e:2"]
        say_all_ready(space, new)
        return len(new) == len(pods) == 2

    until(settled, SECONDS, "the new pods take over")


def test_a_restart_is_a_new_template(space: Space, app: str) -> None:
    found(space.replica_sets, 1, f"app={app}")
    stamp = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    change = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
    space.deployments.patch(app, change, "strategic")
    found(space.replica_sets, 2, f"app={app}")


def test_a_paused_deployment_does_not_roll_out(space: Space, app: str) -> None:
    found(space.replica_sets, 1, f"app={app}")
    space.deployments.patch(app, {"spec": {"paused": True}})
    image = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "e:2"}]
    generation = space.deployments.patch(app, image, "json")["metadata"]["generation"]
    until_status(space.deployments, app, observedGeneration=generation)
    found(space.replica_sets, 1, f"app={app}")


def test_what_a_deployment_owns_goes_with_it(space: Space, name: str) -> None:
    space.deployments.create(deployment(name, replicas=1))
    found(space.pods, 1, f"app={name}")
    space.deployments.delete(name)
    found(space.replica_sets, 0, f"app={name}")
    found(space.pods, 0, f"app={name}")


def test_a_stateful_set_makes_its_pods_one_after_another(space: Space, name: str) -> None:
    space.stateful_sets.create(stateful_set(name, replicas=2))
    (first,) = found(space.pods, 1, f"app={name}")
    assert first["metadata"]["name"] == f"{name}-0"
    assert controller_of(first) == f"StatefulSet/{name}"
    until_status(space.stateful_sets, name, replicas=1)
    say(space, f"{name}-0", "Running")
    pods = found(space.pods, 2, f"app={name}")
    assert sorted(one["metadata"]["name"] for one in pods) == [f"{name}-0", f"{name}-1"]
    until_status(space.stateful_sets, name, readyReplicas=1)
    space.stateful_sets.delete(name)


def test_a_pod_of_a_stateful_set_comes_back_under_its_name(space: Space, name: str) -> None:
    space.stateful_sets.create(stateful_set(name, replicas=1))
    (first,) = found(space.pods, 1, f"app={name}")
    space.pods.delete(f"{name}-0")
    until(lambda: _uid(space, f"{name}-0") not in ("", first["metadata"]["uid"]), SECONDS, "back")
    space.stateful_sets.delete(name)


def _uid(space: Space, name: str) -> str:
    answer = space.cluster.ask("GET", f"{space.pods.path}/{name}")
    return str(answer.body["metadata"]["uid"]) if answer.status == 200 else ""


def test_a_job_is_complete_when_its_pod_has_succeeded(space: Space, name: str) -> None:
    space.jobs.create(job(name))
    (worker,) = found(space.pods, 1, f"batch.kubernetes.io/job-name={name}")
    assert controller_of(worker) == f"Job/{name}"
    until_status(space.jobs, name, active=1)
    say(space, worker["metadata"]["name"], "Succeeded", ready="False")
    done = until_status(space.jobs, name, succeeded=1, active=0)
    until(lambda: has_condition(space.jobs.read(name), "Complete"), SECONDS, "complete")
    assert done["status"]["startTime"]
    space.jobs.delete(name, propagationPolicy="Background")


def test_a_job_has_failed_when_its_retries_are_used_up(space: Space, name: str) -> None:
    space.jobs.create(job(name, backoffLimit=0))
    (worker,) = found(space.pods, 1, f"batch.kubernetes.io/job-name={name}")
    say(space, worker["metadata"]["name"], "Failed", ready="False")
    until(lambda: has_condition(space.jobs.read(name), "Failed"), SECONDS, "failed")
    ended = space.jobs.read(name)
    assert condition(ended, "Failed")["reason"] == "BackoffLimitExceeded"
    assert ended["status"]["failed"] == 1
    space.jobs.delete(name, propagationPolicy="Background")


def has_condition(body: dict, type_: str) -> bool:
    conditions = body.get("status", {}).get("conditions", [])
    return any(c["type"] == type_ and c["status"] == "True" for c in conditions)


def test_a_service_has_slices_and_without_pods_no_endpoints(
    space: Space, name: str, until_one: Callable[..., dict]
) -> None:
    space.services.create(service(name))
    slice_ = until_one(space.slices, f"kubernetes.io/service-name={name}")
    assert not slice_.get("endpoints")
    assert slice_["addressType"] in ("IPv4", "IPv6")
    assert slice_["metadata"]["ownerReferences"][0]["kind"] == "Service"
    space.services.delete(name)


def test_a_service_that_publishes_unready_addresses_lists_its_pods(
    space: Space, name: str, until_one: Callable[..., dict]
) -> None:
    space.services.create(service(name, publishNotReadyAddresses=True))
    space.pods.create(pod(name, labels={"app": name}))
    address = {"podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}], "phase": "Running"}
    space.pods.patch(name, {"status": address}, "strategic", "status")

    def listed() -> bool:
        slice_ = until_one(space.slices, f"kubernetes.io/service-name={name}")
        return [e["addresses"] for e in slice_.get("endpoints") or []] == [["10.1.2.3"]]

    until(listed, SECONDS, "the pod is listed")
    space.services.delete(name)
    space.pods.delete(name, gracePeriodSeconds=0)


@pytest.fixture
def until_one() -> Callable[..., dict]:
    return lambda resource, selector: found(resource, 1, selector)[0]


def test_an_account_named_default_that_is_deleted_comes_back(space: Space) -> None:
    before = space.service_accounts.read("default")["metadata"]["uid"]
    space.service_accounts.delete("default")
    until(lambda: space.service_accounts.has("default"), SECONDS, "the account")
    assert space.service_accounts.read("default")["metadata"]["uid"] != before
