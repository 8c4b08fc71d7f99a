"""Feast's registry: the protobuf file `registry.db` that `feast apply` writes.

Field numbers are those of `feast/core/Registry.proto`, `FeatureView.proto`, `Entity.proto`,
`Feature.proto`, `Project.proto` and `DataSource.proto` (Feast 0.67), so that a real Feast reads
what we write, and we read what it writes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace

from runbook_lib.practice.protobuf import (
    Field,
    decode,
    encode,
    messages,
    text,
    whole,
)
from runbook_lib.practice.redis.contents import JOIN_KEY, PROJECT, VIEWS

# feast.types.ValueType
STRING, INT32, INT64, DOUBLE, UNIX_TIMESTAMP = 2, 3, 4, 5, 8
DAY = 86_400
_TYPES = {
    "total_purchases": INT64,
    "avg_order_value": DOUBLE,
    "last_login": UNIX_TIMESTAMP,
    "loyalty_tier": STRING,
    "age": INT64,
}
_SOURCE = "s3://mlops-platform-production-features/customers/"
_FILE_SOURCE = "feast.infra.offline_stores.file_source.FileSource"


@dataclass(frozen=True)
class View:
    """A feature view: its features and join keys with their types, and its ttl in seconds."""

    name: str
    features: tuple[tuple[str, int], ...]
    join_keys: tuple[tuple[str, int], ...] = ((JOIN_KEY, STRING),)
    ttl: int = DAY
    materialized: float | None = None  # the Unix time up to which it was

    def without_materialization(self) -> View:
        return replace(self, materialized=None)


@dataclass(frozen=True)
class Registry:
    """What a feature server looks up, of one project."""

    project: str
    views: tuple[View, ...]

    def view(self, name: str) -> View | None:
        return next((view for view in self.views if view.name == name), None)


def healthy(now: float) -> Registry:
    """The registry of the healthy platform: the views whose features are in Redis."""
    views = tuple(
        View(name, tuple((one, _TYPES[one]) for one in features), materialized=now)
        for name, features in VIEWS.items()
    )
    return Registry(PROJECT, views)


def dump(registry: Registry) -> bytes:
    """The registry as a file."""
    now = time.time()
    meta = encode([(1, _moment(now)), (2, _moment(now))])
    entity: list[Field] = [(1, "customer"), (2, STRING), (4, JOIN_KEY), (9, registry.project)]
    project = encode([(1, encode([(1, registry.project)])), (2, meta)])
    return encode(
        [
            (1, encode([(1, encode(entity)), (2, meta)])),
            (3, "1"),
            (4, str(uuid.uuid4())),
            (5, _moment(now)),
            *((6, _view(view, registry.project, now)) for view in registry.views),
            (12, _source(registry.project)),
            (17, project),
        ]
    )


def load(raw: bytes, project: str) -> Registry:
    """The views of a project in a file. Raises ValueError for bytes that are no registry."""
    views = []
    for one in messages(decode(raw), 6):
        spec = messages(one, 1)[0]
        if text(spec, 2) != project:
            continue
        duration = messages(spec, 6)
        intervals = [
            whole(end, 1)
            for meta in messages(one, 2)
            for interval in messages(meta, 3)
            for end in messages(interval, 2)
        ]
        views.append(
            View(
                text(spec, 1),
                tuple((text(field, 1), whole(field, 2)) for field in messages(spec, 4)),
                tuple((text(field, 1), whole(field, 2)) for field in messages(spec, 12)),
                whole(duration[0], 1) if duration else 0,
                float(max(intervals)) if intervals else None,
            )
        )
    return Registry(project, tuple(views))


def _view(view: View, project: str, now: float) -> bytes:
    spec: list[Field] = [
        (1, view.name),
        (2, project),
        (3, "customer"),
        *_columns(4, view.features),
        (6, encode([(1, view.ttl)])),
        (7, _source("")),
        (8, 1),
        *_columns(12, view.join_keys),
        (18, "latest"),
    ]
    meta: list[Field] = [(1, _moment(now)), (2, _moment(now))]
    if view.materialized is not None:
        interval = [(1, _moment(view.materialized - DAY)), (2, _moment(view.materialized))]
        meta.append((3, encode(interval)))
    return encode([(1, encode(spec)), (2, encode(meta))])


def _columns(number: int, columns: Iterable[tuple[str, int]]) -> list[Field]:
    return [(number, encode([(1, name), (2, kind)])) for name, kind in columns]


def _source(project: str) -> bytes:
    fields: list[Field] = [
        (1, 1),  # BATCH_FILE
        (3, "event_timestamp"),
        (11, encode([(2, _SOURCE)])),
        (17, _FILE_SOURCE),
        (20, "customers"),
    ]
    return encode([*fields, (21, project)] if project else fields)


def _moment(at: float) -> bytes:
    return encode([(1, int(at))])
