"""What each verb of Redis leaves, seen through redis-py, and that heal undoes it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from practice.hosted import Hosted

from runbook_lib.practice.redis import contents, features
from runbook_lib.practice.redis.server import RedisServerError, find_binary
from runbook_lib.practice.redis.system import OnlineStore
from runbook_lib.practice.wait import until


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with Hosted(OnlineStore(tmp_path_factory.mktemp("redis"))) as hosted:
        yield hosted


@pytest.fixture
def store(hosted: Hosted) -> Iterator[OnlineStore]:
    """The store, healed afterwards; that it is healthy then is part of every test."""
    assert isinstance(hosted.system, OnlineStore)
    yield hosted.system
    hosted.do("heal")
    assert_healthy(hosted.system)


@pytest.fixture
def client(store: OnlineStore) -> Iterator[redis.Redis]:
    with connect(store) as client:
        yield client


def connect(store: OnlineStore, **changes: Any) -> redis.Redis:
    env = store.environment()
    parameters = {
        "host": env["REDIS_HOST"],
        "port": int(env["REDIS_PORT"]),
        "password": env["REDISCLI_AUTH"],
        "socket_timeout": 5,
        "retry": None,
    }
    return redis.Redis(**{**parameters, **changes})


def read(client: redis.Redis, customer: str, view: str = "customer_features") -> list[Any]:
    """Values and time of a view, as Feast reads them."""
    *values, when = client.hmget(contents.key_of(customer), contents.fields_of(view))
    return [
        *(features.decode_value(value or b"") for value in values),
        features.decode_timestamp(when or b""),
    ]


def assert_healthy(store: OnlineStore) -> None:
    with connect(store) as client:
        info = client.info("everything")
        assert info["db0"]["keys"] == 200 and info["db1"]["keys"] == contents.CACHED
        assert info["maxmemory_policy"] == "noeviction" and info["maxclients"] == 10_000
        assert 0.2 < info["used_memory"] / info["maxmemory"] < 0.5
        until(lambda: client.info("memory")["mem_fragmentation_ratio"] < 1.5, 60, "ratio of now")
        assert info["evicted_keys"] == info["blocked_clients"] == 0
        # A busy machine makes anything slow, but nobody sorts.
        slow = {entry["command"].split()[0] for entry in client.slowlog_get(100)}
        assert not slow & {b"SORT", b"SUNIONSTORE"}
        assert info["keyspace_hits"] > 20 * info["keyspace_misses"]
        assert info["rdb_last_bgsave_status"] == "ok" and info["rdb_bgsave_in_progress"] == 0
        purchases, average, login, when = read(client, "123")
        now = datetime.datetime.now(datetime.UTC)
        assert isinstance(purchases, int) and isinstance(average, float)
        assert login < now and now - when < datetime.timedelta(minutes=20)
        assert client.set("written", "yes", ex=1)


def test_memory_fills_and_then_writes_are_refused(hosted: Hosted, client: redis.Redis) -> None:
    hosted.do("fill", percent=90)
    info = client.info("memory")
    assert 0.85 < info["used_memory"] / info["maxmemory"] < 0.95
    client.set("more", "fits")
    hosted.do("fill", percent=100)
    with pytest.raises(redis.exceptions.OutOfMemoryError, match="maxmemory"):
        client.set("more", b"x" * 100_000)
    assert client.info("stats")["evicted_keys"] == 0


def test_evictions_go_on_and_take_features(hosted: Hosted, client: redis.Redis) -> None:
    first = hosted.do("evict", policy="allkeys-random")
    assert first > 0 and client.config_get("maxmemory-policy") == {
        "maxmemory-policy": "allkeys-random"
    }
    until(lambda: client.info("stats")["evicted_keys"] > first, 60, "evictions go on")
    with connect(hosted.system, db=1) as cache:  # type: ignore[arg-type]
        until(lambda: client.dbsize() + cache.dbsize() > 0, 60, "it answers")


def test_fragmentation_shows_in_the_ratio(hosted: Hosted, client: redis.Redis) -> None:
    assert hosted.do("fragmentation") > 1.8
    memory = client.info("memory")
    assert memory["mem_fragmentation_ratio"] > 1.8
    assert memory["used_memory_rss"] - memory["used_memory"] > 8e6


def test_slow_commands_stand_in_the_log(hosted: Hosted, client: redis.Redis) -> None:
    assert hosted.do("slow_commands", count=4) >= 4
    slow = client.slowlog_get(10)
    assert {b"SORT", b"SUNIONSTORE"} <= {entry["command"].split()[0] for entry in slow}
    assert all(entry["duration"] >= 10_000 for entry in slow)


def test_busy_server_computes(hosted: Hosted, client: redis.Redis) -> None:
    hosted.do("busy", percent=40)
    until(lambda: client.slowlog_len() > 2, 60, "slow commands")
    until(lambda: "cmdstat_sort" in client.info("commandstats"), 60, "a sort has ended")
    before = client.info("commandstats")["cmdstat_sort"]["usec"]
    until(lambda: client.info("commandstats")["cmdstat_sort"]["usec"] > before, 60, "computes")
    assert b"visitor-report" in {entry["client_name"] for entry in client.slowlog_get(10)}
    assert hosted.do("end_clients", name="visitor-report") == 1
    assert hosted.do("end_clients", name="visitor-report") == 0


def test_latency_is_the_networks_not_the_servers(hosted: Hosted, store: OnlineStore) -> None:
    hosted.do("latency", milliseconds=120)
    with connect(store) as client:
        client.ping()
        began = time.monotonic()
        assert client.ping()
        assert time.monotonic() - began >= 0.12
        assert b"PING" not in {entry["command"] for entry in client.slowlog_get(100)}
    hosted.do("latency", milliseconds=1)
    with connect(store) as client:
        assert client.ping()


def test_frozen_server_answers_nobody(hosted: Hosted, store: OnlineStore) -> None:
    hosted.do("freeze")
    with connect(store, socket_timeout=0.2) as client, pytest.raises(redis.TimeoutError):
        client.ping()


def test_blocked_clients_wait(hosted: Hosted, client: redis.Redis) -> None:
    hosted.do("blocked_clients", count=7)
    assert client.info("clients")["blocked_clients"] == 7
    assert sum(one["cmd"] == "blpop" for one in client.client_list()) == 7


def test_clients_beyond_the_limit_are_refused(hosted: Hosted, store: OnlineStore) -> None:
    assert hosted.do("maxclients", connections=10) >= 8
    with (
        connect(store) as client,
        pytest.raises(redis.exceptions.ConnectionError, match="max number of clients"),
    ):
        client.ping()


def test_hit_ratio_is_low_and_stays_so(hosted: Hosted, client: redis.Redis) -> None:
    hosted.do("low_hit_ratio")
    stats = client.info("stats")
    assert stats["keyspace_hits"] / (stats["keyspace_hits"] + stats["keyspace_misses"]) < 0.1
    misses = stats["keyspace_misses"]
    until(lambda: client.info("stats")["keyspace_misses"] > misses, 60, "misses go on")


def test_failing_snapshots_refuse_writes(hosted: Hosted, client: redis.Redis) -> None:
    hosted.do("save_failing")
    assert client.info("persistence")["rdb_last_bgsave_status"] == "err"
    with pytest.raises(redis.ResponseError, match="MISCONF"):
        client.set("more", "x")


def test_snapshot_can_take_long(hosted: Hosted, client: redis.Redis) -> None:
    hosted.do("save_running")
    assert client.info("persistence")["rdb_bgsave_in_progress"] == 1


def test_changed_password_leaves_secrets_stale(hosted: Hosted, store: OnlineStore) -> None:
    hosted.do("password_changed")
    with connect(store) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    with connect(store, password=store.password) as client:
        assert client.ping() and store.password in store.secrets()


def test_flush_leaves_nothing(hosted: Hosted, client: redis.Redis) -> None:
    hosted.do("flush")
    assert client.info("keyspace") == {}


def test_features_become_stale_absent_and_null(hosted: Hosted, client: redis.Redis) -> None:
    before = read(client, "123")
    assert hosted.do("features", state="stale", entities=["123"], age_seconds=90_000) == 1
    assert read(client, "123")[:-1] == before[:-1]
    age = datetime.datetime.now(datetime.UTC) - read(client, "123")[-1]
    assert 89_000 < age.total_seconds() < 91_000
    assert hosted.do("features", state="null") == 200
    assert read(client, "124")[:-1] == [None, None, None]
    assert read(client, "124", "customer_profile")[0] in ("bronze", "silver", "gold")
    hosted.do("features", state="absent")
    key, fields = contents.key_of("124"), contents.fields_of("customer_features")
    assert client.hmget(key, fields) == [None] * 4
    hosted.do("features", state="fresh")
    assert read(client, "123")[:2] == before[:2]
    assert (datetime.datetime.now(datetime.UTC) - read(client, "123")[-1]).total_seconds() < 60


def test_kill_stop_and_start(hosted: Hosted, store: OnlineStore) -> None:
    for end in ("kill", "stop"):
        hosted.do(end)
        assert not store.running
        with connect(store) as client, pytest.raises(redis.ConnectionError):
            client.ping()
        hosted.do("start")
        with connect(store) as client:
            assert client.dbsize() >= 200
            client.set("kept", end)
    hosted.do("restart")
    with connect(store) as client:
        assert client.get("kept") == b"stop"


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("fill", {"percent": 101}),
        ("evict", {"policy": "noeviction"}),
        ("slow_commands", {"count": 0}),
        ("busy", {"percent": 100}),
        ("latency", {"milliseconds": 0}),
        ("blocked_clients", {"count": 100_000}),
        ("maxclients", {"connections": 0}),
        ("features", {"state": "frozen"}),
        ("features", {"state": "stale", "view": "x"}),
        ("features", {"state": "stale", "entities": ["1"]}),
        ("fork_stall", {}),
    ],
)
def test_what_cannot_be_asked_is_refused(
    hosted: Hosted, verb: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError):
        hosted.do(verb, **arguments)


def test_missing_binary_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_PRACTICE_REDIS_BIN", str(tmp_path))
    with pytest.raises(RedisServerError, match="RUNBOOK_PRACTICE_REDIS_BIN"):
        find_binary()
