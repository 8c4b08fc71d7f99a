"""Binds pods to nodes that fit, and says why none does, in the scheduler's words."""

from __future__ import annotations

from collections import Counter

from runbook_lib.practice.cluster.events import Recorder
from runbook_lib.practice.cluster.predicates import Snapshot, owner, unbound
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store, seconds, stamp

_NAME = "default-scheduler"  # it leaves alone the pods that ask for another


def priority(pod: Object) -> int:
    return int(dig(pod, "spec.priority", 0))


class Scheduler:
    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store = store
        self._recorder = recorder

    def sync(self, now: float) -> None:
        """Try every pod that has no node yet, the most important first."""
        pods = self._store.all("pods")
        pending = [
            pod
            for pod in pods
            if not dig(pod, "spec.nodeName")
            and not pod["metadata"].get("deletionTimestamp")
            and dig(pod, "status.phase", "Pending") == "Pending"
            and not pod["spec"].get("schedulingGates")
            and pod["spec"].get("schedulerName", _NAME) == _NAME
        ]
        if not pending:
            return
        snapshot = Snapshot(self._store, pods)
        for pod in sorted(pending, key=lambda pod: -priority(pod)):
            self._place(pod, snapshot, now)

    def _place(self, pod: Object, snapshot: Snapshot, now: float) -> None:
        total = len(snapshot.nodes)
        if why := unbound(self._store, pod):
            self._refuse(pod, why, total, total, now)
            return
        reasons: Counter[str] = Counter()
        hopeless = 0  # nodes on which evicting other pods would not help
        fitting, tight = [], []
        for name, node in snapshot.nodes.items():
            refusal = snapshot.refusal(pod, node)
            if refusal is None:
                fitting.append(name)
                continue
            reasons.update(refusal.reasons)
            hopeless += refusal.final
            if not refusal.final:
                tight.append(name)
        if not fitting:
            listed = ", ".join(sorted(f"{number} {reason}" for reason, number in reasons.items()))
            if not self._preempt(pod, tight, snapshot, now):
                self._refuse(pod, listed, total, hopeless, now)
            return
        mine = owner(pod)
        name = min(fitting, key=lambda n: (snapshot.spread[mine, n], len(snapshot.pods[n]), n))
        snapshot.place(pod, name)
        snapshot.spread[mine, name] += 1
        self._bind(pod, name, now)

    def _bind(self, pod: Object, node: str, now: float) -> None:
        begun = dig(pod, "status.startTime")

        def bind(new: Object) -> None:
            new["spec"]["nodeName"] = node
            new["status"].pop("nominatedNodeName", None)
            _set_scheduled(new, {"status": "True", "lastTransitionTime": begun or stamp(now)})

        self._store.edit(self._store.catalogue.of("pods"), pod, bind)
        meta = pod["metadata"]
        message = f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}"
        self._record(pod, "Normal", "Scheduled", message, seconds(begun) if begun else now)

    def _preempt(self, pod: Object, nodes: list[str], snapshot: Snapshot, now: float) -> bool:
        """Evict what is less important, the fewest pods possible; whether that makes room."""
        if pod["spec"].get("preemptionPolicy") == "Never":
            return False
        plans = [(self._victims(pod, name, snapshot), name) for name in nodes]
        plans = [plan for plan in plans if plan[0]]
        if not plans:
            return False
        victims, node = min(plans, key=lambda plan: (max(map(priority, plan[0])), len(plan[0])))
        for victim in victims:
            snapshot.place(victim, node, -1)
            message = f"Preempted by pod {pod['metadata']['uid']} on node {node}"
            self._record(victim, "Normal", "Preempted", message, now)
            self._store.remove(self._store.catalogue.of("pods"), victim)
        snapshot.place(pod, node)
        self._bind(pod, node, now)
        return True

    @staticmethod
    def _victims(pod: Object, node: str, snapshot: Snapshot) -> list[Object]:
        """The pods to evict from a node, the least important first; none where that is no help."""
        lower = [other for other in snapshot.pods[node] if priority(other) < priority(pod)]
        lower.sort(key=lambda p: (priority(p), -seconds(p["metadata"]["creationTimestamp"])))
        gone: list[Object] = []
        while lower and snapshot.refusal(pod, snapshot.nodes[node]) is not None:
            gone.append(lower.pop(0))
            snapshot.place(gone[-1], node, -1)
        fits = snapshot.refusal(pod, snapshot.nodes[node]) is None
        for other in gone:
            snapshot.place(other, node)
        return gone if fits else []

    def _refuse(self, pod: Object, listed: str, total: int, hopeless: int, now: float) -> None:
        if total:
            helps = []
            if total - hopeless:
                helps.append(f"{total - hopeless} No preemption victims found for incoming pod")
            if hopeless:
                helps.append(f"{hopeless} Preemption is not helpful for scheduling")
            message = (
                f"0/{total} nodes are available: {listed}. preemption: 0/{total} nodes are "
                f"available: {', '.join(helps)}."
            )
        else:
            message = "no nodes available to schedule pods"
        before = [c for c in dig(pod, "status.conditions", []) if c["type"] == "PodScheduled"]
        if before and before[0].get("message") == message:
            return
        since = before[0]["lastTransitionTime"] if before else stamp(now)
        condition = {
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": since,
        }
        edit = self._store.edit
        edit(self._store.catalogue.of("pods"), pod, lambda new: _set_scheduled(new, condition))
        self._record(pod, "Warning", "FailedScheduling", message, now)

    def _record(self, pod: Object, type_: str, reason: str, message: str, now: float) -> None:
        component = "default-scheduler"
        self._recorder.record(pod, type_, reason, message, at=now, component=component)


def _set_scheduled(pod: Object, condition: Object) -> None:
    status = pod.setdefault("status", {"phase": "Pending"})
    others = [c for c in status.get("conditions") or [] if c["type"] != "PodScheduled"]
    status["conditions"] = [*others, {"type": "PodScheduled", "lastProbeTime": None, **condition}]
