"""Feast's feature server (0.67): features from Redis, views from the registry in S3.

Facts of the real server with a Redis store that are kept: every status is PRESENT; what is
absent has a null value and the event timestamp 1970-01-01T00:00:00Z, and what is stale its old
one. The registry is fetched again on the request path once it is older than its ttl; while it
cannot be, requests fail and /health is 503. A server that starts without a registry writes an
empty one; one that may not read the bucket ends.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store
from runbook_lib.practice.redis import features as bytes_of
from runbook_lib.practice.services import feast_registry
from runbook_lib.practice.services.application import Application
from runbook_lib.practice.services.cloud import Cloud, client_in
from runbook_lib.practice.services.exchange import Answer, Call
from runbook_lib.practice.services.feast_registry import Registry, View
from runbook_lib.practice.services.feast_requests import FRAMES, PACKAGES, asked, cast, validated
from runbook_lib.practice.services.neighbours import SilentError, UnreachableError, Where, reach
from runbook_lib.practice.services.routing import Backend
from runbook_lib.practice.services.rules import Raised

FEATURES = "/get-online-features"
BUCKET, KEY = "mlops-platform-production-features", "registry.db"
REGISTRY_STATES = ("missing", "unreadable", "view_missing", "never_materialized", "whole")
_SYN_SECONDS = 127.0  # how long Linux tries to connect
_EPOCH = "1970-01-01T00:00:00Z"
_CONFIG_FRAMES = ((f"{PACKAGES}feast/repo_config.py", 590, "load_repo_config"),)
_REGISTRY_FRAMES = (
    (f"{PACKAGES}feast/infra/registry/registry.py", 1536, "_get_registry_proto"),
    (f"{PACKAGES}feast/infra/registry/s3.py", 52, "get_registry_proto"),
)
_NOT_FOUND = (
    "FeatureViewNotFoundException",
    "FeatureServiceNotFoundException",
    "S3RegistryBucketForbiddenAccess",
    "S3RegistryBucketNotExist",
)


@dataclass(frozen=True)
class Settings:
    """What feature_store.yaml says."""

    project: str = "mlops_platform"
    registry: str = f"s3://{BUCKET}/{KEY}"
    ttl: float = 60.0
    redis: str = "feast-redis-master:6379"


@dataclass(frozen=True)
class _Known:
    """A container's settings, and the registry that it fetched at a time."""

    settings: Settings
    registry: Registry | None = None
    fetched: float = 0.0


class FeatureServer(Application):
    """The server behind Service feast-feature-server."""

    def __init__(self, store: Store, kubelet: Kubelet, aws: Cloud, where: Where) -> None:
        super().__init__(
            store,
            kubelet,
            app="feast-feature-server",
            backend=Backend("mlops-platform", "feast-feature-server", 6566),
        )
        self._aws = aws
        self._s3: Any = None
        self._where = where
        self._known: dict[str, _Known] = {}  # by the uid of the pod

    # life

    async def heal(self) -> None:
        await super().heal()
        await asyncio.to_thread(self._apply)
        self._expire()

    def _apply(self) -> None:
        """`feast apply`, and a materialization of this moment. Blocks."""
        self._put(feast_registry.dump(feast_registry.healthy(time.time())))

    def _put(self, raw: bytes) -> None:
        self._client().put_object(Bucket=BUCKET, Key=KEY, Body=raw)

    def _client(self) -> Any:
        if self._s3 is None:
            self._s3 = self._aws.client("s3")
        return self._s3

    def _expire(self) -> None:
        """The containers fetch the registry again with their next request."""
        self._known = {uid: replace(one, fetched=0.0) for uid, one in self._known.items()}

    # verbs

    def verbs(self) -> Mapping[str, Callable[..., Any]]:
        return {**super().verbs(), "registry": self.registry}

    def registry(self, state: str, view: str = "") -> None:
        """The registry is missing or unreadable, or a view is missing in it or never materialized.

        It is whole after `feast apply` and a materialization of every view. The states are those
        of REGISTRY_STATES. Blocks.
        """
        if state not in REGISTRY_STATES:
            raise ValueError(f"registry: state is one of {', '.join(REGISTRY_STATES)}")
        healthy = feast_registry.healthy(time.time())
        about_view = state in ("view_missing", "never_materialized")
        if about_view != bool(view) or (view and healthy.view(view) is None):
            names = ", ".join(one.name for one in healthy.views)
            raise ValueError(f"registry: {state} with view {view!r}; views are {names}")
        if state == "missing":
            self._client().delete_object(Bucket=BUCKET, Key=KEY)
        elif state == "unreadable":
            self._put(b"\x07 no registry")
        elif state == "whole":
            self._put(feast_registry.dump(healthy))
        else:
            views = [
                one.without_materialization() if one.name == view else one
                for one in healthy.views
                if state == "never_materialized" or one.name != view
            ]
            self._put(feast_registry.dump(replace(healthy, views=tuple(views))))
        self._expire()

    # a quiet hour

    def usual_request(self, number: int) -> tuple[str, str, dict[str, str], Any]:
        wanted = ["customer_features:total_purchases", "customer_features:avg_order_value"]
        entities = {"customer_id": [str(100 + number % 200)]}
        return "POST", FEATURES, {}, {"features": wanted, "entities": entities}

    # a container begins

    async def container_started(self, pod: Object, env: Mapping[str, str]) -> None:
        """Read the configuration and the registry, as the server does before it serves."""
        import yaml

        uid = pod["metadata"]["uid"]
        try:
            self._known[uid] = _Known(settings_of(self._store, pod, env))
            await self._registry(pod)
        except (yaml.YAMLError, ValueError) as error:
            name = f"{type(error).__module__}.{type(error).__name__}"
            lines = Raised(name, str(error), _CONFIG_FRAMES).traceback
            self._kubelet.end(pod, self.container_of(pod), 1, lines, "Error")
        except Raised as error:
            if error.name == "FileNotFoundError":
                await asyncio.to_thread(self._create_empty, pod, self._known[uid].settings)
                line = "INFO:feast.infra.registry.registry:Registry file not found. Creating new"
                self._kubelet.append_log(pod, self.container_of(pod), f"{line} registry.")
                return
            lines = (*error.traceback, "[ERROR] Worker failed to boot.")
            self._kubelet.end(pod, self.container_of(pod), 1, lines, "Error")

    def _create_empty(self, pod: Object, settings: Settings) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        bucket, key = _place(settings.registry)
        empty = feast_registry.dump(Registry(settings.project, ()))
        try:
            self._s3_in(pod).put_object(Bucket=bucket, Key=key, Body=empty)
        except (BotoCoreError, ClientError):
            return  # it may read the bucket only; its next fetch says so

    def _s3_in(self, pod: Object) -> Any:
        container = self.container_of(pod)
        return client_in(self._aws, self._store, self._kubelet, pod, container, "s3")

    async def _registry(self, pod: Object) -> Registry:
        """The registry of a pod's container, fetched where it is too old. Raises Raised."""
        uid = pod["metadata"]["uid"]
        known = self._known[uid]
        if known.registry is not None and time.time() - known.fetched < known.settings.ttl:
            return known.registry
        raw = await asyncio.to_thread(self._fetch, pod, known.settings.registry)
        try:
            registry = feast_registry.load(raw, known.settings.project)
        except ValueError:
            name = "google.protobuf.message.DecodeError"
            raise Raised(name, "Error parsing message", _REGISTRY_FRAMES) from None
        self._known[uid] = _Known(known.settings, registry, time.time())
        return registry

    def _fetch(self, pod: Object, registry: str) -> bytes:
        """The registry's bytes, by the steps of Feast's S3 registry store. Raises Raised."""
        from botocore.exceptions import BotoCoreError, ClientError

        bucket, key = _place(registry)
        try:
            try:
                s3 = self._s3_in(pod)
                s3.head_bucket(Bucket=bucket)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    name, what = "S3RegistryBucketNotExist", "does not exist"
                else:
                    name, what = "S3RegistryBucketForbiddenAccess", "can't be accessed"
                text = f"S3 bucket {bucket} for the Feast registry {what}"
                raise Raised(f"feast.errors.{name}", text, _REGISTRY_FRAMES) from None
            try:
                raw: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
                return raw
            except ClientError:
                text = f"Error while trying to locate Registry at path {registry}"
                raise Raised("FileNotFoundError", text, _REGISTRY_FRAMES) from None
        except BotoCoreError as error:
            name = f"botocore.exceptions.{type(error).__name__}"
            raise Raised(name, str(error), _REGISTRY_FRAMES) from None

    # requests

    def error_lines(self, call: Call, error: Raised) -> Iterable[str]:
        first, *rest = error.traceback
        return (f"ERROR:fastapi:{first}", *rest)

    def access_line(self, call: Call, path: str, status: int) -> str:
        return f'10.0.1.41:0 - "{call.method} {path} HTTP/1.1" {status}'

    def failed(self, error: Raised) -> Answer:
        """Feast's handler: its own errors as a document in a string, others as their text."""
        module, _, name = error.name.rpartition(".")
        if module != "feast.errors":
            return Answer(500, json.dumps(error.message))
        detail = json.dumps({"module": module, "class": name, "message": error.message})
        return Answer(404 if name in _NOT_FOUND else 500, json.dumps(detail))

    async def answer(self, call: Call) -> Answer:
        if call.path not in ("/health", FEATURES):
            return Answer(404, {"detail": "Not Found"})
        if call.method != ("GET" if call.path == "/health" else "POST"):
            return Answer(405, {"detail": "Method Not Allowed"})
        uid = call.target.pod["metadata"]["uid"]
        if uid not in self._known:
            self._known[uid] = _Known(settings_of(self._store, call.target.pod, call.env))
        if call.path == "/health":
            try:
                await self._registry(call.target.pod)
            except Raised:
                return Answer(503, content_type="text/plain")
            return Answer(200, content_type="text/plain")
        given = validated(call.body)
        if isinstance(given, Answer):
            return given
        return Answer(200, await self._online_features(call.target.pod, given))

    async def _online_features(self, pod: Object, given: Mapping[str, Any]) -> Any:
        registry = await self._registry(pod)
        wanted = asked(given, registry)
        entities: dict[str, list[Any]] = given["entities"]
        names, results = list[str](), list[dict[str, Any]]()
        for key in dict.fromkeys(key for view, _ in wanted for key, _ in view.join_keys):
            names.append(key)
            values = [str(value) for value in entities[key]]
            results.append(_vector(values, [_EPOCH] * len(values)))
        for view, features in wanted:
            rows = await self._rows(pod, registry.project, view, features, entities)
            stamps = [stamp for _, stamp in rows]
            for number, feature in enumerate(features):
                full = given.get("full_feature_names")
                names.append(f"{view.name}__{feature}" if full else feature)
                results.append(_vector([values[number] for values, _ in rows], stamps))
        return {"results": results, "metadata": {"feature_names": names}}

    async def _rows(
        self,
        pod: Object,
        project: str,
        view: View,
        features: Sequence[str],
        entities: Mapping[str, list[Any]],
    ) -> list[tuple[list[Any], str]]:
        """Of each entity the values and the event timestamp of a view. Raises Raised."""
        from redis.exceptions import RedisError

        keys = [key for key, _ in view.join_keys]
        columns = [[cast(value, kind) for value in entities[key]] for key, kind in view.join_keys]
        hashes = [bytes_of.entity_key(project, keys, row) for row in zip(*columns, strict=True)]
        fields = [bytes_of.feature_field(view.name, feature) for feature in features]
        fields.append(bytes_of.timestamp_field(view.name))
        connection = self._known[pod["metadata"]["uid"]].settings.redis
        try:
            url = f"redis://{connection}/0"
            place, host = reach(self._kubelet.network, self._store, pod, url, self._where)
            async with _redis(place) as client, client.pipeline(transaction=False) as pipe:
                for one in hashes:
                    pipe.hmget(one, fields)
                found = await pipe.execute()
        except SilentError:  # it has no time limit; whoever asked it gives up before
            await asyncio.sleep(_SYN_SECONDS)
            text = f"Error 110 connecting to {connection}. Connection timed out."
            raise Raised("redis.exceptions.ConnectionError", text, FRAMES) from None
        except UnreachableError as error:
            text = f"Error {error} connecting to {connection}."
            raise Raised("redis.exceptions.ConnectionError", text, FRAMES) from None
        except RedisError as error:
            text = str(error).replace(urlsplit(place).netloc.rpartition("@")[2], host)
            raise Raised(f"redis.exceptions.{type(error).__name__}", text, FRAMES) from None
        return [_row(values) for values in found]


def settings_of(store: Store, pod: Object, env: Mapping[str, str]) -> Settings:
    """What the feature_store.yaml says that is mounted in a pod; defaults where none is.

    Raises yaml.YAMLError and ValueError for what Feast could not read either.
    """
    import yaml

    found: dict[str, Any] = {}
    for volume in dig(pod, "spec.volumes", []):
        name = dig(volume, "configMap.name", "")
        config = store.find("configmaps", name, pod["metadata"]["namespace"]) if name else None
        text = (config or {}).get("data", {}).get("feature_store.yaml")
        if text:
            read = yaml.safe_load(text)
            found = read if isinstance(read, dict) else {}
    usual = Settings(registry=env.get("FEAST_REGISTRY", Settings.registry))
    registry = found.get("registry") or {}
    if isinstance(registry, str):
        registry = {"path": registry}
    connection = dig(found, "online_store.connection_string", usual.redis)
    return Settings(
        str(found.get("project", usual.project)),
        str(registry.get("path", usual.registry)),
        float(registry.get("cache_ttl_seconds", usual.ttl)),
        str(connection).partition(",")[0],
    )


def _place(registry: str) -> tuple[str, str]:
    bucket, _, key = registry.removeprefix("s3://").partition("/")
    return bucket, key


def _row(raw: Sequence[bytes | None]) -> tuple[list[Any], str]:
    *values, stamp = raw
    decoded = [bytes_of.decode_value(value) if value else None for value in values]
    at = bytes_of.decode_timestamp(stamp) if stamp else datetime.fromtimestamp(0, UTC)
    plain = [int(one.timestamp()) if isinstance(one, datetime) else one for one in decoded]
    return plain, at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _vector(values: list[Any], stamps: list[str]) -> dict[str, Any]:
    return {"values": values, "statuses": ["PRESENT"] * len(values), "event_timestamps": stamps}


def _redis(url: str) -> Any:
    """A client that waits as long as the real server's does: without end."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Redis.from_url(url, retry=Retry(NoBackoff(), 0))
