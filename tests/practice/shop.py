"""Namespace shop of the practice cluster, emptied after a test, and its nodes mended."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

from practice.conftest import NODES

__all__ = [
    "age",
    "annotate_node",
    "clear",
    "empty",
    "program",
    "put",
    "run",
    "tell",
    "until_condition",
    "waiting",
]

_OURS = "practice.runbook/"


def empty(practice: Any) -> None:
    """Nothing is left in shop, and the nodes are as they were."""
    practice.raw("DELETE", "/api/v1/namespaces/shop")
    practice.raw("DELETE", "/api/v1/persistentvolumes")
    for node in practice.as_director("GET", "/api/v1/nodes")["items"]:
        name, spec = node["metadata"]["name"], node["spec"]
        told = [k for k in node["metadata"].get("annotations") or {} if k.startswith(_OURS)]
        if name in NODES and (told or spec.get("taints") or spec.get("unschedulable")):
            annotate_node(practice, name, **{key.removeprefix(_OURS): None for key in told})
            practice.core.patch_node(name, {"spec": {"unschedulable": None, "taints": None}})

    def made() -> bool:
        body = {"metadata": {"name": "shop"}}
        return bool(practice.raw("POST", "/api/v1/namespaces", body)[0] == 201)

    practice.until(made, "an empty namespace shop")


def clear(practice: Any) -> None:
    """What runs in shop is gone, and the nodes are healthy."""
    for plural in ("deployments", "statefulsets", "daemonsets"):
        practice.raw("DELETE", f"/apis/apps/v1/namespaces/shop/{plural}")
    practice.raw("DELETE", "/apis/policy/v1/namespaces/shop/poddisruptionbudgets")
    for plural in ("pods", "secrets", "services"):
        practice.raw("DELETE", f"/api/v1/namespaces/shop/{plural}")
    for name in ("node-a", "node-b", "node-c"):
        annotate_node(practice, name, stats=None, kubelet=None, since=None)
        practice.core.patch_node(name, {"spec": {"unschedulable": None}})
        until_condition(practice, name, "Ready", "True")


def annotate_node(practice: Any, name: str, **values: str | None) -> None:
    annotations = {f"practice.runbook/{key}": value for key, value in values.items()}
    practice.core.patch_node(name, {"metadata": {"annotations": annotations}})


def until_condition(practice: Any, node: str, type_: str, status: str) -> dict[str, Any]:
    def found() -> Any:
        conditions = practice.raw("GET", f"/api/v1/nodes/{node}")[1]["status"]["conditions"]
        return next((c for c in conditions if (c["type"], c["status"]) == (type_, status)), None)

    condition: dict[str, Any] = practice.until(found, f"{type_}={status} of {node}")
    return condition


def age(stamp: str) -> float:
    return time.time() - datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def put(practice: Any, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Create an object; its answer."""
    code, answer = practice.raw("POST", path, body)
    assert code == 201, answer
    made: dict[str, Any] = answer
    return made


def program(practice: Any, pod: str, behaviour: dict[str, Any] | None) -> None:
    """Let a running pod's container behave otherwise."""
    text = None if behaviour is None else json.dumps({"app": behaviour})
    annotations = {"practice.runbook/program": text}
    practice.core.patch_namespaced_pod(pod, "shop", {"metadata": {"annotations": annotations}})


def tell(practice: Any, name: str, reason: str) -> str:
    """The message of the first event of that reason about the objects whose names begin so."""

    def found() -> Any:
        items = practice.raw("GET", "/api/v1/events")[1]["items"]
        return next(
            (
                e["message"]
                for e in items
                if e["reason"] == reason and e["involvedObject"]["name"].startswith(name)
            ),
            None,
        )

    message: str = practice.until(found, f"event {reason} of {name}")
    return message


def waiting(practice: Any, app: str) -> str:
    """Why a pod of the app is not scheduled."""

    def found() -> Any:
        for pod in practice.pods(app):
            for one in pod["status"].get("conditions", []):
                if (one["type"], one["status"]) == ("PodScheduled", "False"):
                    return one["message"]
        return None

    message: str = practice.until(found, f"an unschedulable pod of {app}")
    return message


def run(practice: Any, pod: str, *command: str) -> tuple[int, str, str]:
    """(exit code, output, errors) of a command in a pod of shop, over the exec websocket."""
    from kubernetes import client
    from kubernetes.stream import stream

    core = client.CoreV1Api(practice.client("right-token"))
    answer = stream(
        core.connect_get_namespaced_pod_exec,
        pod,
        "shop",
        command=list(command),
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
        _preload_content=False,
    )
    try:
        answer.run_forever(timeout=10)
        return answer.returncode, answer.read_stdout(), answer.read_stderr()
    finally:
        answer.sock.shutdown()  # `close` leaves the socket open once the server has closed
