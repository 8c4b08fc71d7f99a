"""The control API of a running platform: how faults, tests and commands steer its host.

`POST /` with a bearer token and a JSON object whose `action` names what to do; the answer is a
JSON object, with `error` when the status is not 200.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.aws import seed as aws_seed
from runbook_lib.practice.services.web import Server

if TYPE_CHECKING:
    from aiohttp import web

    from runbook_lib.practice.host import Host

LOG = logging.getLogger("practice")


class Control(Server):
    """Steers one host. Only who can read its state folder knows the token."""

    def __init__(self, host: Host, token: str) -> None:
        super().__init__()
        self._host = host
        self._token = token

    def routes(self) -> list[web.RouteDef]:
        from aiohttp import web

        return [web.post("/", self._answer)]

    async def _answer(self, request: web.Request) -> web.Response:
        from aiohttp import web

        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return web.json_response({"error": "wrong token"}, status=401)
        body = await request.json()
        try:
            answer = await self._act(body.pop("action", ""), body)
        except Exception as error:  # a named seam: the caller gets the reason, the host lives on
            LOG.exception("control action failed")
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)
        return web.json_response(answer or {})

    async def _act(self, action: str, body: dict[str, Any]) -> dict[str, Any] | None:
        host = self._host
        match action:
            case "status":
                return {"systems": self._status()}
            case "system":
                await self._system(body["name"], body["do"])
            case "kubernetes-fault":
                host.kubernetes.set_fault(body["fault"])
            case "aws-faults":
                host.aws.set_faults(body["rules"])
            case "aws-history":
                metric = body["metric"]
                points = body.get("points") or aws_seed.calm_history(metric)
                await asyncio.to_thread(aws_seed.set_history, host.aws, metric, points)
            case "web":
                host.endpoints[body["name"]].behave(**body.get("behaviour", {}))
            case "fire-alerts":
                host.prometheus.fire(body["alerts"])
            case "resolve-alerts":
                host.prometheus.resolve()
            case "leak-connections":
                return {"held": await asyncio.to_thread(host.clients.leak)}
            case "release-connections":
                await asyncio.to_thread(host.clients.open_pools)
            case "shutdown":
                host.stopping.set()
            case _:
                raise ValueError(f"unknown action {action!r}")
        return None

    def _status(self) -> dict[str, bool]:
        """Which systems take requests."""
        host = self._host
        return {
            "postgres": host.postgres.pid is not None,
            "aws": host.aws.listening,
            "kubernetes": host.kubernetes_running,
            **{name: server.listening for name, server in host.endpoints.items()},
        }

    async def _system(self, name: str, do: str) -> None:
        """Stop, start, restart or (PostgreSQL only) kill one system; its port stays its own."""
        host = self._host
        steps = {"restart": ("stop", "start")}.get(do, (do,))
        for step in steps:
            if name == "postgres" and step in ("start", "stop", "kill"):
                await asyncio.to_thread(getattr(host.postgres, step))
                if step == "start":
                    await asyncio.to_thread(host.clients.open_pools)
            elif name == "aws" and step in ("start", "stop"):
                await getattr(host.aws, step)()
            elif name == "kubernetes" and step == "start":
                await host.start_kubernetes()
            elif name == "kubernetes" and step == "stop":
                await host.stop_kubernetes()
            elif name in host.endpoints and step in ("start", "stop"):
                await getattr(host.endpoints[name], step)()
            else:
                raise ValueError(f"cannot {do} {name!r}")
