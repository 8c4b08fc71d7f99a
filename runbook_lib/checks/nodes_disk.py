"""Judge of *Nodes not ready*: the filesystems of each node.

The kubelet's condition says that a node is short; its figures say which filesystem, who fills
it, and show it before the condition turns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from runbook_lib import charts_nodes
from runbook_lib.checks.nodes_common import (
    Node,
    about,
    absent,
    condition,
    describe,
    gib,
    grouped,
    hour,
    is_pressed,
    known,
    lacking,
    moment,
    name_of,
    pick,
    unreadable,
)
from runbook_lib.core import check
from runbook_lib.model import Chart, Finding, fail, ok, warn
from runbook_lib.sources import kubernetes

# The kubelet's default eviction thresholds: nodefs.available<10%, imagefs.available<15%,
# nodefs.inodesFree<5%. Source: node-pressure eviction. Its configuration may say otherwise.
EVICTS_AT = {"nodefs": 90.0, "imagefs": 85.0}
EVICTS_AT_INODES = 95.0
ONE_DISK = 0.05
_PRUNE = "crictl rmi --prune on the node frees unused images (it runs containerd, not docker)"


@dataclass(frozen=True)
class Filesystem:
    """One of the kubelet's filesystems, in bytes.

    images: what image layers take of it; None where they lie elsewhere, or nobody knows.
    shared: whether nodefs and imagefs are one disk; None where only one of them can be read.
    """

    kind: str
    capacity: float
    available: float
    inodes_percent: float | None
    images: float | None
    shared: bool | None

    @property
    def percent(self) -> float:
        return 100 * (self.capacity - self.available) / self.capacity

    @property
    def name(self) -> str:
        return "nodefs /" if self.kind == "nodefs" else "imagefs (images and containers)"

    def is_at(self, limit: float, inodes_limit: float) -> bool:
        return self.percent >= limit or (self.inodes_percent or 0) >= inodes_limit

    def says(self, node: str) -> str:
        used = f"{gib(self.capacity - self.available)} of {gib(self.capacity)}"
        text = f"{self.name} of node/{node} is {self.percent:.0f} % full ({used})"
        if (self.inodes_percent or 0) >= max(self.percent, 50):
            text += f" and {self.inodes_percent:.0f} % of its inodes are taken"
        return text


def filesystems(summary: dict[str, Any]) -> list[Filesystem]:
    """The filesystems of a kubelet's summary, the fullest first; images often share nodefs."""
    nodefs = summary.get("fs") or {}
    imagefs = (summary.get("runtime") or {}).get("imageFs") or {}
    images = imagefs.get("usedBytes")
    node, image = _filesystem("nodefs", nodefs, None), _filesystem("imagefs", imagefs, images)
    if not node or not image:
        return [one for one in (node, image) if one]
    if not _are_one(node, image):
        found = [replace(node, shared=False), replace(image, shared=False)]
        return sorted(found, key=lambda one: -one.percent)
    fuller = min(node, image, key=lambda one: one.available)
    return [replace(fuller, kind="nodefs", images=images, shared=True)]


def _are_one(node: Filesystem, image: Filesystem) -> bool:
    """Both figures of one disk are taken seconds apart: as large, and nearly as full."""
    apart = abs(node.available - image.available)
    return node.capacity == image.capacity and apart <= ONE_DISK * node.capacity


def _missing(summary: dict[str, Any]) -> str:
    """Which of the two filesystems the summary does not tell; empty where it tells both."""
    runtime = summary.get("runtime") or {}
    told = {"nodefs (fs)": summary.get("fs"), "imagefs (runtime.imageFs)": runtime.get("imageFs")}
    return " and ".join(kind for kind, fs in told.items() if not _filesystem(kind, fs or {}, None))


def _size(fs: dict[str, Any]) -> tuple[Any, Any]:
    return fs.get("capacityBytes"), fs.get("availableBytes")


def _filesystem(kind: str, fs: dict[str, Any], images: float | None) -> Filesystem | None:
    capacity, available = _size(fs)
    if not capacity or available is None:
        return None
    inodes, free = fs.get("inodes"), fs.get("inodesFree")
    percent = 100 * (inodes - free) / inodes if inodes and free is not None else None
    return Filesystem(kind, capacity, available, percent, images, shared=None)


def disk_rows(
    nodes: list[Node], stats: list[dict[str, Any]], node: str = ""
) -> list[dict[str, Any]]:
    """Each filesystem of each node, the fullest first."""
    rows = [
        {
            "node": name_of(one),
            "filesystem": fs.kind,
            "in use %": round(fs.percent),
            "used GiB": round((fs.capacity - fs.available) / 2**30, 1),
            "size GiB": round(fs.capacity / 2**30, 1),
            "of it images GiB": None if fs.images is None else round(fs.images / 2**30, 1),
            "inodes %": None if fs.inodes_percent is None else round(fs.inodes_percent),
            "DiskPressure": condition(one, "DiskPressure").get("status"),
        }
        for one, entry in known(nodes, stats, node)
        for fs in filesystems(entry["summary"])
    ]
    return sorted(rows, key=lambda row: -row["in use %"])


def disk_chart(
    nodes: list[Node], stats: list[dict[str, Any]], node: str = "", disk_percent: float = 85
) -> Chart | None:
    """Every node's filesystems against the limit."""
    values = {
        name_of(one): {fs.kind: fs.percent for fs in found}
        for one, entry in known(nodes, stats, node)
        if (found := filesystems(entry["summary"]))
    }
    return charts_nodes.fullness(values, disk_percent, "Disk")


@check(
    "node-disk-pressure",
    probe=(kubernetes.nodes, kubernetes.node_stats),
    rows=disk_rows,
    chart=disk_chart,
    explains=("node-kubelet-not-ready", "node-kubelet-log", "node-flapping"),
)
def disk_pressure(
    nodes: list[Node], stats: list[dict[str, Any]], node: str = "", disk_percent: float = 85
) -> list[Finding]:
    """Every node has room on its filesystems.

    A full one makes the kubelet delete images, evict pods and refuse new ones. nodefs holds logs
    and volumes, imagefs images and containers; often they are the same filesystem.
    """
    picked = pick(nodes, node)
    if not picked:
        return [absent(node)]
    readable = lacking(stats, "fs figures", filesystems)
    entries = {name_of(one): entry for one, entry in known(nodes, readable, node)}
    found = [f for one in picked if (f := _disk(one, entries.get(name_of(one)), disk_percent))]
    halves = [
        {"node": one["node"], "error": f"the summary has no {missing}."}
        if "error" not in one and (missing := _missing(one["summary"]))
        else one
        for one in stats
    ]
    bad = grouped(found, "nodes are short of disk") + unreadable(halves, picked, "disk figures")
    return bad or [ok("nodes", f"Disks of {len(picked)} nodes are below {disk_percent:g} %.")]


def _disk(node: Node, entry: dict[str, Any] | None, limit: float) -> Finding | None:
    """What is wrong with this node's disk, or None."""
    name, pressed = name_of(node), is_pressed(node, "DiskPressure")
    since = moment(condition(node, "DiskPressure").get("lastTransitionTime")) if pressed else None
    report = f"the kubelet reports DiskPressure since {hour(since)}, evicts pods and takes no more"
    if entry is None:
        if not pressed:
            return None
        return fail(
            about(node),
            f"On {name} {report}; which filesystem is full cannot be told.",
            hint="df -h on the node: aws ssm start-session.",
            since=since,
            command=describe(node),
        )
    found = filesystems(entry["summary"])
    full = [fs for fs in found if fs.is_at(EVICTS_AT[fs.kind], EVICTS_AT_INODES)]
    high = [fs for fs in found if fs.is_at(limit, limit)]
    if not pressed and not full and not high:
        return None
    worst = (full or high or found)[0]
    said = worst.says(name)
    if pressed and (full or high):
        said += f", and {report}"
    elif pressed:
        said = f"On {name} {report}, though {said}: it was just freed, or its threshold is lower"
    elif full:
        said += ", past the kubelet's default eviction threshold: DiskPressure is about to come"
    else:
        said += f", over the limit of {limit:g} %; the kubelet is about to delete unused images"
    level = fail if pressed or full else warn
    return level(
        about(node),
        f"{said}{_fillers(worst, entry)}.",
        hint=_free_it(worst, entry),
        since=since,
        evidence=_shares(worst, entry),
        command=_stats_command(name),
    )


def _stats_command(node: str) -> str:
    path = f"/api/v1/nodes/{node}/proxy/stats/summary"
    return f'kubectl get --raw "{path}" | jq ".node.fs, .node.runtime.imageFs"'


def _by_disk(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(
        (pod for pod in entry.get("pods", []) if pod.get("disk_bytes")),
        key=lambda pod: -pod["disk_bytes"],
    )


def _fillers(fs: Filesystem, entry: dict[str, Any]) -> str:
    """What takes the space, as far as the kubelet tells."""
    told = [] if fs.images is None else [f"images and layers take {gib(fs.images)} of it"]
    told += [f"{pod['pod']} wrote {gib(pod['disk_bytes'])}" for pod in _by_disk(entry)[:1]]
    return f"; {', '.join(told)}" if told else ""


def _free_it(fs: Filesystem, entry: dict[str, Any]) -> str:
    """What to clear, by who holds the larger share."""
    used, pods = fs.capacity - fs.available, _by_disk(entry)
    if pods and pods[0]["disk_bytes"] >= used / 4:
        return (
            f"{pods[0]['pod']} alone wrote {gib(pods[0]['disk_bytes'])} (logs, emptyDir, its "
            "own layer): mend that and set an ephemeral-storage limit. Pruning images will "
            "not help for long."
        )
    if fs.images is None and fs.shared is not False:
        return "See on the node what grew: df -h; sudo du -xhd1 /var. Do not delete files by hand."
    if fs.images is None:
        return (
            "Images are on another filesystem, so pruning them does not help: find what grew "
            "(sudo du -xhd1 /var/log /var/lib/kubelet), or cordon, drain (never forced) and "
            "replace the node."
        )
    if fs.images >= used / 2:
        return f"Images hold {gib(fs.images)}: {_PRUNE}. Do not delete files by hand."
    return (
        f"Cordon, drain (never forced) and replace the node, or {_PRUNE}. Do not delete "
        "files under /var/lib/kubelet or /var/lib/containerd by hand."
    )


def _images(fs: Filesystem) -> str:
    if fs.images is not None:
        return gib(fs.images)
    return "on another filesystem" if fs.shared is False else "not told"


def _shares(fs: Filesystem, entry: dict[str, Any]) -> dict[str, Any]:
    shares: dict[str, Any] = {
        "filesystem": fs.kind,
        "used": f"{gib(fs.capacity - fs.available)} of {gib(fs.capacity)}",
        "images": _images(fs),
        "pods wrote most": {pod["pod"]: gib(pod["disk_bytes"]) for pod in _by_disk(entry)[:3]},
    }
    if fs.inodes_percent is not None:
        shares["inodes taken"] = f"{fs.inodes_percent:.0f} %"
    return shares
