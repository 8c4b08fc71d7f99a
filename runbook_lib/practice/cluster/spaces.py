"""What every namespace gets: its default ServiceAccount, and the use of its quotas counted."""

from __future__ import annotations

from runbook_lib.practice.cluster.podadmission import quota_used, shown
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store

# Kinds that a quota counts by name, beside pods and what they take.
_COUNTED = ("services", "secrets", "configmaps", "persistentvolumeclaims")


class Spaces:
    def __init__(self, store: Store) -> None:
        self._store = store

    def sync(self) -> None:
        accounts = self._store.catalogue.of("serviceaccounts")
        for space in self._store.all("namespaces"):
            name = space["metadata"]["name"]
            if space["metadata"].get("deletionTimestamp"):
                continue
            if self._store.find("serviceaccounts", "default", name) is None:
                meta = {
                    "name": "default",
                    "namespace": name,
                    "creationTimestamp": space["metadata"]["creationTimestamp"],
                }
                made = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
                self._store.add(accounts, made)
        for quota in self._store.all("resourcequotas"):
            self._count(quota)

    def _count(self, quota: Object) -> None:
        namespace, hard = quota["metadata"]["namespace"], dig(quota, "spec.hard", {})
        used = quota_used(self._store, namespace)
        for plural in _COUNTED:
            number = sum(o["metadata"]["namespace"] == namespace for o in self._store.all(plural))
            used[plural] = used[f"count/{plural}"] = number
        status = {"hard": hard, "used": {name: shown(name, used.get(name, 0.0)) for name in hard}}
        kind = self._store.catalogue.of("resourcequotas")
        self._store.edit(kind, quota, lambda new: new.update(status=status))
