"""What an object must be to be taken, and what is filled in."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from contract.cluster import Space, causes, refused
from contract.objects import config_map, container, deployment, pod, service


def test_a_value_of_the_wrong_type_is_a_bad_request(space: Space, name: str) -> None:
    with refused(400, "BadRequest"):
        space.deployments.create(deployment(name, replicas="three"))  # type: ignore[arg-type]


def test_a_body_of_another_kind_is_a_bad_request(space: Space, name: str) -> None:
    with refused(400, "BadRequest"):
        space.config_maps.create(pod(name))


def test_a_pod_needs_containers(space: Space, name: str) -> None:
    with refused(422, "Invalid") as status:
        space.pods.create(pod(name, containers=[]))
    assert causes(status) == {"spec.containers": "FieldValueRequired"}
    assert status["details"]["kind"] == "Pod"


def test_a_deployment_needs_a_selector_that_selects_its_pods(space: Space, name: str) -> None:
    with refused(422, "Invalid") as status:
        space.deployments.create(deployment(name, selector={"matchLabels": {"app": "other"}}))
    assert causes(status) == {"spec.template.metadata.labels": "FieldValueInvalid"}


def test_the_selector_of_a_deployment_never_changes(space: Space, name: str) -> None:
    space.deployments.create(deployment(name, replicas=0))
    labels = {"app": name, "more": "yes"}
    change = {
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}
    }
    with refused(422, "Invalid") as status:
        space.deployments.patch(name, change)
    assert causes(status) == {"spec.selector": "FieldValueInvalid"}
    space.deployments.delete(name)


@pytest.mark.parametrize(
    ("resources", "code"),
    [
        ({"limits": {"memory": "lots"}}, 400),
        ({"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}, 422),
        ({"requests": {"cpu": "-1"}}, 422),
    ],
    ids=["no quantity", "a request above its limit", "a negative request"],
)
def test_resources_that_make_no_sense_are_refused(
    space: Space, name: str, resources: Any, code: int
) -> None:
    with refused(code):
        space.pods.create(pod(name, containers=[container(resources=resources)]))


def test_the_image_of_a_pod_may_change_and_most_of_its_spec_may_not(
    space: Space, name: str
) -> None:
    space.pods.create(pod(name))
    image = [{"op": "replace", "path": "/spec/containers/0/image", "value": "example:2"}]
    assert space.pods.patch(name, image, "json")["spec"]["containers"][0]["image"] == "example:2"
    with refused(422, "Invalid"):
        space.pods.patch(name, {"spec": {"restartPolicy": "Never"}})
    space.pods.delete(name, gracePeriodSeconds=0)


def test_an_unknown_field_is_dropped_with_a_warning(space: Space, name: str) -> None:
    answer = space.cluster.ask("POST", space.config_maps.path, config_map(name) | {"dat": {}})
    assert answer.status == 201 and "dat" not in answer.body
    assert answer.headers["Warning"] == r'299 - "unknown field \"dat\""'


def test_an_unknown_field_is_a_bad_request_when_asked_to_be_strict(space: Space, name: str) -> None:
    with refused(400, "BadRequest") as status:
        space.config_maps.create(config_map(name) | {"dat": {}}, fieldValidation="Strict")
    assert 'unknown field "dat"' in status["message"]


def test_an_immutable_config_map_keeps_its_data(space: Space, cm: str) -> None:
    space.config_maps.patch(cm, {"immutable": True})
    with refused(422, "Invalid"):
        space.config_maps.patch(cm, {"data": {"a": "2"}})


def test_a_secret_takes_plain_text_and_gives_base64(space: Space, name: str) -> None:
    made = space.secrets.create({"metadata": {"name": name}, "stringData": {"a": "secret"}})
    assert base64.b64decode(made["data"]["a"]) == b"secret"
    assert "stringData" not in made and made["type"] == "Opaque"
    space.secrets.delete(name)


def test_a_secret_that_is_no_base64_is_a_bad_request(space: Space, name: str) -> None:
    with refused(400, "BadRequest"):
        space.secrets.create({"metadata": {"name": name}, "data": {"a": "!"}})


def test_the_defaults_of_a_pod_are_filled_in(space: Space, name: str) -> None:
    limits = {"limits": {"memory": "1Gi"}}
    spec = space.pods.create(pod(name, containers=[container(resources=limits)]))["spec"]
    assert spec["restartPolicy"] == "Always"
    assert spec["serviceAccountName"] == "default"
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert spec["containers"][0]["resources"]["requests"] == {"memory": "1Gi"}
    space.pods.delete(name, gracePeriodSeconds=0)


def test_the_defaults_of_a_deployment_are_filled_in(space: Space, name: str) -> None:
    spec = space.deployments.create(deployment(name), dryRun="All")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
    assert spec["progressDeadlineSeconds"] == 600
    assert spec["revisionHistoryLimit"] == 10


def test_a_service_gets_an_address_of_its_own(space: Space, name: str) -> None:
    spec = space.services.create(service(name))["spec"]
    assert spec["clusterIP"] and spec["clusterIPs"] == [spec["clusterIP"]]
    assert (spec["type"], spec["ports"][0]["protocol"]) == ("ClusterIP", "TCP")
    assert spec["ports"][0]["targetPort"] == 80
    space.services.delete(name)


def test_a_pod_of_an_unknown_service_account_is_forbidden(space: Space, name: str) -> None:
    with refused(403, "Forbidden"):
        space.pods.create(pod(name, serviceAccountName=name))
