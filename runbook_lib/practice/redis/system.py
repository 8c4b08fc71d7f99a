"""Feast's online store as a system of the platform: the server, its contents, its faults."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.redis import contents, loads
from runbook_lib.practice.redis.delay import Delay
from runbook_lib.practice.redis.server import RedisServer, free_port
from runbook_lib.practice.system import System

if TYPE_CHECKING:
    from redis.asyncio import Redis

STATES = ("stale", "absent", "null", "fresh")
WEEK = 7 * 24 * 3600
MOST_CLIENTS = 200
LONGEST_DELAY = 5000
# Others share the machine's processors.
MOST_BUSY = 60
POLICIES = ("allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-ttl")


class OnlineStore(System):
    """The Redis of Feast and of the platform API's cache. `server` is the process."""

    def __init__(self, state: Path, *, remove_when_orphaned: bool = False) -> None:
        """`state` is the platform's folder, which an orphaned server's guard may remove."""
        self.server = RedisServer(state, remove_when_orphaned=remove_when_orphaned)
        self._next_password = secrets.token_urlsafe(18)
        self._password = self.server.password
        self._filled = False
        self._tasks: list[asyncio.Task[None]] = []
        self._delay: Delay | None = None

    @property
    def running(self) -> bool:
        return self.server.pid is not None

    async def start(self) -> None:
        if not self._filled and not self.running:
            await asyncio.to_thread(self.server.forget)
        await asyncio.to_thread(self.server.start)
        self._password = self.server.password
        if not self._filled:
            await self._fill()

    async def stop(self) -> None:
        await self._end_loads()
        await asyncio.to_thread(self.server.stop)

    async def heal(self) -> None:
        # A new process with an empty folder: nothing of the old one can be left.
        await self._end_loads()
        await asyncio.to_thread(self.server.kill)
        self._filled = False
        await self.start()

    async def remove(self) -> None:
        """Stop for good and delete what the server wrote."""
        await self.stop()
        await asyncio.to_thread(self.server.forget)

    def verbs(self) -> Mapping[str, Callable[..., Any]]:
        return {
            "fill": self.fill,
            "evict": self.evict,
            "fragmentation": self.fragmentation,
            "slow_commands": self.slow_commands,
            "busy": self.busy,
            "end_clients": self.end_clients,
            "latency": self.latency,
            "freeze": self.freeze,
            "blocked_clients": self.blocked_clients,
            "maxclients": self.maxclients,
            "low_hit_ratio": self.low_hit_ratio,
            "save_failing": self.save_failing,
            "save_running": self.save_running,
            "password_changed": self.password_changed,
            "flush": self.flush,
            "features": self.features,
            "kill": self.kill,
        }

    def environment(self) -> dict[str, str]:
        # redis-cli reads the password alone; valkey-cli host and port too, from version 9 on.
        return {
            "REDIS_HOST": self.server.host,
            "REDIS_PORT": str(self.server.port),
            "REDIS_PASSWORD": self.server.password,
            "REDISCLI_AUTH": self.server.password,
            "VALKEYCLI_HOST": self.server.host,
            "VALKEYCLI_PORT": str(self.server.port),
            "VALKEYCLI_AUTH": self.server.password,
        }

    def secrets(self) -> list[str]:
        return [self.server.password, self._next_password]

    async def fill(self, *, percent: int) -> None:
        """Memory used up to so many percent of maxmemory; at 100 writes are refused (OOM)."""
        if not 1 <= percent <= 100:
            raise ValueError("fill: percent is 1 to 100")
        async with self.client() as client:
            await loads.fill(client, percent / 100)

    async def evict(self, *, policy: str = "allkeys-lru") -> int:
        """Full memory under a policy that evicts, and writes that go on; evicted so far."""
        if policy not in POLICIES:
            raise ValueError(f"evict: policy is one of {', '.join(POLICIES)}")
        async with self.client() as client:
            await client.config_set("maxmemory-policy", policy)
            await loads.fill(client, 1.0)
            self._run(lambda: self._with(loads.write_on))
            return await loads.until_info(client, "evicted_keys", lambda value: value > 0)

    async def fragmentation(self) -> float:
        """Many values written and most of them deleted in between; the ratio that is left."""
        async with self.client() as client:
            return await loads.fragment(client)

    async def slow_commands(self, *, count: int = 5) -> int:
        """Commands over 100,000 elements, each slow enough for SLOWLOG; entries in it."""
        if not 1 <= count <= loads.MOST_SLOW:
            raise ValueError(f"slow_commands: count is 1 to {loads.MOST_SLOW}")
        async with self.client() as client:
            return await loads.run_slow_commands(client, count)

    async def busy(self, *, percent: int = 50, elements: int = loads.ELEMENTS) -> None:
        """The server computes for so many percent of the time, in slow commands that go on.

        Each takes the longer, the more elements it goes over; its client is named visitor-report.
        """
        if not 1 <= percent <= MOST_BUSY or not 1 <= elements <= loads.MOST_ELEMENTS:
            raise ValueError(
                f"busy: percent is 1 to {MOST_BUSY}, elements 1 to {loads.MOST_ELEMENTS}"
            )
        async with self.client() as client:
            await loads.add_visitors(client, elements)
        self._run(lambda: self._with(lambda client: loads.compute_on(client, percent / 100)))

    async def end_clients(self, *, name: str) -> int:
        """CLIENT KILL for each client of that name; how many."""
        async with self.client() as client:
            found = [one["id"] for one in await client.client_list() if one["name"] == name]
            for identity in found:
                await client.client_kill_filter(_id=identity)
            return len(found)

    async def latency(self, *, milliseconds: int) -> None:
        """Each question and its answer take so long on the way; the server itself is quick."""
        if not 1 <= milliseconds <= LONGEST_DELAY:
            raise ValueError(f"latency: 1 to {LONGEST_DELAY} milliseconds")
        async with self.client() as client:
            if self._delay:
                self._delay.seconds = milliseconds / 1000
                return
            inner = free_port()
            # The server goes on at another port, and the relay takes the one that is known.
            await client.config_set("port", inner)
            self._delay = Delay(self.server.port, inner, milliseconds / 1000)
            await self._delay.start()
            await client.client_kill_filter(_type="normal", skipme=True)

    def freeze(self) -> None:
        """The process stands still: connections are taken, nothing is answered."""
        self.server.freeze()

    async def blocked_clients(self, *, count: int) -> None:
        """So many clients wait in BLPOP for what nobody pushes."""
        self._count(count)
        for _ in range(count):
            self._run(lambda: self._with(loads.wait_for_work))
        async with self.client() as client:
            await loads.until_info(client, "blocked_clients", lambda value: value >= count)

    async def maxclients(self, *, connections: int) -> int:
        """The limit, and idle clients up to it: others are refused; how many idle ones."""
        self._count(connections)
        async with self.client() as client:
            await client.config_set("maxclients", connections)
            idle = 0
            while idle < connections:
                if not await self._hold():
                    break
                idle += 1
        await self._hold()  # the place of the client above
        return idle

    async def low_hit_ratio(self) -> None:
        """Far more reads of keys that are not there than of those that are; it goes on."""
        async with self.client() as client:
            await loads.miss(client, loads.MISSES)
        self._run(lambda: self._with(loads.miss_on))

    async def save_failing(self) -> None:
        """Snapshots fail, so writes are refused (MISCONF)."""
        self.server.dump.unlink(missing_ok=True)
        (self.server.dump / "in-the-way").mkdir(parents=True)
        async with self.client() as client:
            await client.bgsave()
            await loads.until_info(client, "rdb_last_bgsave_status", lambda value: value == "err")

    async def save_running(self) -> None:
        """A snapshot that is being written for minutes by a forked child."""
        async with self.client() as client:
            await client.config_set("rdb-key-save-delay", loads.SAVE_DELAY)
            await client.bgsave()
            await loads.until_info(client, "rdb_bgsave_in_progress", lambda value: value == 1)

    async def password_changed(self) -> None:
        """Another password, and everybody is disconnected: the Secrets hold the old one."""
        async with self.client() as client:
            await client.config_set("requirepass", self._next_password)
            self._password = self._next_password
            await client.client_kill_filter(_type="normal", skipme=True)

    @property
    def password(self) -> str:
        """The password that holds now."""
        return self._password

    async def flush(self) -> None:
        """FLUSHALL: every feature and every cached answer is gone."""
        async with self.client() as client:
            await client.flushall()

    async def features(
        self,
        *,
        state: str,
        view: str = "customer_features",
        entities: list[str] | None = None,
        age_seconds: int = WEEK,
    ) -> int:
        """A view's features are stale (by `age_seconds`), absent, null, or fresh, as `feast
        materialize` writes them; of how many customers.

        Without `entities`: of all.
        """
        if state not in STATES or view not in contents.VIEWS:
            raise ValueError(
                f"features: state is one of {', '.join(STATES)}, "
                f"view one of {', '.join(contents.VIEWS)}"
            )
        customers = list(contents.CUSTOMERS) if entities is None else entities
        if unknown := set(customers) - set(contents.CUSTOMERS):
            raise ValueError(f"features: no customer {min(unknown)}; they are 100 to 299")
        async with self.client() as client:
            await contents.change(client, state, view, customers, age_seconds)
        return len(customers)

    async def kill(self) -> None:
        """SIGKILL to the server; `start` loads the last snapshot."""
        await asyncio.to_thread(self.server.kill)
        await self._end_loads()

    def client(self, database: int = 0) -> Redis:
        """A client of our own; use it as a context."""
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        return Redis(
            host=self.server.host,
            port=self.server.port,
            password=self._password,
            db=database,
            retry=Retry(NoBackoff(), 0),
        )

    async def _fill(self) -> None:
        async with self.client() as feast, self.client(contents.CACHE_DATABASE) as cache:
            await contents.fill(feast, cache)
        self._filled = True

    async def _hold(self) -> bool:
        """One more idle client until heal; False when the server refuses it."""
        from redis.exceptions import ConnectionError as Refused

        entered = asyncio.get_running_loop().create_future()

        async def idle() -> None:
            async with self.client() as client:
                try:
                    await client.ping()
                except Refused:
                    entered.set_result(False)
                    return
                entered.set_result(True)
                await asyncio.Event().wait()

        self._run(idle)
        return bool(await entered)

    async def _with(self, load: Callable[[Redis], Awaitable[None]]) -> None:
        async with self.client() as client:
            await load(client)

    def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        from redis.exceptions import RedisError

        async def until_ended() -> None:
            try:
                await work()
            except RedisError:
                return  # as any client whose connection or command has failed

        self._tasks.append(asyncio.create_task(until_ended()))

    async def _end_loads(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._delay:
            delay, self._delay = self._delay, None
            await delay.stop()

    @staticmethod
    def _count(count: int) -> None:
        if not 1 <= count <= MOST_CLIENTS:
            raise ValueError(f"1 to {MOST_CLIENTS} clients")
