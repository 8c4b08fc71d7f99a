"""Whoever rehearses is not shown what makes things misbehave; who directs the practice is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.practice.access import Cluster
from runbook_lib.practice.platform import Platform

DEPLOYMENT = "/apis/apps/v1/namespaces/shop/deployments/veiled"
PODS = "/api/v1/namespaces/shop/pods?labelSelector=app%3Dveiled"
SECRET = "practice.runbook/"
MERGE = "application/merge-patch+json"


@pytest.fixture(autouse=True)
def deployed(practice: Any) -> Iterator[None]:
    practice.deploy("veiled", {"log": ["a line"], "exit_code": 3, "run_seconds": 3600})
    practice.until_ready("veiled")
    yield
    practice.raw("DELETE", DEPLOYMENT)


def program(practice: Any) -> Any:
    """As the director sees it."""
    template = practice.as_director("GET", DEPLOYMENT)["spec"]["template"]
    return json.loads(template["metadata"]["annotations"][f"{SECRET}program"])


@pytest.mark.parametrize("path", [DEPLOYMENT, f"{DEPLOYMENT}/status", PODS, "/api/v1/nodes"])
@pytest.mark.parametrize(
    "form", ["", ";as=Table;g=meta.k8s.io;v=v1", ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1"]
)
def test_reading_does_not_show_it(practice: Any, path: str, form: str) -> None:
    practice.core.patch_node("node-a", {"metadata": {"annotations": {f"{SECRET}since": "1m"}}})
    more = "&" if "?" in path else "?"
    for query in ("", f"{more}includeObject=Object"):
        shown = practice.request("GET", path + query, Accept=f"application/json{form}").data
        assert shown
        assert SECRET.encode() not in shown
    assert SECRET in json.dumps(practice.as_director("GET", path))
    practice.core.patch_node("node-a", {"metadata": {"annotations": {f"{SECRET}since": None}}})


def test_watching_does_not_show_it(practice: Any) -> None:
    for path in (DEPLOYMENT.rpartition("/")[0] + "?", PODS + "&"):
        seen = practice.request("GET", f"{path}watch=1&timeoutSeconds=1").data
        assert b'"ADDED"' in seen
        assert SECRET.encode() not in seen


def test_answers_to_writes_do_not_show_it(practice: Any) -> None:
    behave = {"metadata": {"annotations": {f"{SECRET}serving": "[]", "own": "1"}}}
    patched = practice.request("PATCH", DEPLOYMENT, behave, Content_Type=MERGE).data
    assert b'"own"' in patched
    assert SECRET.encode() not in patched
    deleted = practice.request("DELETE", PODS.replace("?", "?gracePeriodSeconds=0&")).data
    assert b"veiled-" in deleted
    assert SECRET.encode() not in deleted


def test_an_object_that_is_replaced_keeps_it(practice: Any) -> None:
    for path in (DEPLOYMENT, f"{DEPLOYMENT}/status"):
        shown = practice.raw("GET", DEPLOYMENT)[1]
        shown["metadata"]["annotations"] = {"own": "2"}
        del shown["metadata"]["resourceVersion"]  # whatever its controllers write meanwhile
        status, _ = practice.raw("PUT", path, shown)
        assert status == 200
        assert program(practice)["app"]["exit_code"] == 3
    assert practice.as_director("GET", DEPLOYMENT)["metadata"]["annotations"]["own"] == "2"


def test_replacing_what_was_shown_rolls_nothing_out(practice: Any) -> None:
    shown = practice.raw("GET", DEPLOYMENT)[1]
    generation = shown["metadata"]["generation"]
    del shown["metadata"]["resourceVersion"]
    assert practice.raw("PUT", DEPLOYMENT, shown)[1]["metadata"]["generation"] == generation


def test_a_rollback_brings_back_the_behaviour_of_then(practice: Any) -> None:
    """`kubectl rollout undo` replaces the template by that of an older ReplicaSet, as it saw it."""
    sets = "/apis/apps/v1/namespaces/shop/replicasets?labelSelector=app%3Dveiled"
    (first,) = practice.raw("GET", sets)[1]["items"]
    annotations = {"restarted": "now", f"{SECRET}program": json.dumps({"app": {"exit_code": 4}})}
    changed = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    practice.raw("PATCH", DEPLOYMENT, changed, Content_Type=MERGE)
    assert program(practice) == {"app": {"exit_code": 4}}
    template = first["spec"]["template"]
    del template["metadata"]["labels"]["pod-template-hash"]
    undo = [{"op": "replace", "path": "/spec/template", "value": template}]
    status, _ = practice.raw("PATCH", DEPLOYMENT, undo, Content_Type="application/json-patch+json")
    assert status == 200
    assert program(practice)["app"]["exit_code"] == 3
    found = first["metadata"]["name"]
    practice.until(
        lambda: (
            [
                s["status"].get("replicas")
                for s in practice.raw("GET", sets)[1]["items"]
                if s["metadata"]["name"] == found
            ]
            == [1]
        ),
        "the first ReplicaSet is the current one again",
    )


def test_a_patch_changes_it(practice: Any) -> None:
    """What breaks and mends the practice needs no director."""
    changed = {"template": {"metadata": {"annotations": {f"{SECRET}program": None}}}}
    practice.raw("PATCH", DEPLOYMENT, {"spec": changed}, Content_Type=MERGE)
    assert SECRET not in json.dumps(practice.as_director("GET", DEPLOYMENT)["spec"])


def test_nothing_of_a_whole_platform_shows_it(platform: Platform) -> None:
    """Whatever kind an engineer lists, also where something is broken."""
    told = yaml.safe_load(Path(platform.env["KUBECONFIG"]).read_text())
    cluster, token = told["clusters"][0]["cluster"], told["users"][0]["user"]["token"]
    engineer = Cluster(cluster["server"], Path(cluster["certificate-authority"]), token)
    get = engineer.get
    groups = [
        "/api/v1",
        *(f"/apis/{g['preferredVersion']['groupVersion']}" for g in get("/apis")["groups"]),
    ]
    listed = [
        (one["name"], json.dumps(get(f"{group}/{one['name']}")))
        for group in groups
        for one in get(group)["resources"]
        if "list" in one["verbs"]
    ]
    assert {"deployments", "pods", "nodes", "inferenceservices", "events"} <= {n for n, _ in listed}
    assert [name for name, text in listed if SECRET in text] == []
    with contextlib.closing(platform.cluster()) as director:
        assert SECRET in json.dumps(director.get("/apis/apps/v1/deployments"))
    engineer.close()
