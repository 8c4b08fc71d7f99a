"""Lists, label selectors and field selectors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract.cluster import Cluster, Space, refused
from contract.objects import NOBODY, config_map, event, pod


@pytest.fixture(scope="module")
def fleet(space: Space) -> Iterator[str]:
    """The value of label `fleet` on five ConfigMaps: 0 to 2 are blue, 3 and 4 red; 1, 3 odd."""
    fleet = "lists"
    for number in range(5):
        labels = {"fleet": fleet, "color": "blue" if number < 3 else "red"}
        odd = {"odd": "yes"} if number % 2 else {}
        space.config_maps.create(config_map(f"{fleet}-{number}", labels=labels | odd))
    yield fleet
    for number in range(5):
        space.config_maps.delete(f"{fleet}-{number}")


def test_a_list_has_a_kind_and_a_version_and_its_items_have_none(space: Space, fleet: str) -> None:
    listed = space.config_maps.list(labelSelector=f"fleet={fleet}")
    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert int(listed["metadata"]["resourceVersion"]) > 0
    assert len(listed["items"]) == 5
    assert not any({"kind", "apiVersion"} & set(item) for item in listed["items"])


@pytest.mark.parametrize(
    ("selector", "numbers"),
    [
        ("color=blue", "012"),
        ("color==red", "34"),
        ("color!=blue", "34"),
        ("color in (blue, red), odd", "13"),
        ("color notin (blue)", "34"),
        ("odd", "13"),
        ("!odd", "024"),
        ("odd!=yes", "024"),
        ("color=blue,odd=yes", "1"),
        ("color=green", ""),
    ],
)
def test_label_selector(space: Space, fleet: str, selector: str, numbers: str) -> None:
    found = space.config_maps.names(labelSelector=f"fleet={fleet},{selector}")
    assert sorted(found) == [f"{fleet}-{number}" for number in numbers]


@pytest.mark.parametrize(
    ("selector", "numbers"),
    [
        ("metadata.name=lists-1", "1"),
        ("metadata.name!=lists-1", "0234"),
        ("metadata.name!=lists-0,metadata.name!=lists-1", "234"),
    ],
)
def test_field_selector(space: Space, fleet: str, selector: str, numbers: str) -> None:
    found = space.config_maps.names(labelSelector=f"fleet={fleet}", fieldSelector=selector)
    assert sorted(found) == [f"{fleet}-{number}" for number in numbers]


def test_pods_are_found_by_phase_and_by_node(space: Space, name: str) -> None:
    space.pods.create(pod(name))
    assert name in space.pods.names(fieldSelector="status.phase=Pending,spec.nodeName=")
    assert name in space.pods.names(fieldSelector=f"spec.schedulerName={NOBODY}")
    assert name not in space.pods.names(fieldSelector="status.phase=Running")
    assert name not in space.pods.names(fieldSelector="spec.nodeName!=")
    space.pods.delete(name, gracePeriodSeconds=0)


def test_events_are_found_by_their_object_type_and_reason(space: Space, cm: str) -> None:
    about = space.config_maps.read(cm)
    space.events.create(event(f"{cm}-1", about, "Tried"))
    space.events.create(event(f"{cm}-2", about, "Done", "Normal"))
    found = space.events.names
    assert sorted(found(fieldSelector=f"involvedObject.name={cm}")) == [f"{cm}-1", f"{cm}-2"]
    assert found(fieldSelector=f"involvedObject.name={cm},type=Warning") == [f"{cm}-1"]
    assert found(fieldSelector="involvedObject.kind=ConfigMap,reason=Done") == [f"{cm}-2"]
    assert found(fieldSelector=f"involvedObject.name={cm},involvedObject.kind=Pod") == []


@pytest.mark.parametrize(
    "query",
    [{"fieldSelector": "spec.nonsense=1"}, {"labelSelector": "a===b"}, {"labelSelector": "a in b"}],
)
def test_a_selector_that_cannot_be_read_is_a_bad_request(
    space: Space, query: dict[str, str]
) -> None:
    with refused(400, "BadRequest"):
        space.pods.list(**query)


def test_a_list_of_all_namespaces_says_where_each_item_is(
    cluster: Cluster, space: Space, fleet: str
) -> None:
    listed = cluster.of("v1", "configmaps").list(labelSelector=f"fleet={fleet}")
    assert {item["metadata"]["namespace"] for item in listed["items"]} == {space.name}


def test_a_namespace_that_does_not_exist_lists_nothing(cluster: Cluster, name: str) -> None:
    assert cluster.of("v1", "pods", name).list()["items"] == []


def test_reading_what_is_not_there_is_not_found(space: Space, name: str) -> None:
    with refused(404, "NotFound") as status:
        space.deployments.read(name)
    assert status["details"] == {"name": name, "group": "apps", "kind": "deployments"}
    assert status["message"] == f'deployments.apps "{name}" not found'
