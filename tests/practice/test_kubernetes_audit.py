"""The audit log of the practice cluster: what was asked, by whom, with what result."""

from __future__ import annotations

import json
import shutil
import stat
from typing import Any

import pytest

SHOP = "/api/v1/namespaces/shop"


def records(practice: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in practice.api.audit_file.read_text().splitlines()]


def asked(practice: Any, agent: str) -> list[dict[str, Any]]:
    return [record for record in records(practice) if record["userAgent"] == agent]


def test_every_request_is_one_record(practice: Any) -> None:
    agent = "audit-test-1"
    body = {"metadata": {"name": "audited"}, "stringData": {"password": "very-secret"}}
    practice.raw("POST", f"{SHOP}/secrets", body, User_Agent=agent)
    practice.raw("GET", f"{SHOP}/secrets?labelSelector=a", User_Agent=agent)
    practice.raw("DELETE", f"{SHOP}/secrets/audited", User_Agent=agent)
    practice.raw("GET", f"{SHOP}/pods/none/log", User_Agent=agent)
    practice.raw("GET", "/apis", User_Agent=agent)
    found = asked(practice, agent)
    assert [(r["verb"], r["responseStatus"]["code"]) for r in found] == [
        ("create", 201),
        ("list", 200),
        ("delete", 200),
        ("get", 404),
        ("get", 200),
    ]
    assert found[1]["requestURI"] == f"{SHOP}/secrets?labelSelector=a"
    about = {"resource": "pods", "namespace": "shop", "name": "none", "apiVersion": "v1"}
    assert found[3]["objectRef"] == {**about, "subresource": "log"}
    assert found[3]["responseStatus"]["reason"] == "NotFound"
    assert "objectRef" not in found[4]
    assert all(r["user"]["username"] == "kubernetes-admin" for r in found)
    assert all(r["stage"] == "ResponseComplete" for r in found)
    assert found[0]["requestReceivedTimestamp"] <= found[0]["stageTimestamp"]


def test_refusals_and_impersonation_are_seen(practice: Any) -> None:
    agent = "audit-test-2"
    practice.raw("GET", f"{SHOP}/pods", User_Agent=agent, Impersonate_User="bob")
    practice.raw("GET", f"{SHOP}/pods", User_Agent=agent, Authorization="Bearer wrong-one")
    forbidden, unknown = asked(practice, agent)
    assert forbidden["impersonatedUser"]["username"] == "bob"
    assert forbidden["responseStatus"]["code"] == 403
    assert forbidden["annotations"] == {"authorization.k8s.io/decision": "forbid"}
    assert (unknown["user"], unknown["responseStatus"]["code"]) == ({}, 401)


def test_no_secret_is_written(practice: Any) -> None:
    text = practice.api.audit_file.read_text()
    assert "very-secret" not in text and "right-token" not in text and "wrong-one" not in text
    assert stat.S_IMODE(practice.api.audit_file.stat().st_mode) == 0o600


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_the_verbs_that_kubectl_used_can_be_told(practice: Any) -> None:
    before = len(records(practice))
    practice.kubectl("create", "configmap", "told", "-n", "shop")
    practice.kubectl("annotate", "configmap", "told", "-n", "shop", "a=b")
    practice.kubectl("delete", "configmap", "told", "-n", "shop")
    used = {
        (record["verb"], record["objectRef"]["resource"])
        for record in records(practice)[before:]
        if record["userAgent"].startswith("kubectl/") and "objectRef" in record
    }
    wanted = {(verb, "configmaps") for verb in ("create", "get", "patch", "delete")}
    assert wanted <= used
