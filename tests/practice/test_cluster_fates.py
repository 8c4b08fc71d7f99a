"""How containers and pods end, beyond a plain crash, and what of it can be seen."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from practice.shop import annotate_node, empty, program, put, tell

from runbook_lib.practice.objects.store import stamp

DATA = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
MEMORY = {"resources": {"requests": {"memory": "256Mi"}, "limits": {"memory": "1Gi"}}}


@pytest.fixture(autouse=True)
def clean(practice: Any) -> Iterator[None]:
    yield
    empty(practice)


def previous(practice: Any, app: str) -> str:
    """The log of the app's last run, once it has crashed."""
    practice.container(app, last="Error")
    pod = practice.pods(app)[0]["metadata"]["name"]
    text: str = practice.core.read_namespaced_pod_log(pod, "shop", previous=True)
    return text


def test_given_last_lines(practice: Any) -> None:
    lines = ["Traceback (most recent call last):", "ValueError: no such table: runs"]
    practice.deploy("api", {"exit_code": 3, "log": ["starting"], "last_log": lines})
    assert previous(practice, "api").splitlines() == ["starting", *lines]
    status = practice.container("api", last="Error")
    assert status["lastState"]["terminated"]["exitCode"] == 3


def test_the_last_lines_as_a_termination_message(practice: Any) -> None:
    container = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    practice.deploy("api", {"exit_code": 1, "last_log": ["it broke"]}, container=container)
    ended = practice.container("api", last="Error")["lastState"]["terminated"]
    assert ended["message"] == "it broke"


def test_a_full_volume_and_one_that_may_not_be_written(practice: Any) -> None:
    volumes = [{"name": "data", "emptyDir": {}}]
    practice.deploy("full", {"full_volume": "data"}, container=DATA, volumes=volumes)
    assert "[Errno 28] No space left on device: '/data/data.tmp'" in previous(practice, "full")
    practice.deploy("shut", {"unwritable": "/data/lock"})
    assert "[Errno 13] Permission denied: '/data/lock'" in previous(practice, "shut")


@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("store:80", "[Errno 111] Connection refused"),
        ("nowhere:80", "[Errno -2] Name or service not known"),
    ],
)
def test_a_dependency_that_is_down(practice: Any, host: str, error: str) -> None:
    dns(practice)
    port = {"port": 80, "targetPort": 8080}
    service = {"metadata": {"name": "store"}, "spec": {"selector": {"app": "x"}, "ports": [port]}}
    put(practice, "/api/v1/namespaces/shop/services", service)
    practice.deploy("api", {"needs_host": [host]})
    assert previous(practice, "api").splitlines()[0] == f"ERROR: cannot connect to {host}"
    assert error in previous(practice, "api")


def dns(practice: Any) -> None:
    """A working cluster DNS in kube-system; made once."""
    from practice.conftest import deployment

    made = deployment("kube-dns")
    made["metadata"]["namespace"] = "kube-system"
    made["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"containerPort": 53}]
    practice.raw("POST", "/apis/apps/v1/namespaces/kube-system/deployments", made)
    port = {"port": 53, "protocol": "UDP"}
    spec = {"selector": {"app": "kube-dns"}, "clusterIP": "172.20.0.10", "ports": [port]}
    body = {"metadata": {"name": "kube-dns"}, "spec": spec}
    practice.raw("POST", "/api/v1/namespaces/kube-system/services", body)

    def ready() -> bool:
        path = "/apis/apps/v1/namespaces/kube-system/deployments/kube-dns"
        return bool(practice.raw("GET", path)[1].get("status", {}).get("readyReplicas"))

    practice.until(ready, "the cluster's DNS")


def test_memory_that_grows_until_it_is_too_much(practice: Any) -> None:
    behaviour = {"usage": {"memory": "100Mi"}, "memory_fills_in": "200s"}  # 1 s, scaled
    practice.deploy("api", behaviour, container=MEMORY)
    practice.until_ready("api")
    seen: list[int] = []

    def grown() -> bool:
        path = "/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods"
        code, answer = practice.raw("GET", path)
        for item in answer["items"] if code == 200 else ():
            seen.append(int(item["containers"][0]["usage"]["memory"].removesuffix("Ki")))
        return len(seen) > 1 and max(seen) > min(seen) > 100_000

    practice.until(grown, "growing memory")
    ended = practice.container("api", last="OOMKilled")["lastState"]["terminated"]
    assert ended["exitCode"] == 137


def test_a_limit_below_what_it_needs_and_a_higher_one(practice: Any) -> None:
    practice.deploy("api", {"usage": {"memory": "1500Mi"}}, container=MEMORY)
    assert practice.container("api", last="OOMKilled")["lastState"]["terminated"]["exitCode"] == 137
    limits = {"name": "app", "resources": {"limits": {"memory": "2Gi"}}}
    raised = {"spec": {"template": {"spec": {"containers": [limits]}}}}
    practice.apps.patch_namespaced_deployment("api", "shop", raised)

    def only_new() -> bool:
        statuses = [pod["status"].get("containerStatuses") for pod in practice.pods("api")]
        return [(s[0]["ready"], s[0]["restartCount"]) for s in statuses if s] == [(True, 0)]

    practice.until(only_new, "a container that fits")


def test_the_node_runs_out_of_memory(practice: Any) -> None:
    practice.deploy("api", {"node_oom": True}, container={"command": ["/usr/bin/train"]})
    assert practice.container("api", last="OOMKilled")["lastState"]["terminated"]["exitCode"] == 137
    node = practice.pods("api")[0]["spec"]["nodeName"]
    assert tell(practice, node, "SystemOOM").startswith(
        "System OOM encountered, victim process: train, pid: "
    )


def test_only_a_child_process_is_killed(practice: Any) -> None:
    practice.deploy("api", {"child_oom": True})
    pod = practice.until_ready("api")[0]
    text = practice.core.read_namespaced_pod_log(pod["metadata"]["name"], "shop")
    assert "was sent SIGKILL! Perhaps out of memory?" in text
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def test_killed_for_another_reason(practice: Any) -> None:
    practice.deploy("api", {"exit_code": 137})
    ended = practice.container("api", last="Error")["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")


def test_a_slow_stop_is_cut_off_at_the_grace_period(practice: Any) -> None:
    stop = {"lifecycle": {"preStop": {"exec": {"command": ["sleep", "300"]}}}}
    practice.deploy("api", {"stop_seconds": 300}, container=stop)
    name = practice.until_ready("api")[0]["metadata"]["name"]
    practice.core.delete_namespaced_pod(name, "shop")
    assert "did not complete in 30s" in tell(practice, name, "FailedPreStopHook")
    practice.until(
        lambda: name not in [pod["metadata"]["name"] for pod in practice.pods("api")], "its end"
    )


def test_a_running_pod_takes_another_course_without_a_restart(practice: Any) -> None:
    practice.deploy("api")
    pod = practice.until_ready("api")[0]
    program(practice, pod["metadata"]["name"], {"not_ready": True})
    practice.until(
        lambda: not practice.pods("api")[0]["status"]["containerStatuses"][0]["ready"], ""
    )
    program(practice, pod["metadata"]["name"], None)
    again = practice.until_ready("api")[0]
    assert again["metadata"]["uid"] == pod["metadata"]["uid"]
    assert again["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_node_short_of_memory_evicts_the_greediest(practice: Any) -> None:
    practice.deploy("greedy", {"usage": {"memory": "900Mi"}}, container=MEMORY)
    practice.deploy("modest", {"usage": {"memory": "100Mi"}}, container=MEMORY)
    pod = practice.until_ready("greedy")[0]
    practice.until_ready("modest")
    node = pod["spec"]["nodeName"]
    annotate_node(practice, node, stats='{"memory_used_percent": 99.9}', evict="1")
    message = tell(practice, pod["metadata"]["name"], "Evicted")
    assert message.startswith("The node was low on resource: memory. Threshold quantity: 100Mi, ")
    assert "Container app was using 921600Ki, request is 256Mi, has larger" in message
    status = practice.core.read_namespaced_pod(pod["metadata"]["name"], "shop").status
    assert (status.phase, status.reason) == ("Failed", "Evicted")
    pods = practice.until(lambda: list(practice.until_ready("greedy")), "its successor")
    assert pods[0]["spec"]["nodeName"] != node


def test_a_stateful_pod_that_was_evicted_is_made_anew(practice: Any) -> None:
    labels = {"app": "db"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "app", "image": "i"}]},
    }
    spec = {"selector": {"matchLabels": labels}, "template": template, "serviceName": "db"}
    body = {"metadata": {"name": "db"}, "spec": spec}
    practice.apps.create_namespaced_stateful_set("shop", body)
    old = practice.until_ready("db")[0]
    node = old["spec"]["nodeName"]
    annotate_node(practice, node, stats='{"fs_used_percent": 97}', evict="5")
    assert "is recreating failed Pod db-0" in tell(practice, "db", "RecreatingFailedPod")

    def anew() -> bool:
        return practice.until_ready("db")[0]["metadata"]["uid"] != old["metadata"]["uid"]

    practice.until(anew, "db-0 made anew")


def test_no_address_is_left_for_pods(practice: Any) -> None:
    for name in ("node-a", "node-b", "node-c"):
        annotate_node(practice, name, network="no-free-ips")
    practice.deploy("web")
    message = tell(practice, "web-", "FailedCreatePodSandBox")
    assert message.startswith("Failed to create pod sandbox: rpc error: code = Unknown desc = ")
    assert message.endswith("add cmd: failed to assign an IP address to container")
    practice.container("web", waiting="ContainerCreating")
    for name in ("node-a", "node-b", "node-c"):
        annotate_node(practice, name, network=None)
    practice.until_ready("web")


def test_a_node_that_comes_and_goes(practice: Any) -> None:
    text = json.dumps({"not_ready": "PLEG is not healthy", "flaps": "200s"})
    annotate_node(practice, "node-b", kubelet=text, since="1h")
    seen: set[str] = set()

    def both() -> bool:
        conditions = practice.raw("GET", "/api/v1/nodes/node-b")[1]["status"]["conditions"]
        seen.update(c["status"] for c in conditions if c["type"] == "Ready")
        return seen >= {"True", "False"}

    practice.until(both, "both states")
    items = practice.raw("GET", "/api/v1/events")[1]["items"]
    counts = [e["count"] for e in items if e["reason"] == "NodeNotReady"]
    assert max(counts) >= 18


def test_a_node_that_was_not_ready_and_is_again(practice: Any) -> None:
    def well() -> bool:
        conditions = practice.raw("GET", "/api/v1/nodes/node-b")[1]["status"]["conditions"]
        return [c["status"] for c in conditions if c["type"] == "Ready"] == ["True"]

    practice.until(well, "the node well again, if a test before has made it ill")
    text = json.dumps({"not_ready": "container runtime is down", "lasted": "4m"})
    annotate_node(practice, "node-b", kubelet=text, since="49m")
    quarter = stamp(time.time() - 15 * 60)

    def told() -> Any:
        path = "/api/v1/events?fieldSelector=involvedObject.name=node-b"
        items = practice.raw("GET", path)[1]["items"]
        words = ("NodeNotReady", "NodeReady")
        at = {e["reason"]: e["lastTimestamp"] for e in items if e["reason"] in words}
        return at if len(at) == 2 and max(at.values()) < quarter else None

    at = practice.until(told, "the two events of long ago")
    assert at["NodeNotReady"] < at["NodeReady"]
    node = practice.raw("GET", "/api/v1/nodes/node-b")[1]
    [ready] = [c for c in node["status"]["conditions"] if c["type"] == "Ready"]
    assert (ready["status"], ready["lastTransitionTime"]) == ("True", at["NodeReady"])
    assert "taints" not in node["spec"]
