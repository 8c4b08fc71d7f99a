"""PersistentVolumeClaims: bound to volumes that are made for them, as the EBS driver does it."""

from __future__ import annotations

import hashlib

from runbook_lib.practice.cluster.events import Recorder
from runbook_lib.practice.objects.selectors import dig, matches
from runbook_lib.practice.objects.store import Object, Store

_ZONE = "topology.kubernetes.io/zone"
_DEFAULT = "storageclass.kubernetes.io/is-default-class"


def claims(store: Store, pod: Object) -> list[tuple[str, Object | None]]:
    """(name, object or None) of each claim that a pod uses."""
    namespace = pod["metadata"]["namespace"]
    names = [
        name
        for volume in dig(pod, "spec.volumes", [])
        if (name := dig(volume, "persistentVolumeClaim.claimName"))
    ]
    return [(name, store.find("persistentvolumeclaims", name, namespace)) for name in names]


def delayed(store: Store, claim: Object) -> bool:
    """Whether a claim is bound only once a pod that uses it has a node."""
    return dig(_class_of(store, claim), "volumeBindingMode") == "WaitForFirstConsumer"


def in_zone(store: Store, pod: Object, node: Object) -> bool:
    """Whether the pod's bound volumes can be attached to the node."""
    labels = node["metadata"].get("labels") or {}
    for _, claim in claims(store, pod):
        volume = store.find("persistentvolumes", dig(claim, "spec.volumeName", ""))
        terms = dig(volume, "spec.nodeAffinity.required.nodeSelectorTerms", [])
        if terms and not any(matches(term, labels) for term in terms):
            return False
    return True


def _class_of(store: Store, claim: Object) -> Object | None:
    name = dig(claim, "spec.storageClassName")
    if name is not None:
        return store.find("storageclasses", name, "", "storage.k8s.io")
    for one in store.all("storageclasses", "storage.k8s.io"):
        if (one["metadata"].get("annotations") or {}).get(_DEFAULT) == "true":
            return one
    return None


class Volumes:
    """The binder and the provisioner."""

    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store = store
        self._recorder = recorder

    def sync(self) -> None:
        pending = [
            claim
            for claim in self._store.all("persistentvolumeclaims")
            if not dig(claim, "status.phase") or dig(claim, "status.phase") == "Pending"
        ]
        if not pending:
            return
        users = {
            (pod["metadata"]["namespace"], name): pod
            for pod in self._store.all("pods")
            if dig(pod, "spec.nodeName")
            for name, _ in claims(self._store, pod)
        }
        for claim in pending:
            meta = claim["metadata"]
            self._sync(claim, users.get((meta["namespace"], meta["name"])))

    def _sync(self, claim: Object, user: Object | None) -> None:
        name = dig(claim, "spec.storageClassName")
        storage = _class_of(self._store, claim)
        if dig(claim, "spec.volumeName"):
            if self._store.find("persistentvolumes", claim["spec"]["volumeName"]):
                self._bind(claim, claim["spec"]["volumeName"])
            return
        if storage is None:
            if name:
                why = f'storageclass.storage.k8s.io "{name}" not found'
                self._tell(claim, "Warning", "ProvisioningFailed", why)
            else:
                why = "no persistent volumes available for this claim and no storage class is set"
                self._tell(claim, "Normal", "FailedBinding", why)
            self._wait(claim)
        elif delayed(self._store, claim) and user is None:
            why = "waiting for first consumer to be created before binding"
            self._tell(claim, "Normal", "WaitForFirstConsumer", why)
            self._wait(claim)
        else:
            self._provision(claim, storage, user)

    def _wait(self, claim: Object) -> None:
        kind = self._store.catalogue.of("persistentvolumeclaims")
        self._store.edit(kind, claim, lambda new: new.update(status={"phase": "Pending"}))

    def _tell(self, claim: Object, type_: str, reason: str, message: str) -> None:
        component = "persistentvolume-controller"
        self._recorder.record(claim, type_, reason, message, component=component)

    def _provision(self, claim: Object, storage: Object, user: Object | None) -> None:
        meta = claim["metadata"]
        nodes = self._store.all("nodes")
        node = self._store.find("nodes", dig(user, "spec.nodeName", "")) or (nodes or [{}])[0]
        zone = dig(node, "metadata.labels", {}).get(_ZONE)
        digest = hashlib.sha256(meta["uid"].encode()).hexdigest()
        volume: Object = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": f"pvc-{meta['uid']}",
                "creationTimestamp": meta["creationTimestamp"],
                "annotations": {"pv.kubernetes.io/provisioned-by": storage["provisioner"]},
            },
            "spec": {
                "capacity": {"storage": dig(claim, "spec.resources.requests.storage", "1Gi")},
                "accessModes": claim["spec"]["accessModes"],
                "persistentVolumeReclaimPolicy": storage.get("reclaimPolicy", "Delete"),
                "storageClassName": storage["metadata"]["name"],
                "volumeMode": "Filesystem",
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    **{name: meta[name] for name in ("name", "namespace", "uid")},
                },
                "csi": {
                    "driver": storage["provisioner"],
                    "fsType": "ext4",
                    "volumeHandle": f"vol-0{digest[:16]}",
                },
            },
            "status": {"phase": "Bound"},
        }
        if zone:
            expression = {"key": _ZONE, "operator": "In", "values": [zone]}
            terms = [{"matchExpressions": [expression]}]
            volume["spec"]["nodeAffinity"] = {"required": {"nodeSelectorTerms": terms}}
        kind = self._store.catalogue.of("persistentvolumes")
        self._store.add(kind, volume, replace=True)
        self._bind(claim, volume["metadata"]["name"])

    def _bind(self, claim: Object, volume: str) -> None:
        found = self._store.find("persistentvolumes", volume) or {}

        def bind(new: Object) -> None:
            new["spec"]["volumeName"] = volume
            capacity = dig(found, "spec.capacity", {})
            modes = new["spec"].get("accessModes") or []
            new["status"] = {"phase": "Bound", "accessModes": modes, "capacity": capacity}

        self._store.edit(self._store.catalogue.of("persistentvolumeclaims"), claim, bind)
