"""Binds pods to nodes that fit, and says why none does, in the scheduler's words."""

from __future__ import annotations

from collections import Counter, defaultdict

from runbook_lib.practice.cluster.events import Recorder
from runbook_lib.practice.cluster.quantities import quantity
from runbook_lib.practice.kubernetes.selectors import dig, matches
from runbook_lib.practice.kubernetes.store import Object, Store, stamp

_FINISHED = ("Succeeded", "Failed")
Amounts = dict[str, float]


def requests(spec: Object) -> Amounts:
    """What a pod asks for: its containers together, or one init container if that is more."""
    total: Amounts = defaultdict(float)
    for container in spec.get("containers") or []:
        for name, amount in dig(container, "resources.requests", {}).items():
            total[name] += quantity(amount)
    for container in spec.get("initContainers") or []:
        for name, amount in dig(container, "resources.requests", {}).items():
            total[name] = max(total[name], quantity(amount))
    for name, amount in (spec.get("overhead") or {}).items():
        total[name] += quantity(amount)
    return dict(total)


def tolerates(tolerations: list[Object], taint: Object) -> bool:
    for toleration in tolerations:
        if toleration.get("effect") not in (None, "", taint["effect"]):
            continue
        if toleration.get("key") not in (None, "", taint["key"]):
            continue
        if toleration.get("operator", "Equal") == "Exists":
            return True
        if toleration.get("key") and toleration.get("value", "") == taint.get("value", ""):
            return True
    return False


class Scheduler:
    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store = store
        self._recorder = recorder

    def sync(self, now: float) -> None:
        """Try every pod that has no node yet."""
        pods = self._store.all("pods")
        pending = [
            pod
            for pod in pods
            if not dig(pod, "spec.nodeName")
            and not pod["metadata"].get("deletionTimestamp")
            and dig(pod, "status.phase", "Pending") == "Pending"
            and not pod["spec"].get("schedulingGates")
        ]
        if not pending:
            return
        used, counts = self._usage(pods)
        # As by default: replicas of one owner spread over nodes before load is evened out.
        spread = Counter((_owner(pod), dig(pod, "spec.nodeName")) for pod in pods)
        for pod in pending:
            self._place(pod, used, counts, spread, now)

    def _usage(self, pods: list[Object]) -> tuple[dict[str, Amounts], Counter[str]]:
        used: dict[str, Amounts] = defaultdict(lambda: defaultdict(float))
        counts: Counter[str] = Counter()
        for pod in pods:
            name = dig(pod, "spec.nodeName")
            if name and dig(pod, "status.phase") not in _FINISHED:
                counts[name] += 1
                for resource, amount in requests(pod["spec"]).items():
                    used[name][resource] += amount
        return used, counts

    def _place(
        self,
        pod: Object,
        used: dict[str, Amounts],
        counts: Counter[str],
        spread: Counter[tuple[str, str]],
        now: float,
    ) -> None:
        wanted = requests(pod["spec"])
        reasons: Counter[str] = Counter()
        hopeless = 0  # nodes on which evicting other pods would not help
        fitting = []
        nodes = self._store.all("nodes")
        for node in nodes:
            name = node["metadata"]["name"]
            if reason := _unsuitable(node, pod):
                reasons[reason] += 1
                hopeless += 1
            elif short := _short_of(node, wanted, used[name], counts[name]):
                reasons.update(short)
                allocatable = dig(node, "status.allocatable", {})
                never = [r for r, n in wanted.items() if n > quantity(allocatable.get(r, 0))]
                hopeless += bool(never)
            else:
                fitting.append(node)
        if not fitting:
            self._refuse(pod, reasons, len(nodes), hopeless, now)
            return
        owner = _owner(pod)
        name = min(
            (node["metadata"]["name"] for node in fitting),
            key=lambda node: (spread[owner, node], counts[node], node),
        )
        counts[name] += 1
        spread[owner, name] += 1
        for resource, amount in wanted.items():
            used[name][resource] += amount
        self._bind(pod, name, now)

    def _bind(self, pod: Object, node: str, now: float) -> None:
        begun = dig(pod, "status.startTime")

        def bind(new: Object) -> None:
            new["spec"]["nodeName"] = node
            _set_scheduled(new, {"status": "True", "lastTransitionTime": begun or stamp(now)})

        self._store.edit(self._store.catalogue.of("pods"), pod, bind)
        if not begun:
            meta = pod["metadata"]
            message = f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}"
            self._record(pod, "Normal", "Scheduled", message, now)

    def _refuse(
        self, pod: Object, reasons: Counter[str], total: int, hopeless: int, now: float
    ) -> None:
        if total:
            listed = ", ".join(sorted(f"{number} {reason}" for reason, number in reasons.items()))
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


def _owner(pod: Object) -> str:
    """The uid of the pod's owner, or its own."""
    owners = pod["metadata"].get("ownerReferences") or [pod["metadata"]]
    return str(owners[0]["uid"])


def _unsuitable(node: Object, pod: Object) -> str:
    """Why a node will not do, whatever is free on it; the first reason, as the filters run."""
    spec, tolerations = pod["spec"], pod["spec"].get("tolerations") or []
    cordoned = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    if dig(node, "spec.unschedulable") and not tolerates(tolerations, cordoned):
        return "node(s) were unschedulable"
    for taint in dig(node, "spec.taints", []):
        if taint["effect"] != "PreferNoSchedule" and not tolerates(tolerations, taint):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(k) != v for k, v in (spec.get("nodeSelector") or {}).items()):
        return "node(s) didn't match Pod's node affinity/selector"
    required = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    terms = dig(spec, f"{required}.nodeSelectorTerms", [])
    if terms and not any(matches(term, labels) for term in terms):
        return "node(s) didn't match Pod's node affinity/selector"
    return ""


def _short_of(node: Object, wanted: Amounts, used: Amounts, count: int) -> list[str]:
    allocatable = dig(node, "status.allocatable", {})
    short = []
    if count + 1 > quantity(allocatable.get("pods", 110)):
        short.append("Too many pods")
    for resource, amount in wanted.items():
        if amount and used.get(resource, 0) + amount > quantity(allocatable.get(resource, 0)):
            short.append(f"Insufficient {resource}")
    return short
