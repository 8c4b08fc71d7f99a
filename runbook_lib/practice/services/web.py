"""What every HTTP face of the platform is: an application on a port that it keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

_MOST_BYTES = 64 * 2**20  # of a request: models are uploaded through MLflow


class Server(ABC):
    """One aiohttp application on a loopback port that it keeps when stopped and started."""

    def __init__(self) -> None:
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def listening(self) -> bool:
        return self._runner is not None

    @abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """What it answers."""

    async def start(self) -> None:
        from aiohttp import web

        if self._runner:
            return
        application = web.Application(client_max_size=_MOST_BYTES)
        application.add_routes(self.routes())
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self._runner = runner
        self.port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Refuse connections until started again."""
        if self._runner:
            runner, self._runner = self._runner, None
            await runner.cleanup()
