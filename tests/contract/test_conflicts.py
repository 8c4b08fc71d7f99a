"""Two writers: versions, existing names, other objects of the same name."""

from __future__ import annotations

from contract.cluster import Space, refused
from contract.objects import config_map


def test_a_stale_resource_version_is_a_conflict(space: Space, cm: str) -> None:
    stale = space.config_maps.read(cm)
    space.config_maps.patch(cm, {"data": {"b": "2"}})
    with refused(409, "Conflict") as status:
        space.config_maps.replace(cm, stale | {"data": {"c": "3"}})
    assert status["details"]["name"] == cm
    assert space.config_maps.read(cm)["data"] == {"a": "1", "b": "2"}


def test_a_replacement_without_a_version_wins(space: Space, cm: str) -> None:
    space.config_maps.patch(cm, {"data": {"b": "2"}})
    assert space.config_maps.replace(cm, config_map(cm, {"c": "3"}))["data"] == {"c": "3"}


def test_a_name_that_is_taken_already_exists(space: Space, cm: str) -> None:
    with refused(409, "AlreadyExists") as status:
        space.config_maps.create(config_map(cm))
    assert status["message"] == f'configmaps "{cm}" already exists'


def test_replacing_what_is_not_there_is_not_found(space: Space, name: str) -> None:
    with refused(404, "NotFound"):
        space.config_maps.replace(name, config_map(name))


def test_replacing_another_object_of_the_same_name_is_a_conflict(space: Space, cm: str) -> None:
    other = config_map(cm, uid="00000000-0000-4000-8000-000000000000")
    with refused(409, "Conflict"):
        space.config_maps.replace(cm, other)


def test_the_name_in_the_body_must_be_the_name_in_the_path(space: Space, cm: str) -> None:
    with refused(400, "BadRequest"):
        space.config_maps.replace(cm, config_map("other"))


def test_the_namespace_in_the_body_must_be_that_of_the_path(space: Space, name: str) -> None:
    with refused(400, "BadRequest"):
        space.config_maps.create(config_map(name, namespace="other"))


def test_nothing_is_created_in_a_namespace_that_does_not_exist(space: Space, name: str) -> None:
    with refused(404, "NotFound") as status:
        space.cluster.of("v1", "configmaps", name).create(config_map("a"))
    assert status["details"]["kind"] == "namespaces"
