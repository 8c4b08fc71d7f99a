"""Status and scale."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract.cluster import Space, causes, refused
from contract.objects import deployment, pod


@pytest.fixture
def app(space: Space, name: str) -> Iterator[str]:
    """The name of a Deployment without replicas."""
    space.deployments.create(deployment(name, replicas=0))
    yield name
    space.deployments.delete(name)


@pytest.fixture
def waiting(space: Space, name: str) -> Iterator[str]:
    """The name of a pod that no scheduler takes."""
    space.pods.create(pod(name))
    yield name
    space.pods.delete(name, gracePeriodSeconds=0)


def test_an_update_of_the_object_leaves_its_status(space: Space, waiting: str) -> None:
    change = {"metadata": {"labels": {"a": "b"}}, "status": {"message": "mine"}}
    made = space.pods.patch(waiting, change)
    assert made["metadata"]["labels"] == {"a": "b"}
    assert "message" not in made["status"]


def test_an_update_of_the_status_leaves_the_rest(space: Space, waiting: str) -> None:
    change = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"activeDeadlineSeconds": 5},
        "status": {"message": "mine"},
    }
    made = space.pods.patch(waiting, change, subresource="status")
    assert made["status"]["message"] == "mine"
    assert made["status"]["phase"] == "Pending"
    assert "activeDeadlineSeconds" not in space.pods.read(waiting)["spec"]


def test_a_status_given_at_creation_is_ignored(space: Space, name: str) -> None:
    made = space.pods.create(pod(name) | {"status": {"phase": "Running", "message": "mine"}})
    assert made["status"]["phase"] == "Pending" and "message" not in made["status"]
    space.pods.delete(name, gracePeriodSeconds=0)


def test_conditions_are_merged_by_type_in_a_strategic_patch(space: Space, waiting: str) -> None:
    for type_ in ("Ready", "Initialized", "Ready"):
        condition = {"type": type_, "status": "True"}
        change = {"status": {"conditions": [condition]}}
        made = space.pods.patch(waiting, change, "strategic", "status")
    assert sorted(c["type"] for c in made["status"]["conditions"]) == ["Initialized", "Ready"]


def test_a_scale_shows_replicas_and_selector(space: Space, app: str) -> None:
    scale = space.deployments.read(app, "scale")
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert scale["spec"].get("replicas", 0) == 0
    assert scale["status"]["selector"] == f"app={app}"


def test_a_scale_changes_the_replicas_of_its_object(space: Space, app: str) -> None:
    scale = space.deployments.read(app, "scale")
    space.deployments.patch(app, {"spec": {"replicas": 2}}, subresource="scale")
    changed = space.deployments.read(app)
    assert changed["spec"]["replicas"] == 2 and changed["metadata"]["generation"] == 2
    with refused(409, "Conflict"):
        space.deployments.replace(app, scale | {"spec": {"replicas": 3}}, "scale")


def test_fewer_than_no_replicas_are_invalid(space: Space, app: str) -> None:
    with refused(422, "Invalid") as status:
        space.deployments.patch(app, {"spec": {"replicas": -1}}, subresource="scale")
    assert causes(status) == {"spec.replicas": "FieldValueInvalid"}


def test_a_kind_without_scale_has_none(space: Space, cm: str) -> None:
    with refused(404):
        space.config_maps.read(cm, "scale")
