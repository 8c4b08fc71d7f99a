"""The practice Kubernetes API as the official client sees it: objects, not what they do."""

from __future__ import annotations

import inspect
import json
import stat
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, dynamic, watch
from kubernetes.client.exceptions import ApiException

from runbook_lib.practice.kubernetes import kubelets

SHOP = "/api/v1/namespaces/shop"
ISVC = "/apis/serving.kserve.io/v1beta1/namespaces/shop/inferenceservices"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"

# A ConfigMap in protobuf whose metadata has a field 99, which is none.
STRANGE = b"\n\x0f\n\2v1\x12\tConfigMap\x12\5\n\3\x98\6\1"
RECORDED = {"name": "c", "image": "i", "imageID": "", "ready": True, "restartCount": 0}


def config_map(name: str, data: Any = None, **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **meta}, "data": data or {}}


@pytest.fixture
def name(practice: Any) -> Iterator[str]:
    """The name of a ConfigMap {"a": "1"} that is there for one test."""
    made = f"cm-{uuid.uuid4().hex[:8]}"
    practice.core.create_namespaced_config_map("shop", config_map(made, {"a": "1"}))
    yield made
    practice.raw("DELETE", f"{SHOP}/configmaps/{made}")


@pytest.fixture(scope="module")
def fleet(practice: Any) -> list[str]:
    """Five recorded pods of two apps."""
    pods: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"recorded-{number}",
                "namespace": "shop",
                "labels": {"set": "a" if number < 3 else "b"}
                | ({"odd": "y"} if number % 2 else {}),
            },
            "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "node-a"},
            "status": {"phase": "Running", "containerStatuses": [RECORDED]},
        }
        for number in range(5)
    ]
    practice.call(practice.api.load, pods)
    return [pod["metadata"]["name"] for pod in pods]


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


def test_the_api_knows_nothing_of_what_works_behind_it() -> None:
    folder = Path(inspect.getfile(kubelets)).parent
    texts = [path.read_text() for path in folder.rglob("*.py")]
    assert len(texts) > 20 and not [t for t in texts if "runbook_lib.practice.cluster" in t]
