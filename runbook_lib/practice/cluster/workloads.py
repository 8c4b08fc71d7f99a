"""Controllers of Deployments and ReplicaSets.

A rolling update keeps to maxSurge and maxUnavailable; nothing waits for minReadySeconds.
"""

from __future__ import annotations

import time

from runbook_lib.practice.cluster.events import Recorder
from runbook_lib.practice.cluster.owners import (
    FRESH_SECONDS,
    PodOwners,
    is_ready,
    ready_since,
    share,
    template_hash,
)
from runbook_lib.practice.cluster.program import PROGRAM, programs
from runbook_lib.practice.cluster.spans import span
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import (
    Object,
    Store,
    copy_of,
    key_of,
    owner_reference,
    seconds,
    stamp,
)

_REVISION = "deployment.kubernetes.io/revision"
_HASH = "pod-template-hash"


class ReplicaSets(PodOwners):
    def sync(self, now: float) -> None:
        for replica_set in self._store.all("replicasets", "apps"):
            self._sync(replica_set, now)

    def _sync(self, replica_set: Object, now: float) -> None:
        pods, wanted = self._children(replica_set), replica_set["spec"].get("replicas", 1)
        failure = ""
        for _ in range(wanted - len(pods)):
            begun = self._restored(replica_set, now)
            failure = self._create_pod(replica_set, replica_set["spec"]["template"], "", begun)
            if failure:
                break
        # Those that are not ready go first, then the youngest.
        pods.sort(key=lambda pod: (is_ready(pod), _before(pod)))
        for pod in pods[: max(0, len(pods) - wanted)]:
            self._delete_pod(replica_set, pod)
        pods = self._children(replica_set)
        ready = sum(map(is_ready, pods))
        counts = {
            "replicas": len(pods),
            "fullyLabeledReplicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        conditions = {}
        if failure:
            old = {c["type"]: c for c in dig(replica_set, "status.conditions", [])}
            found = ("ReplicaFailure", "True", "FailedCreate", failure)
            conditions["conditions"] = [_condition(old.get("ReplicaFailure", {}), *found, now)]
        self._store_status(replica_set, "replicasets", counts, **conditions)


class Deployments(PodOwners):
    def __init__(self, store: Store, recorder: Recorder) -> None:
        super().__init__(store, recorder)
        self._deployments = store.catalogue.of("deployments", "apps")
        self._replica_sets = store.catalogue.of("replicasets", "apps")

    def sync(self, now: float) -> None:
        for deployment in self._store.all("deployments", "apps"):
            self._sync(deployment, now)

    def _sync(self, deployment: Object, now: float) -> None:
        meta, spec = deployment["metadata"], deployment["spec"]
        sets = self._store.children(deployment, "replicasets", "apps")
        hashed = template_hash(spec["template"])
        current = next((s for s in sets if dig(s, f"metadata.labels.{_HASH}") == hashed), None)
        revision = max((_revision(s) for s in sets), default=0)
        if current is None and spec.get("paused"):
            if sets:  # it makes no new revision, and says how the last one does
                self._deployment_status(deployment, max(sets, key=_revision), now)
            return
        if current is None:
            current = self._create_replica_set(deployment, sets, hashed, revision + 1, now)
        elif _revision(current) < revision:  # rolled back to
            current = self._store.edit(
                self._replica_sets, current, lambda new: _annotate(new, revision + 1)
            )
        number = str(_revision(current))
        if (meta.get("annotations") or {}).get(_REVISION) != number:
            edit = self._store.edit
            edit(self._deployments, deployment, lambda new: _annotate(new, int(number)))
        if not spec.get("paused"):
            others = [s for s in sets if s["metadata"]["uid"] != current["metadata"]["uid"]]
            self._roll(deployment, current, others)
        self._deployment_status(deployment, current, now)

    def _create_replica_set(
        self, deployment: Object, sets: list[Object], hashed: str, revision: int, now: float
    ) -> Object:
        meta, template = deployment["metadata"], copy_of(deployment["spec"]["template"])
        labels = {**(dig(template, "metadata.labels", {})), _HASH: hashed}
        template.setdefault("metadata", {})["labels"] = labels
        selector = copy_of(deployment["spec"]["selector"])
        selector.setdefault("matchLabels", {})[_HASH] = hashed
        begun = _begun(deployment, sets, now)
        replica_set: Object = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{meta['name']}-{hashed}",
                "namespace": meta["namespace"],
                "labels": labels,
                "annotations": {_REVISION: str(revision)},
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": {"replicas": 0, "selector": selector, "template": template},
        }
        if begun is not None:
            replica_set["metadata"]["creationTimestamp"] = stamp(begun)
        return self._store.add(self._replica_sets, replica_set)

    def _scale(self, deployment: Object, replica_set: Object, replicas: int) -> None:
        before = replica_set["spec"]["replicas"]
        if before == replicas:
            return
        self._store.edit(
            self._replica_sets,
            replica_set,
            lambda new: new["spec"].update(replicas=replicas),
        )
        begun = seconds(replica_set["metadata"]["creationTimestamp"])
        way = "up" if replicas > before else "down"
        name = replica_set["metadata"]["name"]
        message = f"Scaled {way} replica set {name} from {before} to {replicas}"
        # One that is just made may be as old as its program says; one taken up again is scaled now.
        new = not before and dig(replica_set, "status.observedGeneration") is None
        since = begun if new and time.time() - begun > FRESH_SECONDS else None
        self._record(deployment, "ScalingReplicaSet", message, at=since)

    def _roll(self, deployment: Object, current: Object, others: list[Object]) -> None:
        """One step of the update: as many new pods, as few old ones as the strategy allows."""
        spec = deployment["spec"]
        wanted = spec.get("replicas", 1)
        old = [s for s in others if s["spec"]["replicas"]]
        if not old:
            self._scale(deployment, current, wanted)
            return
        if dig(spec, "strategy.type") == "Recreate":
            for replica_set in old:
                self._scale(deployment, replica_set, 0)
            return
        rolling = dig(spec, "strategy.rollingUpdate", {})
        surge = share(rolling.get("maxSurge", "25%"), wanted, up=True)
        unavailable = share(rolling.get("maxUnavailable", "25%"), wanted, up=False)
        if not surge and not unavailable:
            unavailable = 1
        total = current["spec"]["replicas"] + sum(s["spec"]["replicas"] for s in old)
        room = max(0, wanted + surge - total)
        self._scale(deployment, current, min(wanted, current["spec"]["replicas"] + room))
        ready = sum(is_ready(p) for s in (current, *old) for p in self._children(s))
        spare = ready - (wanted - unavailable)
        for replica_set in sorted(old, key=_revision):
            pods = self._children(replica_set)
            unready = sum(not is_ready(pod) for pod in pods)
            fewer = min(replica_set["spec"]["replicas"], unready + max(0, spare))
            spare -= max(0, fewer - unready)
            self._scale(deployment, replica_set, replica_set["spec"]["replicas"] - fewer)

    def _deployment_status(self, deployment: Object, current: Object, now: float) -> None:
        spec = deployment["spec"]
        sets = self._store.children(deployment, "replicasets", "apps")
        pods = [pod for replica_set in sets for pod in self._children(replica_set)]
        updated = self._children(current)
        ready, wanted = sum(map(is_ready, pods)), spec.get("replicas", 1)
        complete = ready >= wanted and len(updated) == len(pods) == wanted
        old = {c["type"]: c for c in dig(deployment, "status.conditions", [])}
        unavailable = share(dig(spec, "strategy.rollingUpdate.maxUnavailable", 0), wanted, up=False)
        name = current["metadata"]["name"]
        begun = progress_begun(current, sets, old.get("Progressing", {}), now)
        if ready >= wanted - unavailable:
            available = ("True", "MinimumReplicasAvailable", "has minimum availability.")
        else:
            available = (
                "False",
                "MinimumReplicasUnavailable",
                "does not have minimum availability.",
            )
        progressing = ("True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
        was = old.get("Progressing", {})
        if complete or (was.get("reason") == "NewReplicaSetAvailable" and name in was["message"]):
            message = f'ReplicaSet "{name}" has successfully progressed.'
            progressing = ("True", "NewReplicaSetAvailable", message)
        elif now - begun > spec.get("progressDeadlineSeconds", 600):
            message = f'ReplicaSet "{name}" has timed out progressing.'
            progressing = ("False", "ProgressDeadlineExceeded", message)
        available = (*available[:2], f"Deployment {available[2]}")
        at = ready_since(pods, now) if available[0] == "True" else now
        conditions = [
            _condition(old.get(type_, {}), type_, *found, begun if not old else at)
            for type_, found in (("Available", available), ("Progressing", progressing))
        ]
        conditions += [
            dict(one)
            for one in dig(
                self._store.get(self._replica_sets, *key_of(current)), "status.conditions", []
            )
        ]
        counts = {
            "replicas": len(pods),
            "updatedReplicas": len(updated),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": max(0, max(wanted, len(pods)) - ready),
        }
        self._store_status(deployment, "deployments", counts, conditions=conditions)


def _before(pod: Object) -> float:
    """Sorts the youngest first."""
    return -seconds(pod["metadata"]["creationTimestamp"])


def _revision(replica_set: Object) -> int:
    return int((replica_set["metadata"].get("annotations") or {}).get(_REVISION, 0))


def _annotate(obj: Object, revision: int) -> None:
    obj["metadata"].setdefault("annotations", {})[_REVISION] = str(revision)


def _program_text(template: Object) -> str:
    return str(dig(template, "metadata.annotations", {}).get(PROGRAM, ""))


def _begun(deployment: Object, sets: list[Object], now: float) -> float | None:
    """When a new revision is to have begun: `started_ago` when its program is new, else now.

    The first revision of a restored Deployment is as old as the Deployment.
    """
    template = deployment["spec"]["template"]
    text = _program_text(template)
    if text and text not in [_program_text(s["spec"]["template"]) for s in sets]:
        try:
            found = programs(dig(template, "metadata.annotations")).values()
        except (ValueError, TypeError):
            return None  # the kubelet reports it
        agos = [span(program.started_ago) for program in found if program.started_ago]
        if agos:
            return now - max(agos)
    created = seconds(deployment["metadata"]["creationTimestamp"])
    return created if not sets and now - created > FRESH_SECONDS else None


def progress_begun(current: Object, sets: list[Object], was: Object, now: float) -> float:
    """When the rollout of a ReplicaSet began; one that is taken up again is older than that."""
    made = [seconds(one["metadata"]["creationTimestamp"]) for one in sets]
    own = seconds(current["metadata"]["creationTimestamp"])
    if own >= max(made):
        return own
    known = current["metadata"]["name"] in was.get("message", "")
    return seconds(was["lastUpdateTime"]) if known else now


def _condition(
    old: Object, type_: str, status: str, reason: str, message: str, at: float
) -> Object:
    same = old.get("status") == status
    unchanged = same and old.get("reason") == reason and old.get("message") == message
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": old["lastUpdateTime"] if unchanged else stamp(at),
        "lastTransitionTime": old["lastTransitionTime"] if same else stamp(at),
    }
