"""The practice Kubernetes API as the official client sees it: reading, watching, who may enter."""

from __future__ import annotations

import inspect
import json
import stat
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from kubernetes import client, dynamic, watch
from practice.conftest import RECORDED

from runbook_lib.practice.kubernetes import kubelets
from runbook_lib.practice.objects import veil

SHOP = "/api/v1/namespaces/shop"


def test_discovery_by_the_official_clients(practice: Any) -> None:
    api = practice.client("right-token")
    assert "apps" in {group.name for group in client.ApisApi(api).get_api_versions().groups}
    assert client.VersionApi(api).get_code().git_version.startswith("v1.")
    found = dynamic.DynamicClient(api).resources.get(
        api_version="serving.kserve.io/v1beta1", kind="InferenceService"
    )
    assert found.name == "inferenceservices"
    assert practice.raw("GET", "/readyz") == (200, "ok")


@pytest.mark.parametrize(
    ("selector", "number"),
    [
        ("set=a", 3),
        ("set==b", 2),
        ("set!=a,set", 2),
        ("set in (a,b),odd", 2),
        ("set notin (a),set", 2),
        ("set,!odd", 3),
    ],
)
def test_label_selectors(practice: Any, fleet: list[str], selector: str, number: int) -> None:
    assert len(practice.core.list_namespaced_pod("shop", label_selector=selector).items) == number


def test_field_selectors(practice: Any, fleet: list[str]) -> None:
    listed = practice.core.list_namespaced_pod(
        "shop",
        field_selector="spec.nodeName=node-a,metadata.name!=recorded-0",
        label_selector="set",
    )
    assert len(listed.items) == 4


@pytest.mark.parametrize("query", ["fieldSelector=spec.foo%3D1", "labelSelector=a%3D%3D%3Db"])
def test_selectors_that_cannot_be_read_are_refused(practice: Any, query: str) -> None:
    code, body = practice.raw("GET", f"{SHOP}/pods?{query}")
    assert (code, body["reason"]) == (400, "BadRequest")


def test_paging(practice: Any, fleet: list[str]) -> None:
    listing = practice.core.list_namespaced_pod
    first = listing("shop", label_selector="set", limit=2)
    rest = listing("shop", label_selector="set", _continue=first.metadata._continue)
    assert [pod.metadata.name for pod in [*first.items, *rest.items]] == fleet
    assert practice.raw("GET", f"{SHOP}/pods?limit=1&continue=garbage")[0] == 400


def test_watch_tells_changes_since_a_version(practice: Any, name: str) -> None:
    core = practice.core
    since = core.list_namespaced_config_map("shop").metadata.resource_version

    def change() -> None:
        core.patch_namespaced_config_map(name, "shop", {"data": {"w": "1"}})
        core.delete_namespaced_config_map(name, "shop")

    writer = threading.Thread(target=change)
    writer.start()
    stream = watch.Watch().stream(
        core.list_namespaced_config_map, "shop", resource_version=since, timeout_seconds=10
    )
    seen = []
    for event in stream:
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            break
    stream.close()
    writer.join()
    assert seen == [("MODIFIED", name), ("DELETED", name)]


def test_a_watch_begins_with_what_is_there_and_ends_in_time(practice: Any, name: str) -> None:
    path = f"{SHOP}/configmaps?watch=True&timeoutSeconds=1&fieldSelector=metadata.name%3D{name}"
    _, text = practice.raw("GET", path)
    assert (text["type"], text["object"]["metadata"]["name"]) == ("ADDED", name)


def test_tables_for_kubectl(practice: Any, fleet: list[str]) -> None:
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    _, table = practice.raw("GET", f"{SHOP}/pods?labelSelector=set", Accept=accept)
    heads = [column["name"] for column in table["columnDefinitions"]]
    assert heads[:5] == ["Name", "Ready", "Status", "Restarts", "Age"]
    assert table["rows"][1]["cells"][:3] == ["recorded-1", "1/1", "Running"]


@pytest.mark.parametrize("header", ["Bearer wrong-token", ""])
def test_no_entry_without_the_token(practice: Any, header: str) -> None:
    code, status = practice.raw("GET", "/api/v1/pods", Authorization=header)
    assert (code, status["reason"], status["message"]) == (401, "Unauthorized", "Unauthorized")


def test_access_review_allows_the_holder_of_the_token(practice: Any) -> None:
    review: Any = client.AuthorizationV1Api(practice.client("right-token"))
    body = {"spec": {"resourceAttributes": {"verb": "delete", "resource": "pods"}}}
    assert review.create_self_subject_access_review(body).status.allowed


@pytest.mark.parametrize("code", [401, 403, 429, 500, 503])
def test_faults_fail_what_they_match(practice: Any, code: int) -> None:
    practice.call(practice.api.set_fault, {"status": code, "match": "/api/v1/nodes"})
    try:
        answered, status = practice.raw("GET", "/api/v1/nodes")
        assert (answered, status["kind"], status["code"]) == (code, "Status", code)
        assert practice.raw("GET", f"{SHOP}/pods")[0] == 200
    finally:
        practice.call(practice.api.set_fault, None)
    assert practice.raw("GET", "/api/v1/nodes")[0] == 200


def test_a_custom_definition_is_served_and_forgotten(practice: Any) -> None:
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {}}}
    spec = {"group": "example.io", "scope": "Cluster", "names": names, "versions": [version]}
    body = {"metadata": {"name": "widgets.example.io"}, "spec": spec}
    assert practice.raw("POST", crds, body)[0] == 201
    widgets = "/apis/example.io/v1/widgets"
    assert practice.raw("POST", widgets, {"metadata": {"name": "w"}, "spec": {"x": 1}})[0] == 201
    practice.raw("DELETE", f"{crds}/widgets.example.io")
    assert practice.raw("GET", widgets)[0] == 404


def test_five_thousand_pods_come_whole(practice: Any) -> None:
    labels = {"apiVersion": "v1", "kind": "Pod"}
    pods = [
        {
            **labels,
            "metadata": {"name": f"p-{number}", "namespace": "big"},
            "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "node-a"},
            "status": {"phase": "Running", "containerStatuses": [RECORDED]},
        }
        for number in range(5000)
    ]
    big = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "big"}}
    practice.call(practice.api.load, [big, *pods])
    answer = practice.core.list_namespaced_pod("big", _preload_content=False)
    assert len(json.loads(answer.data)["items"]) == 5000
    practice.raw("DELETE", "/api/v1/namespaces/big")
    assert practice.raw("GET", "/api/v1/namespaces/big/pods")[1]["items"] == []


def test_the_kubeconfig_is_private_and_works(practice: Any) -> None:
    from kubernetes import config

    path = practice.state / "kubeconfig"
    practice.api.write_kubeconfig(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    core: Any = client.CoreV1Api(config.new_client_from_config(str(path)))
    assert core.read_namespace("shop").metadata.name == "shop"


def test_objects_and_certificates_outlive_a_restart(practice: Any, name: str) -> None:
    practice.restart()
    assert practice.core.read_namespaced_config_map(name, "shop").data == {"a": "1"}


@pytest.mark.parametrize(
    ("room", "above"),
    [(kubelets, ["practice.cluster"]), (veil, ["practice.cluster", "practice.kubernetes"])],
)
def test_nothing_knows_what_is_built_on_it(room: ModuleType, above: list[str]) -> None:
    """Objects know no API, and the API nothing of what works behind it."""
    texts = [path.read_text() for path in Path(inspect.getfile(room)).parent.rglob("*.py")]
    assert len(texts) > 10
    assert not [name for name in above for text in texts if f"runbook_lib.{name}" in text]
