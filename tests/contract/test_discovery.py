"""What a client can learn about the API before it asks for objects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from contract.cluster import Cluster, Space
from kubernetes import client, dynamic


def test_the_version_names_a_minor_release(cluster: Cluster) -> None:
    version = client.VersionApi(cluster.client).get_code()
    assert version.git_version.startswith(f"v{version.major}.{version.minor.rstrip('+')}.")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_is_plain_ok(cluster: Cluster, path: str) -> None:
    assert cluster.get(path) == "ok"


def test_every_group_prefers_one_of_its_versions(cluster: Cluster) -> None:
    groups = client.ApisApi(cluster.client).get_api_versions().groups
    assert {"apps", "batch", "policy", "rbac.authorization.k8s.io"} <= {g.name for g in groups}
    for group in groups:
        assert group.preferred_version in group.versions


def test_a_resource_says_its_kind_scope_verbs_and_short_names(cluster: Cluster) -> None:
    pods = _resources(cluster, "/api/v1")["pods"]
    assert (pods["kind"], pods["namespaced"], pods["singularName"]) == ("Pod", True, "pod")
    assert "po" in pods["shortNames"] and "all" in pods["categories"]
    assert {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"} == (
        set(pods["verbs"])
    )


def test_subresources_stand_beside_their_resource(cluster: Cluster) -> None:
    core, apps = _resources(cluster, "/api/v1"), _resources(cluster, "/apis/apps/v1")
    assert core["pods/log"]["verbs"] == ["get"]
    assert core["pods/eviction"]["kind"] == "Eviction"
    assert core["pods/eviction"]["group"] == "policy"
    scale = apps["deployments/scale"]
    assert (scale["kind"], scale["group"], scale["version"]) == ("Scale", "autoscaling", "v1")


def _resources(cluster: Cluster, path: str) -> dict[str, Any]:
    return {found["name"]: found for found in cluster.get(path)["resources"]}


def test_the_dynamic_client_finds_a_kind_by_its_name(cluster: Cluster) -> None:
    found = dynamic.DynamicClient(cluster.client).resources
    assert found.get(api_version="apps/v1", kind="Deployment").name == "deployments"


def test_openapi_v3_is_an_index_of_documents(cluster: Cluster) -> None:
    index = json.loads(cluster.ask("GET", "/openapi/v3").text)
    place = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
    schemas = cluster.get(place)["components"]["schemas"]
    described = {
        (known["group"], known["version"], known["kind"])
        for schema in schemas.values()
        for known in schema.get("x-kubernetes-group-version-kind", ())
    }
    assert ("apps", "v1", "Deployment") in described


def test_openapi_v2_is_one_document(cluster: Cluster) -> None:
    assert cluster.get("/openapi/v2")["swagger"] == "2.0"


@pytest.mark.parametrize(
    "path", ["/apis/nobody.example.com/v1", "/apis/apps/v0", "/api/v1/nothings", "/nowhere"]
)
def test_what_is_not_served_is_not_found(cluster: Cluster, path: str) -> None:
    assert cluster.ask("GET", path).status == 404


def test_a_method_that_makes_no_sense_is_not_allowed(cluster: Cluster, space: Space) -> None:
    answer = cluster.ask("PUT", space.pods.path, {})
    assert (answer.status, answer.body["reason"]) == (405, "MethodNotAllowed")
