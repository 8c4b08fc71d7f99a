"""Nodes: conditions, taints and leases, from annotations that any client may set."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from runbook_lib.practice.cluster.events import Recorder
from runbook_lib.practice.cluster.spans import span
from runbook_lib.practice.objects.quantities import quantity
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Change, Object, Store, copy_of, seconds, stamp

STATS = "practice.runbook/stats"
KUBELET = "practice.runbook/kubelet"
SINCE = "practice.runbook/since"
NETWORK = "practice.runbook/network"
MACHINE = "practice.runbook/machine"

_RENEW_SECONDS, _GRACE_SECONDS = 10.0, 40.0  # as kubelet and controller manager have them
_HEALTHY = {
    "fs_used_percent": 38.0,
    "image_fs_used_percent": 31.0,
    "inodes_used_percent": 9.0,
    "memory_used_percent": 46.0,
    "cpu_used_percent": 24.0,
    "pids_used_percent": 2.0,
}
_MEMORY_RESERVE = 100 * 2**20  # memory.available<100Mi
# Condition: reasons and messages when true, and when false.
_PRESSURES = {
    "MemoryPressure": (
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ),
}
_EVENTS = {
    "MemoryPressure": ("NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    "DiskPressure": ("NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    "PIDPressure": ("NodeHasInsufficientPID", "NodeHasSufficientPID"),
}
_SIGNALS = {"MemoryPressure": "memory", "DiskPressure": "ephemeral-storage", "PIDPressure": "pids"}
_TAINTS = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
UNREACHABLE = "node.kubernetes.io/unreachable"
NOT_READY = "node.kubernetes.io/not-ready"
_CORDONED = "node.kubernetes.io/unschedulable"
_MANAGED_TAINTS = (*_TAINTS.values(), UNREACHABLE, NOT_READY, _CORDONED)


def annotation(node: Object, name: str) -> str:
    return str((node["metadata"].get("annotations") or {}).get(name, ""))


def kubelet_answers(node: Object) -> bool:
    return annotation(node, KUBELET) != "stopped" and annotation(node, MACHINE) != "off"


def switch_off(store: Store, machines: frozenset[str]) -> None:
    """Let the nodes of these machines, and of no others, be without one that runs."""
    for node in store.all("nodes"):
        is_off = str(dig(node, "spec.providerID", "")).rpartition("/")[2] in machines
        if is_off == (annotation(node, MACHINE) == "off"):
            continue

        def note(new: Object, is_off: bool = is_off) -> None:
            annotations = new["metadata"].setdefault("annotations", {})
            annotations.pop(MACHINE, None)
            if is_off:
                annotations[MACHINE] = "off"

        store.edit(store.catalogue.of("nodes"), node, note)


def stats(node: Object) -> dict[str, float]:
    """Percentages in use; ValueError where the annotation cannot be read."""
    given = json.loads(annotation(node, STATS) or "{}")
    if not isinstance(given, dict) or set(given) - set(_HEALTHY):
        raise ValueError(f"{STATS} takes {', '.join(_HEALTHY)}; got {given!r}")
    return _HEALTHY | {name: float(value) for name, value in given.items()}


def defaults(node: Object) -> None:
    """Fill in, in place, what a kubelet would have reported of the machine."""
    name = node["metadata"]["name"]
    labels = node["metadata"].setdefault("labels", {})
    labels.setdefault("kubernetes.io/hostname", name)
    labels.setdefault("kubernetes.io/os", "linux")
    labels.setdefault("kubernetes.io/arch", "amd64")
    node.setdefault("spec", {})
    status = node.setdefault("status", {})
    capacity = status.setdefault("capacity", {})
    for resource, amount in (
        ("cpu", "4"),
        ("memory", "16Gi"),
        ("ephemeral-storage", "100Gi"),
        ("pods", "58"),
    ):
        capacity.setdefault(resource, amount)
    status.setdefault("allocatable", dict(capacity))
    number = sum(name.encode()) % 250 + 2
    status.setdefault(
        "addresses",
        [
            {"type": "InternalIP", "address": f"10.0.1.{number}"},
            {"type": "Hostname", "address": name},
        ],
    )
    status.setdefault(
        "nodeInfo",
        {
            "kubeletVersion": "v1.32.9-practice",
            "containerRuntimeVersion": "containerd://1.7.27",
            "osImage": "Amazon Linux 2023",
            "kernelVersion": "6.1.147-172.266.amzn2023.x86_64",
            "operatingSystem": "linux",
            "architecture": "amd64",
            "bootID": "",
            "machineID": "",
            "systemUUID": "",
            "kubeProxyVersion": "",
        },
    )


def pressures(node: Object) -> dict[str, bool]:
    """Which of the kubelet's default eviction thresholds are crossed."""
    used = stats(node)
    memory = quantity(dig(node, "status.capacity.memory", "16Gi"))
    return {
        "MemoryPressure": memory * (100 - used["memory_used_percent"]) / 100 < _MEMORY_RESERVE,
        "DiskPressure": used["fs_used_percent"] > 90
        or used["image_fs_used_percent"] > 85
        or used["inodes_used_percent"] > 95,
        "PIDPressure": used["pids_used_percent"] > 90,
    }


class Nodes:
    """The kubelets' reports on their nodes, and the controller that watches their leases."""

    def __init__(self, store: Store, recorder: Recorder, time_scale: float) -> None:
        self._store = store
        self._recorder = recorder
        self._scale = time_scale
        self._renew = max(0.5, _RENEW_SECONDS * time_scale)
        self._grace = self._renew * _GRACE_SECONDS / _RENEW_SECONDS
        self._heard: dict[str, float] = {}  # node to the Unix time of its last renewal
        self._told: set[tuple[str, str]] = set()  # (uid, annotation) of nodes whose past is told
        self._dirty = True
        store.listeners.append(self._notice)

    def _notice(self, change: Change) -> None:
        if change.kind.table == ("", "nodes"):
            self._dirty = True
            if change.type == "DELETED":  # one that comes back is heard of at once
                self._heard.pop(change.obj["metadata"]["name"], None)

    def sync(self, now: float) -> float | None:
        """Renew leases, judge nodes; the Unix time when to look again."""
        nodes = self._store.all("nodes")
        due = [n for n in nodes if now - self._heard.get(n["metadata"]["name"], 0) >= self._renew]
        for node in nodes if self._dirty else due:
            self._sync_node(node, now)
        self._dirty = False
        return now + self._renew if nodes else None

    def _sync_node(self, node: Object, now: float) -> None:
        name = node["metadata"]["name"]
        kind = self._store.catalogue.of("nodes")
        if "nodeInfo" not in (node.get("status") or {}):
            node = self._store.edit(kind, node, defaults)
        since = now - span(annotation(node, SINCE)) if annotation(node, SINCE) else now
        if '"flaps"' in annotation(node, KUBELET):
            since = now  # every turn is a new one
        if kubelet_answers(node):
            if now - self._heard.get(name, 0) >= self._renew:
                self._heard[name] = now
                self._renew_lease(node, now)
            conditions = self._reported(node, now)
        else:
            heard = self._heard.setdefault(name, since)
            if since < heard:  # stopped longer ago than we have been looking
                heard = self._heard[name] = since
                self._renew_lease(node, since)
            if now - heard < self._grace:
                return
            conditions = _unknown()
        self._store_conditions(node, conditions, since, now)

    def _renew_lease(self, node: Object, at: float) -> None:
        name = node["metadata"]["name"]
        kind = self._store.catalogue.of("leases", "coordination.k8s.io")
        moment = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease = self._store.find("leases", name, "kube-node-lease", "coordination.k8s.io")
        if lease is not None:
            self._store.edit(kind, lease, lambda new: new["spec"].update(renewTime=moment))
            return
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
        meta: Object = {"name": name, "namespace": "kube-node-lease", "ownerReferences": [owner]}
        meta["creationTimestamp"] = node["metadata"]["creationTimestamp"]
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": moment}
        lease = {"apiVersion": kind.api_version, "kind": "Lease", "metadata": meta, "spec": spec}
        self._store.add(kind, lease)

    def _reported(self, node: Object, now: float) -> list[Object]:
        try:
            pressed = pressures(node)
        except (ValueError, TypeError) as failure:
            self._recorder.record(node, "Warning", "PracticeStatsInvalid", str(failure))
            pressed = dict.fromkeys(_PRESSURES, False)
        found = []
        for type_, (bad, good) in _PRESSURES.items():
            reason, message = bad if pressed[type_] else good
            found.append(_condition(type_, "True" if pressed[type_] else "False", reason, message))
        problem = annotation(node, KUBELET)
        mended = None
        if problem.startswith("{"):
            given = json.loads(problem)
            mended = _mended_at(node, given, now)
            problem = self._problem(node, given, now) if mended is None else ""
        if problem:
            found.append(_condition("Ready", "False", "KubeletNotReady", problem))
        else:
            message = "kubelet is posting ready status"
            found.append(_condition("Ready", "True", "KubeletReady", message))
        if mended is not None:
            self._tell_of_trouble(node, found[-1], mended, now)
        return found

    def _tell_of_trouble(self, node: Object, ready: Object, mended: float, now: float) -> None:
        """Once: since when it is `ready` again, and the two events of a trouble that is over."""
        told = (node["metadata"]["uid"], annotation(node, KUBELET))
        if told in self._told:
            return
        self._told.add(told)
        ready["lastTransitionTime"] = stamp(mended)
        name, begun = node["metadata"]["name"], now - span(annotation(node, SINCE))
        for what, at in (("NodeNotReady", begun), ("NodeReady", mended)):
            text = f"Node {name} status is now: {what}"
            self._recorder.record(node, "Normal", what, text, at=at, host=name)

    def _problem(self, node: Object, given: Object, now: float) -> str:
        """Why the kubelet calls itself not ready now, '' where it does not; it may flap."""
        reason = str(given.get("not_ready", ""))
        if not given.get("flaps"):
            return reason
        period = span(given["flaps"])
        begun = now - span(annotation(node, SINCE)) if annotation(node, SINCE) else now
        told = (node["metadata"]["uid"], annotation(node, KUBELET))
        if told not in self._told and (times := int((now - begun) / period)):
            for what in ("NodeNotReady", "NodeReady"):
                text = f"Node {node['metadata']['name']} status is now: {what}"
                more = {"count": times, "span": now - begun, "host": node["metadata"]["name"]}
                self._recorder.record(node, "Normal", what, text, at=begun, **more)
        self._told.add(told)
        return reason if int(now / max(1.0, period * self._scale / 2)) % 2 else ""

    def _store_conditions(
        self, node: Object, conditions: list[Object], since: float, now: float
    ) -> None:
        old = {c["type"]: c for c in dig(node, "status.conditions", [])}
        changed = []
        for condition in conditions:
            before = old.pop(condition["type"], {})
            same = before.get("status") == condition["status"]
            first = not before
            begun = _created(node, now) if first and _is_good(condition) else since
            kept = before.get("lastTransitionTime") or stamp(begun)
            if "lastTransitionTime" not in condition:
                condition["lastTransitionTime"] = kept if same else stamp(begun)
            heard = self._heard.get(node["metadata"]["name"], now)
            # A heartbeat in the status comes every five minutes; between them the lease counts.
            beat = before.get("lastHeartbeatTime")
            fresh = same and beat and heard - seconds(beat) < 300
            condition["lastHeartbeatTime"] = beat if fresh else stamp(heard)
            if not same and not (first and _is_good(condition)):
                changed.append(condition)
        taints = _taints(node, [*conditions, *old.values()], since)

        def write(new: Object) -> None:
            new["status"]["conditions"] = [*old.values(), *copy_of(conditions)]
            new["spec"].pop("taints", None)
            if taints:
                new["spec"]["taints"] = taints

        self._store.edit(self._store.catalogue.of("nodes"), node, write)
        for condition in changed:
            self._announce(node, condition, since)

    def _announce(self, node: Object, condition: Object, at: float) -> None:
        name, type_, true = (
            node["metadata"]["name"],
            condition["type"],
            condition["status"] == "True",
        )

        def record(kind: str, reason: str, message: str, component: str = "kubelet") -> None:
            self._recorder.record(
                node, kind, reason, message, at=at, component=component, host=name
            )

        if condition["status"] == "Unknown" and type_ != "Ready":
            return
        if type_ == "Ready":
            reason = "NodeReady" if true else "NodeNotReady"
            component = "node-controller" if condition["status"] == "Unknown" else "kubelet"
        else:
            reason = _EVENTS[type_][0 if true else 1]
            component = "kubelet"
        record("Normal", reason, f"Node {name} status is now: {reason}", component)
        if type_ in _SIGNALS and true:
            record("Warning", "EvictionThresholdMet", f"Attempting to reclaim {_SIGNALS[type_]}")
        if type_ == "DiskPressure" and true:
            wanted = int(quantity(dig(node, "status.capacity.ephemeral-storage", "100Gi")) * 0.11)
            record(
                "Warning",
                "FreeDiskSpaceFailed",
                f"Failed to garbage collect required amount of images. Attempted to free {wanted} "
                "bytes, but only found 0 bytes eligible to free.",
            )


def _mended_at(node: Object, given: Object, now: float) -> float | None:
    """When the trouble that began `since` was over; None where it has no end, or not yet."""
    if not given.get("lasted") or not annotation(node, SINCE):
        return None
    over = now - span(annotation(node, SINCE)) + span(given["lasted"])
    return over if over <= now else None


def _condition(type_: str, status: str, reason: str, message: str) -> Object:
    return {"type": type_, "status": status, "reason": reason, "message": message}


def _unknown() -> list[Object]:
    message = "Kubelet stopped posting node status."
    types = (*_PRESSURES, "Ready")
    return [_condition(type_, "Unknown", "NodeStatusUnknown", message) for type_ in types]


def _is_good(condition: Object) -> bool:
    return bool(condition["status"] == ("True" if condition["type"] == "Ready" else "False"))


def _created(node: Object, now: float) -> float:
    return min(now, seconds(node["metadata"]["creationTimestamp"]))


def _taints(node: Object, conditions: list[Object], since: float) -> list[Any]:
    """The taints that the node lifecycle controller keeps, beside the node's own."""
    old = {(t["key"], t["effect"]): t for t in node["spec"].get("taints") or []}
    wanted: list[tuple[str, str]] = []
    for condition in conditions:
        type_, status = condition["type"], condition["status"]
        if type_ in _TAINTS and status == "True":
            wanted.append((_TAINTS[type_], "NoSchedule"))
        if type_ == "Ready" and status != "True":
            key = UNREACHABLE if status == "Unknown" else NOT_READY
            wanted += [(key, "NoSchedule"), (key, "NoExecute")]
    if node["spec"].get("unschedulable"):
        wanted.append((_CORDONED, "NoSchedule"))
    kept = [taint for (key, _), taint in old.items() if key not in _MANAGED_TAINTS]
    for key, effect in wanted:
        fresh = {"key": key, "effect": effect, "timeAdded": stamp(since)}
        kept.append(old.get((key, effect), fresh))
    return kept
