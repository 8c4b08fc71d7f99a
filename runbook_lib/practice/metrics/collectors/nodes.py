"""What kubelets (cadvisor) and node-exporters measure, from the stand-ins for them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.cluster.nodes import kubelet_answers, stats
from runbook_lib.practice.cluster.stats import pod_usage
from runbook_lib.practice.metrics.samples import Sample
from runbook_lib.practice.objects.quantities import quantity
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store, seconds

_PERIODS = 10.0  # of the CFS scheduler in a second
_THROTTLED_FROM = 0.9  # of the limit in use, from where a container is held back now and then
_INODES = 52_428_288
_KUBELET = 10250
_NODE_EXPORTER = 9100


@dataclass
class _Counter:
    """Rises with a rate that may change."""

    value: float
    at: float

    def risen(self, rate: float, now: float) -> float:
        self.value += rate * max(0.0, now - self.at)
        self.at = now
        return self.value


def _address(node: Object, port: int) -> str:
    addresses = dig(node, "status.addresses", [])
    ip = next((one["address"] for one in addresses if one["type"] == "InternalIP"), "")
    return f"{ip or node['metadata']['name']}:{port}"


class Cadvisor:
    """The job kubelet: containers' memory, processor and throttling.

    A kubelet that does not answer has `up` 0, and its containers have no samples.
    """

    job = "kubelet"

    def __init__(self, store: Store, kubelet: Kubelet) -> None:
        self._store = store
        self._kubelet = kubelet
        self._counters: dict[tuple[str, ...], _Counter] = {}

    def collect(self) -> Iterable[Sample]:
        now = time.time()
        instances: dict[str, str] = {}
        for node in self._store.all("nodes"):
            name = node["metadata"]["name"]
            instances[name] = _address(node, _KUBELET)
            labels = {"instance": instances[name], "node": name}
            yield Sample("up", labels, float(kubelet_answers(node)))
        known = self._counters
        self._counters = {}
        for pod in self._store.all("pods"):
            node_name = dig(pod, "spec.nodeName", "")
            measured = pod_usage(pod, self._store, self._kubelet)
            for one in (measured or {}).get("containers", []):
                labels = {"instance": instances[node_name], "node": node_name}
                yield from self._container(pod, one, labels, known, now)

    def _container(
        self,
        pod: Object,
        measured: Object,
        node: dict[str, str],
        known: dict[tuple[str, ...], _Counter],
        now: float,
    ) -> Iterator[Sample]:
        meta, name = pod["metadata"], measured["name"]
        labels = {
            **node,
            "namespace": meta["namespace"],
            "pod": meta["name"],
            "container": name,
        }
        spec = next(one for one in dig(pod, "spec.containers", []) if one["name"] == name)
        status = next(one for one in dig(pod, "status.containerStatuses") if one["name"] == name)
        started = seconds(dig(status, "state.running.startedAt", meta["creationTimestamp"]))
        cores = quantity(measured["usage"]["cpu"])
        memory = quantity(measured["usage"]["memory"])
        limits = dig(spec, "resources.limits", {})
        yield Sample("container_memory_working_set_bytes", labels, memory)
        yield Sample("container_memory_rss", labels, memory * 0.8)
        yield Sample("container_start_time_seconds", labels, started)
        if "memory" in limits:
            yield Sample("container_spec_memory_limit_bytes", labels, quantity(limits["memory"]))
        rates = {"container_cpu_usage_seconds_total": cores}
        if "cpu" in limits:
            used = cores / quantity(limits["cpu"])
            held = min(1.0, max(0.0, (used - _THROTTLED_FROM) / (1 - _THROTTLED_FROM)))
            rates["container_cpu_cfs_periods_total"] = _PERIODS
            rates["container_cpu_cfs_throttled_periods_total"] = _PERIODS * held
            rates["container_cpu_cfs_throttled_seconds_total"] = held * quantity(limits["cpu"])
        life = (meta["uid"], name, str(status.get("restartCount", 0)), str(started))
        for metric, rate in rates.items():
            key = (*life, metric)
            counter = known.get(key) or _Counter(rate * max(0.0, now - started), now)
            self._counters[key] = counter
            yield Sample(metric, labels, counter.risen(rate, now), rate)


class NodeExporter:
    """The job node-exporter: memory, file systems and processors of the nodes."""

    job = "node-exporter"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counters: dict[tuple[str, str], _Counter] = {}

    def collect(self) -> Iterable[Sample]:
        now = time.time()
        for node in self._store.all("nodes"):
            name = node["metadata"]["name"]
            labels = {"instance": _address(node, _NODE_EXPORTER), "node": name}
            yield Sample("up", labels, 1)
            yield from self._node(node, labels, now)

    def _node(self, node: Object, labels: dict[str, str], now: float) -> Iterator[Sample]:
        used = {name: percent / 100 for name, percent in stats(node).items()}
        capacity = dig(node, "status.capacity", {})
        memory = quantity(capacity.get("memory", "16Gi"))
        yield Sample("node_memory_MemTotal_bytes", labels, memory)
        available = memory * (1 - used["memory_used_percent"])
        yield Sample("node_memory_MemAvailable_bytes", labels, available)
        disk = quantity(capacity.get("ephemeral-storage", "100Gi"))
        root = {**labels, "device": "/dev/nvme0n1p1", "fstype": "xfs", "mountpoint": "/"}
        for name, value in (
            ("node_filesystem_size_bytes", disk),
            ("node_filesystem_avail_bytes", disk * (1 - used["fs_used_percent"])),
            ("node_filesystem_files", _INODES),
            ("node_filesystem_files_free", _INODES * (1 - used["inodes_used_percent"])),
            ("node_filesystem_readonly", 0),
        ):
            yield Sample(name, root, float(value))
        cores = quantity(capacity.get("cpu", "4"))
        busy = cores * used["cpu_used_percent"]
        started = seconds(node["metadata"]["creationTimestamp"])
        for mode, rate in (("user", busy * 0.8), ("system", busy * 0.2), ("idle", cores - busy)):
            key = (node["metadata"]["uid"], mode)
            counter = self._counters.setdefault(key, _Counter(rate * (now - started), now))
            value = counter.risen(rate, now)
            yield Sample("node_cpu_seconds_total", {**labels, "mode": mode}, value, rate)
