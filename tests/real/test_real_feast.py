"""The same requests to a real `feast serve` and to ours, on one Redis and one registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from practice.inside import Inside
from real.conftest import Process, Side, environment, outline

from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.redis.system import OnlineStore
from runbook_lib.practice.services.feast import FEATURES, FeatureServer
from runbook_lib.practice.wait import until

pytestmark = pytest.mark.real

PURCHASES = "customer_features:total_purchases"
LOGIN = "customer_features:last_login"
TIER = "customer_profile:loyalty_tier"
CUSTOMERS = {"customer_id": ["100", "101", "102", "103", "999"]}
HEALTHY = [
    ("GET", "/health", None),
    ("POST", FEATURES, {"features": [PURCHASES], "entities": {"customer_id": ["100"]}}),
]
CONFIGURATION = """project: mlops_platform
registry:
  path: s3://mlops-platform-production-features/registry.db
  cache_ttl_seconds: 1
provider: local
online_store:
  type: redis
  connection_string: 127.0.0.1:{port},password={password}
offline_store:
  type: file
entity_key_serialization_version: 3
"""


@pytest.fixture(scope="module")
def ours(inside: Inside, account: Aws, redis: OnlineStore) -> FeatureServer:
    for state, customer in (("stale", "101"), ("absent", "102"), ("null", "103")):
        inside.verb(redis, "features", state=state, entities=[customer])
    return inside.add_feature_server(account, redis)


@pytest.fixture(scope="module")
def sides(
    ours: FeatureServer,
    account: Aws,
    redis: OnlineStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Side, Side]]:
    """Ours and a real one, which reads the registry that ours has written."""
    binaries = environment("feast")
    folder = tmp_path_factory.mktemp("feast")
    text = CONFIGURATION.format(port=redis.server.port, password=redis.server.password)
    (folder / "feature_store.yaml").write_text(text)
    process = Process(folder / "feast.log")
    process.start(
        [str(binaries / "feast"), "serve", "-h", "127.0.0.1", "-p", str(process.port)],
        wait="/health",
        AWS_ACCESS_KEY_ID=account.access_key_id,
        AWS_SECRET_ACCESS_KEY=account.secret_access_key,
        AWS_DEFAULT_REGION="us-east-1",
        AWS_ENDPOINT_URL=account.url,
        FEAST_S3_ENDPOINT_URL=account.url,
        FEAST_USAGE="False",
    )
    yield Side(ours.url, {}, {}), Side(process.url, {}, {})
    process.stop()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        *HEALTHY,
        ("GET", "/nothing", None),
        ("GET", FEATURES, None),
        ("POST", FEATURES, {"features": [PURCHASES, TIER], "entities": CUSTOMERS}),
        ("POST", FEATURES, {"features": ["nope:x"], "entities": CUSTOMERS}),
        ("POST", FEATURES, {"features": ["customer_features:nope"], "entities": CUSTOMERS}),
        ("POST", FEATURES, {"features": ["total_purchases"], "entities": CUSTOMERS}),
        ("POST", FEATURES, {"features": [PURCHASES], "entities": {"other": ["100"]}}),
        ("POST", FEATURES, {"features": [PURCHASES], "entities": {}}),
        ("POST", FEATURES, {"features": [], "entities": CUSTOMERS}),
        ("POST", FEATURES, {"feature_service": "nope", "entities": CUSTOMERS}),
        ("POST", FEATURES, {"features": [PURCHASES]}),
        ("POST", FEATURES, {"features": [PURCHASES, PURCHASES], "entities": CUSTOMERS}),
        ("POST", FEATURES, b"nonsense"),
    ],
)
def test_same(sides: tuple[Side, Side], method: str, path: str, body: Any) -> None:
    ours, real = sides
    assert outline(ours.ask(method, path, body)) == outline(real.ask(method, path, body))


def vectors(side: Side, *features: str, full: bool = False) -> dict[str, Any]:
    """What was found, by the feature's name: a real server orders features as it likes."""
    body = {"features": list(features), "entities": CUSTOMERS, "full_feature_names": full}
    answer = side.ask("POST", FEATURES, body).json()
    return dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))


def test_same_features(sides: tuple[Side, Side]) -> None:
    """Values, statuses and event timestamps of fresh, stale, absent, null and unknown ones."""
    ours, real = sides
    assert vectors(ours, PURCHASES, LOGIN, TIER) == vectors(real, PURCHASES, LOGIN, TIER)
    assert vectors(ours, PURCHASES, full=True) == vectors(real, PURCHASES, full=True)


def outlines(side: Side) -> list[dict[str, Any]]:
    return [outline(side.ask(*one)) for one in HEALTHY]


def test_same_without_redis(sides: tuple[Side, Side], inside: Inside, redis: OnlineStore) -> None:
    ours, real = sides
    inside.run(redis.stop())
    try:
        assert outlines(ours) == outlines(real)
    finally:
        inside.run(redis.start())
    assert outlines(ours) == outlines(real)


@pytest.mark.parametrize(
    "fault",
    [
        {"state": "missing"},
        {"state": "unreadable"},
        {"state": "view_missing", "view": "customer_features"},
    ],
)
def test_same_with_a_broken_registry(
    sides: tuple[Side, Side], inside: Inside, ours: FeatureServer, fault: Any
) -> None:
    """Once the real server's registry is older than its ttl of a second."""
    mine, real = sides
    healthy = outlines(real)
    inside.verb(ours, "registry", **fault)
    try:
        until(lambda: outlines(real) != healthy, 20, "the real server looks again")
        assert outlines(mine) == outlines(real)
    finally:
        inside.run(ours.heal())
    until(lambda: outlines(real) == healthy, 20, "the real server is well again")
    assert outlines(mine) == healthy


def test_same_with_a_bucket_that_may_not_be_read(
    sides: tuple[Side, Side], inside: Inside, ours: FeatureServer, account: Aws
) -> None:
    mine, real = sides
    healthy = outlines(real)
    account.faults([{"kind": "denied", "service": "s3"}])
    try:
        until(lambda: outlines(real) != healthy, 20, "the real server looks again")
        ours._expire()
        assert outlines(mine) == outlines(real)
    finally:
        account.faults([])
        inside.run(ours.heal())
    until(lambda: outlines(real) == healthy, 20, "the real server is well again")


def test_a_real_server_ends_where_it_may_not_read_the_bucket(
    sides: tuple[Side, Side], account: Aws, redis: OnlineStore, tmp_path: Path
) -> None:
    binaries = environment("feast")
    text = CONFIGURATION.format(port=redis.server.port, password=redis.server.password)
    (tmp_path / "feature_store.yaml").write_text(text)
    process = Process(tmp_path / "feast.log")
    account.faults([{"kind": "denied", "service": "s3"}])
    try:
        code = process.run_to_its_end(
            [str(binaries / "feast"), "serve", "-h", "127.0.0.1", "-p", str(process.port)],
            AWS_ACCESS_KEY_ID=account.access_key_id,
            AWS_SECRET_ACCESS_KEY=account.secret_access_key,
            AWS_DEFAULT_REGION="us-east-1",
            AWS_ENDPOINT_URL=account.url,
            FEAST_USAGE="False",
        )
    finally:
        account.faults([])
    assert code != 0
    assert "can't be accessed" in process.log
