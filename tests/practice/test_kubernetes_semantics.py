"""Deletion, ownership of fields, what may not change, and schemas of custom kinds."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

SHOP = "/api/v1/namespaces/shop"
MAPS = f"{SHOP}/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/shop/deployments"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GADGETS = "/apis/example.io/v1/namespaces/shop/gadgets"
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"


@pytest.fixture
def name() -> str:
    return f"n-{uuid.uuid4().hex[:8]}"


def make(practice: Any, name: str, owner: Any = None, **meta: Any) -> Any:
    """A ConfigMap {"a": "1"}, owned and blocking where an owner is given."""
    if owner:
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"]}
        reference |= {"uid": owner["metadata"]["uid"], "blockOwnerDeletion": True}
        meta["ownerReferences"] = [reference]
    body = {"metadata": {"name": name, **meta}, "data": {"a": "1"}}
    code, made = practice.raw("POST", MAPS, body)
    assert code == 201, made
    return made


def release(practice: Any, name: str) -> None:
    patch = {"metadata": {"finalizers": None}}
    assert practice.raw("PATCH", f"{MAPS}/{name}", patch, Content_Type=MERGE)[0] == 200


def is_there(practice: Any, name: str) -> bool:
    return bool(practice.raw("GET", f"{MAPS}/{name}")[0] == 200)


# deletion


def test_a_finalizer_holds_an_object(practice: Any, name: str) -> None:
    make(practice, name, finalizers=["example.io/hold"])
    code, left = practice.raw("DELETE", f"{MAPS}/{name}")
    assert code == 200 and left["metadata"]["deletionTimestamp"]
    assert is_there(practice, name)
    release(practice, name)
    assert not is_there(practice, name)


def test_the_owner_goes_first_in_the_background(practice: Any, name: str) -> None:
    owner = make(practice, name)
    make(practice, f"{name}-c", owner, finalizers=["example.io/hold"])
    practice.raw("DELETE", f"{MAPS}/{name}?propagationPolicy=Background")
    assert not is_there(practice, name) and is_there(practice, f"{name}-c")
    release(practice, f"{name}-c")
    assert not is_there(practice, f"{name}-c")


def test_the_owner_waits_in_the_foreground(practice: Any, name: str) -> None:
    owner = make(practice, name)
    make(practice, f"{name}-c", owner, finalizers=["example.io/hold"])
    _, left = practice.raw("DELETE", f"{MAPS}/{name}", {"propagationPolicy": "Foreground"})
    assert left["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert is_there(practice, name)
    release(practice, f"{name}-c")
    assert not is_there(practice, f"{name}-c") and not is_there(practice, name)


def test_orphans_stay_and_forget_their_owner(practice: Any, name: str) -> None:
    owner = make(practice, name)
    make(practice, f"{name}-c", owner)
    practice.raw("DELETE", f"{MAPS}/{name}", {"propagationPolicy": "Orphan"})
    _, child = practice.raw("GET", f"{MAPS}/{name}-c")
    assert not is_there(practice, name) and "ownerReferences" not in child["metadata"]


def test_a_second_owner_keeps_an_object(practice: Any, name: str) -> None:
    first, second = make(practice, f"{name}-1"), make(practice, f"{name}-2")
    child = make(practice, name, first)
    references = [
        *child["metadata"]["ownerReferences"],
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": f"{name}-2",
            "uid": second["metadata"]["uid"],
        },
    ]
    patch = {"metadata": {"ownerReferences": references}}
    practice.raw("PATCH", f"{MAPS}/{name}", patch, Content_Type=MERGE)
    practice.raw("DELETE", f"{MAPS}/{name}-1")
    assert is_there(practice, name)
    practice.raw("DELETE", f"{MAPS}/{name}-2")
    assert not is_there(practice, name)


def test_a_namespace_ends_when_it_is_empty(practice: Any, name: str) -> None:
    practice.raw("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    inside = f"/api/v1/namespaces/{name}/configmaps"
    held = {"metadata": {"name": "held", "finalizers": ["example.io/hold"]}}
    for body in (held, {"metadata": {"name": "free"}}):
        assert practice.raw("POST", inside, body)[0] == 201
    practice.raw("DELETE", f"/api/v1/namespaces/{name}")
    _, namespace = practice.raw("GET", f"/api/v1/namespaces/{name}")
    assert namespace["status"]["phase"] == "Terminating"
    code, status = practice.raw("POST", inside, {"metadata": {"name": "late"}})
    assert code == 403 and "because it is being terminated" in status["message"]
    assert practice.raw("GET", f"{inside}/free")[0] == 404
    patch = {"metadata": {"finalizers": None}}
    practice.raw("PATCH", f"{inside}/held", patch, Content_Type=MERGE)
    assert practice.raw("GET", f"/api/v1/namespaces/{name}")[0] == 404


# who owns what


def managers(obj: Any) -> dict[tuple[str, str], Any]:
    entries = obj["metadata"].get("managedFields", [])
    return {(e["manager"], e["operation"]): e["fieldsV1"] for e in entries}


def test_every_write_leaves_its_manager(practice: Any, name: str) -> None:
    body = {"metadata": {"name": name}, "data": {"a": "1", "b": "1"}}
    _, made = practice.raw("POST", f"{MAPS}?fieldManager=maker", body)
    assert managers(made) == {("maker", "Update"): {"f:data": {"f:a": {}, "f:b": {}}}}
    patch = {"data": {"b": "2", "c": "2"}}
    where = f"{MAPS}/{name}"
    _, made = practice.raw("PATCH", where, patch, Content_Type=MERGE, User_Agent="tool/1 (x)")
    assert managers(made) == {
        ("maker", "Update"): {"f:data": {"f:a": {}}},
        ("tool", "Update"): {"f:data": {"f:b": {}, "f:c": {}}},
    }


def test_apply_conflicts_with_who_scaled(practice: Any, name: str) -> None:
    container = {"name": "app", "image": "i:1"}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": template,
        },
    }
    where = f"{DEPLOYMENTS}/{name}"

    def apply(more: str = "") -> tuple[int, Any]:
        answered: tuple[int, Any] = practice.raw(
            "PATCH", f"{where}?fieldManager=me{more}", body, Content_Type=APPLY
        )
        return answered

    assert apply()[0] == 201 and apply()[0] == 200
    scale = {"spec": {"replicas": 0}}
    asked = f"{where}/scale?fieldManager=kubectl"
    assert practice.raw("PATCH", asked, scale, Content_Type=MERGE)[0] == 200
    code, status = apply()
    assert (code, status["reason"]) == (409, "Conflict")
    assert status["message"] == (
        'Apply failed with 1 conflict: conflict with "kubectl" with subresource "scale" using '
        "apps/v1: .spec.replicas"
    )
    assert apply("&force=true")[1]["spec"]["replicas"] == 1
    del body["spec"]["replicas"]  # type: ignore[attr-defined]
    assert apply()[0] == 200
    practice.raw("DELETE", where)


def test_an_applier_gives_up_a_container(practice: Any, name: str) -> None:
    def apply(*containers: str) -> list[str]:
        listed = [{"name": c, "image": "i", "ports": [{"containerPort": 80}]} for c in containers]
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": listed}}
        spec = {"selector": {"matchLabels": {"app": name}}, "replicas": 0, "template": template}
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}}
        where = f"{DEPLOYMENTS}/{name}?fieldManager=me"
        code, made = practice.raw("PATCH", where, {**body, "spec": spec}, Content_Type=APPLY)
        assert code in (200, 201), made
        return [c["name"] for c in made["spec"]["template"]["spec"]["containers"]]

    assert apply("a", "b") == ["a", "b"]
    assert apply("b") == ["b"]
    practice.raw("DELETE", f"{DEPLOYMENTS}/{name}")


@pytest.mark.parametrize(
    ("path", "body", "patch", "message"),
    [
        (
            f"{SHOP}/pods",
            {"spec": {"nodeName": "none", "containers": [{"name": "c", "image": "i"}]}},
            {"spec": {"containers": [{"name": "c", "image": "i", "command": ["x"]}]}},
            "pod updates may not change fields other than",
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings",
            {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "a"}},
            {"roleRef": {"name": "b"}},
            "cannot change roleRef",
        ),
        (f"{SHOP}/secrets", {"type": "a"}, {"type": "b"}, "field is immutable"),
        (
            f"{SHOP}/services",
            {"spec": {"ports": [{"port": 1}]}},
            {"spec": {"clusterIP": "172.20.1.1"}},
            "field is immutable",
        ),
    ],
)
def test_what_may_not_change(
    practice: Any, name: str, path: str, body: Any, patch: Any, message: str
) -> None:
    code, made = practice.raw("POST", path, {"metadata": {"name": name}, **body})
    assert code == 201, made
    code, status = practice.raw("PATCH", f"{path}/{name}", patch, Content_Type=MERGE)
    assert code == 422 and message in status["message"]
    practice.raw("DELETE", f"{path}/{name}", {"gracePeriodSeconds": 0})


# custom kinds


@pytest.fixture(scope="module")
def gadgets(practice: Any) -> Iterator[None]:
    spec = {
        "type": "object",
        "required": ["size"],
        "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 5},
            "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
            "port": {"x-kubernetes-int-or-string": True},
            "note": {"type": "string", "nullable": True},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    ready = '.status.conditions[?(@.type=="Ready")].status'
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "properties": {
                    "spec": spec,
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        },
        "additionalPrinterColumns": [
            {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
            {"name": "Ready", "type": "string", "jsonPath": ready},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
    }
    names = {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"}
    crd = {"group": "example.io", "scope": "Namespaced", "names": names, "versions": [version]}
    body = {"metadata": {"name": "gadgets.example.io"}, "spec": crd}
    assert practice.raw("POST", CRDS, body)[0] == 201
    yield
    practice.raw("DELETE", f"{CRDS}/gadgets.example.io")


def gadget(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


def test_schemas_prune_and_default(practice: Any, gadgets: None, name: str) -> None:
    body = gadget(name, size=2, nope=1, note=None, port="http", free={"x": {"y": 1}})
    code, made = practice.raw("POST", GADGETS, body)
    assert code == 201
    assert made["spec"] == {
        "size": 2,
        "colour": "red",
        "note": None,
        "port": "http",
        "free": {"x": {"y": 1}},
    }
    code, status = practice.raw("POST", f"{GADGETS}?fieldValidation=Strict", body)
    assert code == 400 and 'strict decoding error: unknown field "spec.nope"' in status["message"]


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({}, "spec.size", "Required value"),
        (
            {"size": "x"},
            "spec.size",
            'Invalid value: "string": spec.size in body must be of type integer: "string"',
        ),
        (
            {"size": 9},
            "spec.size",
            "Invalid value: 9: spec.size in body should be less than or equal to 5",
        ),
        (
            {"size": 1, "colour": "green"},
            "spec.colour",
            'Unsupported value: "green": supported values: "red", "blue"',
        ),
    ],
)
def test_schemas_are_checked(
    practice: Any, gadgets: None, name: str, spec: Any, field: str, message: str
) -> None:
    code, status = practice.raw("POST", GADGETS, gadget(name, **spec))
    assert (code, status["reason"]) == (422, "Invalid")
    assert status["message"] == f'Gadget.example.io "{name}" is invalid: {field}: {message}'
    assert status["details"]["group"] == "example.io"


def test_columns_of_custom_kinds(practice: Any, gadgets: None, name: str) -> None:
    practice.raw("POST", GADGETS, gadget(name, size=3))
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    path = f"{GADGETS}/{name}"
    assert practice.raw("PATCH", f"{path}/status", status, Content_Type=MERGE)[0] == 200
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    _, table = practice.raw("GET", path, Accept=accept)
    assert [column["name"] for column in table["columnDefinitions"]] == [
        "Name",
        "Size",
        "Ready",
        "Age",
    ]
    assert table["rows"][0]["cells"][:3] == [name, 3, "True"]


def test_definitions_that_would_be_half_served_are_refused(practice: Any) -> None:
    rule = {"type": "object", "x-kubernetes-validations": [{"rule": "self.a > 1"}]}
    for schema, word in (({"schema": {"openAPIV3Schema": rule}}, "validations"), ({}, "Required")):
        names = {"plural": "cels", "singular": "cel", "kind": "Cel"}
        version = {"name": "v1", "served": True, "storage": True, **schema}
        spec = {"group": "example.io", "scope": "Cluster", "names": names, "versions": [version]}
        body = {"metadata": {"name": "cels.example.io"}, "spec": spec}
        code, status = practice.raw("POST", CRDS, body)
        assert code == 422 and word in status["message"]
