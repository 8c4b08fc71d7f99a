"""What a kubelet does to the pods of a node that runs short: it evicts the greediest."""

from __future__ import annotations

from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.cluster.nodes import annotation, stats
from runbook_lib.practice.cluster.predicates import requests
from runbook_lib.practice.objects.quantities import quantity
from runbook_lib.practice.objects.selectors import condition, dig
from runbook_lib.practice.objects.store import Object, Store

EVICT = "practice.runbook/evict"

_CRITICAL = 2_000_000_000
# Condition: resource, name of its usage, use of a container that names none.
_RESOURCES = {
    "MemoryPressure": ("memory", "memory", "96Mi"),
    "DiskPressure": ("ephemeral-storage", "disk", "24Mi"),
}


class Evictions:
    """Evicts as many pods as the node's annotation says, while it is under pressure."""

    def __init__(self, store: Store, kubelet: Kubelet) -> None:
        self._store = store
        self._kubelet = kubelet
        self._done: dict[tuple[str, str], int] = {}  # (uid of the node, annotation) to evictions

    def sync(self, now: float) -> None:
        for node in self._store.all("nodes"):
            text = annotation(node, EVICT)
            asked = (node["metadata"]["uid"], text)
            for pressure in _RESOURCES:
                if not text.isdecimal() or condition(node, pressure) != "True":
                    continue
                wanted = int(text) - self._done.get(asked, 0)
                for pod in self._ranked(node, pressure)[: max(0, wanted)]:
                    self._kubelet.evict(pod, self._message(pod, node, pressure), now)
                    self._done[asked] = self._done.get(asked, 0) + 1

    def _ranked(self, node: Object, pressure: str) -> list[Object]:
        """As the eviction manager ranks: above their requests, unimportant, by how far above."""
        pods = [
            pod
            for pod in self._store.all("pods")
            if dig(pod, "spec.nodeName") == node["metadata"]["name"]
            and dig(pod, "status.phase") == "Running"
            and dig(pod, "spec.priority", 0) < _CRITICAL
        ]

        def rank(pod: Object) -> tuple[bool, int, float]:
            above = self._used(pod, pressure) - self._asked(pod, pressure)
            return (above <= 0, int(dig(pod, "spec.priority", 0)), -above)

        return sorted(pods, key=rank)

    def _used(self, pod: Object, pressure: str) -> float:
        _, what, idle = _RESOURCES[pressure]
        names = [c["name"] for c in pod["spec"]["containers"]]
        return sum(self._kubelet.usage(pod, name, what, idle) for name in names)

    @staticmethod
    def _asked(pod: Object, pressure: str) -> float:
        return requests(pod["spec"]).get(_RESOURCES[pressure][0], 0.0)

    def _message(self, pod: Object, node: Object, pressure: str) -> str:
        resource, what, idle = _RESOURCES[pressure]
        used = stats(node)
        if pressure == "MemoryPressure":
            capacity, percent = dig(node, "status.capacity.memory", "16Gi"), "memory_used_percent"
            threshold = "100Mi"
        else:
            capacity = dig(node, "status.capacity.ephemeral-storage", "80Gi")
            percent, threshold = "fs_used_percent", str(int(quantity(capacity) * 0.1))
        free = int(quantity(capacity) * (100 - used[percent]) / 100 / 1024)
        text = (
            f"The node was low on resource: {resource}. Threshold quantity: {threshold}, "
            f"available: {free}Ki. "
        )
        for container in pod["spec"]["containers"]:
            name = container["name"]
            amount = int(self._kubelet.usage(pod, name, what, idle) / 1024)
            asked = dig(container, "resources.requests", {}).get(resource, "0")
            if amount * 1024 > quantity(asked):
                text += (
                    f"Container {name} was using {amount}Ki, request is {asked}, has larger "
                    f"consumption of {resource}. "
                )
        return text
