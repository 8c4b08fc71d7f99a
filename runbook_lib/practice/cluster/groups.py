"""The stand-in for the cluster autoscaler: its status, its words about pending pods, new nodes.

What it knows of its one node group, as `NodeGroup` lists it, the cloud says (`bounds`, `machines`),
and before that an annotation on its Deployment. How many nodes it wants, the cloud is told.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runbook_lib.practice.cluster.events import Recorder
from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.cluster.objects import is_running
from runbook_lib.practice.cluster.predicates import Snapshot, unbound
from runbook_lib.practice.objects.selectors import condition, dig
from runbook_lib.practice.objects.store import Object, Store, copy_of, seconds, stamp

GROUP = "practice.runbook/node-group"
STATUS = "cluster-autoscaler-status"

_NODE_LABEL = "eks.amazonaws.com/nodegroup"
_STARTING_SECONDS = 900.0  # a younger node that is not ready still comes up


@dataclass(frozen=True)
class NodeGroup:
    """What the autoscaler knows of the group.

    `backoff` is the error of a failed scale-up; `provisioning` the seconds until a node is there,
    `scan` those between two looks.
    """

    name: str = "eks-compute-nodes-3ec8a1f2-7d40-4b7e-9f5e-0c1d2e3f4a5b"
    min: int = 3
    max: int = 6
    discovered: bool = True
    backoff: str = ""
    provisioning: float = 45.0
    scan: float = 10.0


@dataclass(frozen=True)
class Machine:
    """A machine of the group's, which runs; its node is called as its private name."""

    id: str
    name: str
    address: str
    zone: str


class NodeGroups:
    def __init__(
        self, store: Store, recorder: Recorder, kubelet: Kubelet, time_scale: float
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._kubelet = kubelet
        self._scale = time_scale
        self.bounds: dict[str, Any] = {}  # fields of NodeGroup as the cloud has them
        # Those of the group; None where there is no cloud: nodes come by themselves.
        self.machines: list[Machine] | None = None
        self._wanted: int | None = None
        self._looked = 0.0
        self._of = ""  # uid of the Deployment whose memory this is
        self._coming: list[float] = []  # when the nodes that were asked for arrive
        self._told: dict[str, str] = {}  # uid of a pod to what was said of it
        self._changed: dict[str, tuple[str, float]] = {}  # activity to its value and since when

    def sync(self, now: float) -> float | None:
        """One look at pending pods; the Unix time of the next."""
        if not is_running(self._store, "kube-system", "cluster-autoscaler"):
            return None
        group = self._group()
        between = max(0.5, group.scan * self._scale)
        uid = self._deployment()["metadata"]["uid"]
        due = min([self._looked + between, *self._coming])
        if now < due and uid == self._of:
            return due
        self._looked = now
        if self._of != uid:  # another one: knows nothing
            self._of = uid
            for memory in (self._coming, self._told, self._changed):
                memory.clear()
            self._wanted = None
        arriving = [at for at in self._coming if at <= now]
        late = [now + between for _ in arriving if not self._join(now)]
        self._coming = [at for at in self._coming if at > now] + late
        pods = self._store.all("pods")
        pending = [
            pod
            for pod in pods
            if not dig(pod, "spec.nodeName") and condition(pod, "PodScheduled") == "False"
        ]
        if pending:
            self._scale_up(pending, Snapshot(self._store, pods), group, now)
        self._told = {uid: text for uid, text in self._told.items() if pending}
        self._write_status(group, now)
        return min([now + between, *self._coming])

    def _deployment(self) -> Object:
        return self._store.find("deployments", "cluster-autoscaler", "kube-system", "apps") or {}

    def _group(self) -> NodeGroup:
        text = dig(self._deployment(), "metadata.annotations", {}).get(GROUP, "{}")
        try:
            return NodeGroup(**{**self.bounds, **json.loads(text)})
        except (ValueError, TypeError) as problem:
            message = f"{GROUP}: {problem}"
            self._recorder.record(self._deployment(), "Warning", "PracticeGroupInvalid", message)
            return NodeGroup(**self.bounds)

    def take_wanted(self) -> int | None:
        """How many nodes the cloud is asked for; None where nothing was asked since last time."""
        wanted, self._wanted = self._wanted, None
        is_same = dig(self._deployment(), "metadata.uid") == self._of
        return wanted if is_same else None

    # scaling up

    def _scale_up(
        self, pending: list[Object], snapshot: Snapshot, group: NodeGroup, now: float
    ) -> None:
        """Ask for as many nodes as the pods need that fit on none, also of those that are coming.

        Source: cluster-autoscaler, core/podlistprocessor/filter_out_schedulable.go and
        estimator/binpacking_estimator.go.
        """
        size = len(snapshot.nodes) + len(self._coming)
        room = _Room(snapshot, now)
        for _ in self._coming:
            room.add_node()
        left = [pod for pod in pending if not room.takes(pod)]
        helped, new = [], 0
        for pod in left:
            if new and room.takes(pod):
                helped.append(pod)
                continue
            reasons = room.refused_by_new(pod) or _held_back(group, size + new)
            if group.discovered and not reasons:
                new += 1
                room.add_node()
                room.takes(pod)
                helped.append(pod)
                continue
            if not group.discovered:
                reasons = ()
            listed = ", ".join(sorted(f"{n} {text}" for text, n in Counter(reasons).items()))
            message = f"pod didn't trigger scale-up: {listed}"
            self._tell(pod, "NotTriggerScaleUp", message, now)
        if not new:
            return
        self._coming += [now + group.provisioning * self._scale] * new
        self._wanted = size + new
        plan = f"{group.name} {size}->{size + new} (max: {group.max})"
        self._log(
            f'I{{}}       1 orchestrator.go:189] "Final scale-up plan" plan="[{{{plan}}}]"', now
        )
        for pod in helped:
            self._tell(pod, "TriggeredScaleUp", f"pod triggered scale-up: [{{{plan}}}]", now)

    def _tell(self, pod: Object, reason: str, message: str, now: float) -> None:
        uid = pod["metadata"]["uid"]
        if self._told.get(uid) == message:
            return
        self._told[uid] = message
        component = "cluster-autoscaler"
        self._recorder.record(pod, "Normal", reason, message, at=now, component=component)
        where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        self._log(f'I{{}}       1 klogx.go:87] "Pod is unschedulable" pod="{where}"', now)
        if reason == "NotTriggerScaleUp":
            self._log(f"I{{}}       1 orchestrator.go:161] No expansion options: {message}", now)

    def _log(self, line: str, now: float) -> None:
        at = datetime.fromtimestamp(now, UTC).strftime("%m%d %H:%M:%S.%f")
        for pod in self._store.all("pods"):
            labels = pod["metadata"].get("labels") or {}
            if labels.get("app") == "cluster-autoscaler":
                self._kubelet.append_log(pod, "cluster-autoscaler", line.replace("{}", at, 1))

    def _join(self, now: float) -> bool:
        """A new node of the group comes up; False where the cloud has no machine for it yet."""
        nodes = self._store.all("nodes")
        taken = {node["metadata"]["name"] for node in nodes}
        machines = _invented() if self.machines is None else self.machines
        machine = next((one for one in machines if one.name not in taken), None)
        if machine is None:
            return False
        node = _template(nodes, machine.name)
        node["metadata"]["creationTimestamp"] = stamp(now)
        if machine.id:
            node["metadata"]["labels"]["topology.kubernetes.io/zone"] = machine.zone
            node["spec"]["providerID"] = f"aws:///{machine.zone}/{machine.id}"
        node["status"]["addresses"] = [
            {"type": "InternalIP", "address": machine.address},
            {"type": "Hostname", "address": machine.name},
        ]
        self._store.add(self._store.catalogue.of("nodes"), node)
        return True

    # the status

    def _since(self, what: str, value: str, now: float) -> str:
        if self._changed.get(what, ("", 0.0))[0] != value:
            begun = seconds(self._deployment()["metadata"]["creationTimestamp"])
            self._changed[what] = (value, now if what in self._changed else begun)
        return stamp(self._changed[what][1])

    def _write_status(self, group: NodeGroup, now: float) -> None:
        import yaml

        nodes = self._store.all("nodes")
        ready = sum(condition(node, "Ready") == "True" for node in nodes)
        counts = {"total": len(nodes), "ready": ready, "notStarted": 0}
        unready = len(nodes) - ready
        if unready:
            counts["unready"] = {"total": unready, "resourceUnready": 0}  # type: ignore[assignment]
        registered = {"registered": counts, "longUnregistered": 0, "unregistered": 0}
        activity = "InProgress" if self._coming else "NoActivity"

        def part(what: str, status: str, **more: Any) -> Object:
            times = {
                "lastProbeTime": stamp(now),
                "lastTransitionTime": self._since(what, status, now),
            }
            return {"status": status, **copy_of(more), **times}

        wide = {
            "health": part("health", "Healthy", nodeCounts=registered),
            "scaleUp": part("scaleUp", activity),
            "scaleDown": part("scaleDown", "NoCandidates"),
        }
        scale_up = part("groupScaleUp", "Backoff" if group.backoff else activity)
        if group.backoff:
            code, _, text = group.backoff.partition(": ")
            scale_up["backoffInfo"] = {"errorCode": code, "errorMessage": text or code}
        target = len(nodes) + len(self._coming)
        limits = {"cloudProviderTarget": target, "minSize": group.min, "maxSize": group.max}
        one = {
            "name": group.name,
            "health": part("health", "Healthy", nodeCounts=registered, **limits),
            "scaleUp": scale_up,
            "scaleDown": part("scaleDown", "NoCandidates"),
        }
        at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S.%f +0000 UTC")
        text_ = yaml.safe_dump(
            {
                "time": at,
                "autoscalerStatus": "Running",
                "clusterWide": wide,
                "nodeGroups": [one] if group.discovered else [],
            },
            sort_keys=False,
        )
        self._store_status({"status": text_}, at)

    def _store_status(self, data: dict[str, str], at: str) -> None:
        kind = self._store.catalogue.of("configmaps")
        updated = {"cluster-autoscaler.kubernetes.io/last-updated": at}
        known = self._store.find("configmaps", STATUS, "kube-system")
        if known is None:
            meta = {"name": STATUS, "namespace": "kube-system", "annotations": updated}
            meta["creationTimestamp"] = self._deployment()["metadata"]["creationTimestamp"]
            made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
            self._store.add(kind, made)
            return

        def renew(new: Object) -> None:
            new["data"] = data
            new["metadata"]["annotations"] = {**dig(new, "metadata.annotations", {}), **updated}

        self._store.edit(kind, known, renew)


def _template(nodes: list[Object], name: str) -> Object:
    """A node as the group would add one: like its first, and healthy."""
    model = next((n for n in nodes if _NODE_LABEL in (n["metadata"].get("labels") or {})), None)
    model = copy_of(model or (nodes or [{"metadata": {}, "status": {}}])[0])
    labels = {**(model["metadata"].get("labels") or {}), "kubernetes.io/hostname": name}
    status = {k: v for k, v in (model.get("status") or {}).items() if k != "conditions"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": status,
    }


def _held_back(group: NodeGroup, size: int) -> tuple[str, ...]:
    """Why a group of this size does not grow; none where it does."""
    if group.backoff:
        return ("in backoff after failed scale-up",)
    return ("max node group size reached",) if size >= group.max else ()


def _invented() -> Iterator[Machine]:
    """Machines where no cloud names any."""
    for number in range(30, 250):
        ip = f"10.0.{number % 3 + 1}.{number}"
        yield Machine("", f"ip-{ip.replace('.', '-')}.ec2.internal", ip, "")


class _Room:
    """The room for pods on the nodes that there are, that come up, and that are added."""

    def __init__(self, snapshot: Snapshot, now: float) -> None:
        self._snapshot = snapshot
        self._nodes = list(snapshot.nodes.values())
        # What every node runs, as the first one does.
        self._daemons = [
            pod
            for pods in list(snapshot.pods.values())[:1]
            for pod in pods
            if any(o["kind"] == "DaemonSet" for o in pod["metadata"].get("ownerReferences") or [])
        ]
        for node in self._nodes:
            name, age = (
                node["metadata"]["name"],
                now - seconds(node["metadata"]["creationTimestamp"]),
            )
            if condition(node, "Ready") != "True" and age < _STARTING_SECONDS:
                snapshot.nodes[name] = _template([node], name)

    def add_node(self) -> Object:
        name = f"template-{len(self._snapshot.nodes)}"
        node = _template(self._nodes, name)
        self._snapshot.nodes[name] = node
        self._snapshot.pods[name] = []
        for pod in self._daemons:
            self._snapshot.place(pod, name)
        return node

    def takes(self, pod: Object) -> bool:
        """Whether the pod fits somewhere; it is placed there."""
        if unbound(self._snapshot.store, pod):
            return False
        for name, node in self._snapshot.nodes.items():
            if self._snapshot.refusal(pod, node) is None:
                self._snapshot.place(pod, name)
                return True
        return False

    def refused_by_new(self, pod: Object) -> tuple[str, ...]:
        """Why an empty node more would not do; none where it would."""
        if why := unbound(self._snapshot.store, pod):
            return (why,)
        node = self.add_node()
        refusal = self._snapshot.refusal(pod, node)
        name = node["metadata"]["name"]
        for daemon in self._daemons:
            self._snapshot.place(daemon, name, -1)
        del self._snapshot.nodes[name], self._snapshot.pods[name]
        return refusal.reasons if refusal else ()
