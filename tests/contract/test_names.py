"""Names, and what else the server gives to a new object."""

from __future__ import annotations

import pytest
from contract.cluster import Space, causes, refused
from contract.objects import config_map


def test_the_server_gives_uid_version_and_time(space: Space, name: str) -> None:
    given = {"uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 7}
    meta = space.config_maps.create(config_map(name, **given))["metadata"]
    assert meta["uid"] != "mine" and meta["creationTimestamp"] > "2020"
    assert meta["namespace"] == space.name and int(meta["resourceVersion"]) > 0
    space.config_maps.delete(name)


def test_a_generated_name_begins_as_asked(space: Space, name: str) -> None:
    made = [
        space.config_maps.create({"metadata": {"generateName": f"{name}-"}})["metadata"]["name"]
        for _ in range(2)
    ]
    assert made[0] != made[1]
    assert all(one.startswith(f"{name}-") and len(one) == len(name) + 6 for one in made)


def test_an_object_needs_a_name(space: Space) -> None:
    with refused(422, "Invalid") as status:
        space.config_maps.create({"metadata": {}})
    assert "name or generateName is required" in status["message"]


@pytest.mark.parametrize("bad", ["Upper", "under_score", "-dash", "a..b", "x" * 254])
def test_a_name_is_a_dns_name(space: Space, bad: str) -> None:
    with refused(422, "Invalid") as status:
        space.config_maps.create(config_map(bad))
    assert causes(status) == {"metadata.name": "FieldValueInvalid"}


def test_labels_have_short_plain_values(space: Space, name: str) -> None:
    with refused(422, "Invalid") as status:
        space.config_maps.create(config_map(name, labels={"a": "not a label"}))
    assert causes(status) == {"metadata.labels": "FieldValueInvalid"}


def test_a_name_is_free_again_after_deletion(space: Space, cm: str) -> None:
    before = space.config_maps.read(cm)["metadata"]
    space.config_maps.delete(cm)
    after = space.config_maps.create(config_map(cm))["metadata"]
    assert after["uid"] != before["uid"]
    assert int(after["resourceVersion"]) > int(before["resourceVersion"])


def test_a_namespace_is_labelled_with_its_name(space: Space) -> None:
    meta = space.cluster.of("v1", "namespaces").read(space.name)["metadata"]
    assert meta["labels"]["kubernetes.io/metadata.name"] == space.name
