"""What the healthy Redis holds: Feast's features of 200 customers, and the API's cache."""

from __future__ import annotations

import asyncio
import datetime
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.redis import features

if TYPE_CHECKING:
    from redis.asyncio import Redis

PROJECT = "mlops_platform"
JOIN_KEY = "customer_id"
CUSTOMERS = tuple(str(number) for number in range(100, 300))
# The features of each view, by name.
VIEWS = {
    "customer_features": ("total_purchases", "avg_order_value", "last_login"),
    "customer_profile": ("loyalty_tier", "age"),
}
# Feast keeps database 0, the platform API's cache is in 1.
CACHE_DATABASE = 1
# As many as make the process' own few megabytes a small share of all.
CACHED = 3600
CACHED_BYTES = 4096
READS = 5
SETTLED_RATIO = 2.0
POLL_SECONDS = 0.02
POLLS = 15
FRESH = datetime.timedelta(minutes=10)


def key_of(customer: str) -> bytes:
    return features.entity_key(PROJECT, [JOIN_KEY], [customer])


def fields_of(view: str) -> list[bytes]:
    """What Feast asks a customer's hash for, the timestamp last."""
    named = [features.feature_field(view, feature) for feature in VIEWS[view]]
    return [*named, features.timestamp_field(view)]


def values_of(customer: str, now: datetime.datetime) -> dict[str, features.Value]:
    """A customer's features, the same each time but for the login."""
    chance = random.Random(customer)
    return {
        "total_purchases": chance.randint(0, 120),
        "avg_order_value": round(chance.uniform(5, 250), 2),
        "last_login": now - datetime.timedelta(hours=chance.randint(1, 400)),
        "loyalty_tier": chance.choice(("bronze", "silver", "gold")),
        "age": chance.randint(18, 90),
    }


def _hash(
    customer: str, views: Iterable[str], now: datetime.datetime, stamp: datetime.datetime
) -> dict[Any, Any]:
    """What a customer's hash says of some views, with the event timestamp `stamp`."""
    values, hashed = values_of(customer, now), dict[Any, Any]()
    for view in views:
        for name in VIEWS[view]:
            hashed[features.feature_field(view, name)] = features.encode_value(values[name])
        hashed[features.timestamp_field(view)] = features.encode_timestamp(stamp)
    return hashed


async def fill(feast: Redis, cache: Redis) -> None:
    """Write everything, as if materialized ten minutes ago, and read it a few times."""
    now = datetime.datetime.now(datetime.UTC)
    pipe = feast.pipeline(transaction=False)
    for customer in CUSTOMERS:
        pipe.hset(key_of(customer), mapping=_hash(customer, VIEWS, now, now - FRESH))
    await pipe.execute()
    page = ("{" + '"id": "churn-model", ' * CACHED_BYTES)[:CACHED_BYTES]
    pages = cache.pipeline(transaction=False)
    for number in range(CACHED):
        pages.set(f"platform-api:predictions:{number}", page)
    await pages.execute()
    await feast.config_resetstat()
    for _ in range(READS):
        pipe = feast.pipeline(transaction=False)
        for customer in CUSTOMERS:
            pipe.hmget(key_of(customer), fields_of("customer_features"))
        await pipe.execute()
    # So that a killed server has something to come back with.
    await feast.save()
    await feast.slowlog_reset()
    # The server looks at its own size ten times a second; INFO then shows it with its contents.
    for _ in range(POLLS):
        if (await feast.info("memory"))["mem_fragmentation_ratio"] < SETTLED_RATIO:
            break
        await asyncio.sleep(POLL_SECONDS)


async def change(feast: Redis, state: str, view: str, customers: list[str], age: int) -> None:
    """A view's features of some customers become stale (by `age` seconds), absent, null, fresh."""
    now = datetime.datetime.now(datetime.UTC)
    then = now - datetime.timedelta(seconds=age)
    *values, timestamp = fields_of(view)
    pipe = feast.pipeline(transaction=False)
    for customer in customers:
        key = key_of(customer)
        match state:
            case "stale":
                pipe.hset(key, timestamp, features.encode_timestamp(then))
            case "absent":
                pipe.hdel(key, *values, timestamp)
            case "null":
                nulls: dict[Any, Any] = dict.fromkeys(values, features.encode_value(None))
                pipe.hset(key, mapping=nulls)
            case "fresh":
                pipe.hset(key, mapping=_hash(customer, [view], now, now))
    await pipe.execute()
