"""What clients do to Redis: fill it, miss, wait, and ask what takes long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.asyncio import Redis

BALLAST = "session:{}"
BALLAST_BYTES = 16 * 1024
AT_ONCE = 64
EFFECT_SECONDS = 60.0
POLL_SECONDS = 0.01
REST_SECONDS = 0.1
FRAGMENTS = 24_000
FRAGMENT_BYTES = 1024
KEPT_EVERY = 16
MISSES = 12_000
MOST_SLOW = 50
ELEMENTS = 100_000
MOST_ELEMENTS = 400_000
REPORT = "visitor-report"
# Microseconds for each key: minutes for those of a healthy server.
SAVE_DELAY = 200_000
QUEUE = "queue:materialize"
VISITORS = "visitors:today"


async def fill(client: Redis, share: float) -> None:
    """Values until so much of maxmemory is used, or the server refuses or evicts."""
    from redis.exceptions import OutOfMemoryError

    number = 0
    limit = (await client.info("memory"))["maxmemory"]
    evicted = (await client.info("stats"))["evicted_keys"]
    for size in (BALLAST_BYTES, BALLAST_BYTES // 16):
        while True:
            now = await client.info("everything")
            room = limit * share - now["used_memory"]
            if (room < size * 2 and share < 1) or now["evicted_keys"] > evicted:
                break
            pipe = client.pipeline(transaction=False)
            for _ in range(max(1, min(AT_ONCE, int(room / size / 1.3)))):
                pipe.set(BALLAST.format(number), b"x" * size)
                number += 1
            try:
                await pipe.execute()
            except OutOfMemoryError:
                break


async def write_on(client: Redis) -> None:
    """A few values more, again and again."""
    number = 0
    while True:
        pipe = client.pipeline(transaction=False)
        for _ in range(8):
            pipe.set(f"new-{BALLAST.format(number)}", b"x" * BALLAST_BYTES)
            number += 1
        await pipe.execute(raise_on_error=False)
        await asyncio.sleep(REST_SECONDS)


async def fragment(client: Redis) -> float:
    """Small values, of which one in sixteen stays: the pages between them stay the process'."""
    for action in ("set", "delete"):
        pipe = client.pipeline(transaction=False)
        for number in range(FRAGMENTS):
            key = f"upload:{number}"
            if action == "set":
                pipe.set(key, b"x" * FRAGMENT_BYTES)
            elif number % KEPT_EVERY:
                pipe.delete(key)
        await pipe.execute()
    return float((await client.info("memory"))["mem_fragmentation_ratio"])


async def add_visitors(client: Redis, elements: int = ELEMENTS) -> None:
    """A set of as many members as make commands over it slow."""
    members = [str(number) for number in range(elements)]
    for start in range(0, elements, 10_000):
        await client.sadd(VISITORS, *members[start : start + 10_000])


async def run_slow_commands(client: Redis, count: int) -> int:
    """SORT and a union of sets; SLOWLOG's length."""
    await client.client_setname(REPORT)
    await add_visitors(client)
    for number in range(count):
        if number % 2:
            await client.sunionstore("visitors:week", [VISITORS, VISITORS])
        else:
            await _sort(client)
    return int(await client.slowlog_len())


async def compute_on(client: Redis, share: float) -> None:
    """Slow commands for so much of the time, again and again."""
    await client.client_setname(REPORT)
    while True:
        began = time.monotonic()
        await _sort(client)
        await asyncio.sleep((time.monotonic() - began) * (1 / share - 1))


async def _sort(client: Redis) -> None:
    await client.sort(VISITORS, start=0, num=10, desc=True)


async def wait_for_work(client: Redis) -> None:
    await client.blpop([QUEUE], timeout=0)


async def miss(client: Redis, times: int) -> None:
    """Read so many keys that are not there."""
    pipe = client.pipeline(transaction=False)
    for number in range(times):
        pipe.get(f"expired:{number}")
    await pipe.execute()


async def miss_on(client: Redis) -> None:
    while True:
        await miss(client, 20)
        await asyncio.sleep(REST_SECONDS)


async def until_info(client: Redis, field: str, holds: Callable[[Any], bool]) -> Any:
    """INFO's value of a field, once the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(EFFECT_SECONDS):
        while not holds(value := (await client.info("everything"))[field]):
            await asyncio.sleep(POLL_SECONDS)
    return value
