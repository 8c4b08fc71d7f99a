"""Tables: what the server prints for kubectl."""

from __future__ import annotations

from contract.cluster import Cluster, Resource, Space, refused
from contract.objects import deployment, pod

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


def table(cluster: Cluster, path: str, **query: str) -> dict:
    return dict(cluster.do("GET", path, headers=TABLE, **query))


def rows(printed: dict) -> dict:
    """The first cell of each row to all cells by their column."""
    names = [column["name"] for column in printed["columnDefinitions"]]
    return {row["cells"][0]: dict(zip(names, row["cells"], strict=True)) for row in printed["rows"]}


def test_pods_have_the_columns_that_everybody_knows(space: Space, name: str) -> None:
    space.pods.create(pod(name))
    printed = table(space.cluster, space.pods.path)
    assert (printed["kind"], printed["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    wide = [column["priority"] > 0 for column in printed["columnDefinitions"]]
    assert wide[:5] == [False] * 5 and all(wide[5:])
    row = rows(printed)[name]
    assert list(row)[:5] == ["Name", "Ready", "Status", "Restarts", "Age"]
    assert (row["Ready"], row["Status"], row["Restarts"]) == ("0/1", "Pending", "0")
    assert {"IP", "Node"} <= set(row)
    space.pods.delete(name, gracePeriodSeconds=0)


def test_a_row_carries_the_metadata_of_its_object(space: Space, cm: str) -> None:
    (row,) = table(space.cluster, f"{space.config_maps.path}/{cm}")["rows"]
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert row["object"]["metadata"]["name"] == cm
    assert "data" not in row["object"]


def test_a_row_can_carry_the_whole_object_or_nothing(space: Space, cm: str) -> None:
    path = f"{space.config_maps.path}/{cm}"
    (whole,) = table(space.cluster, path, includeObject="Object")["rows"]
    assert whole["object"]["data"] == {"a": "1"}
    (bare,) = table(space.cluster, path, includeObject="None")["rows"]
    assert not bare.get("object")


def test_a_deployment_shows_how_many_are_ready(space: Space, name: str) -> None:
    space.deployments.create(deployment(name, replicas=0))
    row = rows(table(space.cluster, space.deployments.path))[name]
    assert (row["Ready"], row["Up-to-date"], row["Available"]) == ("0/0", 0, 0)
    space.deployments.delete(name)


def test_a_custom_kind_has_the_columns_of_its_definition(widgets: Resource, name: str) -> None:
    widgets.create(_widget(widgets, name))
    row = rows(table(widgets.cluster, widgets.path))[name]
    assert list(row) == ["Name", "Size", "Age"]
    assert row["Size"] == 3
    widgets.delete(name)


def _widget(widgets: Resource, name: str) -> dict:
    from contract.objects import widget

    return widget(widgets.path, name)


def test_a_format_that_is_not_known_is_not_acceptable(space: Space) -> None:
    with refused(406, "NotAcceptable"):
        space.cluster.do("GET", space.pods.path, headers={"Accept": "image/png"})
