"""Custom resources: a definition makes a kind, and its schema makes the rules."""

from __future__ import annotations

import pytest
from contract.cluster import Resource, Space, causes, refused
from contract.objects import widget, widget_definition

from runbook_lib.practice.wait import until

SECONDS = 30.0
CRDS = "apiextensions.k8s.io/v1", "customresourcedefinitions"


def a_widget(widgets: Resource, name: str, **spec: object) -> dict:
    return widget(widgets.path, name, **spec)


def test_a_definition_is_established_and_discovered(space: Space, widgets: Resource) -> None:
    _, _, group, version, *_ = widgets.path.split("/")
    crd = space.cluster.of(*CRDS).read(f"widgets.{group}")
    conditions = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
    assert conditions["Established"] == conditions["NamesAccepted"] == "True"
    found = {r["name"]: r for r in space.cluster.get(f"/apis/{group}/{version}")["resources"]}
    assert (found["widgets"]["kind"], found["widgets"]["shortNames"]) == ("Widget", ["wd"])
    assert "widgets/status" in found


def test_a_list_of_custom_objects_says_their_kind(widgets: Resource, name: str) -> None:
    widgets.create(a_widget(widgets, name))
    listed = widgets.list()
    assert listed["kind"] == "WidgetList"
    assert {item["kind"] for item in listed["items"]} == {"Widget"}
    widgets.delete(name)


def test_a_schema_refuses_what_does_not_fit(widgets: Resource, name: str) -> None:
    with refused(422, "Invalid") as status:
        widgets.create(a_widget(widgets, name, size="big"))
    assert set(causes(status)) == {"spec.size"}
    assert status["details"]["kind"] == "Widget"
    with refused(422, "Invalid") as status:
        widgets.create(a_widget(widgets, name, size=None))
    assert causes(status) == {"spec.size": "FieldValueRequired"}


def test_a_schema_fills_in_and_drops(widgets: Resource, name: str) -> None:
    made = widgets.create(a_widget(widgets, name, unknown=1))
    assert made["spec"] == {"size": 3, "color": "blue"}
    widgets.delete(name)


def test_what_a_schema_preserves_is_kept(widgets: Resource, name: str) -> None:
    made = widgets.create(a_widget(widgets, name, free={"any": {"thing": [1]}}))
    assert made["spec"]["free"] == {"any": {"thing": [1]}}
    widgets.delete(name)


def test_a_custom_status_is_separate(widgets: Resource, name: str) -> None:
    made = widgets.create(a_widget(widgets, name) | {"status": {"phase": "Mine"}})
    assert "status" not in made
    made = widgets.patch(name, {"status": {"phase": "Good"}}, subresource="status")
    assert (made["status"], made["metadata"]["generation"]) == ({"phase": "Good"}, 1)
    made = widgets.patch(name, {"spec": {"size": 4}, "status": {"phase": "Bad"}})
    assert (made["status"], made["metadata"]["generation"]) == ({"phase": "Good"}, 2)
    widgets.delete(name)


def test_a_strategic_patch_is_not_for_custom_kinds(widgets: Resource, name: str) -> None:
    widgets.create(a_widget(widgets, name))
    with refused(415, "UnsupportedMediaType"):
        widgets.patch(name, {"spec": {"size": 4}}, "strategic")
    assert widgets.patch(name, {"spec": {"size": 4}})["spec"]["size"] == 4
    widgets.delete(name)


def test_replacing_a_custom_object_needs_its_version(widgets: Resource, name: str) -> None:
    widgets.create(a_widget(widgets, name))
    with refused(422, "Invalid") as status:
        widgets.replace(name, a_widget(widgets, name))
    assert set(causes(status)) == {"metadata.resourceVersion"}
    widgets.delete(name)


def test_custom_objects_are_applied_too(widgets: Resource, name: str) -> None:
    widgets.apply(a_widget(widgets, name), "one")
    with refused(409, "Conflict") as status:
        widgets.apply(a_widget(widgets, name, size=4), "two")
    assert causes(status) == {".spec.size": "FieldManagerConflict"}
    widgets.delete(name)


def test_messages_name_a_custom_kind_with_its_group(widgets: Resource, name: str) -> None:
    group = widgets.path.split("/")[2]
    with refused(404, "NotFound") as status:
        widgets.read(name)
    assert status["message"] == f'widgets.{group} "{name}" not found'
    assert status["details"] == {"name": name, "group": group, "kind": "widgets"}


def test_a_version_that_is_not_served_is_not_found(widgets: Resource) -> None:
    with refused(404):
        widgets.cluster.get(widgets.path.replace("/v1/", "/v9/"))


def test_a_definition_is_named_after_its_plural_and_group(space: Space) -> None:
    crd = widget_definition(f"{space.name}.example.com")
    crd["metadata"]["name"] = f"other.{space.name}.example.com"
    with refused(422, "Invalid") as status:
        space.cluster.of(*CRDS).create(crd)
    assert "metadata.name" in causes(status)


@pytest.mark.parametrize("kind", ["Widget"])
def test_a_kind_goes_with_its_definition(space: Space, kind: str) -> None:
    group = f"gone.{space.name}.example.com"
    crds = space.cluster.of(*CRDS)
    crds.create(widget_definition(group))
    path = f"/apis/{group}/v1/namespaces/{space.name}/widgets"
    until(lambda: space.cluster.ask("GET", path).status == 200, SECONDS, "the kind is served")
    space.cluster.do("POST", path, widget(path, "one"))
    crds.delete(f"widgets.{group}")
    until(lambda: space.cluster.ask("GET", path).status == 404, SECONDS, "the kind goes")
    until(lambda: not crds.has(f"widgets.{group}"), SECONDS, "the definition goes")
