"""The practice Kubernetes API as the official client sees it: creating, patching, deleting."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException
from practice.conftest import config_map

SHOP = "/api/v1/namespaces/shop"
ISVC = "/apis/serving.kserve.io/v1beta1/namespaces/shop/inferenceservices"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"

# A ConfigMap in protobuf whose metadata has a field 99, which is none.
STRANGE = b"\n\x0f\n\2v1\x12\tConfigMap\x12\5\n\3\x98\6\1"


def test_create_fills_in_what_the_server_owns(practice: Any) -> None:
    made = practice.core.create_namespaced_config_map("shop", {"metadata": {"generateName": "g-"}})
    meta = made.metadata
    assert meta.name.startswith("g-") and meta.uid and meta.resource_version
    assert meta.creation_timestamp


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "reason", "about"),
    [
        ("GET", f"{SHOP}/pods/nope", None, 404, "NotFound", {"name": "nope", "kind": "pods"}),
        (
            "GET",
            f"{ISVC}/nope",
            None,
            404,
            "NotFound",
            {"name": "nope", "kind": "inferenceservices", "group": "serving.kserve.io"},
        ),
        ("POST", f"{SHOP}/configmaps", {"metadata": {"name": "A_b"}}, 422, "Invalid", {}),
        ("POST", "/api/v1/namespaces/no/configmaps", config_map("x"), 404, "NotFound", {}),
        ("POST", f"{SHOP}/configmaps?dryRun=Some", config_map("x"), 422, "Invalid", {}),
        ("GET", f"{SHOP}/nothings", None, 404, "NotFound", {}),
        ("POST", f"{SHOP}/configmaps/x", None, 405, "MethodNotAllowed", {}),
        ("GET", f"{SHOP}/pods/x/attach", None, 405, "MethodNotAllowed", {}),
    ],
)
def test_refusals(
    practice: Any, method: str, path: str, body: Any, code: int, reason: str, about: dict[str, str]
) -> None:
    answered, status = practice.raw(method, path, body)
    assert (answered, status["kind"], status["reason"]) == (code, "Status", reason)
    assert about.items() <= status.get("details", {}).items()


def test_messages_name_custom_kinds_in_full(practice: Any) -> None:
    _, status = practice.raw("GET", f"{ISVC}/nope")
    assert status["message"] == 'inferenceservices.serving.kserve.io "nope" not found'


def test_what_cannot_be_read_is_refused(practice: Any) -> None:
    for kind, code in (("application/vnd.kubernetes.protobuf", 400), ("application/cbor", 415)):
        assert practice.raw("POST", f"{SHOP}/secrets", {}, Content_Type=kind)[0] == code
    assert practice.raw("GET", f"{SHOP}/pods", Accept="application/cbor")[0] == 406
    for body, word in ((b"\n\t\n\2v1\x12\3Pod", "kind Pod"), (STRANGE, "field 99 of ObjectMeta")):
        kind = "application/vnd.kubernetes.protobuf"
        answer = practice.request("POST", f"{SHOP}/pods", b"k8s\0" + body, Content_Type=kind)
        assert answer.status == 415 and word in answer.json()["message"]


def test_a_body_of_the_wrong_shape_is_invalid(practice: Any) -> None:
    path = "/apis/apps/v1/namespaces/shop/deployments"
    body: dict[str, Any] = {"metadata": {"name": "d"}, "spec": {"replicas": "x"}}
    code, status = practice.raw("POST", path, body)
    assert code == 400
    assert "cannot unmarshal string into Go struct field" in status["message"]
    body["spec"]["replicas"] = 1
    code, status = practice.raw("POST", path, body)
    fields = {cause["field"] for cause in status["details"]["causes"]}
    assert code == 422 and "spec.selector" in fields


def test_unknown_fields_are_dropped_or_refused_when_strict(practice: Any) -> None:
    body = {"metadata": {"name": "unknown"}, "spec": {"ports": [{"port": 1}], "nope": 1}}
    code, status = practice.raw("POST", f"{SHOP}/services?fieldValidation=Strict", body)
    assert code == 400 and 'unknown field "spec.nope"' in status["message"]
    assert "nope" not in practice.raw("POST", f"{SHOP}/services?dryRun=All", body)[1]["spec"]


def test_conflicts(practice: Any, name: str) -> None:
    core = practice.core
    with pytest.raises(ApiException) as again:
        core.create_namespaced_config_map("shop", config_map(name))
    assert json.loads(str(again.value.body))["reason"] == "AlreadyExists"
    stale = core.read_namespaced_config_map(name, "shop")
    core.patch_namespaced_config_map(name, "shop", {"data": {"b": "2"}})
    with pytest.raises(ApiException) as late:
        core.replace_namespaced_config_map(name, "shop", stale)
    assert (late.value.status, json.loads(str(late.value.body))["reason"]) == (409, "Conflict")


def test_replacing_a_custom_object_needs_its_version(practice: Any) -> None:
    body: dict[str, Any] = {"metadata": {"name": "llm"}, "spec": {"predictor": {}}}
    assert practice.raw("POST", ISVC, body)[0] == 201
    assert practice.raw("PUT", f"{ISVC}/llm", body)[0] == 422
    assert practice.raw("PATCH", f"{ISVC}/llm", {}, Content_Type=STRATEGIC)[0] == 415
    patched = practice.custom.patch_namespaced_custom_object(
        "serving.kserve.io",
        "v1beta1",
        "shop",
        "inferenceservices",
        "llm",
        {"spec": {"explainer": {}}},
    )
    assert patched["spec"] == {"predictor": {}, "explainer": {}}
    assert practice.raw("DELETE", f"{ISVC}/llm")[1]["details"]["name"] == "llm"


@pytest.mark.parametrize(
    ("predictor", "field", "said"),
    [
        ({"minReplicas": "2"}, "minReplicas", "must be of type integer"),
        ({"scaleTarget": 0.5}, "scaleTarget", "must be of type integer"),
        ({"canaryTrafficPercent": "10%"}, "canaryTrafficPercent", "must be of type integer"),
        ({"scaleMetric": "gpu"}, "scaleMetric", 'supported values: "cpu", "memory"'),
        ({"model": {"storageUri": "s3://m/x"}}, "model.modelFormat", "Required value"),
        ({"model": {"modelFormat": "sklearn"}}, "model.modelFormat", "must be of type object"),
        ({"model": {"modelFormat": {}}}, "model.modelFormat.name", "Required value"),
        (
            {"model": {"modelFormat": {"name": "sklearn", "version": 1}}},
            "model.modelFormat.version",
            "must be of type string",
        ),
        ({"containers": {"name": "app"}}, "containers", "must be of type array"),
        ({"nodeSelector": {"gpu": True}}, "nodeSelector.gpu", "must be of type string"),
    ],
)
def test_an_inference_service_has_a_schema(
    practice: Any, predictor: dict[str, Any], field: str, said: str
) -> None:
    body = {"metadata": {"name": "llm"}, "spec": {"predictor": predictor}}
    code, answer = practice.raw("POST", ISVC, body)
    assert (code, answer["reason"]) == (422, "Invalid"), answer
    (cause,) = answer["details"]["causes"]
    assert cause["field"] == f"spec.predictor.{field}" and said in cause["message"]


def test_an_inference_service_keeps_what_its_schema_knows(practice: Any) -> None:
    known: dict[str, Any] = {
        "minReplicas": 0,
        "timeout": 60,
        "model": {
            "modelFormat": {"name": "sklearn", "version": "1"},
            "resources": {"requests": {"cpu": 1, "memory": "1Gi"}},
            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        },
        "affinity": {"nodeAffinity": {"anything": [1]}},
        "batcher": {"maxBatchSize": 8},
    }
    wrong = {**known, "minReplica": 3, "model": {**known["model"], "storageURI": "s3://m/x"}}
    body = {"metadata": {"name": "llm"}, "spec": {"predictor": wrong}}
    code, answer = practice.raw("POST", f"{ISVC}?fieldValidation=Strict&dryRun=All", body)
    assert code == 400
    for field in ("minReplica", "model.storageURI"):
        assert f'unknown field "spec.predictor.{field}"' in answer["message"]
    code, answer = practice.raw("POST", f"{ISVC}?dryRun=All", body)
    assert (code, answer["spec"]["predictor"]) == (201, known)


def test_merge_patch_removes_by_null(practice: Any, name: str) -> None:
    body = {"data": {"a": None, "b": "2"}}
    _, made = practice.raw("PATCH", f"{SHOP}/configmaps/{name}", body, Content_Type=MERGE)
    assert made["data"] == {"b": "2"}


def test_json_patch_tests_before_it_changes(practice: Any, name: str) -> None:
    patch = practice.core.patch_namespaced_config_map
    made = patch(name, "shop", [{"op": "add", "path": "/data/b", "value": "2"}])
    assert made.data == {"a": "1", "b": "2"}
    with pytest.raises(ApiException) as refused:
        patch(name, "shop", [{"op": "test", "path": "/data/a", "value": "9"}])
    assert refused.value.status == 422


def test_strategic_patch_merges_containers_by_name(practice: Any) -> None:
    pod = {
        "metadata": {"name": "two"},
        "spec": {
            "nodeName": "nowhere",
            "containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}],
        },
    }
    practice.core.create_namespaced_pod("shop", pod)
    patch = {"spec": {"containers": [{"name": "b", "image": "b:2"}]}}
    _, made = practice.raw("PATCH", f"{SHOP}/pods/two", patch, Content_Type=STRATEGIC)
    assert [c["image"] for c in made["spec"]["containers"]] == ["a:1", "b:2"]
    practice.core.delete_namespaced_pod("two", "shop")


def test_server_side_apply_owns_fields(practice: Any, name: str) -> None:
    path, kind = f"{SHOP}/configmaps/{name}-ssa", "application/apply-patch+yaml"

    def apply(manager: str, data: dict[str, str], more: str = "") -> tuple[int, Any]:
        body = {"apiVersion": "v1", "kind": "ConfigMap", **config_map(f"{name}-ssa", data)}
        asked = f"{path}?fieldManager={manager}{more}"
        code, made = practice.raw("PATCH", asked, body, Content_Type=kind)
        return code, made.get("data", made)

    assert apply("one", {"a": "1", "b": "1"}) == (201, {"a": "1", "b": "1"})
    assert apply("two", {"c": "1"})[1] == {"a": "1", "b": "1", "c": "1"}
    code, refused = apply("two", {"a": "2"})
    assert code == 409 and refused["details"]["causes"][0]["field"] == ".data.a"
    assert apply("one", {"a": "1"})[1] == {"a": "1", "c": "1"}  # b was given up
    assert apply("two", {"a": "2"}, "&force=true")[1] == {"a": "2"}


def test_dry_run_changes_nothing(practice: Any, name: str) -> None:
    core = practice.core
    before = core.read_namespaced_config_map(name, "shop").metadata.resource_version
    core.create_namespaced_config_map("shop", config_map(f"{name}-dry"), dry_run="All")
    core.patch_namespaced_config_map(name, "shop", {"data": {"b": "2"}}, dry_run="All")
    core.delete_namespaced_config_map(name, "shop", body={"dryRun": ["All"]})
    assert core.read_namespaced_config_map(name, "shop").metadata.resource_version == before
    assert practice.raw("GET", f"{SHOP}/configmaps/{name}-dry")[0] == 404


def test_owned_objects_go_with_their_owner(practice: Any, name: str) -> None:
    owner = practice.core.read_namespaced_config_map(name, "shop")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owner.metadata.uid}
    child = config_map(f"{name}-child", ownerReferences=[reference])
    practice.core.create_namespaced_config_map("shop", child)
    practice.core.delete_namespaced_config_map(name, "shop")
    assert practice.raw("GET", f"{SHOP}/configmaps/{name}-child")[0] == 404


def test_deletion_asks_for_the_right_object(practice: Any, name: str) -> None:
    body = {"preconditions": {"uid": "another"}}
    assert practice.raw("DELETE", f"{SHOP}/configmaps/{name}", body)[0] == 409
    assert (
        practice.raw("DELETE", f"{SHOP}/configmaps?fieldSelector=metadata.name%3D{name}")[0] == 200
    )
    assert practice.raw("GET", f"{SHOP}/configmaps/{name}")[0] == 404


def test_status_changes_only_through_its_subresource(practice: Any, fleet: list[str]) -> None:
    patch = {"status": {"message": "m"}, "spec": {"nodeName": "elsewhere"}}
    made = practice.core.patch_namespaced_pod_status(fleet[0], "shop", patch)
    assert (made.status.message, made.spec.node_name) == ("m", "node-a")
    made = practice.core.patch_namespaced_pod(fleet[0], "shop", {"status": {"message": "n"}})
    assert made.status.message == "m"
