"""Dry run: everything happens but the writing."""

from __future__ import annotations

from contract.cluster import Space, causes, refused
from contract.objects import config_map, deployment, pod


def test_a_dry_create_answers_as_a_real_one_and_leaves_nothing(space: Space, name: str) -> None:
    made = space.config_maps.create(config_map(name), dryRun="All")
    assert made["data"] == {"a": "1"} and made["metadata"]["uid"]
    assert not space.config_maps.has(name)


def test_a_dry_create_of_what_is_there_is_refused(space: Space, cm: str) -> None:
    with refused(409, "AlreadyExists"):
        space.config_maps.create(config_map(cm), dryRun="All")


def test_a_dry_create_is_validated_and_completed(space: Space, name: str) -> None:
    with refused(422, "Invalid"):
        space.pods.create(pod(name, containers=[]), dryRun="All")
    made = space.deployments.create(deployment(name), dryRun="All")
    assert made["spec"]["strategy"]["type"] == "RollingUpdate"
    assert not space.deployments.has(name)


def test_a_dry_patch_shows_the_result_and_keeps_the_old(space: Space, cm: str) -> None:
    before = space.config_maps.read(cm)
    assert space.config_maps.patch(cm, {"data": {"a": "2"}}, dryRun="All")["data"] == {"a": "2"}
    assert space.config_maps.read(cm) == before


def test_a_dry_apply_and_a_dry_replace_change_nothing(space: Space, cm: str) -> None:
    before = space.config_maps.read(cm)
    space.config_maps.apply(config_map(cm, {"b": "2"}), "one", dryRun="All")
    space.config_maps.replace(cm, config_map(cm, {"c": "3"}), dryRun="All")
    assert space.config_maps.read(cm) == before


def test_a_dry_deletion_deletes_nothing(space: Space, cm: str) -> None:
    space.config_maps.delete(cm, dryRun=["All"])
    assert space.config_maps.has(cm)


def test_a_dry_scale_scales_nothing(space: Space, name: str) -> None:
    space.deployments.create(deployment(name, replicas=0))
    change = {"spec": {"replicas": 2}}
    made = space.deployments.patch(name, change, subresource="scale", dryRun="All")
    assert made["spec"]["replicas"] == 2
    assert space.deployments.read(name)["spec"]["replicas"] == 0
    space.deployments.delete(name)


def test_an_unknown_dry_run_is_refused(space: Space, name: str) -> None:
    with refused(422, "Invalid") as status:
        space.config_maps.create(config_map(name), dryRun="Some")
    assert causes(status) == {"dryRun": "FieldValueNotSupported"}
