"""The taint-eviction controller: pods leave a node whose NoExecute taints they do not tolerate.

Source: k8s.io/kubernetes/pkg/controller/tainteviction.
"""

from __future__ import annotations

import time

from runbook_lib.practice.cluster.events import Recorder
from runbook_lib.practice.cluster.nodes import NOT_READY, UNREACHABLE
from runbook_lib.practice.cluster.predicates import tolerates
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store, seconds, stamp

_SECONDS = 300  # the tolerationSeconds that every pod gets by default for the node's own troubles
_TROUBLES = (UNREACHABLE, NOT_READY)


class TaintEvictions:
    """Marks pods for deletion once they have not tolerated their node's taints any longer."""

    def __init__(self, store: Store, recorder: Recorder, time_scale: float) -> None:
        self._store = store
        self._recorder = recorder
        self._scale, self._begun = time_scale, time.time()
        self._since: dict[str, float] = {}  # uid of a pod to when its node's taints reached it

    def sync(self, now: float) -> float | None:
        """Evict what is due; the Unix time of the next eviction."""
        tainted = {}
        for node in self._store.all("nodes"):
            taints = [t for t in dig(node, "spec.taints", []) if t["effect"] == "NoExecute"]
            if taints:
                tainted[node["metadata"]["name"]] = taints
        before, self._since, times = self._since, {}, []
        for pod in self._store.all("pods") if tainted else ():
            taints = tainted.get(dig(pod, "spec.nodeName", ""), [])
            if not taints or pod["metadata"].get("deletionTimestamp"):
                continue
            patience = _patience(dig(pod, "spec.tolerations", []), taints)
            if patience is None:
                continue
            added = [seconds(t["timeAdded"]) for t in taints if t.get("timeAdded")]
            since = before.get(pod["metadata"]["uid"]) or min(added, default=now)
            due = since + patience * (self._scale if since > self._begun else 1)
            if due <= now:
                self._evict(pod)
            else:
                self._since[pod["metadata"]["uid"]] = since
                times.append(due)
        for uid in before.keys() - self._since.keys():
            found = self._store.by_uid(uid)
            if found and not found[1]["metadata"].get("deletionTimestamp"):
                self._tell(found[1], "Cancelling deletion of Pod")
        return min(times, default=None)

    def _evict(self, pod: Object) -> None:
        self._store.edit(self._store.catalogue.of("pods"), pod, _terminating)
        self._tell(pod, "Marking for deletion Pod")

    def _tell(self, pod: Object, what: str) -> None:
        text = f"{what} {pod['metadata']['namespace']}/{pod['metadata']['name']}"
        component = "taint-eviction-controller"
        self._recorder.record(pod, "Normal", "TaintManagerEviction", text, component=component)


def _patience(tolerations: list[Object], taints: list[Object]) -> float | None:
    """Seconds that a pod stays: 0 where it tolerates not every taint, None for ever."""
    given = list(tolerations)
    for trouble in _TROUBLES:
        if not tolerates(tolerations, {"key": trouble, "effect": "NoExecute"}):
            given.append({"key": trouble, "operator": "Exists", "tolerationSeconds": _SECONDS})
    # The first that matches a taint is the one that counts.
    used = [next((t for t in given if tolerates([t], taint)), None) for taint in taints]
    if None in used:
        return 0
    spans = [t["tolerationSeconds"] for t in used if t and t.get("tolerationSeconds") is not None]
    return max(0, min(spans)) if spans else None


def _terminating(pod: Object) -> None:
    grace = dig(pod, "spec.terminationGracePeriodSeconds", 30)
    pod["metadata"] |= {"deletionTimestamp": stamp(), "deletionGracePeriodSeconds": grace}
    status = pod.setdefault("status", {})
    others = [c for c in status.get("conditions") or [] if c["type"] != "DisruptionTarget"]
    why = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint",
        "lastTransitionTime": stamp(),
    }
    status["conditions"] = [*others, why]
