"""JSON patch, merge patch and strategic merge patch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract.cluster import Space, refused
from contract.objects import config_map, container, deployment


@pytest.fixture
def app(space: Space, name: str) -> Iterator[str]:
    """The name of a Deployment without replicas, of two containers."""
    made = deployment(name, replicas=0)
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    made["spec"]["template"]["spec"]["containers"] = [
        container("app", "app:1", env=env),
        container("side", "side:1"),
    ]
    space.deployments.create(made)
    yield name
    space.deployments.delete(name)


def containers(body: dict) -> dict[str, str]:
    return {c["name"]: c["image"] for c in body["spec"]["template"]["spec"]["containers"]}


def of_containers(*listed: dict) -> dict:
    return {"spec": {"template": {"spec": {"containers": list(listed)}}}}


def test_a_merge_patch_removes_what_is_null_and_keeps_the_rest(space: Space, cm: str) -> None:
    space.config_maps.patch(cm, {"data": {"b": "2"}})
    assert space.config_maps.patch(cm, {"data": {"a": None}})["data"] == {"b": "2"}


def test_a_merge_patch_replaces_lists(space: Space, app: str) -> None:
    made = space.deployments.patch(app, of_containers({"name": "app", "image": "app:2"}))
    assert containers(made) == {"app": "app:2"}


def test_a_strategic_patch_merges_containers_by_name(space: Space, app: str) -> None:
    change = of_containers({"name": "side", "image": "side:2"})
    made = space.deployments.patch(app, change, "strategic")
    assert containers(made) == {"app": "app:1", "side": "side:2"}


def test_a_strategic_patch_merges_variables_by_name(space: Space, app: str) -> None:
    change = of_containers({"name": "app", "env": [{"name": "B", "value": "3"}]})
    made = space.deployments.patch(app, change, "strategic")
    env = made["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {e["name"]: e["value"] for e in env} == {"A": "1", "B": "3"}


def test_a_strategic_patch_deletes_an_element_by_name(space: Space, app: str) -> None:
    change = of_containers({"name": "side", "$patch": "delete"})
    assert containers(space.deployments.patch(app, change, "strategic")) == {"app": "app:1"}


def test_a_json_patch_adds_replaces_and_removes(space: Space, cm: str) -> None:
    made = space.config_maps.patch(
        cm,
        [
            {"op": "add", "path": "/data/b", "value": "2"},
            {"op": "replace", "path": "/data/b", "value": "3"},
            {"op": "remove", "path": "/data/a"},
            {"op": "add", "path": "/metadata/annotations", "value": {"x/y": "z"}},
            {"op": "replace", "path": "/metadata/annotations/x~1y", "value": "zz"},
        ],
        "json",
    )
    assert made["data"] == {"b": "3"}
    assert made["metadata"]["annotations"] == {"x/y": "zz"}


def test_a_json_patch_whose_test_fails_changes_nothing(space: Space, cm: str) -> None:
    change = [
        {"op": "replace", "path": "/data/a", "value": "2"},
        {"op": "test", "path": "/data/a", "value": "1"},
    ]
    with refused(422, "Invalid"):
        space.config_maps.patch(cm, change, "json")
    assert space.config_maps.read(cm)["data"] == {"a": "1"}


def test_an_unknown_kind_of_patch_is_not_supported(space: Space, cm: str) -> None:
    with refused(415, "UnsupportedMediaType"):
        space.config_maps.patch(cm, {"data": {}}, "application/json")


def test_a_patch_of_a_stale_version_is_a_conflict(space: Space, cm: str) -> None:
    stale = space.config_maps.read(cm)["metadata"]["resourceVersion"]
    space.config_maps.patch(cm, {"data": {"b": "2"}})
    with refused(409, "Conflict"):
        space.config_maps.patch(cm, {"metadata": {"resourceVersion": stale}, "data": {"c": "3"}})


def test_a_patch_cannot_rename(space: Space, cm: str) -> None:
    with refused(400, "BadRequest"):
        space.config_maps.patch(cm, {"metadata": {"name": "other"}})


def test_a_patch_that_changes_nothing_makes_no_new_version(space: Space, cm: str) -> None:
    before = space.config_maps.read(cm)["metadata"]["resourceVersion"]
    made = space.config_maps.patch(cm, {"data": {"a": "1"}})
    assert made["metadata"]["resourceVersion"] == before


def test_a_change_of_the_spec_makes_a_new_generation_and_a_label_does_not(
    space: Space, app: str
) -> None:
    labelled = space.deployments.patch(app, {"metadata": {"labels": {"a": "b"}}})
    assert labelled["metadata"]["generation"] == 1
    changed = space.deployments.patch(app, {"spec": {"paused": True}})
    assert changed["metadata"]["generation"] == 2


def test_patching_what_is_not_there_is_not_found(space: Space, name: str) -> None:
    with refused(404, "NotFound"):
        space.config_maps.patch(name, config_map(name))
