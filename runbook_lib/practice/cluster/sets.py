"""Controllers of StatefulSets and DaemonSets; nothing is partitioned."""

from __future__ import annotations

from runbook_lib.practice.cluster.owners import PodOwners, is_ready, template_hash
from runbook_lib.practice.cluster.predicates import tolerates
from runbook_lib.practice.objects.selectors import dig, matches
from runbook_lib.practice.objects.store import Object, copy_of

_TAINTS = (
    "not-ready",
    "unreachable",
    "disk-pressure",
    "memory-pressure",
    "pid-pressure",
    "unschedulable",
)
_DAEMON_TAINTS = tuple(f"node.kubernetes.io/{name}" for name in _TAINTS)


def _labels(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


class StatefulSets(PodOwners):
    def sync(self, now: float) -> None:
        for owner in self._store.all("statefulsets", "apps"):
            self._sync(owner, now)

    def _sync(self, owner: Object, now: float) -> None:
        meta, spec = owner["metadata"], owner["spec"]
        hashed = template_hash(spec["template"])
        wanted = [f"{meta['name']}-{number}" for number in range(spec.get("replicas", 1))]
        pods = {pod["metadata"]["name"]: pod for pod in self._store.children(owner, "pods")}
        begun = self._restored(owner, now)
        for name in [name for name, pod in pods.items() if dig(pod, "status.phase") == "Failed"]:
            where = f"{meta['namespace']}/{meta['name']}"
            message = f"StatefulSet {where} is recreating failed Pod {name}"
            self._record(owner, "RecreatingFailedPod", message, "Warning")
            self._delete_pod(owner, pods.pop(name))
        for name in wanted:
            if name not in pods:
                template = copy_of(spec["template"])
                labels = template.setdefault("metadata", {}).setdefault("labels", {})
                labels |= {"statefulset.kubernetes.io/pod-name": name}
                labels |= {"controller-revision-hash": f"{meta['name']}-{hashed}"}
                self._give_claims(owner, template, name)
                self._create_pod(owner, template, name, begun, hostname=name)
                if begun is None and spec.get("podManagementPolicy") != "Parallel":
                    break
            elif not is_ready(pods[name]) and spec.get("podManagementPolicy") != "Parallel":
                break
        surplus = [name for name in pods if name not in wanted]
        for name in surplus[-1:]:
            self._delete_pod(owner, pods[name])
        current = f"{meta['name']}-{hashed}"
        stale = [
            name
            for name in reversed(wanted)
            if name in pods
            and dig(pods[name], "metadata.labels.controller-revision-hash", current) != current
        ]
        broken = [pod for pod in pods.values() if not is_ready(pod)]
        if stale and (not broken or pods[stale[0]] in broken):
            self._delete_pod(owner, pods[stale[0]])
        pods_now = self._children(owner)
        ready = sum(map(is_ready, pods_now))
        counts = {
            "replicas": len(pods_now),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "currentReplicas": len(pods_now) - len(stale),
            "updatedReplicas": len(pods_now) - len(stale),
        }
        revisions = {"currentRevision": current, "updateRevision": current}
        self._store_status(owner, "statefulsets", counts, **revisions)

    def _give_claims(self, owner: Object, template: Object, pod: str) -> None:
        """A claim of each template for one pod, made once and kept for its successors."""
        kind = self._store.catalogue.of("persistentvolumeclaims")
        meta = owner["metadata"]
        volumes = template["spec"].setdefault("volumes", [])
        for claim in owner["spec"].get("volumeClaimTemplates") or []:
            volume = claim["metadata"]["name"]
            name = f"{volume}-{pod}"
            volumes.append({"name": volume, "persistentVolumeClaim": {"claimName": name}})
            if self._store.find(kind.plural, name, meta["namespace"]) is None:
                made = {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {
                        "name": name,
                        "namespace": meta["namespace"],
                        "labels": dig(owner, "spec.selector.matchLabels", {}),
                        "creationTimestamp": meta["creationTimestamp"],
                    },
                    "spec": copy_of(claim["spec"]),
                    "status": {"phase": "Pending"},
                }
                self._store.add(kind, made)


class DaemonSets(PodOwners):
    def sync(self, now: float) -> None:
        for owner in self._store.all("daemonsets", "apps"):
            self._sync(owner, now)

    def _sync(self, owner: Object, now: float) -> None:
        spec = owner["spec"]
        hashed = template_hash(spec["template"])
        template = copy_of(spec["template"])
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        labels["controller-revision-hash"] = hashed
        tolerations = [
            *dig(template, "spec.tolerations", []),
            *({"key": key, "operator": "Exists"} for key in _DAEMON_TAINTS),
        ]
        nodes = [
            node["metadata"]["name"]
            for node in self._store.all("nodes")
            if matches({"matchLabels": dig(template, "spec.nodeSelector")}, _labels(node))
            and all(
                tolerates(tolerations, taint)
                for taint in dig(node, "spec.taints", [])
                if taint["effect"] != "PreferNoSchedule"
            )
        ]
        begun = self._restored(owner, now)
        pods = {dig(pod, "spec.nodeName"): pod for pod in self._children(owner)}
        for node in nodes:
            if node not in pods:
                more = {"nodeName": node, "tolerations": tolerations}
                self._create_pod(owner, template, "", begun, **more)
        for node, pod in pods.items():
            if node not in nodes:
                self._delete_pod(owner, pod)
        stale = [p for p in pods.values() if _labels(p).get("controller-revision-hash") != hashed]
        if stale and all(is_ready(p) for p in pods.values() if p not in stale):
            self._delete_pod(owner, stale[0])
        pods_now = self._children(owner)
        ready = sum(map(is_ready, pods_now))
        self._store.edit(
            self._store.catalogue.of("daemonsets", "apps"),
            owner,
            lambda new: new.update(
                status={
                    "desiredNumberScheduled": len(nodes),
                    "currentNumberScheduled": len(pods_now),
                    "numberMisscheduled": 0,
                    "numberReady": ready,
                    "numberAvailable": ready,
                    "numberUnavailable": max(0, len(nodes) - ready),
                    "updatedNumberScheduled": len(pods_now) - len(stale),
                    "observedGeneration": new["metadata"].get("generation", 1),
                }
            ),
        )
