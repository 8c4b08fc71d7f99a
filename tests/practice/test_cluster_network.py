"""NetworkPolicies as Kubernetes documents them: both ends, every kind of peer, ports, defaults."""

from __future__ import annotations

from typing import Any

import pytest

from runbook_lib.practice.cluster.network import End, blocked

NAME = "kubernetes.io/metadata.name"
WEB = End("10.0.1.5", "shop", "web-1", {"app": "web"}, {NAME: "shop"})
API = End("10.0.1.6", "shop", "api-1", {"app": "api"}, {NAME: "shop"}, {"http": 8000})
MODEL = End("10.0.2.7", "models", "model-1", {"app": "model"}, {NAME: "models"})
OUTSIDE = End("10.0.101.9")


def policy(
    pods: dict[str, str] | None = None, namespace: str = "shop", **spec: Any
) -> dict[str, Any]:
    selector = {"matchLabels": pods} if pods else {}
    meta = {"name": "p", "namespace": namespace}
    return {"metadata": meta, "spec": {"podSelector": selector, **spec}}


def peer(rule: dict[str, Any], **more: Any) -> dict[str, Any]:
    return policy({"app": "api"}, ingress=[{"from": [rule], **more}])


def allows(
    *policies: dict[str, Any], source: End = WEB, target: End = API, port: int = 8000
) -> bool:
    return blocked(policies, source, target, port) is None


def test_without_policies_everything_is_open() -> None:
    assert allows() and allows(source=OUTSIDE) and allows(source=MODEL)


def test_an_empty_policy_denies_what_reaches_its_pods() -> None:
    why = blocked([policy()], MODEL, API, 8000)
    assert why and (why.direction, why.policies) == ("ingress", ("shop/p",))


def test_a_policy_rules_over_its_own_namespace_only() -> None:
    assert allows(policy(), source=WEB, target=MODEL)
    assert allows(policy(namespace="models"), source=MODEL, target=API)


def test_policies_add_up() -> None:
    assert allows(policy(), peer({"podSelector": {"matchLabels": {"app": "web"}}}))
    assert not allows(policy(), peer({"podSelector": {"matchLabels": {"app": "other"}}}))


@pytest.mark.parametrize(
    ("rule", "source", "open_"),
    [
        ({"podSelector": {}}, WEB, True),
        ({"podSelector": {}}, MODEL, False),  # of the policy's own namespace
        ({"namespaceSelector": {"matchLabels": {NAME: "models"}}}, MODEL, True),
        ({"namespaceSelector": {"matchLabels": {"name": "models"}}}, MODEL, False),
        ({"namespaceSelector": {}}, MODEL, True),
        ({"namespaceSelector": {}}, OUTSIDE, False),
        (
            {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "model"}}},
            MODEL,
            True,
        ),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "x"}}}, MODEL, False),
        ({"ipBlock": {"cidr": "10.0.101.0/24"}}, OUTSIDE, True),
        ({"ipBlock": {"cidr": "10.0.101.0/24", "except": ["10.0.101.9/32"]}}, OUTSIDE, False),
        ({"ipBlock": {"cidr": "10.0.102.0/24"}}, OUTSIDE, False),
    ],
)
def test_peers(rule: dict[str, Any], source: End, open_: bool) -> None:
    assert allows(peer(rule), source=source) is open_


@pytest.mark.parametrize(
    ("ports", "open_"),
    [
        ([{"port": 8000}], True),
        ([{"port": 80}], False),
        ([{"port": "http"}], True),
        ([{"port": "metrics"}], False),
        ([{"port": 7000, "endPort": 9000}], True),
        ([{"port": 8000, "protocol": "UDP"}], False),
        ([{"protocol": "TCP"}], True),
    ],
)
def test_ports(ports: list[dict[str, Any]], open_: bool) -> None:
    assert allows(policy({"app": "api"}, ingress=[{"ports": ports}])) is open_


def test_egress_of_the_source_counts_as_much_as_ingress_of_the_target() -> None:
    egress = policy({"app": "web"}, policyTypes=["Egress"], egress=[])
    why = blocked([egress], WEB, API, 8000)
    assert why and why.direction == "egress"
    open_ = policy({"app": "web"}, policyTypes=["Egress"], egress=[{"to": [{"podSelector": {}}]}])
    assert allows(egress, open_)
    assert not allows(egress, open_, policy())
    assert allows(egress, source=API, target=WEB)


def test_without_types_egress_rules_make_an_egress_policy_and_ingress_is_always_one() -> None:
    plain = policy({"app": "web"}, egress=[{"ports": [{"port": 53}]}])
    assert not allows(plain) and not allows(plain, source=API, target=WEB)


def test_a_pod_reaches_itself_and_pods_of_the_host_are_no_pods() -> None:
    assert allows(policy(), source=API, target=API)
    host = End("10.0.1.7", "kube-system", "aws-node-x", {"app": "web"}, {}, {}, True)
    assert allows(policy(namespace="kube-system"), source=WEB, target=host)
    assert not allows(peer({"namespaceSelector": {}}), source=host)
