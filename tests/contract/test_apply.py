"""Server-side apply: fields belong to managers."""

from __future__ import annotations

import pytest
from contract.cluster import Space, causes, refused
from contract.objects import config_map


@pytest.fixture
def applied(space: Space, name: str) -> str:
    """The name of a ConfigMap {"a": "1", "b": "1"} that manager `one` applied."""
    space.config_maps.apply(config_map(name, {"a": "1", "b": "1"}), "one")
    return name


def managers(body: dict) -> set[tuple[str, str]]:
    return {(e["manager"], e["operation"]) for e in body["metadata"]["managedFields"]}


def test_apply_creates_and_remembers_who_did(space: Space, name: str) -> None:
    path = f"{space.config_maps.path}/{name}"
    head = {"Content-Type": "application/apply-patch+yaml"}
    answer = space.cluster.ask("PATCH", path, config_map(name), headers=head, fieldManager="one")
    assert answer.status == 201
    (entry,) = answer.body["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"], entry["apiVersion"]) == ("one", "Apply", "v1")
    assert entry["fieldsType"] == "FieldsV1"
    assert entry["fieldsV1"] == {"f:data": {"f:a": {}}}


def test_a_field_that_its_only_manager_no_longer_applies_goes(space: Space, applied: str) -> None:
    assert space.config_maps.apply(config_map(applied), "one")["data"] == {"a": "1"}


def test_a_field_of_another_manager_stays(space: Space, applied: str) -> None:
    made = space.config_maps.apply(config_map(applied, {"c": "1"}), "two")
    assert made["data"] == {"a": "1", "b": "1", "c": "1"}


def test_a_changed_field_of_another_manager_is_a_conflict(space: Space, applied: str) -> None:
    with refused(409, "Conflict") as status:
        space.config_maps.apply(config_map(applied, {"a": "2"}), "two")
    assert causes(status) == {".data.a": "FieldManagerConflict"}
    assert '"one"' in status["details"]["causes"][0]["message"]


def test_force_takes_the_field_over(space: Space, applied: str) -> None:
    made = space.config_maps.apply(config_map(applied, {"a": "2"}), "two", force="true")
    assert made["data"] == {"a": "2", "b": "1"}
    with refused(409, "Conflict"):
        space.config_maps.apply(config_map(applied, {"a": "1", "b": "1"}), "one")


def test_a_field_applied_alike_is_shared_and_stays_with_the_last(
    space: Space, applied: str
) -> None:
    space.config_maps.apply(config_map(applied), "two")
    made = space.config_maps.apply(config_map(applied, {"b": "1"}), "one")
    assert made["data"] == {"a": "1", "b": "1"}
    assert space.config_maps.apply(config_map(applied, {}), "two")["data"] == {"b": "1"}


def test_an_update_is_remembered_too_and_conflicts(space: Space, applied: str) -> None:
    made = space.config_maps.patch(applied, {"data": {"a": "9"}}, fieldManager="editor")
    assert managers(made) == {("one", "Apply"), ("editor", "Update")}
    with refused(409, "Conflict") as status:
        space.config_maps.apply(config_map(applied, {"a": "1", "b": "1"}), "one")
    assert causes(status) == {".data.a": "FieldManagerConflict"}


def test_containers_are_owned_by_name(space: Space, name: str) -> None:
    from contract.objects import container, deployment

    def with_containers(*named: str) -> dict:
        made = deployment(name, replicas=0)
        made["spec"]["template"]["spec"]["containers"] = [container(one) for one in named]
        return made

    space.deployments.apply(with_containers("app", "side"), "one")
    both = space.deployments.apply(with_containers("other"), "two", force="true")
    listed = both["spec"]["template"]["spec"]["containers"]
    assert {c["name"] for c in listed} == {"app", "side", "other"}
    left = space.deployments.apply(with_containers("app"), "one")
    listed = left["spec"]["template"]["spec"]["containers"]
    assert {c["name"] for c in listed} == {"app", "other"}
    space.deployments.delete(name)


def test_apply_needs_a_field_manager(space: Space, name: str) -> None:
    with refused(422, "Invalid") as status:
        space.config_maps.patch(name, config_map(name), "apply")
    assert causes(status) == {"fieldManager": "FieldValueRequired"}


def test_managed_fields_cannot_be_applied(space: Space, applied: str) -> None:
    with refused(400, "BadRequest"):
        space.config_maps.apply(space.config_maps.read(applied), "one")


def test_applying_the_same_again_makes_no_new_version(space: Space, applied: str) -> None:
    before = space.config_maps.read(applied)["metadata"]
    again = space.config_maps.apply(config_map(applied, {"a": "1", "b": "1"}), "one")["metadata"]
    assert again["resourceVersion"] == before["resourceVersion"]
