"""Who may do what: roles, bindings, reviews, and the tokens of service accounts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from contract.cluster import Cluster, Space, refused
from contract.objects import binding, config_map, pod, role, rule

from runbook_lib.practice.wait import until

SECONDS = 10.0  # a server notices new roles within this time
REVIEWS = "authorization.k8s.io/v1"
IDENTITIES = "authentication.k8s.io/v1"


def token_of(space: Space, name: str, **spec: object) -> dict:
    body = {"apiVersion": IDENTITIES, "kind": "TokenRequest", "spec": spec}
    return space.service_accounts.post(name, "token", body)


@pytest.fixture
def account(space: Space, name: str) -> Iterator[dict]:
    """A service account of its own, as a subject."""
    space.service_accounts.create({"metadata": {"name": name}})
    yield {"kind": "ServiceAccount", "name": name, "namespace": space.name}
    if space.service_accounts.has(name):
        space.service_accounts.delete(name)


@pytest.fixture
def visitor(space: Space, account: dict) -> Space:
    """The namespace as that service account is let see it."""
    token = token_of(space, account["name"])["status"]["token"]
    return space.seen_by(space.cluster.with_token(token))


@pytest.fixture
def grant(space: Space, account: dict, name: str) -> Callable[..., None]:
    """Gives the account a Role of rules."""

    def give(*rules: dict) -> None:
        space.roles.create(role(name, *rules))
        space.role_bindings.create(binding(name, account))

    return give


def allowed(space: Space, path: str) -> bool:
    return space.cluster.ask("GET", path).status < 300


def until_allowed(space: Space, path: str) -> None:
    until(lambda: allowed(space, path), SECONDS, f"{path} is allowed")


def test_an_account_without_roles_is_forbidden_and_told_what(visitor: Space, account: dict) -> None:
    with refused(403, "Forbidden") as status:
        visitor.deployments.list()
    user = f"system:serviceaccount:{visitor.name}:{account['name']}"
    assert status["message"] == (
        f'deployments.apps is forbidden: User "{user}" cannot list resource "deployments" '
        f'in API group "apps" in the namespace "{visitor.name}"'
    )
    assert status["details"] == {"group": "apps", "kind": "deployments"}


def test_a_role_allows_what_it_says_and_no_more(
    space: Space, visitor: Space, grant: Callable[..., None], cm: str
) -> None:
    grant(rule("configmaps", "get list"))
    until_allowed(visitor, visitor.config_maps.path)
    assert visitor.config_maps.read(cm)["data"] == {"a": "1"}
    for forbidden in (
        lambda: visitor.config_maps.delete(cm),
        lambda: visitor.config_maps.patch(cm, {"data": {}}),
        lambda: visitor.config_maps.create(config_map("new")),
        lambda: visitor.config_maps.list(watch=1, timeoutSeconds=1),
        lambda: visitor.secrets.list(),
        lambda: visitor.cluster.get("/api/v1/configmaps"),
        lambda: visitor.cluster.get("/api/v1/namespaces/kube-system/configmaps"),
    ):
        with refused(403, "Forbidden"):
            forbidden()
    assert space.config_maps.has(cm)


def test_a_subresource_needs_a_rule_of_its_own(
    space: Space, visitor: Space, grant: Callable[..., None], name: str
) -> None:
    grant(rule("pods", "get list"))
    space.pods.create(pod(name))
    until_allowed(visitor, visitor.pods.path)
    with refused(403, "Forbidden") as status:
        visitor.pods.read(name, "log")
    assert 'cannot get resource "pods/log"' in status["message"]
    space.roles.patch(name, {"rules": [rule("pods pods/log", "get list")]})
    until(lambda: allowed(visitor, f"{visitor.pods.path}/{name}/log"), SECONDS, "logs are allowed")
    space.pods.delete(name, gracePeriodSeconds=0)


def test_a_rule_may_name_its_objects(visitor: Space, grant: Callable[..., None], cm: str) -> None:
    grant(rule("configmaps", "get", resourceNames=[cm]))
    until_allowed(visitor, f"{visitor.config_maps.path}/{cm}")
    with refused(403, "Forbidden"):
        visitor.config_maps.read("kube-root-ca.crt")
    with refused(403, "Forbidden"):
        visitor.config_maps.list()


def test_a_star_is_every_resource_and_every_verb(
    visitor: Space, grant: Callable[..., None], cm: str
) -> None:
    grant({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})
    until_allowed(visitor, visitor.deployments.path)
    visitor.config_maps.patch(cm, {"data": {"b": "2"}})
    with refused(403, "Forbidden"):
        visitor.cluster.get("/api/v1/nodes")


def test_a_cluster_role_bound_in_a_namespace_counts_only_there(
    space: Space, visitor: Space, account: dict
) -> None:
    name = f"{space.name}-{account['name']}"
    roles = space.cluster.of("rbac.authorization.k8s.io/v1", "clusterroles")
    roles.create(role(name, rule("configmaps", "list"), kind="ClusterRole"))
    space.role_bindings.create(binding(name, account, "ClusterRole"))
    until_allowed(visitor, visitor.config_maps.path)
    assert not allowed(visitor, "/api/v1/configmaps")
    roles.delete(name)


def test_a_cluster_role_bound_to_the_cluster_counts_everywhere(
    space: Space, visitor: Space, account: dict
) -> None:
    name = f"{space.name}-{account['name']}"
    roles = space.cluster.of("rbac.authorization.k8s.io/v1", "clusterroles")
    bindings = space.cluster.of("rbac.authorization.k8s.io/v1", "clusterrolebindings")
    roles.create(role(name, rule("configmaps nodes", "list"), kind="ClusterRole"))
    bindings.create(binding(name, account, "ClusterRole", "ClusterRoleBinding"))
    until_allowed(visitor, "/api/v1/configmaps")
    assert allowed(visitor, "/api/v1/nodes")
    bindings.delete(name)
    until(lambda: not allowed(visitor, "/api/v1/nodes"), SECONDS, "the grant ends")
    roles.delete(name)


def test_the_accounts_of_a_namespace_are_a_group(space: Space, visitor: Space, name: str) -> None:
    group = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Group",
        "name": f"system:serviceaccounts:{space.name}",
    }
    space.roles.create(role(name, rule("secrets", "list")))
    space.role_bindings.create(binding(name, group))
    until_allowed(visitor, visitor.secrets.path)
    space.role_bindings.delete(name)


def test_a_binding_keeps_its_role(space: Space, account: dict, name: str) -> None:
    space.role_bindings.create(binding(name, account))
    with refused(422, "Invalid"):
        space.role_bindings.patch(name, {"roleRef": {"name": "other"}})


def test_an_account_may_ask_what_it_may(
    visitor: Space, grant: Callable[..., None], cm: str
) -> None:
    grant(rule("configmaps", "list"))
    until_allowed(visitor, visitor.config_maps.path)
    reviews = visitor.cluster.of(REVIEWS, "selfsubjectaccessreviews")

    def may(verb: str, resource: str, **more: str) -> bool:
        asked = {"namespace": visitor.name, "verb": verb, "resource": resource, **more}
        body = {
            "apiVersion": REVIEWS,
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        return bool(reviews.create(body)["status"]["allowed"])

    assert may("list", "configmaps")
    assert not may("delete", "configmaps")
    assert not may("list", "deployments", group="apps")
    assert not may("list", "configmaps", namespace="kube-system")


def test_an_account_may_list_its_rules(visitor: Space, grant: Callable[..., None]) -> None:
    grant(rule("configmaps", "list"))
    until_allowed(visitor, visitor.config_maps.path)
    reviews = visitor.cluster.of(REVIEWS, "selfsubjectrulesreviews")
    body = {
        "apiVersion": REVIEWS,
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": visitor.name},
    }
    rules = reviews.create(body)["status"]["resourceRules"]
    assert {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]} in rules


def test_an_administrator_may_ask_about_another(
    space: Space, account: dict, grant: Callable[..., None]
) -> None:
    grant(rule("configmaps", "list"))
    reviews = space.cluster.of(REVIEWS, "subjectaccessreviews")

    def may(verb: str) -> bool:
        asked = {"namespace": space.name, "verb": verb, "resource": "configmaps"}
        spec = {
            "user": f"system:serviceaccount:{space.name}:{account['name']}",
            "resourceAttributes": asked,
        }
        body = {"apiVersion": REVIEWS, "kind": "SubjectAccessReview", "spec": spec}
        return bool(reviews.create(body)["status"]["allowed"])

    until(lambda: may("list"), SECONDS, "the review knows the role")
    assert not may("delete")


def test_a_token_says_who_its_bearer_is(space: Space, visitor: Space, account: dict) -> None:
    body = {"apiVersion": IDENTITIES, "kind": "SelfSubjectReview"}
    user = visitor.cluster.of(IDENTITIES, "selfsubjectreviews").create(body)["status"]["userInfo"]
    assert user["username"] == f"system:serviceaccount:{space.name}:{account['name']}"
    assert {"system:serviceaccounts", "system:authenticated"} <= set(user["groups"])


def test_a_token_has_an_end_and_an_audience(space: Space, account: dict) -> None:
    made = token_of(space, account["name"], expirationSeconds=600, audiences=["someone"])
    assert made["status"]["expirationTimestamp"] > "2020"
    assert made["spec"]["audiences"] == ["someone"]
    bearer = space.cluster.with_token(made["status"]["token"])
    assert bearer.ask("GET", space.pods.path).status == 401  # it is for someone else


def test_a_token_lasts_ten_minutes_at_least(space: Space, account: dict) -> None:
    with refused(422, "Invalid"):
        token_of(space, account["name"], expirationSeconds=60)


def test_the_token_of_a_deleted_account_is_void(space: Space, visitor: Space, name: str) -> None:
    space.service_accounts.delete(name)
    ask = visitor.cluster.ask
    until(lambda: ask("GET", visitor.pods.path).status == 401, 30.0, "the token is void")


def test_a_wrong_token_is_unauthorized(cluster: Cluster) -> None:
    with refused(401, "Unauthorized"):
        cluster.with_token("nonsense").get("/api/v1/pods")


def test_nobody_may_do_nothing(cluster: Cluster) -> None:
    assert cluster.with_token(None).ask("GET", "/api/v1/pods").status in (401, 403)
