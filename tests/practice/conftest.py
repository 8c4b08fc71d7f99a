"""A practice Kubernetes API in a thread of its own with its clients, and what others start."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from practice.inside import Inside

from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.kubernetes_api import KubernetesApi
from runbook_lib.practice.redis.system import OnlineStore

NODES = ("node-a", "node-b", "node-c")
DEADLINE_SECONDS = 60.0
RECORDED = {"name": "c", "image": "i", "imageID": "", "ready": True, "restartCount": 0}


class Practice:
    """A running API with the official client's faces and a few helpers."""

    def __init__(self, state: Path) -> None:
        from kubernetes import client

        self.state = state
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.api = KubernetesApi(state, "right-token", time_scale=0.005)
        self._on_loop(self.api.start)
        self.core: Any = client.CoreV1Api(self.client("right-token"))
        self.apps: Any = client.AppsV1Api(self.client("right-token"))
        self.custom: Any = client.CustomObjectsApi(self.client("right-token"))
        self.policy: Any = client.PolicyV1Api(self.client("right-token"))

    def client(self, token: str) -> Any:
        from kubernetes import client

        configuration = client.Configuration()
        configuration.host = self.api.url
        configuration.ssl_ca_cert = str(self.api.ca_file)
        configuration.api_key = {"authorization": f"Bearer {token}"}
        configuration.retries = False
        return client.ApiClient(configuration)

    def _on_loop(self, start: Callable[[], Any]) -> None:
        asyncio.run_coroutine_threadsafe(start(), self._loop).result(DEADLINE_SECONDS)

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call one of the API's plain methods on its own loop."""

        async def run() -> None:
            function(*arguments)

        self._on_loop(run)

    def restart(self) -> None:
        port = int(self.api.url.rsplit(":", 1)[1])
        self._on_loop(self.api.stop)
        self._on_loop(lambda: self.api.start(port))

    def stop(self) -> None:
        self._on_loop(self.api.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_SECONDS)
        self._loop.close()

    def raw(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """The status and the decoded body of a request as it is."""
        answer = self.request(method, path, body, **headers)
        is_json = "json" in answer.headers.get("Content-Type", "")
        found = json.loads(answer.data) if is_json and answer.data else answer.data.decode()
        return answer.status, found

    def as_director(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer to who sees what is hidden from others."""
        return self.raw(method, path, body, Authorization=f"Bearer {self.api.director_token}")[1]

    def text(self, method: str, path: str) -> str:
        answered: str = self.request(method, path).data.decode()
        return answered

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        import urllib3

        with urllib3.PoolManager(ca_certs=str(self.api.ca_file), retries=False) as pool:
            return pool.request(
                method,
                self.api.url + path,
                body=body if body is None or isinstance(body, bytes) else json.dumps(body).encode(),
                headers={
                    "Authorization": "Bearer right-token",
                    "Content-Type": "application/json",
                    **{name.replace("_", "-"): value for name, value in headers.items()},
                },
            )

    def kubectl(
        self, *words: str, token: str = "right-token", code: int = 0, typed: str = ""
    ) -> str:
        """What kubectl printed, on both streams; fails unless it ended with this code."""
        kubeconfig = self.state / "kubectl-config"
        self.api.write_kubeconfig(kubeconfig)
        own = ["--kubeconfig", str(kubeconfig), "--cache-dir", str(self.state / "cache")]
        done = subprocess.run(
            ["kubectl", *own, "--token", token, *words],
            input=typed,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """The first true value of a condition; fails when the deadline passes without one."""
        end = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < end:
            if found := condition():
                return found
            time.sleep(0.03)
        pytest.fail(f"{what}: not within {DEADLINE_SECONDS} s")

    def deploy(self, name: str, program: Any = None, **changes: Any) -> None:
        self.apps.create_namespaced_deployment("shop", deployment(name, program, **changes))

    def pods(self, app: str) -> list[dict[str, Any]]:
        path = f"/api/v1/namespaces/shop/pods?labelSelector=app%3D{app}"
        items: list[dict[str, Any]] = self.raw("GET", path)[1]["items"]
        return items

    def container(self, app: str, **state: str) -> dict[str, Any]:
        """The status of an app's only container, once its waiting or last reason is so."""

        def found() -> Any:
            for pod in self.pods(app):
                for status in pod["status"].get("containerStatuses", []):
                    reasons = {
                        "waiting": status["state"].get("waiting", {}).get("reason"),
                        "last": status["lastState"].get("terminated", {}).get("reason"),
                    }
                    if all(reasons[name] == wanted for name, wanted in state.items()):
                        return status
            return None

        status: dict[str, Any] = self.until(found, f"{app} with {state}")
        return status

    def until_ready(self, app: str, number: int = 1) -> list[dict[str, Any]]:
        def ready() -> Any:
            pods = [pod for pod in self.pods(app) if is_ready(pod)]
            return pods if len(pods) == number else None

        pods: list[dict[str, Any]] = self.until(ready, f"{number} ready pods of {app}")
        return pods

    def events(self, name: str) -> dict[str, Any]:
        """Reason to event, of the objects whose names begin so."""
        items = self.raw("GET", "/api/v1/events")[1]["items"]
        return {e["reason"]: e for e in items if e["involvedObject"]["name"].startswith(name)}


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def deployment(name: str, program: Any = None, replicas: int = 1, **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    annotations = {"practice.runbook/program": json.dumps({"app": program})} if program else {}
    container = {"name": "app", "image": f"registry/{name}:1", **spec.pop("container", {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": {"containers": [container], **spec},
            },
        },
    }


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def node(name: str) -> dict[str, Any]:
    meta = {"name": name, "creationTimestamp": "2026-01-05T08:00:00Z"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta}


def config_map(name: str, data: Any = None, **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **meta}, "data": data or {}}


@pytest.fixture(scope="session")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Practice]:
    """Three nodes, namespace shop, and the metrics server."""
    running = Practice(tmp_path_factory.mktemp("kubernetes"))
    metrics = deployment("metrics-server")
    metrics["metadata"]["namespace"] = "kube-system"
    running.call(running.api.load, [namespace("shop"), *map(node, NODES), metrics])
    yield running
    running.stop()


@pytest.fixture
def name(practice: Any) -> Iterator[str]:
    """The name of a ConfigMap {"a": "1"} that is there for one test."""
    made = f"cm-{uuid.uuid4().hex[:8]}"
    practice.core.create_namespaced_config_map("shop", config_map(made, {"a": "1"}))
    yield made
    practice.raw("DELETE", f"/api/v1/namespaces/shop/configmaps/{made}")


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


@pytest.fixture(scope="session")
def account() -> Iterator[Aws]:
    """An AWS account of the healthy platform; for tests that only look."""
    running = Aws()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "")  # so that what it sets goes again
        running.create()
    running.seed("a-master-password")
    yield running
    asyncio.run(running.stop())


@pytest.fixture
def breakable_account(account: Aws) -> Iterator[Aws]:
    """The account, healed afterwards."""
    yield account
    asyncio.run(account.start())
    asyncio.run(account.heal())


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """Applications on real dependencies; those of one file share it."""
    running = Inside(tmp_path_factory.mktemp("inside"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def redis(inside: Inside, tmp_path_factory: pytest.TempPathFactory) -> OnlineStore:
    """The online store of `inside`."""
    made: OnlineStore = inside.add(OnlineStore(tmp_path_factory.mktemp("redis")))
    return made
