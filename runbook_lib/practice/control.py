"""The control API of a running platform: how faults, tests and commands steer its host.

`POST /` with a bearer token and a JSON object whose `action` names what to do; the answer is a
JSON object, with `error` when the status is not 200.
"""

from __future__ import annotations

import hmac
import logging
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.services.web import Server
from runbook_lib.practice.system import perform

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
            LOG.warning("control action failed", exc_info=True)
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]  # systems heal side by side: the first that failed
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)
        return web.json_response(answer)

    async def _act(self, action: str, body: dict[str, Any]) -> dict[str, Any]:
        host = self._host
        match action:
            case "status":
                return host.status()
            case "verbs":
                return host.verbs()
            case "do":
                system = host.system(body["system"])
                return {"answer": await perform(system, body["verb"], body["arguments"])}
            case "heal":
                await host.heal()
            case "note":
                host.broken.append(body["scenario"])
            case "shutdown":
                host.stopping.set()
            case _:
                raise ValueError(f"unknown action {action!r}")
        return {}
