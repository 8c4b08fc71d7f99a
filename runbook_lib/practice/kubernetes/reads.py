"""Getting, listing and watching objects."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from typing import Any

from aiohttp import web

from runbook_lib.practice.kubernetes import tables
from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.kubernetes.errors import ApiError, bad_request, invalid
from runbook_lib.practice.kubernetes.selectors import Test, field_selector, label_selector
from runbook_lib.practice.kubernetes.store import Change, Object, Store, key_of

_WATCH_SECONDS = 1800.0
_BOOKMARK_SECONDS = 60.0


def answer(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def item(call: Call, store: Store) -> web.Response:
    obj = store.get(call.kind, call.namespace, call.name)
    if call.wants_table:
        return web.json_response(tables.table(call, [obj], {}, store))
    call.require_json()
    return answer(store.encoded(call.kind, obj))


def selection(call: Call) -> Test:
    """The test that the call's namespace, name and selectors make."""
    labels, fields = call.query.get("labelSelector"), call.query.get("fieldSelector")
    tests: list[Test] = []
    if labels:
        tests.append(label_selector(labels))
    if fields:
        tests.append(field_selector(fields, call.kind))

    def selects(obj: Object) -> bool:
        meta = obj["metadata"]
        if call.namespace and meta.get("namespace") != call.namespace:
            return False
        if call.name and meta["name"] != call.name:
            return False
        return all(test(obj) for test in tests)

    return selects


def select(call: Call, store: Store) -> list[Object]:
    """The selected objects in the order of their keys, as etcd keeps them."""
    selects = selection(call)
    table = store.table(call.kind)
    return [table[key] for key in sorted(table) if selects(table[key])]


def listing(call: Call, store: Store) -> web.Response:
    found = select(call, store)
    meta: dict[str, Any] = {"resourceVersion": str(store.revision)}
    if start := call.query.get("continue"):
        after, meta["resourceVersion"] = _position(start)
        found = [obj for obj in found if key_of(obj) > after]
    limit = call.number("limit") or 0
    if limit and len(found) > limit:
        rest, found = found[limit:], found[:limit]
        meta["continue"] = _token(found[-1], meta["resourceVersion"])
        if not (call.query.get("labelSelector") or call.query.get("fieldSelector")):
            meta["remainingItemCount"] = len(rest)
    if call.wants_table:
        return web.json_response(tables.table(call, found, meta, store))
    call.require_json()
    kind = call.kind
    head = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": meta}
    items = b",".join(store.encoded(kind, obj) for obj in found)
    return answer(json.dumps(head).encode()[:-1] + b',"items":[' + items + b"]}")


def _token(last: Object, revision: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([*key_of(last), revision]).encode()).decode()


def _position(token: str) -> tuple[tuple[str, str], str]:
    try:
        namespace, name, revision = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        raise bad_request(f"continue key is not valid: {token[:40]!r}") from None
    return (namespace, name), revision


async def watch(call: Call, store: Store, request: web.Request) -> web.StreamResponse:
    """Stream the changes since a resource version; without one, all objects first."""
    if "sendInitialEvents" in call.query:
        text = "Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature"
        cause = ("FieldValueForbidden", f"{text} gate is enabled", "sendInitialEvents")
        raise invalid(call.kind, "", [cause])
    selects = selection(call)
    timeout = call.number("timeoutSeconds")
    end = time.monotonic() + (timeout or _WATCH_SECONDS)
    seen = call.number("resourceVersion") or 0
    stream = _Stream(call, store, request)
    with contextlib.suppress(ConnectionResetError):  # the watcher went away
        await _follow(call, store, stream, selects, seen, end)
    return stream.response


async def _follow(
    call: Call, store: Store, stream: _Stream, selects: Test, seen: int, end: float
) -> None:
    await stream.open()
    if not seen:
        seen = store.revision
        for obj in select(call, store):
            await stream.send("ADDED", obj)
    elif store.history and seen < store.history[0].revision - 1:
        oldest = store.history[0].revision
        gone = ApiError(410, "Expired", f"too old resource version: {seen} ({oldest})")
        await stream.send("ERROR", gone.status)
        return
    bookmarks = call.flag("allowWatchBookmarks")
    while (left := end - time.monotonic()) > 0:
        changed = store.changed
        for change in _since(store, seen):
            seen = change.revision
            if change.kind.table == call.kind.table:
                await _send_change(stream, change, selects)
        if store.closed:
            break
        try:
            async with asyncio.timeout(min(left, _BOOKMARK_SECONDS)):
                await changed.wait()
        except TimeoutError:
            if bookmarks:
                await stream.bookmark(seen)


def _since(store: Store, seen: int) -> list[Change]:
    found: list[Change] = []
    for change in reversed(store.history):
        if change.revision <= seen:
            break
        found.append(change)
    return found[::-1]


async def _send_change(stream: _Stream, change: Change, selects: Test) -> None:
    """What a change means to one watcher: an object may enter or leave its selection."""
    before = change.old is not None and selects(change.old)
    after = change.type != "DELETED" and selects(change.obj)
    if after:
        await stream.send("MODIFIED" if before else "ADDED", change.obj)
    elif before:
        await stream.send("DELETED", change.obj)


class _Stream:
    def __init__(self, call: Call, store: Store, request: web.Request) -> None:
        self._call = call
        self._store = store
        self._request = request
        self.response = web.StreamResponse(headers={"Content-Type": "application/json"})

    async def open(self) -> None:
        await self.response.prepare(self._request)

    async def send(self, type_: str, obj: Object) -> None:
        if self._call.wants_table and type_ not in ("ERROR", "BOOKMARK"):
            meta = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            obj = tables.table(self._call, [obj], meta, self._store)
        line = json.dumps({"type": type_, "object": obj}).encode() + b"\n"
        await self.response.write(line)

    async def bookmark(self, revision: int) -> None:
        kind = self._call.kind
        meta = {"resourceVersion": str(revision), "creationTimestamp": None}
        await self.send(
            "BOOKMARK", {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}
        )
