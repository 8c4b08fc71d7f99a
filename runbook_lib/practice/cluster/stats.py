"""What kubelets measure: stats/summary, their log, and the metrics API made from it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.cluster.nodes import kubelet_answers, stats
from runbook_lib.practice.objects.quantities import quantity
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store, seconds, stamp

_INODES = 52_428_288
_MAX_PIDS = 32_768
_IDLE = {"cpu": "12m", "memory": "96Mi", "disk": "24Mi", "logs": "2Mi"}


def _usage(pod: Object, container: str, kubelet: Kubelet, name: str) -> float:
    return kubelet.usage(pod, container, name, _IDLE[name])


def _running(pod: Object) -> list[str]:
    """The containers that run now."""
    statuses = dig(pod, "status.containerStatuses", [])
    return [status["name"] for status in statuses if dig(status, "state.running") is not None]


def _pods_on(node: Object, store: Store) -> list[Object]:
    name = node["metadata"]["name"]
    return [pod for pod in store.all("pods") if dig(pod, "spec.nodeName") == name]


def _file_system(capacity: float, used_percent: float, inodes_percent: float) -> Object:
    used, inodes = int(capacity * used_percent / 100), int(_INODES * inodes_percent / 100)
    return {
        "time": stamp(),
        "availableBytes": int(capacity) - used,
        "capacityBytes": int(capacity),
        "usedBytes": used,
        "inodesFree": _INODES - inodes,
        "inodes": _INODES,
        "inodesUsed": inodes,
    }


def _memory(capacity: float, used: float) -> Object:
    return {
        "time": stamp(),
        "availableBytes": int(capacity - used),
        "usageBytes": int(used * 1.15),
        "workingSetBytes": int(used),
        "rssBytes": int(used * 0.8),
        "pageFaults": 0,
        "majorPageFaults": 0,
    }


def _cpu(cores: float) -> Object:
    nano = int(cores * 1e9)
    return {"time": stamp(), "usageNanoCores": nano, "usageCoreNanoSeconds": nano * 3600}


def summary(node: Object, store: Store, kubelet: Kubelet) -> Object:
    """The Summary of k8s.io/kubelet/pkg/apis/stats/v1alpha1; sizes in bytes."""
    used = stats(node)
    capacity = dig(node, "status.capacity", {})
    memory = quantity(capacity.get("memory", "16Gi"))
    disk = quantity(capacity.get("ephemeral-storage", "100Gi"))
    created = node["metadata"]["creationTimestamp"]
    image = _file_system(disk, used["image_fs_used_percent"], used["inodes_used_percent"])
    return {
        "node": {
            "nodeName": node["metadata"]["name"],
            "startTime": created,
            "cpu": _cpu(quantity(capacity.get("cpu", "4")) * used["cpu_used_percent"] / 100),
            "memory": _memory(memory, memory * used["memory_used_percent"] / 100),
            "fs": _file_system(disk, used["fs_used_percent"], used["inodes_used_percent"]),
            "runtime": {"imageFs": image, "containerFs": image},
            "rlimit": {
                "time": stamp(),
                "maxpid": _MAX_PIDS,
                "curproc": int(_MAX_PIDS * used["pids_used_percent"] / 100),
            },
        },
        "pods": [_pod_summary(pod, disk, kubelet) for pod in _pods_on(node, store)],
    }


def _pod_summary(pod: Object, disk: float, kubelet: Kubelet) -> Object:
    meta, begun = pod["metadata"], dig(pod, "status.startTime")
    containers = []
    for name in _running(pod):
        use = {what: _usage(pod, name, kubelet, what) for what in _IDLE}
        containers.append(
            {
                "name": name,
                "startTime": begun,
                "cpu": _cpu(use["cpu"]),
                "memory": {"time": stamp(), "workingSetBytes": int(use["memory"])},
                "rootfs": {"capacityBytes": int(disk), "usedBytes": int(use["disk"])},
                "logs": {"capacityBytes": int(disk), "usedBytes": int(use["logs"])},
            }
        )
    total = sum(c["rootfs"]["usedBytes"] + c["logs"]["usedBytes"] for c in containers)
    working = sum(c["memory"]["workingSetBytes"] for c in containers)
    return {
        "podRef": {name: meta[name] for name in ("name", "namespace", "uid")},
        "startTime": begun,
        "containers": containers,
        "cpu": _cpu(sum(_usage(pod, name, kubelet, "cpu") for name in _running(pod))),
        "memory": {"time": stamp(), "workingSetBytes": working},
        "ephemeral-storage": {"capacityBytes": int(disk), "usedBytes": total},
    }


def node_usage(node: Object, store: Store, kubelet: Kubelet) -> Object | None:
    """A NodeMetrics; None for a node whose kubelet cannot be scraped."""
    if not kubelet_answers(node):
        return None
    used, capacity = stats(node), dig(node, "status.capacity", {})
    cores = quantity(capacity.get("cpu", "4")) * used["cpu_used_percent"] / 100
    memory = quantity(capacity.get("memory", "16Gi")) * used["memory_used_percent"] / 100
    return {**_metrics("NodeMetrics", node), "usage": _amounts(cores, memory)}


def pod_usage(pod: Object, store: Store, kubelet: Kubelet) -> Object | None:
    """A PodMetrics; None for a pod of which nothing runs or whose kubelet is silent."""
    node = store.find("nodes", dig(pod, "spec.nodeName", ""))
    running = _running(pod)
    if node is None or not kubelet_answers(node) or not running:
        return None
    containers = [
        {
            "name": name,
            "usage": _amounts(
                _usage(pod, name, kubelet, "cpu"), _usage(pod, name, kubelet, "memory")
            ),
        }
        for name in running
    ]
    return {**_metrics("PodMetrics", pod), "containers": containers}


def _metrics(kind: str, obj: Object) -> Object:
    names = ("name", "namespace", "creationTimestamp", "labels")
    return {
        "kind": kind,
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {name: obj["metadata"][name] for name in names if name in obj["metadata"]},
        "timestamp": stamp(),
        "window": "15s",
    }


def _amounts(cores: float, memory: float) -> dict[str, Any]:
    return {"cpu": f"{int(cores * 1e9)}n", "memory": f"{int(memory / 1024)}Ki"}


def kubelet_log(node: Object) -> str:
    """The kubelet's journal of the last minutes, as klog writes it."""
    used = stats(node)
    lines = [
        'I{} 1672 kubelet.go:2456] "SyncLoop (housekeeping)" ',
        'I{} 1672 prober.go:107] "Probe succeeded" probeType="Readiness"',
    ]
    for condition in dig(node, "status.conditions", []):
        if condition["type"] == "DiskPressure" and condition["status"] == "True":
            percent = int(max(used["fs_used_percent"], used["image_fs_used_percent"]))
            lines += [
                'I{} 1672 image_gc_manager.go:383] "Disk usage on image filesystem is over the '
                f'high threshold, trying to free bytes down to the low threshold" usage={percent} '
                "highThreshold=85 lowThreshold=80",
                'W{} 1672 eviction_manager.go:376] "Eviction manager: attempting to reclaim" '
                'resourceName="ephemeral-storage"',
                'E{} 1672 eviction_manager.go:614] "Eviction manager: cannot evict a critical pod"',
            ]
        if condition["type"] == "MemoryPressure" and condition["status"] == "True":
            lines.append(
                'W{} 1672 eviction_manager.go:376] "Eviction manager: attempting to reclaim" '
                'resourceName="memory"'
            )
        if condition["type"] == "Ready" and condition["status"] == "False":
            lines.append(
                'E{} 1672 kubelet.go:3002] "Container runtime network not ready" '
                f'networkReady="{condition["message"]}"'
            )
            since = seconds(condition["lastTransitionTime"])
            lines.append(
                'I{} 1672 setters.go:602] "Node became not ready" '
                f'node="{node["metadata"]["name"]}" since="{stamp(since)}"'
            )
    begin = time.time() - 10 * len(lines)
    written = []
    for number, line in enumerate(lines):
        moment = datetime.fromtimestamp(begin + 10 * number, UTC)
        written.append(line.replace("{}", moment.strftime("%m%d %H:%M:%S.%f"), 1) + "\n")
    return "".join(written)
