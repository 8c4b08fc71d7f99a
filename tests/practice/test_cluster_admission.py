"""What a cluster's admission does to pods: accounts, roles, priorities, limits, quotas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException
from practice.shop import empty, put, tell

ROLE = "arn:aws:iam::123456789012:role/shop"


@pytest.fixture(autouse=True)
def clean(practice: Any) -> Iterator[None]:
    yield
    empty(practice)


def replica_set(practice: Any) -> dict[str, Any]:
    items = practice.raw("GET", "/apis/apps/v1/namespaces/shop/replicasets")[1]["items"]
    found: dict[str, Any] = items[0]
    return found


def test_pods_of_a_missing_account_are_never_made(practice: Any) -> None:
    practice.deploy("web", serviceAccountName="nobody")
    why = 'error looking up service account shop/nobody: serviceaccount "nobody" not found'
    assert tell(practice, "web-", "FailedCreate").endswith(f"is forbidden: {why}")
    pod = {
        "metadata": {"name": "p"},
        "spec": {"serviceAccountName": "nobody", "containers": [{"name": "app", "image": "i"}]},
    }
    with pytest.raises(ApiException) as refused:
        practice.core.create_namespaced_pod("shop", pod)
    assert refused.value.status == 403
    assert why in json.loads(refused.value.body)["message"]
    account = {"metadata": {"name": "nobody"}}
    practice.core.create_namespaced_service_account("shop", account)
    practice.until_ready("web")
    practice.core.delete_namespaced_service_account("nobody", "shop")


def test_a_role_reaches_only_pods_made_after_the_annotation(practice: Any) -> None:
    practice.core.create_namespaced_service_account("shop", {"metadata": {"name": "web"}})
    practice.deploy("web", serviceAccountName="web")
    old = practice.until_ready("web")[0]
    assert "env" not in old["spec"]["containers"][0]
    annotations = {"metadata": {"annotations": {"eks.amazonaws.com/role-arn": ROLE}}}
    practice.core.patch_namespaced_service_account("web", "shop", annotations)
    practice.core.delete_namespaced_pod(old["metadata"]["name"], "shop")

    def another() -> Any:
        pods = [
            p for p in practice.until_ready("web") if p["metadata"]["uid"] != old["metadata"]["uid"]
        ]
        return pods[0] if pods else None

    spec = practice.until(another, "another pod")["spec"]
    env = {one["name"]: one["value"] for one in spec["containers"][0]["env"]}
    assert env["AWS_ROLE_ARN"] == ROLE
    assert env["AWS_WEB_IDENTITY_TOKEN_FILE"].startswith("/var/run/secrets/eks.amazonaws.com/")
    (volume,) = [v for v in spec["volumes"] if v["name"] == "aws-iam-token"]
    token = volume["projected"]["sources"][0]["serviceAccountToken"]
    assert token["audience"] == "sts.amazonaws.com"
    practice.core.delete_namespaced_service_account("web", "shop")


def test_a_quota_stops_pods_before_they_exist(practice: Any) -> None:
    quotas = "/api/v1/namespaces/shop/resourcequotas"
    hard = {"pods": "5", "requests.cpu": "1"}
    put(practice, quotas, {"metadata": {"name": "small"}, "spec": {"hard": hard}})
    resources = {"resources": {"requests": {"cpu": "400m"}}}
    practice.deploy("web", replicas=3, container=resources)
    practice.until_ready("web", 2)
    message = tell(practice, "web-", "FailedCreate")
    assert message.endswith(
        "is forbidden: exceeded quota: small, requested: requests.cpu=400m, "
        "used: requests.cpu=800m, limited: requests.cpu=1"
    )
    failure = practice.until(
        lambda: replica_set(practice)["status"].get("conditions"), "a ReplicaFailure"
    )[0]
    assert (failure["type"], failure["reason"]) == ("ReplicaFailure", "FailedCreate")

    def used() -> bool:
        status = practice.raw("GET", f"{quotas}/small")[1].get("status", {})
        return bool(status.get("used") == {"pods": "2", "requests.cpu": "800m"})

    practice.until(used, "the quota's use")
    practice.raw(
        "PATCH",
        f"{quotas}/small",
        {"spec": {"hard": {"requests.cpu": "2"}}},
        Content_Type="application/merge-patch+json",
    )
    practice.until_ready("web", 3)
    assert not replica_set(practice)["status"].get("conditions")


def test_a_quota_of_cpu_wants_requests(practice: Any) -> None:
    quotas = "/api/v1/namespaces/shop/resourcequotas"
    put(practice, quotas, {"metadata": {"name": "small"}, "spec": {"hard": {"requests.cpu": "1"}}})
    practice.deploy("web")
    why = "failed quota: small: must specify requests.cpu for: app"
    assert why in tell(practice, "web-", "FailedCreate")


def test_limits_of_a_namespace_fill_in_and_refuse(practice: Any) -> None:
    limit = {
        "type": "Container",
        "default": {"memory": "1Gi"},
        "defaultRequest": {"cpu": "100m"},
        "max": {"memory": "2Gi"},
    }
    limits = {"metadata": {"name": "l"}, "spec": {"limits": [limit]}}
    put(practice, "/api/v1/namespaces/shop/limitranges", limits)
    practice.deploy("web")
    pod = practice.until_ready("web")[0]
    resources = pod["spec"]["containers"][0]["resources"]
    assert resources["limits"]["memory"] == "1Gi" and resources["requests"]["cpu"] == "100m"
    assert pod["status"]["qosClass"] == "Burstable"
    practice.deploy("big", container={"resources": {"limits": {"memory": "3Gi"}}})
    why = "maximum memory usage per Container is 2Gi, but limit is 3Gi"
    assert why in tell(practice, "big-", "FailedCreate")


def test_a_missing_priority_class(practice: Any) -> None:
    practice.deploy("web", priorityClassName="none-such")
    why = "no PriorityClass with name none-such was found"
    assert why in tell(practice, "web-", "FailedCreate")
