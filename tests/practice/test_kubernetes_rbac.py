"""Who may do what on the practice cluster: users, roles, bindings, reviews, impersonation."""

from __future__ import annotations

import base64
import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from runbook_lib.practice.kubernetes import identity

RBAC = "/apis/rbac.authorization.k8s.io/v1"
SHOP = "/api/v1/namespaces/shop"
SUBJECT = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io"}
needs_kubectl = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")


class Jane:
    """A user without any right but those that a test grants."""

    def __init__(self, practice: Any) -> None:
        self._practice = practice
        self.name = f"jane-{uuid.uuid4().hex[:6]}"
        self.tokens: list[str] = []
        practice.call(lambda: self.tokens.append(practice.api.add_user(self.name, ["devs"])))
        self._made: list[str] = []

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        mine = {"Authorization": f"Bearer {self.tokens[0]}", **headers}
        answered: tuple[int, Any] = self._practice.raw(method, path, body, **mine)
        return answered

    def grant(self, *rules: dict[str, Any], namespace: str = "shop", subject: Any = None) -> None:
        """Bind a new role of these rules; namespace '' for the whole cluster."""
        name = f"{self.name}-{len(self._made)}"
        home = f"{RBAC}/namespaces/{namespace}/" if namespace else f"{RBAC}/cluster"
        kind = "Role" if namespace else "ClusterRole"
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
        binding = {"roleRef": reference, "subjects": [subject or {**SUBJECT, "name": self.name}]}
        for plural, body in (("roles", {"rules": rules}), ("rolebindings", binding)):
            code, made = self._practice.raw(
                "POST", home + plural, {"metadata": {"name": name}, **body}
            )
            assert code == 201, made
            self._made.append(f"{home}{plural}/{name}")

    def clean_up(self) -> None:
        for path in self._made:
            self._practice.raw("DELETE", path)


@pytest.fixture
def jane(practice: Any) -> Iterator[Jane]:
    made = Jane(practice)
    yield made
    made.clean_up()


def rule(verbs: str, resources: str, group: str = "", **more: Any) -> dict[str, Any]:
    found = {"verbs": verbs.split(), "apiGroups": [group], "resources": resources.split()}
    return {**found, **more}


def message(jane: Jane, method: str, path: str, body: Any = None) -> str:
    code, status = jane.ask(method, path, body)
    assert (code, status["reason"]) == (403, "Forbidden")
    return str(status["message"])


def test_refusals_are_worded_as_the_real_ones(jane: Jane) -> None:
    who = f'User "{jane.name}" cannot'
    assert message(jane, "GET", f"{SHOP}/pods") == (
        f'pods is forbidden: {who} list resource "pods" in API group "" in the namespace "shop"'
    )
    assert message(jane, "GET", f"{SHOP}/pods/p/log") == (
        f'pods "p" is forbidden: {who} get resource "pods/log" in API group "" in the namespace '
        '"shop"'
    )
    assert message(jane, "DELETE", "/api/v1/nodes/n") == (
        f'nodes "n" is forbidden: {who} delete resource "nodes" in API group "" at the cluster '
        "scope"
    )
    assert message(jane, "PATCH", "/apis/apps/v1/namespaces/shop/deployments/d", {}) == (
        f'deployments.apps "d" is forbidden: {who} patch resource "deployments" in API group '
        '"apps" in the namespace "shop"'
    )
    assert message(jane, "GET", "/metrics") == f'forbidden: {who} get path "/metrics"'


def test_a_role_gives_its_verbs_in_its_namespace_only(jane: Jane) -> None:
    jane.grant(rule("get list watch", "pods"))
    assert jane.ask("GET", f"{SHOP}/pods")[0] == 200
    assert jane.ask("GET", f"{SHOP}/pods?watch=1&timeoutSeconds=1&labelSelector=no")[0] == 200
    assert jane.ask("GET", f"{SHOP}/pods/none")[0] == 404
    assert "cannot delete" in message(jane, "DELETE", f"{SHOP}/pods/none")
    assert "cannot deletecollection" in message(jane, "DELETE", f"{SHOP}/pods")
    assert "cannot list" in message(jane, "GET", "/api/v1/pods")
    assert "cannot list" in message(jane, "GET", "/api/v1/namespaces/default/pods")
    assert 'resource "pods/log"' in message(jane, "GET", f"{SHOP}/pods/none/log")


def test_a_cluster_role_reaches_every_namespace(jane: Jane) -> None:
    jane.grant(rule("list", "deployments", "apps"), namespace="")
    assert jane.ask("GET", "/apis/apps/v1/deployments")[0] == 200
    assert jane.ask("GET", "/apis/apps/v1/namespaces/shop/deployments")[0] == 200


def test_resource_names_and_groups(practice: Any, jane: Jane) -> None:
    group = {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "devs"}
    jane.grant(rule("get list", "configmaps", resourceNames=["mine"]), subject=group)
    assert jane.ask("GET", f"{SHOP}/configmaps/mine")[0] == 404
    assert "cannot get" in message(jane, "GET", f"{SHOP}/configmaps/other")
    assert "cannot list" in message(jane, "GET", f"{SHOP}/configmaps")
    assert jane.ask("GET", f"{SHOP}/configmaps?fieldSelector=metadata.name%3Dmine")[0] == 200


@pytest.mark.parametrize(
    ("resources", "method", "subresource", "verb"),
    [
        ("pods/eviction", "POST", "eviction", "create"),
        ("pods/log", "GET", "log", "get"),
        ("pods/exec", "POST", "exec", "create"),
        ("*/exec", "GET", "exec", "get"),
        ("pods/*", "GET", "log", ""),
    ],
)
def test_subresources(jane: Jane, resources: str, method: str, subresource: str, verb: str) -> None:
    path = f"{SHOP}/pods/none/{subresource}"
    assert "is forbidden" in message(jane, method, path)
    jane.grant(rule(verb or "get", resources))
    assert jane.ask(method, path)[0] == (404 if verb else 403)


def test_apply_creates_only_with_the_right_to_create(jane: Jane) -> None:
    path = f"{SHOP}/configmaps/{jane.name}?fieldManager=me"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": jane.name}}
    head = {"Content-Type": "application/apply-patch+yaml"}
    jane.grant(rule("patch", "configmaps"))
    code, status = jane.ask("PATCH", path, body, **head)
    assert code == 403 and 'cannot create resource "configmaps"' in status["message"]
    jane.grant(rule("create", "configmaps"))
    assert jane.ask("PATCH", path, body, **head)[0] == 201


def test_other_addresses(jane: Jane) -> None:
    jane.grant({"verbs": ["get"], "nonResourceURLs": ["/logs", "/debug/*"]}, namespace="")
    assert [jane.ask("GET", path)[0] for path in ("/logs", "/debug/x", "/logs/x")] == [
        404,
        404,
        403,
    ]
    assert jane.ask("GET", "/apis")[0] == 200


def test_a_binding_to_no_role_says_so(practice: Any, jane: Jane) -> None:
    body = {
        "metadata": {"name": jane.name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "gone"},
        "subjects": [{**SUBJECT, "name": jane.name}],
    }
    practice.raw("POST", f"{RBAC}/namespaces/shop/rolebindings", body)
    said = message(jane, "GET", f"{SHOP}/pods")
    assert said.endswith(': RBAC: role.rbac.authorization.k8s.io "gone" not found')


def test_tokens_of_service_accounts(
    practice: Any, jane: Jane, monkeypatch: pytest.MonkeyPatch
) -> None:
    practice.raw("POST", f"{SHOP}/serviceaccounts", {"metadata": {"name": "robot"}})
    spec: dict[str, Any] = {"spec": {"audiences": [], "expirationSeconds": 600}}
    made = practice.core.create_namespaced_service_account_token("robot", "shop", spec)
    jane.tokens[0] = made.status.token
    claims = json.loads(base64.urlsafe_b64decode(made.status.token.split(".")[1] + "=="))
    assert claims["sub"] == "system:serviceaccount:shop:robot"
    assert claims["exp"] - claims["iat"] == 600
    assert 'User "system:serviceaccount:shop:robot"' in message(jane, "GET", f"{SHOP}/pods")
    account = {"kind": "ServiceAccount", "name": "robot", "namespace": "shop"}
    jane.grant(rule("list", "pods"), subject=account)
    assert jane.ask("GET", f"{SHOP}/pods")[0] == 200
    everyone = {**SUBJECT, "kind": "Group", "name": "system:serviceaccounts:shop"}
    jane.grant(rule("list", "services"), subject=everyone)
    assert jane.ask("GET", f"{SHOP}/services")[0] == 200
    jane.tokens[0] = made.status.token[:-4] + "AAAA"
    assert jane.ask("GET", f"{SHOP}/pods")[0] == 401
    jane.tokens[0] = made.status.token
    later = SimpleNamespace(time=lambda: time.time() + 601)
    with monkeypatch.context() as clock:
        clock.setattr(identity, "time", later)
        assert jane.ask("GET", f"{SHOP}/pods")[0] == 401
    practice.raw("DELETE", f"{SHOP}/serviceaccounts/robot")
    assert jane.ask("GET", f"{SHOP}/pods")[0] == 401


def test_access_reviews(practice: Any, jane: Jane) -> None:
    jane.grant(rule("get", "pods"))
    mine: Any = client.AuthorizationV1Api(practice.client(jane.tokens[0]))

    def may(verb: str, namespace: str = "shop") -> bool:
        wanted = {"verb": verb, "resource": "pods", "namespace": namespace}
        made = mine.create_self_subject_access_review({"spec": {"resourceAttributes": wanted}})
        return bool(made.status.allowed)

    assert (may("get"), may("list"), may("get", "default")) == (True, False, False)
    rules = mine.create_self_subject_rules_review({"spec": {"namespace": "shop"}}).status
    assert ["pods"] in [rule.resources for rule in rules.resource_rules]
    admin: Any = client.AuthorizationV1Api(practice.client("right-token"))
    wanted = {"verb": "get", "resource": "pods", "namespace": "shop"}
    spec = {"user": jane.name, "groups": [], "resourceAttributes": wanted}
    assert admin.create_subject_access_review({"spec": spec}).status.allowed
    with pytest.raises(ApiException) as refused:
        mine.create_subject_access_review({"spec": spec})
    assert refused.value.status == 403


def test_impersonation(practice: Any, jane: Jane) -> None:
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    heads = {"Impersonate-User": "bob", "Impersonate-Group": "ops"}
    code, made = practice.raw("POST", path, {}, **heads)
    assert code == 201 and made["status"]["userInfo"] == {
        "username": "bob",
        "groups": ["ops", "system:authenticated"],
    }
    code, status = jane.ask("POST", path, {}, **heads)
    assert (code, status["message"]) == (
        403,
        f'users "bob" is forbidden: User "{jane.name}" cannot impersonate resource "users" in API '
        'group "" at the cluster scope',
    )
    jane.grant(rule("impersonate", "users", resourceNames=["bob"]), namespace="")
    assert jane.ask("POST", path, {}, **{"Impersonate-User": "bob"})[0] == 201
    assert jane.ask("POST", path, {}, **heads)[0] == 403
    assert jane.ask("GET", "/api/v1/pods", **{"Impersonate-Uid": "1"})[0] == 400


def test_without_a_token_only_health_is_told(practice: Any) -> None:
    nobody = {"Authorization": ""}
    assert practice.raw("GET", "/healthz", **nobody)[0] == 200
    for path in ("/api", "/apis", "/api/v1/pods", "/openapi/v3"):
        assert practice.raw("GET", path, **nobody)[0] == 401


@needs_kubectl
def test_kubectl_auth(practice: Any, jane: Jane) -> None:
    jane.grant(rule("get list", "pods pods/log"))

    def auth(*words: str, code: int = 0) -> str:
        said: str = practice.kubectl("auth", *words, "-n", "shop", token=jane.tokens[0], code=code)
        return said

    assert auth("can-i", "list", "pods") == "yes\n"
    assert auth("can-i", "get", "pods", "--subresource=log") == "yes\n"
    assert auth("can-i", "delete", "pods", code=1) == "no\n"
    assert "pods/log" in auth("can-i", "--list")
    assert jane.name in auth("whoami")
    admin: Callable[..., str] = practice.kubectl
    as_jane = ("--as", jane.name, "-n", "shop")
    assert admin("auth", "can-i", "list", "pods", *as_jane) == "yes\n"
    assert f'Error from server (Forbidden): secrets is forbidden: User "{jane.name}"' in admin(
        "get", "secrets", *as_jane, code=1
    )
