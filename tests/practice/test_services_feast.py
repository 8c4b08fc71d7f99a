"""The feature server through an ordinary HTTP client, on a real Redis and a registry in S3."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from practice.inside import PLATFORM, SECONDS, Inside

from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.redis import contents
from runbook_lib.practice.redis.system import OnlineStore
from runbook_lib.practice.services import feast_registry
from runbook_lib.practice.services.feast import BUCKET, FEATURES, KEY, FeatureServer
from runbook_lib.practice.services.feast_registry import Registry
from runbook_lib.practice.wait import until

PURCHASES = "customer_features:total_purchases"
EPOCH = "1970-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def server(inside: Inside, account: Aws, redis: OnlineStore) -> FeatureServer:
    return inside.add_feature_server(account, redis)


@pytest.fixture
def feast(inside: Inside, server: FeatureServer, account: Aws) -> Iterator[Feast]:
    yield Feast(inside, server)
    account.faults([])
    inside.run(server.heal())
    server.traffic(0)


class Feast:
    def __init__(self, inside: Inside, server: FeatureServer) -> None:
        self.inside, self.server = inside, server

    def post(self, body: Any) -> httpx.Response:
        return self.inside.http.post(self.server.url + FEATURES, json=body)

    def ask(self, *customers: str, features: tuple[str, ...] = (PURCHASES,)) -> httpx.Response:
        entities = {"customer_id": list(customers)}
        return self.post({"features": list(features), "entities": entities})

    def found(self, *customers: str) -> list[tuple[Any, str]]:
        """The purchases of customers, each with its event timestamp."""
        vector = self.ask(*customers).json()["results"][1]
        return list(zip(vector["values"], vector["event_timestamps"], strict=True))

    def health(self) -> int:
        return self.inside.http.get(f"{self.server.url}/health").status_code

    def log(self) -> str:
        return self.inside.logs("feast")


def test_features_are_those_of_redis(feast: Feast) -> None:
    features = (PURCHASES, "customer_profile:loyalty_tier")
    body = feast.ask("100", "101", features=features).json()
    now = datetime.datetime.now(datetime.UTC)
    wanted = [contents.values_of(customer, now) for customer in ("100", "101")]
    assert body["metadata"]["feature_names"] == ["customer_id", "total_purchases", "loyalty_tier"]
    keys, purchases, tiers = body["results"]
    assert keys["values"] == ["100", "101"]
    assert purchases["values"] == [one["total_purchases"] for one in wanted]
    assert tiers["values"] == [one["loyalty_tier"] for one in wanted]
    assert purchases["statuses"] == ["PRESENT", "PRESENT"]
    assert min(purchases["event_timestamps"]) > "2020"


def test_absent_stale_and_null(feast: Feast, redis: OnlineStore) -> None:
    inside = feast.inside
    for state, customer in (("stale", "101"), ("absent", "102"), ("null", "103")):
        inside.verb(redis, "features", state=state, entities=[customer])
    (fresh, now), (stale, then), absent, (null, still), unknown = feast.found(
        "100", "101", "102", "103", "999"
    )
    inside.run(redis.heal())
    assert isinstance(fresh, int) and isinstance(stale, int)
    assert then < now
    assert absent == unknown == (None, EPOCH)
    assert (null, still) == (None, now)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"features": ["nope:x"], "entities": {"customer_id": ["1"]}}, 404, "FeatureViewNotFound"),
        (
            {"features": ["customer_features:nope"], "entities": {"customer_id": ["1"]}},
            500,
            "Feature nope not found in projection customer_features",
        ),
        ({"features": [PURCHASES], "entities": {"other": ["1"]}}, 500, "Missing join key values"),
        ({"features": [PURCHASES]}, 422, "Field required"),
        ({"features": [], "entities": {"customer_id": ["1"]}}, 500, "No features specified"),
        (
            {"feature_service": "x", "entities": {"customer_id": ["1"]}},
            404,
            "Feature service x does not exist in project mlops_platform",
        ),
    ],
)
def test_refusals(feast: Feast, body: Any, status: int, text: str) -> None:
    answer = feast.post(body)
    assert (answer.status_code, text in answer.text) == (status, True), answer.text


def test_stopped_redis(feast: Feast, redis: OnlineStore) -> None:
    feast.inside.run(redis.stop())
    answer, health = feast.ask("100"), feast.health()
    feast.inside.run(redis.start())
    assert answer.status_code == 500
    assert "connecting to feast-redis-master:6379" in answer.json()
    assert "redis.exceptions.ConnectionError" in feast.log()
    assert health == 200
    assert feast.ask("100").status_code == 200


def test_another_password(feast: Feast, redis: OnlineStore) -> None:
    feast.inside.verb(redis, "password_changed")
    answer = feast.ask("100")
    feast.inside.run(redis.heal())
    assert (answer.status_code, "invalid username-password pair" in answer.json()) == (500, True)


def test_a_registry_that_is_lost_while_servers_run(feast: Feast) -> None:
    feast.inside.verb(feast.server, "registry", state="missing")
    answer, health = feast.ask("100"), feast.health()
    assert answer.status_code == 500
    assert answer.json() == f"Error while trying to locate Registry at path s3://{BUCKET}/{KEY}"
    assert health == 503
    assert "FileNotFoundError: Error while trying to locate Registry" in feast.log()


def test_a_server_that_starts_without_a_registry_writes_an_empty_one(
    feast: Feast, account: Aws
) -> None:
    inside = feast.inside
    inside.verb(feast.server, "registry", state="missing")
    before = set(inside.ready("feast"))
    inside.delete_pod(min(before))
    new = set(inside.until_ready("feast", 2)) - before

    def written() -> bool:
        return "Registry file not found. Creating new registry" in inside.log(min(new))

    until(written, SECONDS, "the new server found no registry")
    raw = account.client("s3").get_object(Bucket=BUCKET, Key=KEY)["Body"].read()
    assert feast_registry.load(raw, contents.PROJECT) == Registry(contents.PROJECT, ())
    assert feast.ask("100").status_code == 404


def test_a_bucket_that_may_not_be_read(feast: Feast, account: Aws) -> None:
    account.faults([{"kind": "denied", "service": "s3"}])
    log = feast.inside.log_of_a_crash("feast")
    account.faults([])
    wanted = f"S3RegistryBucketForbiddenAccess: S3 bucket {BUCKET} for the Feast registry can't be"
    assert wanted in log
    feast.inside.until_ready("feast", 2)


def test_an_unreadable_registry(feast: Feast) -> None:
    feast.inside.verb(feast.server, "registry", state="unreadable")
    answer = feast.ask("100")
    assert (answer.status_code, answer.json()) == (500, "Error parsing message")
    assert "google.protobuf.message.DecodeError" in feast.log()


def test_a_view_that_was_not_applied(feast: Feast) -> None:
    feast.inside.verb(feast.server, "registry", state="view_missing", view="customer_features")
    detail = json.loads(feast.ask("100").json())
    assert detail["message"] == (
        "Feature view customer_features does not exist in project mlops_platform"
    )
    other = feast.ask("100", features=("customer_profile:age",))
    assert other.status_code == 200


def test_a_view_that_was_never_materialized(feast: Feast, account: Aws) -> None:
    feast.inside.verb(
        feast.server, "registry", state="never_materialized", view="customer_features"
    )
    raw = account.client("s3").get_object(Bucket=BUCKET, Key=KEY)["Body"].read()
    views = {one.name: one.materialized for one in feast_registry.load(raw, "mlops_platform").views}
    assert views["customer_features"] is None
    assert views["customer_profile"]
    feast.inside.verb(feast.server, "registry", state="whole")
    raw = account.client("s3").get_object(Bucket=BUCKET, Key=KEY)["Body"].read()
    assert all(one.materialized for one in feast_registry.load(raw, "mlops_platform").views)


def test_another_project_in_the_configuration(feast: Feast) -> None:
    inside, path = feast.inside, "core/configmaps/feast-config"
    found = inside.kubernetes("GET", f"/api/v1/namespaces/{PLATFORM}/configmaps/feast-config")
    text = found["data"]["feature_store.yaml"]
    other = text.replace("project: mlops_platform", "project: staging")
    inside.patch(path, {"data": {"feature_store.yaml": other}})
    assert feast.ask("100").status_code == 200  # the servers started before
    for name in inside.ready("feast"):
        inside.delete_pod(name)

    def refused() -> bool:
        return "does not exist in project staging" in feast.ask("100").text

    until(refused, SECONDS, "the new servers look into another project")
    inside.patch(path, {"data": {"feature_store.yaml": text}})
    for name in inside.ready("feast"):
        inside.delete_pod(name)
    until(lambda: feast.ask("100").status_code == 200, SECONDS, "the servers are back")


def test_a_configuration_that_cannot_be_read(feast: Feast) -> None:
    inside, path = feast.inside, "core/configmaps/feast-config"
    found = inside.kubernetes("GET", f"/api/v1/namespaces/{PLATFORM}/configmaps/feast-config")
    text = found["data"]["feature_store.yaml"]
    inside.patch(path, {"data": {"feature_store.yaml": "project: {"}})
    log = inside.log_of_a_crash("feast")
    inside.patch(path, {"data": {"feature_store.yaml": text}})
    assert "yaml.parser.ParserError" in log
    inside.until_ready("feast", 2)


def test_no_feature_server_is_ready(feast: Feast) -> None:
    path = "core/services/feast-feature-server"
    feast.inside.patch(path, {"spec": {"selector": {"app": "other"}}})
    until(lambda: feast.health() == 503, SECONDS, "no endpoint is left")
    feast.inside.patch(path, {"spec": {"selector": {"app": "feast"}}})
    until(lambda: feast.health() == 200, SECONDS, "the endpoints are back")


def test_types_of_the_registry_name_every_feature() -> None:
    raw = feast_registry.dump(feast_registry.healthy(1_800_000_000.0))
    read = feast_registry.load(raw, contents.PROJECT)
    assert read == feast_registry.healthy(1_800_000_000.0)
    named = {view.name: tuple(name for name, _ in view.features) for view in read.views}
    assert named == contents.VIEWS


@pytest.mark.parametrize("raw", [b"\x07", b"\x0a\xff", b"\x80", b"\x00\x01"])
def test_bytes_that_are_no_registry(raw: bytes) -> None:
    with pytest.raises(ValueError):
        feast_registry.load(raw, "x")


def test_verb_refuses_what_cannot_be_asked(feast: Feast) -> None:
    for arguments in (
        {"state": "x"},
        {"state": "missing", "view": "customer_features"},
        {"state": "view_missing"},
        {"state": "view_missing", "view": "nope"},
    ):
        with pytest.raises(ValueError, match="registry: "):
            feast.inside.verb(feast.server, "registry", **arguments)
