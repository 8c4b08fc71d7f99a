"""Watching changes, with the official client's Watch."""

from __future__ import annotations

from typing import Any

from contract.cluster import Resource, Space
from contract.objects import config_map
from kubernetes import client, watch

SECONDS = 20  # the longest that a watch here waits for what it wants to see


def seen(space: Space, number: int, **query: Any) -> list[tuple[str, Any]]:
    """Type and object of the first events of a watch of ConfigMaps."""
    core = client.CoreV1Api(space.cluster.client)
    found: list[tuple[str, Any]] = []
    watched = watch.Watch()
    query = {"timeout_seconds": SECONDS, **query}
    for event in watched.stream(core.list_namespaced_config_map, space.name, **query):
        found.append((event["type"], event["raw_object"]))
        if len(found) == number:
            watched.stop()
    return found


def now(resource: Resource) -> str:
    return str(resource.list()["metadata"]["resourceVersion"])


def test_a_watch_tells_what_changed_since_a_version_in_order(space: Space, name: str) -> None:
    since = now(space.config_maps)
    space.config_maps.create(config_map(name))
    space.config_maps.patch(name, {"data": {"a": "2"}})
    space.config_maps.delete(name)
    only = {"field_selector": f"metadata.name={name}"}
    events = seen(space, 3, resource_version=since, **only)
    assert [(type_, obj["data"]["a"]) for type_, obj in events] == [
        ("ADDED", "1"),
        ("MODIFIED", "2"),
        ("DELETED", "2"),
    ]
    versions = [int(obj["metadata"]["resourceVersion"]) for _, obj in events]
    assert versions == sorted(set(versions))


def test_a_watch_without_a_version_begins_with_what_is_there(space: Space, cm: str) -> None:
    events = seen(space, 1, field_selector=f"metadata.name={cm}")
    assert [(type_, obj["metadata"]["name"]) for type_, obj in events] == [("ADDED", cm)]


def test_a_watched_object_says_its_kind(space: Space, cm: str) -> None:
    (_, obj), *_ = seen(space, 1, field_selector=f"metadata.name={cm}")
    assert (obj["kind"], obj["apiVersion"]) == ("ConfigMap", "v1")


def test_a_watch_ends_at_its_timeout(space: Space, name: str) -> None:
    core = client.CoreV1Api(space.cluster.client)
    answer = core.list_namespaced_config_map(
        space.name,
        watch=True,
        timeout_seconds=1,
        resource_version=now(space.config_maps),
        field_selector=f"metadata.name={name}",
        _preload_content=False,
    )
    assert answer.data == b""


def test_entering_a_selection_is_added_and_leaving_it_is_deleted(space: Space, cm: str) -> None:
    since = now(space.config_maps)
    for value in (cm, "other"):
        space.config_maps.patch(cm, {"metadata": {"labels": {"watched": value}}})
    events = seen(space, 2, resource_version=since, label_selector=f"watched={cm}")
    assert [type_ for type_, _ in events] == ["ADDED", "DELETED"]


def test_a_version_older_than_what_is_kept_is_expired(space: Space, widgets: Resource) -> None:
    answer = space.cluster.get(widgets.path, watch=1, resourceVersion=1, timeoutSeconds=5)
    assert answer["type"] == "ERROR"
    assert (answer["object"]["code"], answer["object"]["reason"]) == (410, "Expired")
