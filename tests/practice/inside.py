"""The applications of the platform on its real Postgres and Redis, in a thread of their own."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx

from runbook_lib.practice import seed
from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.kubernetes_api import KubernetesApi
from runbook_lib.practice.postgres.server import DATABASE, Postgres
from runbook_lib.practice.redis.system import OnlineStore
from runbook_lib.practice.services.feast import FeatureServer
from runbook_lib.practice.system import System, perform
from runbook_lib.practice.wait import until

SECONDS = 60.0
PLATFORM = "mlops-platform"


class Inside:
    """A cluster with the healthy platform's objects, and Postgres; applications are added."""

    def __init__(self, state: Path) -> None:
        self.postgres = Postgres(state)
        self.postgres.create()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.api = KubernetesApi(state, "token", time_scale=0.005)
        self.systems: list[System] = []
        self.run(self.api.start())
        self.run(self._load())
        trusted = ssl.create_default_context(cafile=str(self.api.ca_file))
        self.http = httpx.Client(trust_env=False, timeout=30)
        self._kubectl = httpx.Client(base_url=self.api.url, verify=trusted, trust_env=False)
        self.until_ready("mlflow", 2)

    async def _load(self) -> None:
        passwords = self.postgres.passwords
        where = f"127.0.0.1:{self.postgres.port}/{DATABASE}"
        database = {
            "host": "127.0.0.1",
            "port": str(self.postgres.port),
            "username": "mlflow",
            "password": passwords["mlflow"],
            "database": DATABASE,
        }
        url = f"postgresql://platform_api:{passwords['platform_api']}@{where}"
        self.api.load(seed.objects(database, "jwt-secret-of-the-healthy-platform", url))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the loop of the platform."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    def add(self, system: Any) -> Any:
        self.systems.append(system)
        self.run(system.start())
        return system

    def add_feature_server(self, account: Aws, redis: OnlineStore) -> FeatureServer:
        """Feast on this Redis, without traffic of its own."""
        where = self.addresses(redis=redis)
        made: FeatureServer = self.add(
            FeatureServer(self.api.store, self.api.kubelet, account, where)
        )
        made.traffic(0)
        self.until_ready("feast", 2)
        return made

    def verb(self, system: System, verb: str, **arguments: Any) -> Any:
        return self.run(perform(system, verb, arguments))

    def addresses(self, **systems: Any) -> Callable[[str], str | None]:
        """Where MLflow (`mlflow`) and Redis (`redis`) really listen, by the Service's name."""
        found = {}
        if "mlflow" in systems:
            found["mlflow"] = systems["mlflow"].url
        if "redis" in systems:
            server = systems["redis"].server
            found["feast-redis-master"] = f"redis://:{server.password}@{server.host}:{server.port}"
        return found.get

    def heal(self) -> None:
        for system in self.systems:
            self.run(system.start())
            self.run(system.heal())

    def stop(self) -> None:
        for system in reversed(self.systems):
            self.run(system.stop())
        self.run(self.api.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()
        self.http.close()
        self._kubectl.close()
        self.postgres.stop()
        self.postgres.remove()

    # the cluster, as kubectl would see and change it

    def kubernetes(
        self,
        method: str,
        path: str,
        body: Any = None,
        kind: str = "application/strategic-merge-patch+json",
    ) -> Any:
        answer = self._kubectl.request(
            method,
            path,
            content=None if body is None else json.dumps(body),
            headers={
                "Authorization": f"Bearer {self.api.director_token}",
                "Content-Type": kind if method == "PATCH" else "application/json",
            },
        )
        answer.raise_for_status()
        return answer.json() if "json" in answer.headers["Content-Type"] else answer.text

    def pods(self, app: str, namespace: str = PLATFORM) -> list[dict[str, Any]]:
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}"
        items: list[dict[str, Any]] = self.kubernetes("GET", path)["items"]
        return items

    def ready(self, app: str, namespace: str = PLATFORM) -> list[str]:
        return [
            pod["metadata"]["name"]
            for pod in self.pods(app, namespace)
            for one in pod["status"].get("conditions", [])
            if (one["type"], one["status"]) == ("Ready", "True")
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def until_ready(self, app: str, number: int, namespace: str = PLATFORM) -> list[str]:
        def found() -> bool:
            return len(self.ready(app, namespace)) == number

        until(found, SECONDS, f"{number} ready pods of {app}")
        return self.ready(app, namespace)

    def log(
        self, pod: str, *, previous: bool = False, namespace: str = PLATFORM, container: str = ""
    ) -> str:
        query = f"?container={container}&previous={str(previous).lower()}"
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log{query}"
        text: str = self.kubernetes("GET", path)
        return text

    def logs(self, app: str) -> str:
        return "\n".join(self.log(pod["metadata"]["name"]) for pod in self.pods(app))

    def set_secret(self, name: str, **values: str) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.kubernetes("PATCH", f"/api/v1/namespaces/{PLATFORM}/secrets/{name}", {"data": data})

    def patch(self, path: str, body: Any) -> Any:
        """Strategic merge patch of something in namespace mlops-platform."""
        group, _, rest = path.partition("/")
        prefix = "/api/v1" if group == "core" else f"/apis/{group}/v1"
        return self.kubernetes("PATCH", f"{prefix}/namespaces/{PLATFORM}/{rest}", body)

    def delete_pod(self, name: str) -> None:
        self.kubernetes("DELETE", f"/api/v1/namespaces/{PLATFORM}/pods/{name}")

    def log_of_a_crash(self, app: str) -> str:
        """Delete a ready pod of an app; the log with which the one that follows it ended."""
        before = {pod["metadata"]["name"] for pod in self.pods(app)}
        self.delete_pod(self.ready(app)[0])

        def crashed() -> list[str]:
            return [
                pod["metadata"]["name"]
                for pod in self.pods(app)
                if pod["metadata"]["name"] not in before
                for status in pod["status"].get("containerStatuses", [])
                if status["restartCount"]
            ]

        until(lambda: bool(crashed()), SECONDS, f"a new pod of {app} crashed")
        return self.log(crashed()[0], previous=True)


class NoCloud:
    """For what must not ask AWS."""

    def client(self, service: str) -> Any:
        raise AssertionError(f"nothing here asks {service}")

    def client_of_pod(self, service: str, *_: str) -> Any:
        raise AssertionError(f"nothing here asks {service}")
