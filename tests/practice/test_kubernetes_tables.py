"""The columns of `kubectl get`: data in JMESPath, and JSON paths of custom kinds."""

from __future__ import annotations

from typing import Any

import pytest

from runbook_lib.practice.kubernetes.columns import built_in
from runbook_lib.practice.objects import data
from runbook_lib.practice.objects.resources import Catalogue

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def cells(kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    return {column.name: column.cell(obj) for column in built_in(kind)}


def test_every_column_can_be_shown_of_an_object_that_says_nothing() -> None:
    served = {kind.kind for kind in Catalogue()}
    assert set(data.table("columns")) <= served
    bare = {"metadata": {"name": "bare", "creationTimestamp": "2026-01-05T08:00:00Z"}}
    for kind in served:
        assert None not in cells(kind, bare).values(), kind


@pytest.mark.parametrize(
    ("kind", "obj", "shown"),
    [
        (
            "Job",
            {
                "spec": {"completions": 2},
                "status": {
                    "startTime": "2026-01-05T08:00:00Z",
                    "completionTime": "2026-01-05T08:03:20Z",
                    "succeeded": 1,
                    "conditions": [
                        {"type": "FailureTarget", "status": "True"},
                        {"type": "Failed", "status": "True"},
                    ],
                },
            },
            {"Status": "Failed", "Completions": "1/2", "Duration": "3m20s"},
        ),
        (
            "Service",
            {
                "spec": {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]},
                "status": {"loadBalancer": {"ingress": [{"hostname": "lb"}, {"ip": "10.0.0.1"}]}},
            },
            {"Port(s)": "80/TCP,53/UDP", "External-IP": "lb,10.0.0.1", "Selector": "<none>"},
        ),
        (
            "Node",
            {
                "metadata": {"labels": {"node-role.kubernetes.io/worker": ""}},
                "spec": {"unschedulable": True},
                "status": {
                    "conditions": [{"type": "Ready", "status": "Unknown"}],
                    "addresses": [{"type": "InternalIP", "address": "10.0.1.1"}],
                },
            },
            {
                "Status": "NotReady,SchedulingDisabled",
                "Roles": "worker",
                "Internal-IP": "10.0.1.1",
                "External-IP": "<none>",
            },
        ),
        (
            "EndpointSlice",
            {
                "ports": [{"port": 80}],
                "endpoints": [{"addresses": [f"10.0.0.{n}"]} for n in "12345"],
            },
            {"Ports": "80", "Endpoints": "10.0.0.1,10.0.0.2,10.0.0.3 + 2 more..."},
        ),
        ("CronJob", {"spec": {"suspend": True}}, {"Suspend": "True", "Last Schedule": "<none>"}),
        ("Deployment", {"spec": {"replicas": 0}}, {"Ready": "0/0", "Available": 0}),
    ],
)
def test_what_columns_show(kind: str, obj: dict[str, Any], shown: dict[str, Any]) -> None:
    found = cells(kind, {"metadata": {}, **obj})
    assert {name: found[name] for name in shown} == shown


def test_columns_of_a_custom_kind_are_json_paths(practice: Any) -> None:
    paths = {
        "Ready": ".status.conditions[?(@.type=='Ready')].status",
        "First": ".spec.parts[0].name",
        "Names": ".spec.parts[*].name",
        "Note": r".metadata.annotations['example\.com/a-note']",
        "Dashed": ".spec.a-b",
        "Absent": ".spec.none",
    }
    open_schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": open_schema},
        "additionalPrinterColumns": [
            {"name": name, "type": "string", "jsonPath": path} for name, path in paths.items()
        ],
    }
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "shelves.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "shelves", "kind": "Shelf"},
            "versions": [version],
        },
    }
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert practice.raw("POST", definitions, definition)[0] == 201
    shelves = "/apis/example.com/v1/namespaces/shop/shelves"
    body = {
        "metadata": {"name": "one", "annotations": {"example.com/a-note": "here"}},
        "spec": {"parts": [{"name": "left"}, {"name": "right"}], "a-b": 3},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    assert practice.raw("POST", shelves, body)[0] == 201
    table = practice.raw("GET", shelves, Accept=TABLE)[1]
    assert table["rows"][0]["cells"] == ["one", "True", "left", "left right", "here", 3, None]
    practice.raw("DELETE", f"{definitions}/shelves.example.com")
