"""Containers of the practice cluster: what breaks them, what they say, what mends them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException
from practice.shop import age, clear

from runbook_lib.practice.cluster.program import PROGRAM, programs

JWT = {"name": "JWT_SECRET", "valueFrom": {"secretKeyRef": {"name": "jwt", "key": "jwt-secret"}}}


@pytest.fixture(autouse=True)
def clean(practice: Any) -> Iterator[None]:
    """Afterwards nodes are healthy and shop is empty."""
    yield
    clear(practice)


def secret(practice: Any, data: dict[str, str]) -> None:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    body = {"metadata": {"name": "jwt"}, "data": encoded}
    practice.core.create_namespaced_secret("shop", body)


def log(practice: Any, app: str, **query: Any) -> str:
    pod = practice.pods(app)[0]["metadata"]["name"]
    text: str = practice.core.read_namespaced_pod_log(pod, "shop", **query)
    return text


def test_a_missing_key_is_a_configuration_error_until_it_is_there(practice: Any) -> None:
    secret(practice, {"other": "x"})
    practice.deploy("api", container={"env": [JWT]})
    status = practice.container("api", waiting="CreateContainerConfigError")
    message = "couldn't find key jwt-secret in Secret shop/jwt"
    assert status["state"]["waiting"]["message"] == message
    practice.until(lambda: "Failed" in practice.events("api-"), "a Failed event")
    assert practice.events("api-")["Failed"]["message"] == f"Error: {message}"
    practice.core.patch_namespaced_secret("jwt", "shop", {"stringData": {"jwt-secret": "s"}})
    practice.until_ready("api")


def test_a_missing_secret_is_named(practice: Any) -> None:
    practice.deploy("api", container={"envFrom": [{"secretRef": {"name": "gone"}}]})
    status = practice.container("api", waiting="CreateContainerConfigError")
    assert status["state"]["waiting"]["message"] == 'secret "gone" not found'


def test_a_missing_optional_key_crashes_the_application(practice: Any) -> None:
    secret(practice, {})
    reference = {**JWT["valueFrom"]["secretKeyRef"], "optional": True}  # type: ignore[index]
    env = [{"name": "JWT_SECRET", "valueFrom": {"secretKeyRef": reference}}]
    program = {"needs_env": ["JWT_SECRET"], "log": ["starting"], "started_ago": "14m"}
    practice.deploy("api", program, container={"env": env})
    status = practice.container("api", waiting="CrashLoopBackOff")
    pod = practice.pods("api")[0]
    meta = pod["metadata"]
    assert status["state"]["waiting"]["message"] == (
        "back-off 5m0s restarting failed container=app "
        f"pod={meta['name']}_{meta['namespace']}({meta['uid']})"
    )
    assert status["lastState"]["terminated"]["exitCode"] == 1
    # 14 minutes of back-off: at 0, 10, 20, 40, 80, 160 seconds and so on.
    assert status["restartCount"] >= 7
    assert age(meta["creationTimestamp"]) > 13 * 60
    assert log(practice, "api").splitlines()[-1] == "KeyError: 'JWT_SECRET'"
    assert log(practice, "api", previous=True).startswith("starting\n")
    event = practice.until(lambda: practice.events("api-").get("BackOff"), "a BackOff event")
    assert event["count"] > 7 and age(event["firstTimestamp"]) > 10 * 60
    # So old as well is what made it; messages name the pod, or its ReplicaSet.
    listed = practice.raw("GET", "/api/v1/namespaces/shop/events")[1]["items"]
    made = {e["reason"]: e for e in listed if meta["ownerReferences"][0]["name"] in e["message"]}
    for reason in ("ScalingReplicaSet", "SuccessfulCreate", "Scheduled"):
        assert age(made[reason]["firstTimestamp"]) > 13 * 60
    practice.core.patch_namespaced_secret("jwt", "shop", {"stringData": {"jwt-secret": "s"}})
    practice.until_ready("api")


def test_a_restarted_rollout_does_not_repeat_the_past(practice: Any) -> None:
    practice.deploy("api", {"exit_code": 1, "started_ago": "2h"})
    practice.container("api", waiting="CrashLoopBackOff")
    template = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}
    practice.apps.patch_namespaced_deployment("api", "shop", {"spec": {"template": template}})

    def young() -> bool:
        return any(age(p["metadata"]["creationTimestamp"]) < 60 for p in practice.pods("api"))

    practice.until(young, "a young pod")


def test_a_container_killed_for_memory(practice: Any) -> None:
    practice.deploy("api", {"oom": True})
    ended = practice.container("api", last="OOMKilled")["lastState"]["terminated"]
    assert ended["exitCode"] == 137


def test_a_command_that_is_not_there(practice: Any) -> None:
    error = 'exec: "servr": executable file not found in $PATH'
    practice.deploy("api", {"start_error": error})
    ended = practice.container("api", last="StartError")["lastState"]["terminated"]
    assert ended["exitCode"] == 128 and f"{error}: unknown" in ended["message"]
    practice.deploy("shell", {"exit_code": 127, "log": ["sh: 1: servr: not found"]})
    ended = practice.container("shell", last="Error")["lastState"]["terminated"]
    assert ended["exitCode"] == 127
    assert "servr: not found" in log(practice, "shell", previous=True)


def test_a_failing_liveness_probe(practice: Any) -> None:
    practice.deploy("api", {"liveness_fails": True, "exit_code": 143})
    assert practice.container("api", last="Error")["lastState"]["terminated"]["exitCode"] == 143
    practice.until(lambda: {"Unhealthy", "Killing"} <= set(practice.events("api-")), "the events")
    message = practice.events("api-")["Killing"]["message"]
    assert message == "Container app failed liveness probe, will be restarted"


def test_an_image_that_cannot_be_pulled(practice: Any) -> None:
    practice.deploy("api", {"image_error": "registry/api:1: not found"})
    status = practice.container("api", waiting="ImagePullBackOff")
    assert 'Back-off pulling image "registry/api:1"' in status["state"]["waiting"]["message"]
    with pytest.raises(ApiException) as refused:
        log(practice, "api")
    assert refused.value.status == 400


def test_a_failing_init_container_holds_back_the_others(practice: Any) -> None:
    annotations = {"practice.runbook/program": json.dumps({"init": {"exit_code": 2}})}
    pod = {
        "metadata": {"name": "held", "labels": {"app": "held"}, "annotations": annotations},
        "spec": {
            "initContainers": [{"name": "init", "image": "i"}],
            "containers": [{"name": "app", "image": "i"}],
        },
    }
    practice.core.create_namespaced_pod("shop", pod)
    practice.container("held", waiting="PodInitializing")

    def looping() -> bool:
        status = practice.pods("held")[0]["status"].get("initContainerStatuses", [{}])[0]
        return bool("CrashLoopBackOff" in json.dumps(status.get("state", {})))

    practice.until(looping, "an init container in back-off")
    mended = {"metadata": {"annotations": {"practice.runbook/program": None}}}
    practice.core.patch_namespaced_pod("held", "shop", mended)
    practice.until_ready("held")


def test_a_volume_of_a_missing_config_map(practice: Any) -> None:
    practice.deploy("api", volumes=[{"name": "config", "configMap": {"name": "gone"}}])
    event = practice.until(lambda: practice.events("api-").get("FailedMount"), "FailedMount")
    assert event["message"] == (
        'MountVolume.SetUp failed for volume "config" : configmap "gone" not found'
    )
    practice.container("api", waiting="ContainerCreating")


def test_logs_by_tail_time_and_stamp(practice: Any) -> None:
    practice.deploy("api", {"log": ["one", "two", "three"]})
    practice.until_ready("api")
    assert log(practice, "api", tail_lines=2) == "two\nthree\n"
    assert log(practice, "api", since_seconds=600) == "one\ntwo\nthree\n"
    assert log(practice, "api", tail_lines=1, timestamps=True).endswith("Z three\n")
    for wrong in ({"previous": True}, {"container": "nope"}):
        with pytest.raises(ApiException) as refused:
            log(practice, "api", **wrong)
        assert refused.value.status == 400


def test_a_program_that_cannot_be_read_is_reported(practice: Any) -> None:
    practice.deploy("api", {"crashes": True})
    event = practice.until(lambda: practice.events("api-").get("PracticeProgramInvalid"), "event")
    assert "unknown crashes" in event["message"]


@pytest.mark.parametrize(
    "program",
    [
        {"exit_code": "1"},
        {"oom": 1},
        {"log": "a line"},
        {"started_ago": "long"},
        {"usage": {"cpu": "much"}},
        {"needs_host": ["database"]},
        {"answers": {"/": "fine"}},
        {"run_seconds": True},
    ],
)
def test_a_program_of_the_wrong_form_is_refused(program: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(program)) + "|is no"):
        programs({PROGRAM: json.dumps({"app": program})})
