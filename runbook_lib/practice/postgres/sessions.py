"""Sessions that applications hold on the server; each belongs to one of their pods."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runbook_lib.practice.postgres.server import Postgres

if TYPE_CHECKING:
    from psycopg import AsyncConnection

# The role that each application logs in as.
ROLES = {"platform-api": "platform_api", "mlflow": "mlflow", "reporting": "reporting"}
# Until the cluster says which pods there are.
PODS = {
    "platform-api": ["platform-api-0", "platform-api-1", "platform-api-2"],
    "mlflow": ["mlflow-0", "mlflow-1"],
}
# Of an application that has no pods in the cluster: a job elsewhere, a notebook.
ELSEWHERE = "elsewhere"
OPENED_AT_ONCE = 8
LAST_QUERY = "SELECT run_uuid, status FROM runs WHERE experiment_id = 7 ORDER BY start_time DESC"


@dataclass
class Load:
    """What one pod does to the server: connections that it holds and tasks that use them."""

    pod: str
    connections: list[AsyncConnection] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Sessions:
    """Opens sessions for applications and ends them with their pods, or all at once."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self.pods = {application: list(names) for application, names in PODS.items()}
        self._loads: list[Load] = []

    async def connect(self, application: str) -> AsyncConnection:
        """An autocommit session of `application`. Raises psycopg.OperationalError."""
        from psycopg import AsyncConnection

        conninfo = self.server.conninfo(role_of(application), application=application)
        return await AsyncConnection.connect(conninfo, autocommit=True)

    async def hold(self, application: str, sessions: int | None = None) -> list[AsyncConnection]:
        """Sessions of the application's pods in turn, held until they end.

        Without a number: until the server refuses one for want of slots. Raises
        psycopg.OperationalError when it refuses for another reason, or the given number.
        """
        import psycopg

        pods = self.pods_of(application)
        held: list[AsyncConnection] = []
        most = sessions if sessions is not None else self.server.usable_slots()
        while len(held) < most:
            try:
                connection = await self.connect(application)
            except psycopg.OperationalError as refusal:
                if sessions is None and is_for_want_of_slots(refusal):
                    break
                raise
            self._loads.append(Load(pods[len(held) % len(pods)], [connection]))
            held.append(connection)
        return held

    async def hold_at_once(self, application: str, sessions: int) -> int:
        """As hold, but side by side, and refusals are no obstacle; how many are held."""
        import psycopg

        pods = self.pods_of(application)
        gate = asyncio.Semaphore(OPENED_AT_ONCE)

        async def open_one(number: int) -> bool:
            async with gate:
                try:
                    connection = await self.connect(application)
                except psycopg.OperationalError:
                    return False
            self._loads.append(Load(pods[number % len(pods)], [connection]))
            await connection.execute(LAST_QUERY)
            return True

        return sum(await asyncio.gather(*map(open_one, range(sessions))))

    def run(self, application: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Do `work` as a task of one of the application's pods. The database's end ends it."""
        import psycopg

        async def until_ended() -> None:
            # Its session was ended, or the server: as for any client, that is the end.
            with contextlib.suppress(psycopg.OperationalError):
                await work()

        task = asyncio.create_task(until_ended())
        pods = self.pods_of(application)
        self._loads.append(Load(pods[len(self._loads) % len(pods)], tasks=[task]))
        return task

    def pods_of(self, application: str) -> list[str]:
        """Its pods. Raises ValueError for an application that is not known or has none."""
        role_of(application)
        pods = self.pods.get(application, []) if application in PODS else [ELSEWHERE]
        if not pods:
            raise ValueError(f"no pod of {application} runs")
        return pods

    async def end(self) -> None:
        """End every load."""
        loads, self._loads = self._loads, []
        await _end(loads)

    async def end_of_gone_pods(self) -> None:
        """End the loads of the pods that are no more."""
        living = {ELSEWHERE, *(pod for names in self.pods.values() for pod in names)}
        gone = [load for load in self._loads if load.pod not in living]
        self._loads = [load for load in self._loads if load.pod in living]
        await _end(gone)


async def _end(loads: list[Load]) -> None:
    """End the tasks, which cancels their statements, and then the sessions."""
    tasks = [task for load in loads for task in load.tasks]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for load in loads:
        for connection in load.connections:
            await connection.close()


def role_of(application: str) -> str:
    """The role it logs in as. Raises ValueError for an application that is not known."""
    if application not in ROLES:
        raise ValueError(f"no application {application!r}; there are {', '.join(ROLES)}")
    return ROLES[application]


def is_for_want_of_slots(refusal: Exception) -> bool:
    """Whether the server refused a session because it, the database or the role has no more."""
    # libpq gives no SQLSTATE for a refused connection; the server speaks C locale.
    text = str(refusal)
    return "connection slots" in text or "too many " in text
