"""The connection pools of the platform's healthy applications, one in each pod."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from runbook_lib.practice.postgres.sessions import LAST_QUERY, Sessions

# Sessions that each pod of an application keeps in a quiet hour.
SIZES = {"platform-api": 2, "mlflow": 2}
BEAT_SECONDS = 2.0
RETRY_SECONDS = 1.0


class Pools:
    """Keeps each pod's sessions open: used now and then, opened anew when they were ended."""

    def __init__(self, sessions: Sessions, sizes: Mapping[str, int]) -> None:
        self._sessions = sessions
        self.sizes = dict(sizes)
        # What the application's last attempt to connect or to query was told; none if it went well.
        self.errors: dict[str, str] = {}
        self._pools: dict[tuple[str, str, int], asyncio.Task[None]] = {}

    async def follow(self) -> None:
        """One pool for each pod that lives, of the size that is wanted; returns when all tried."""
        wanted = {
            (application, pod, number)
            for application, pods in self._sessions.pods.items()
            for pod in pods
            for number in range(self.sizes.get(application, 0))
        }
        await self._end([one for one in self._pools if one not in wanted])
        tried = []
        for key in sorted(wanted - self._pools.keys()):
            event = asyncio.Event()
            tried.append(event.wait())
            self._pools[key] = asyncio.create_task(self._keep(key[0], event))
        await asyncio.gather(*tried)

    async def end(self) -> None:
        """Give all sessions back."""
        await self._end(list(self._pools))

    async def _end(self, keys: list[tuple[str, str, int]]) -> None:
        tasks = [self._pools.pop(key) for key in keys]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, application: str, tried: asyncio.Event) -> None:
        try:
            await self._keep_open(application, tried)
        finally:
            tried.set()  # also of one that is ended while it tries: nobody waits for it for ever

    async def _keep_open(self, application: str, tried: asyncio.Event) -> None:
        import psycopg

        while True:
            try:
                async with await self._sessions.connect(application) as connection:
                    while True:
                        await connection.execute(LAST_QUERY)
                        self.errors.pop(application, None)
                        tried.set()
                        await asyncio.sleep(BEAT_SECONDS)
            except psycopg.Error as error:
                self.errors[application] = str(error).strip()
                tried.set()
                await asyncio.sleep(RETRY_SECONDS)
