"""Event objects: the same message about the same object is counted, not repeated."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from functools import partial

from runbook_lib.practice.objects.store import Object, Store, seconds, stamp

KEPT_SECONDS = 3600.0  # the API server's --event-ttl


@dataclass
class _Pending:
    about: Object
    type: str
    component: str
    host: str
    field_path: str
    first: float
    last: float
    count: int


class Recorder:
    """Gathers events, and writes them in one go."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: dict[tuple[str, str, str, str], _Pending] = {}
        self._names: dict[tuple[str, str, str, str], str] = {}

    def record(
        self,
        about: Object,
        type_: str,
        reason: str,
        message: str,
        *,
        at: float | None = None,
        count: int = 1,
        component: str = "kubelet",
        host: str = "",
        field_path: str = "",
        span: float = 0.0,
    ) -> None:
        """Note that something happened `count` times in the `span` seconds that began at `at`."""
        first = time.time() if at is None else at
        uid = about["metadata"]["uid"] if about["kind"] != "Node" else about["metadata"]["name"]
        key = (uid, field_path, reason, message)
        if key in self._pending:
            self._pending[key].count += count
            self._pending[key].last = first + span
        else:
            self._pending[key] = _Pending(
                about, type_, component, host, field_path, first, first + span, count
            )

    def flush(self, now: float) -> None:
        """Write what was gathered; forget what the real API would have forgotten."""
        kind = self._store.catalogue.of("events")
        pending, self._pending = self._pending, {}
        for key, noted in pending.items():
            if noted.last < now - KEPT_SECONDS:
                continue
            noted.last = min(noted.last, now)
            namespace = noted.about["metadata"].get("namespace") or "default"
            space = self._store.find("namespaces", namespace)
            if space is None or space["metadata"].get("deletionTimestamp"):
                continue  # nothing is made any more where all is being removed
            known = self._store.find("events", self._names.get(key, ""), namespace)
            if known is not None:
                self._store.edit(kind, known, partial(_again, noted))
            else:
                event = _event(key, noted, namespace)
                self._names[key] = event["metadata"]["name"]
                self._store.add(kind, event)

    def prune(self, now: float) -> None:
        kind = self._store.catalogue.of("events")
        for event in self._store.all("events"):
            last = event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]
            if seconds(last) < now - KEPT_SECONDS:
                self._store.remove(kind, event)
        self._names = {key: name for key, name in self._names.items() if len(self._names) < 50_000}


def _again(noted: _Pending, event: Object) -> None:
    event["count"] += noted.count
    event["lastTimestamp"] = stamp(noted.last)


def _event(key: tuple[str, str, str, str], noted: _Pending, namespace: str) -> Object:
    uid, field_path, reason, message = key
    about, meta = noted.about, noted.about["metadata"]
    involved = {
        "kind": about["kind"],
        "namespace": meta.get("namespace", ""),
        "name": meta["name"],
        "uid": uid,
        "apiVersion": about["apiVersion"],
        "resourceVersion": meta.get("resourceVersion", ""),
        "fieldPath": field_path,
    }
    source = {"component": noted.component, "host": noted.host}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{meta['name']}.{uuid.uuid4().hex[:16]}",
            "namespace": namespace,
            "creationTimestamp": stamp(noted.first),
        },
        "involvedObject": {name: value for name, value in involved.items() if value},
        "type": noted.type,
        "reason": reason,
        "message": message,
        "count": noted.count,
        "firstTimestamp": stamp(noted.first),
        "lastTimestamp": stamp(noted.last),
        "source": {name: value for name, value in source.items() if value},
        "reportingComponent": noted.component,
        "reportingInstance": noted.host,
        "eventTime": None,
    }
