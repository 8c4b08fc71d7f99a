"""Objects, their revisions and the history of changes.

A stored object is never altered in place: every write stores a new one. So a reader may keep
what it was given, and must copy before it changes anything.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runbook_lib.practice.objects.errors import already_exists, not_found
from runbook_lib.practice.objects.resources import Catalogue, Kind
from runbook_lib.practice.objects.veil import veiled

Object = dict[str, Any]
Key = tuple[str, str]  # namespace ('' for cluster-wide kinds), name

# Changes that are remembered, each with its object (10 kB): three heals, or more than an hour of
# a platform at rest. A real API server forgets what is older than five minutes.
_HISTORY = 2_000


def stamp(at: float | None = None) -> str:
    """RFC 3339 in whole seconds, of a Unix time or of now."""
    moment = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: str) -> float:
    """The Unix time of an RFC 3339 stamp."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def copy_of(obj: Any) -> Any:
    return json.loads(json.dumps(obj))


def encode(obj: Object) -> bytes:
    """Its JSON without kind and apiVersion."""
    bare = {name: value for name, value in obj.items() if name not in ("kind", "apiVersion")}
    return json.dumps(bare, separators=(",", ":")).encode()


def key_of(obj: Object) -> Key:
    return (obj["metadata"].get("namespace") or "", obj["metadata"]["name"])


def owner_reference(owner: Object) -> Object:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


@dataclass(frozen=True)
class Change:
    """One write: ADDED, MODIFIED or DELETED, with the object after and before it."""

    revision: int
    type: str
    kind: Kind
    obj: Object
    old: Object | None


class Store:
    """All objects of the cluster. Used from one event loop only."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.revision = 1000
        self.history: deque[Change] = deque(maxlen=_HISTORY)
        self.closed = False  # watches end
        self.changed = asyncio.Event()  # replaced at every change; wakes the watchers
        self.listeners: list[Callable[[Change], None]] = []
        # Changes a new object in place, or refuses it with an ApiError.
        self.admit: Callable[[Kind, Object], None] = lambda kind, obj: None
        # As validating webhooks: refuses a new or changed object with an ApiError.
        self.deny: Callable[[Kind, Object], None] = lambda kind, obj: None
        self._tables: dict[tuple[str, str], dict[Key, Object]] = {}
        self._children: dict[str, dict[tuple[tuple[str, str], Key], None]] = {}
        self._uids: dict[str, tuple[tuple[str, str], Key]] = {}
        self._numbers: Counter[str] = Counter()  # of objects in each namespace
        self._encoded: dict[tuple[tuple[str, str], Key], bytes] = {}

    # reading

    def table(self, kind: Kind) -> dict[Key, Object]:
        return self._tables.setdefault(kind.table, {})

    def all(self, plural: str, group: str = "") -> list[Object]:
        return list(self._tables.get((group, plural), {}).values())

    def find(self, plural: str, name: str, namespace: str = "", group: str = "") -> Object | None:
        return self._tables.get((group, plural), {}).get((namespace, name))

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        obj = self.table(kind).get((namespace if kind.namespaced else "", name))
        if obj is None:
            raise not_found(kind, name)
        return obj

    def children(self, owner: Object, plural: str, group: str = "") -> list[Object]:
        """The objects of one table that name this owner."""
        table = self._tables.get((group, plural), {})
        owned = self._children.get(owner["metadata"]["uid"], {})
        return [table[key] for where, key in owned if where == (group, plural)]

    def owned(self, uid: str) -> list[tuple[Kind, Object]]:
        """All objects that name this uid as an owner."""
        found = list(self._children.get(uid, {}))
        return [(self.catalogue.of(w[1], w[0]), self._tables[w][key]) for w, key in found]

    def everything(self) -> list[tuple[Kind, Object]]:
        """Every object with its kind."""
        full = [where for where, table in self._tables.items() if table]
        tables = [(self.catalogue.of(w[1], w[0]), self._tables[w]) for w in full]
        return [(kind, obj) for kind, table in tables for obj in table.values()]

    def by_uid(self, uid: str) -> tuple[Kind, Object] | None:
        if uid not in self._uids:
            return None
        where, key = self._uids[uid]
        return self.catalogue.of(where[1], where[0]), self._tables[where][key]

    def number_in(self, namespace: str) -> int:
        return self._numbers[namespace]

    def remembers(self, revision: int) -> bool:
        return not self.history or revision >= self.history[0].revision - 1

    def at(self, kind: Kind, revision: int) -> dict[Key, Object] | None:
        """The table as it was at a revision; None where that is too long ago."""
        if not self.remembers(revision):
            return None
        table = dict(self.table(kind))
        for change in reversed(self.history):
            if change.revision <= revision:
                break
            if change.kind.table == kind.table:
                table.pop(key_of(change.obj), None)
                if change.old is not None:
                    table[key_of(change.old)] = change.old
        return table

    def encoded(self, kind: Kind, obj: Object) -> bytes:
        """The veiled object's JSON without kind and apiVersion: a kind's versions differ in them.

        Kept until its next write, so that long lists cost no encoding.
        """
        where = (kind.table, key_of(obj))
        is_current = self.table(kind).get(where[1]) is obj
        if is_current and where in self._encoded:
            return self._encoded[where]
        made = encode(veiled(obj))
        if is_current:
            self._encoded[where] = made
        return made

    # writing

    def add(self, kind: Kind, obj: Object, *, replace: bool = False) -> Object:
        """Store a new object, filling in uid and creationTimestamp where they are missing."""
        meta = obj["metadata"]
        old = self.table(kind).get(key_of(obj))
        if old is not None and not replace:
            raise already_exists(kind, meta["name"])
        meta.setdefault("uid", str(uuid.uuid4()))
        meta.setdefault("creationTimestamp", stamp())
        if "spec" in obj and kind.plural != "endpoints":
            meta.setdefault("generation", 1)
        self._write("ADDED" if old is None else "MODIFIED", kind, obj, old)
        if kind.kind == "CustomResourceDefinition":
            self.catalogue.define(obj)
        return obj

    def update(self, kind: Kind, old: Object, new: Object) -> Object:
        """Store a new version; a version that is equal to the old one is no write."""
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if new == old:
            return old
        if new.get("spec") != old.get("spec") and "generation" in old["metadata"]:
            new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        self._write("MODIFIED", kind, new, old)
        return new

    def edit(self, kind: Kind, obj: Object, change: Callable[[Object], Any]) -> Object:
        """Apply a function to a copy of the stored object, and store that."""
        old = self.get(kind, obj["metadata"].get("namespace") or "", obj["metadata"]["name"])
        new = copy_of(old)
        change(new)
        return self.update(kind, old, new)

    def remove_all(self) -> None:
        """Delete every object; watchers see each go, and revisions count on."""
        definitions = ("apiextensions.k8s.io", "customresourcedefinitions")
        # Definitions last: without them their objects have no kind any more.
        for where in sorted(self._tables, key=lambda table: table == definitions):
            for obj in list(self._tables[where].values()):
                self.remove(self.catalogue.of(where[1], where[0]), obj)

    def remove(self, kind: Kind, obj: Object) -> Object:
        """Delete an object; what goes with it, the listeners see to."""
        table, key = self.table(kind), key_of(obj)
        if key not in table:
            return obj
        before = table.pop(key)
        last = copy_of(before)
        self._index(kind, last, present=False)
        self._note("DELETED", kind, last, before)
        if kind.kind == "CustomResourceDefinition":
            self.catalogue.forget(last["spec"]["group"], last["spec"]["names"]["plural"])
        return last

    def _write(self, type_: str, kind: Kind, obj: Object, old: Object | None) -> None:
        if old is not None:
            self._index(kind, old, present=False)
        self.table(kind)[key_of(obj)] = obj
        self._index(kind, obj, present=True)
        self._note(type_, kind, obj, old)

    def _index(self, kind: Kind, obj: Object, *, present: bool) -> None:
        where = (kind.table, key_of(obj))
        self._encoded.pop(where, None)
        self._numbers[where[1][0]] += 1 if present else -1
        if present:
            self._uids[obj["metadata"]["uid"]] = where
        else:
            self._uids.pop(obj["metadata"]["uid"], None)
        for reference in obj["metadata"].get("ownerReferences") or []:
            owned = self._children.setdefault(reference["uid"], {})
            if present:
                owned[where] = None
            else:
                owned.pop(where, None)
            if not owned:
                del self._children[reference["uid"]]

    def _note(self, type_: str, kind: Kind, obj: Object, old: Object | None) -> None:
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        change = Change(self.revision, type_, kind, obj, old)
        self.history.append(change)
        self.wake()
        for listener in self.listeners:
            listener(change)

    def wake(self) -> None:
        """Let every waiting watcher look again."""
        done, self.changed = self.changed, asyncio.Event()
        done.set()
