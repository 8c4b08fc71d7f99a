"""Deletion: what holds an object back, what goes with it, what is left an orphan.

Finalizers, owner references (background, foreground, orphan), the contents of namespaces and of
custom kinds. All of it happens at once, where a real cluster takes moments.
"""

from __future__ import annotations

from typing import Any

from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.objects.resources import Kind
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Change, Object, Store, copy_of, stamp

_FOREGROUND = "foregroundDeletion"
_GRACE_SECONDS = 30


class Collector:
    """Deletes objects, and follows all deletions in the store."""

    def __init__(self, store: Store, kubelet: Kubelet) -> None:
        self._store = store
        self._kubelet = kubelet
        store.listeners.append(self._notice)

    def delete(
        self, kind: Kind, obj: Object, *, policy: str = "Background", grace: int | None = None
    ) -> None:
        """Ask for an object's end: it goes now, or once nothing holds it back any more."""
        found = self._store.by_uid(obj["metadata"]["uid"])
        if found is None:
            return
        obj = found[1]
        if policy == "Orphan":
            for child_kind, child in self._children(obj):
                self._disown(child_kind, child, obj)
        foreground = policy == "Foreground" and bool(self._blocking(obj))

        def terminating(new: Object) -> None:
            meta = new["metadata"]
            meta.setdefault("deletionTimestamp", stamp())
            seconds = dig(new, "spec.terminationGracePeriodSeconds", _GRACE_SECONDS)
            wanted = seconds if grace is None else grace
            meta.setdefault("deletionGracePeriodSeconds", wanted if kind.kind == "Pod" else 0)
            if foreground and _FOREGROUND not in meta.get("finalizers", []):
                meta["finalizers"] = [*meta.get("finalizers", []), _FOREGROUND]
            if kind.kind == "Namespace":
                new["status"] = {**(new.get("status") or {}), "phase": "Terminating"}

        held = kind.kind == "Pod" and grace != 0 and not self._kubelet.can_stop(obj)
        contents = self._contents(kind, obj)
        if not (held or foreground or contents or obj["metadata"].get("finalizers")):
            self._store.remove(kind, obj)
            return
        self._store.edit(kind, obj, terminating)
        for inner_kind, inner in [*contents, *(self._blocking(obj) if foreground else [])]:
            self.delete(inner_kind, inner, policy="Foreground" if foreground else "Background")

    def _contents(self, kind: Kind, obj: Object) -> list[tuple[Kind, Object]]:
        """What lies in a namespace, or is of a custom kind."""
        store = self._store
        if kind.kind == "Namespace":
            name = obj["metadata"]["name"]
            return [
                one for one in store.everything() if one[1]["metadata"].get("namespace") == name
            ]
        if kind.kind == "CustomResourceDefinition":
            where = (obj["spec"]["group"], obj["spec"]["names"]["plural"])
            return [one for one in store.everything() if one[0].table == where]
        return []

    def _is_full(self, kind: Kind, obj: Object) -> bool:
        if kind.kind == "Namespace":
            return self._store.number_in(obj["metadata"]["name"]) > 0
        return kind.kind == "CustomResourceDefinition" and bool(self._contents(kind, obj))

    def _children(self, owner: Object) -> list[tuple[Kind, Object]]:
        return self._store.owned(owner["metadata"]["uid"])

    def _blocking(self, owner: Object) -> list[tuple[Kind, Object]]:
        uid = owner["metadata"]["uid"]
        return [
            (kind, child)
            for kind, child in self._children(owner)
            if any(r["uid"] == uid and r.get("blockOwnerDeletion") for r in _owners(child))
        ]

    def _disown(self, kind: Kind, child: Object, owner: Object) -> None:
        uid = owner["metadata"]["uid"]

        def drop(new: Object) -> None:
            left = [r for r in _owners(new) if r["uid"] != uid]
            new["metadata"] |= {"ownerReferences": left}
            if not left:
                del new["metadata"]["ownerReferences"]

        self._store.edit(kind, child, drop)

    def what_is_left(self, obj: Object) -> Object | None:
        """The object as it is now: None where it is gone."""
        found = self._store.by_uid(obj["metadata"]["uid"])
        return found[1] if found and found[1]["metadata"].get("deletionTimestamp") else None

    # what follows

    def _notice(self, change: Change) -> None:
        kind, obj = change.kind, change.obj
        if change.type != "DELETED":
            if obj["metadata"].get("deletionTimestamp"):
                self._finish(kind, obj)
            elif change.type == "ADDED" and self._is_ending(obj["metadata"].get("namespace")):
                self.delete(kind, obj)
            return
        for child_kind, child in self._children(obj):
            others = [r for r in _owners(child) if r["uid"] != obj["metadata"]["uid"]]
            if any(self._store.by_uid(reference["uid"]) for reference in others):
                self._disown(child_kind, child, obj)
            else:
                self.delete(child_kind, child)
        for reference in _owners(obj):
            if owner := self._store.by_uid(reference["uid"]):
                self._finish(*owner)
        if namespace := obj["metadata"].get("namespace"):
            self._finish_named("namespaces", "", namespace)
        if kind.custom:
            self._finish_named("customresourcedefinitions", "apiextensions.k8s.io", kind.qualified)

    def _is_ending(self, namespace: str | None) -> bool:
        found = self._store.find("namespaces", namespace) if namespace else None
        return bool(found and found["metadata"].get("deletionTimestamp"))

    def _finish_named(self, plural: str, group: str, name: str) -> None:
        if found := self._store.find(plural, name, group=group):
            self._finish(self._store.catalogue.of(plural, group), found)

    def _finish(self, kind: Kind, obj: Object) -> None:
        """Remove a terminating object that nothing holds back any more."""
        meta = obj["metadata"]
        if not meta.get("deletionTimestamp") or (kind.kind == "Pod" and dig(obj, "spec.nodeName")):
            return  # of pods that are bound the kubelet takes care
        finalizers: list[Any] = meta.get("finalizers") or []
        if finalizers == [_FOREGROUND] and not self._blocking(obj):
            finalizers = []
        if not finalizers and not self._is_full(kind, obj):
            self._store.remove(kind, copy_of(obj))


def _owners(obj: Object) -> list[Any]:
    return obj["metadata"].get("ownerReferences") or []
