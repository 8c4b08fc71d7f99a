"""The platform API and its cache, as their clients see them."""

from __future__ import annotations

from typing import Any

import httpx
from practice.inside import SECONDS, Inside

from runbook_lib.practice.redis.system import OnlineStore
from runbook_lib.practice.services.platform_api import HOST, LOGIN, MODELS, PlatformApi
from runbook_lib.practice.wait import until

DEPLOYMENT = "apps/deployments/platform-api"


class Cache:
    """The API's cache, as redis-cli sees it."""

    def __init__(self, inside: Inside, redis: OnlineStore) -> None:
        self._inside, self._redis = inside, redis

    def call(self, command: str, *arguments: Any, **more: Any) -> Any:
        async def ask() -> Any:
            async with self._redis.client(1) as client:
                return await getattr(client, command)(*arguments, **more)

        return self._inside.run(ask())


class Api:
    def __init__(self, inside: Inside, server: PlatformApi) -> None:
        self.inside, self.server = inside, server

    def ask(self, path: str, token: str = "", method: str = "GET", **more: Any) -> httpx.Response:
        headers = {"Host": HOST, **more.pop("headers", {})}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return self.inside.http.request(method, self.server.url + path, headers=headers, **more)

    def login(self, name: str = "scientist", password: str = "") -> httpx.Response:
        given = {"username": name, "password": password or self.server.passwords[name]}
        return self.ask(LOGIN, method="POST", json=given)

    def token(self, name: str = "scientist") -> str:
        found: str = self.login(name).json()["access_token"]
        return found

    def models(self) -> httpx.Response:
        return self.ask(MODELS, self.token())

    def log(self) -> str:
        return self.inside.logs("platform-api")

    def roll_out(self, **variables: str) -> None:
        """`kubectl set env`, until only new pods are left and all are ready."""
        env = [{"name": name, "value": value} for name, value in variables.items()]
        containers = [{"name": "platform-api", "env": env}]
        before = {pod["metadata"]["name"] for pod in self.inside.pods("platform-api")}
        self.inside.patch(DEPLOYMENT, {"spec": {"template": {"spec": {"containers": containers}}}})

        def rolled() -> bool:
            names = {pod["metadata"]["name"] for pod in self.inside.pods("platform-api")}
            return not names & before and len(self.inside.ready("platform-api")) == 3

        until(rolled, SECONDS, "platform-api rolled out")
