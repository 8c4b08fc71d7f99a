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
from runbook_lib.practice.objects.errors import ApiError, bad_request, invalid
from runbook_lib.practice.objects.fields import causes
from runbook_lib.practice.objects.fields.causes import Cause
from runbook_lib.practice.objects.resources import Kind
from runbook_lib.practice.objects.selectors import Test, field_selector, label_selector
from runbook_lib.practice.objects.store import Change, Key, Object, Store, encode, key_of

_WATCH_SECONDS = 1800.0
_BOOKMARK_SECONDS = 60.0
_MATCH = "resourceVersionMatch"


def answer(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def item(call: Call, store: Store) -> web.Response:
    require_known(call, store)
    obj = store.get(call.kind, call.namespace, call.name)
    if call.wants_table:
        meta = {"resourceVersion": obj["metadata"]["resourceVersion"]}
        return web.json_response(tables.table(call, [call.shown(obj)], meta, store))
    if call.wants_metadata:
        return web.json_response(tables.partial(call.shown(obj)))
    call.require_json()
    return answer(_head(call.kind) + _encoded(call, store, obj))


def _encoded(call: Call, store: Store, obj: Object) -> bytes:
    """What follows the head of an object, as this user may see it."""
    return (encode(obj) if call.user.directs else store.encoded(call.kind, obj))[1:]


def _head(kind: Kind) -> bytes:
    """The beginning of an object: what `Store.encoded` leaves out."""
    return json.dumps(kind.head()).encode()[:-1] + b","


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


def select(
    call: Call, store: Store, revision: int | None = None, after: Key = ("", "")
) -> list[Object]:
    """The selected objects in the order of their keys, as etcd keeps them.

    Those after a key, and as they were at a revision. ApiError 410 where that is too long ago.
    """
    selects = selection(call)
    table = store.table(call.kind) if revision is None else store.at(call.kind, revision)
    if table is None:
        raise ApiError(410, "Expired", "The resourceVersion for the provided list is too old.")
    keys = sorted(key for key in table if key > after)
    return [table[key] for key in keys if selects(table[key])]


def require_known(call: Call, store: Store) -> int | None:
    """The revision to list at, None for the present; 4xx or 504 where there is no such one."""
    exactly, text = call.query.get("resourceVersionMatch"), call.query.get("resourceVersion", "")
    if exactly is not None and exactly not in ("Exact", "NotOlderThan"):
        raise _list_options(
            call, causes.unsupported(_MATCH, exactly, ("Exact", "NotOlderThan", ""))
        )
    if exactly and not text:
        why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise _list_options(call, causes.forbidden(_MATCH, why))
    if exactly == "Exact" and text == "0":
        why = 'resourceVersionMatch "Exact" is forbidden for resourceVersion "0"'
        raise _list_options(call, causes.forbidden(_MATCH, why))
    if text and not text.isdecimal():
        why = f'strconv.ParseUint: parsing "{text}": invalid syntax'
        raise _list_options(call, causes.wrong("resourceVersion", text, why))
    if text and int(text) > store.revision:
        message = f"Too large resource version: {text}, current: {store.revision}"
        cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
        details = {"causes": [cause], "retryAfterSeconds": 1}
        raise ApiError(504, "Timeout", f"Timeout: {message}", details)
    return int(text) if exactly == "Exact" else None


def _list_options(call: Call, cause: Cause) -> ApiError:
    return invalid(call.kind.named("meta.k8s.io", "ListOptions"), "", cause)


def listing(call: Call, store: Store) -> web.Response:
    if start := call.query.get("continue"):
        if call.query.get("resourceVersion", "0") != "0":
            raise bad_request("specifying resource version is not allowed when using continue")
        after, revision = _position(start)
        if not store.remembers(revision):
            raise _expired(store, after)
        found = select(call, store, revision, after)
    else:
        exact = require_known(call, store)
        revision = store.revision if exact is None else exact
        found = select(call, store, exact)
    meta: dict[str, Any] = {"resourceVersion": str(revision)}
    limit = call.number("limit") or 0
    if limit and len(found) > limit:
        rest, found = found[limit:], found[:limit]
        meta["continue"] = _token(key_of(found[-1]), revision)
        if not (call.query.get("labelSelector") or call.query.get("fieldSelector")):
            meta["remainingItemCount"] = len(rest)
    if call.wants_table:
        return web.json_response(tables.table(call, list(map(call.shown, found)), meta, store))
    kind = call.kind
    head = {**kind.head("List"), "metadata": meta}
    if call.wants_metadata:
        partial = [tables.partial(call.shown(obj)) for obj in found]
        head |= {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
        return web.json_response({**head, "items": partial})
    call.require_json()
    begin = _head(kind) if kind.custom else b"{"  # an item of a typed list says no kind
    items = b",".join(begin + _encoded(call, store, obj) for obj in found)
    return answer(json.dumps(head).encode()[:-1] + b',"items":[' + items + b"]}")


def _expired(store: Store, after: Key) -> ApiError:
    message = (
        "The provided continue parameter is too old to display a consistent list result. You can "
        "start a new list without the continue parameter, or use the continue token in this "
        "response to retrieve the remainder of the results. Continuing with the provided token "
        "results in an inconsistent list - objects that were created, modified, or deleted between "
        "the time the first chunk was returned and now may show up in the list."
    )
    error = ApiError(410, "Expired", message)
    error.status["metadata"] = {"continue": _token(after, store.revision)}
    return error


def _token(after: Key, revision: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([*after, revision]).encode()).decode()


def _position(token: str) -> tuple[Key, int]:
    try:
        namespace, name, revision = json.loads(base64.urlsafe_b64decode(token))
        return (str(namespace), str(name)), int(revision)
    except (ValueError, TypeError):
        raise bad_request("continue key is not valid: it was not made by this server") from None


async def watch(call: Call, store: Store, request: web.Request) -> web.StreamResponse:
    """Stream the changes since a resource version; without one, all objects first."""
    if "sendInitialEvents" in call.query and (
        call.query.get("resourceVersionMatch") != "NotOlderThan"
    ):
        why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise _list_options(call, causes.forbidden(_MATCH, why))
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
    initial = call.flag("sendInitialEvents")
    if not seen or initial:
        seen = store.revision
        for obj in select(call, store):
            await stream.send("ADDED", obj)
        if initial:
            await stream.bookmark(seen, {"k8s.io/initial-events-end": "true"})
    elif not store.remembers(seen):
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
        obj = self._call.shown(obj)
        if self._call.wants_table and type_ not in ("ERROR", "BOOKMARK"):
            meta = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            obj = tables.table(self._call, [obj], meta, self._store)
        line = json.dumps({"type": type_, "object": obj}).encode() + b"\n"
        await self.response.write(line)

    async def bookmark(self, revision: int, annotations: dict[str, str] | None = None) -> None:
        meta: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
        if annotations:
            meta["annotations"] = annotations
        await self.send("BOOKMARK", {**self._call.kind.head(), "metadata": meta})
