"""What clients of Prometheus and Alertmanager meet: a port that is kept, and set misbehaviour."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook_lib.practice.services.web import Server

if TYPE_CHECKING:
    from aiohttp import ClientSession, web

# They belong to one connection, not to the answer that is passed on.
_HOP_BY_HOP = (
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-encoding",
    "content-length",
)


@dataclass(frozen=True)
class Behaviour:
    """How everything is answered: 200 is as usual. `delay` is in seconds."""

    status: int = 200
    delay: float = 0.0

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599 or self.delay < 0:
            text = "a status lies between 200 and 599, a delay is 0 seconds or more"
            raise ValueError(text)


class Face(Server):
    """A server that can be told to misbehave."""

    def __init__(self) -> None:
        super().__init__()
        self.behaviour = Behaviour()

    async def misbehaving(self) -> web.Response | None:
        """After the delay that was set: the answer that was set, or None for the usual one."""
        from aiohttp import web

        await asyncio.sleep(self.behaviour.delay)
        status = self.behaviour.status
        return None if status == 200 else web.Response(status=status, text=f"{status}\n")


class Front(Face):
    """Passes everything on to a program whose own port nobody else knows."""

    def __init__(self) -> None:
        super().__init__()
        self.behind = ""  # the program's URL
        self._session: ClientSession | None = None

    def routes(self) -> list[web.RouteDef]:
        from aiohttp import web

        return [web.route("*", "/{path:.*}", self._pass_on)]

    async def start(self) -> None:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _pass_on(self, request: web.Request) -> web.Response:
        import aiohttp
        from aiohttp import web

        if broken := await self.misbehaving():
            return broken
        assert self._session is not None
        url = f"{self.behind}{request.rel_url}"
        try:
            async with self._session.request(
                request.method,
                url,
                data=await request.read(),
                headers={"Content-Type": request.headers.get("Content-Type", "")},
                allow_redirects=False,
            ) as answer:
                headers = {
                    name: value
                    for name, value in answer.headers.items()
                    if name.lower() not in _HOP_BY_HOP
                }
                return web.Response(status=answer.status, body=await answer.read(), headers=headers)
        except aiohttp.ClientConnectionError:
            return web.Response(status=503, text="Service Unavailable\n")  # between two starts
