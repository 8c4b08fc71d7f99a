"""What `kubectl get` prints: Table objects for the common kinds.

Source: k8s.io/kubernetes/pkg/printers/internalversion.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.kubernetes.errors import ApiError
from runbook_lib.practice.kubernetes.selectors import condition, dig
from runbook_lib.practice.kubernetes.store import Object, Store, seconds

Row = Callable[[Object], list[Any]]
_NONE = "<none>"


def duration(span: float) -> str:
    """As kubectl prints ages: 45s, 12m, 3h20m, 5d3h, 12d."""
    whole = int(max(0, span))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d"


def _since(text: str | None) -> str:
    return duration(time.time() - seconds(text)) if text else "<unknown>"


def _age(obj: Object) -> str:
    return _since(dig(obj, "metadata.creationTimestamp"))


def _reason(state: Object, fallback: str) -> str:
    """The word for a container that waits or has ended."""
    if waiting := state.get("waiting"):
        return str(waiting.get("reason", fallback))
    if ended := state.get("terminated"):
        code = ended.get("exitCode")
        return str(ended.get("reason") or (f"ExitCode:{code}" if code else "Completed"))
    return fallback


def pod_status(pod: Object) -> str:
    """kubectl's STATUS column."""
    status = pod.get("status") or {}
    word = str(status.get("reason") or status.get("phase") or "Unknown")
    inits = status.get("initContainerStatuses") or []
    for number, container in enumerate(inits):
        state = container.get("state") or {}
        if dig(state, "terminated.exitCode") == 0:
            continue
        fallback = f"{number}/{len(inits)}"
        reason = _reason(state, fallback)
        word = f"Init:{fallback if reason == 'PodInitializing' else reason}"
        break
    else:
        for container in reversed(status.get("containerStatuses") or []):
            word = _reason(container.get("state") or {}, word)
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return word


def _pod(pod: Object) -> list[Any]:
    containers = dig(pod, "status.containerStatuses", [])
    ready = sum(bool(container.get("ready")) for container in containers)
    restarts = sum(container.get("restartCount", 0) for container in containers)
    ends = [dig(c, "lastState.terminated.finishedAt") for c in containers]
    last = max(filter(None, ends), default=None)
    return [
        f"{ready}/{len(pod['spec']['containers'])}",
        pod_status(pod),
        f"{restarts} ({_since(last)} ago)" if restarts and last else str(restarts),
        _age(pod),
        dig(pod, "status.podIP", _NONE),
        dig(pod, "spec.nodeName", _NONE),
        dig(pod, "status.nominatedNodeName", _NONE),
        _NONE,
    ]


def _node(node: Object) -> list[Any]:
    word = {"True": "Ready", "False": "NotReady", "Unknown": "NotReady"}.get(
        condition(node, "Ready"), "Unknown"
    )
    if dig(node, "spec.unschedulable"):
        word += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    labels = node["metadata"].get("labels") or {}
    roles = [label.removeprefix(prefix) for label in labels if label.startswith(prefix)]
    addresses = {a["type"]: a["address"] for a in dig(node, "status.addresses", [])}
    info = dig(node, "status.nodeInfo", {})
    return [
        word,
        ",".join(sorted(roles)) or _NONE,
        _age(node),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", _NONE),
        addresses.get("ExternalIP", _NONE),
        info.get("osImage", ""),
        info.get("kernelVersion", ""),
        info.get("containerRuntimeVersion", ""),
    ]


def _workload(obj: Object) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    return [
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _age(obj),
        *_containers(obj),
    ]


def _containers(obj: Object) -> list[str]:
    containers = dig(obj, "spec.template.spec.containers", [])
    labels = dig(obj, "spec.selector.matchLabels", {})
    return [
        ",".join(container["name"] for container in containers),
        ",".join(container.get("image", "") for container in containers),
        ",".join(f"{key}={value}" for key, value in labels.items()) or _NONE,
    ]


def _counts(obj: Object, *paths: str) -> list[Any]:
    return [dig(obj, path, 0) for path in paths]


def _service(service: Object) -> list[Any]:
    ports = [
        f"{port['port']}/{port.get('protocol', 'TCP')}" for port in dig(service, "spec.ports", [])
    ]
    selector = dig(service, "spec.selector", {})
    balanced = dig(service, "status.loadBalancer.ingress", [])
    external = ",".join(item.get("hostname") or item.get("ip", "") for item in balanced)
    return [
        dig(service, "spec.type", "ClusterIP"),
        dig(service, "spec.clusterIP", _NONE),
        external or _NONE,
        ",".join(ports) or _NONE,
        _age(service),
        ",".join(f"{key}={value}" for key, value in selector.items()) or _NONE,
    ]


def _event(event: Object) -> list[Any]:
    about = event.get("involvedObject") or {}
    last = event.get("lastTimestamp") or event.get("eventTime")
    return [
        _since(last),
        event.get("type", ""),
        event.get("reason", ""),
        f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}",
        dig(event, "source.component", ""),
        str(event.get("message", "")).strip(),
        event.get("count", 1),
        event["metadata"]["name"],
    ]


def _endpoints(obj: Object) -> list[Any]:
    found = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or []
        for address in subset.get("addresses") or []
        for port in subset.get("ports") or []
    ]
    more = f" + {len(found) - 3} more..." if len(found) > 3 else ""
    return [",".join(found[:3]) + more or _NONE, _age(obj)]


def _role(binding: Object) -> str:
    return f"{dig(binding, 'roleRef.kind')}/{dig(binding, 'roleRef.name')}"


def _job_status(job: Object) -> str:
    words = {"Complete": "Complete", "Failed": "Failed", "Suspended": "Suspended"}
    found = [word for type_, word in words.items() if condition(job, type_) == "True"]
    return found[0] if found else "Running"


def _span(begin: str | None, end: str | None) -> str:
    if not begin:
        return ""
    return duration((seconds(end) if end else time.time()) - seconds(begin))


def _quota(quota: Object, *, limits: bool) -> str:
    hard, used = dig(quota, "status.hard", {}), dig(quota, "status.used", {})
    names = sorted(name for name in hard if name.startswith("limits.") == limits)
    return ", ".join(f"{name}: {used.get(name, '0')}/{hard[name]}" for name in names)


# Column names; a star marks those of `-o wide` only.
_TABLES: dict[str, tuple[str, Row]] = {
    "Pod": ("Ready|Status|Restarts|Age|IP*|Node*|Nominated Node*|Readiness Gates*", _pod),
    "Node": (
        "Status|Roles|Age|Version|Internal-IP*|External-IP*|OS-Image*|Kernel-Version*|"
        "Container-Runtime*",
        _node,
    ),
    "Deployment": ("Ready|Up-to-date|Available|Age|Containers*|Images*|Selector*", _workload),
    "StatefulSet": (
        "Ready|Age|Containers*|Images*",
        lambda o: [_workload(o)[0], _age(o), *_containers(o)[:2]],
    ),
    "ReplicaSet": (
        "Desired|Current|Ready|Age|Containers*|Images*|Selector*",
        lambda o: [
            *_counts(o, "spec.replicas", "status.replicas", "status.readyReplicas"),
            _age(o),
            *_containers(o),
        ],
    ),
    "DaemonSet": (
        "Desired|Current|Ready|Up-to-date|Available|Age|Containers*|Images*|Selector*",
        lambda o: [
            *_counts(
                o,
                "status.desiredNumberScheduled",
                "status.currentNumberScheduled",
                "status.numberReady",
                "status.updatedNumberScheduled",
                "status.numberAvailable",
            ),
            _age(o),
            *_containers(o),
        ],
    ),
    "Service": ("Type|Cluster-IP|External-IP|Port(s)|Age|Selector*", _service),
    "Endpoints": ("Endpoints|Age", _endpoints),
    "Event": ("Last Seen|Type|Reason|Object|Source*|Message|Count*|Name*", _event),
    "Namespace": ("Status|Age", lambda o: [dig(o, "status.phase", "Active"), _age(o)]),
    "ConfigMap": (
        "Data|Age",
        lambda o: [len(o.get("data") or {}) + len(o.get("binaryData") or {}), _age(o)],
    ),
    "Secret": (
        "Type|Data|Age",
        lambda o: [o.get("type", "Opaque"), len(o.get("data") or {}), _age(o)],
    ),
    "RoleBinding": ("Role|Age", lambda o: [_role(o), _age(o)]),
    "ClusterRoleBinding": ("Role|Age", lambda o: [_role(o), _age(o)]),
    "ServiceAccount": ("Secrets|Age", lambda o: [len(o.get("secrets") or []), _age(o)]),
    "Job": (
        "Status|Completions|Duration|Age",
        lambda o: [
            _job_status(o),
            f"{dig(o, 'status.succeeded', 0)}/{dig(o, 'spec.completions', 1)}",
            _span(dig(o, "status.startTime"), dig(o, "status.completionTime")),
            _age(o),
        ],
    ),
    "CronJob": (
        "Schedule|Timezone|Suspend|Active|Last Schedule|Age",
        lambda o: [
            dig(o, "spec.schedule", ""),
            dig(o, "spec.timeZone", _NONE),
            str(dig(o, "spec.suspend", False)),
            len(dig(o, "status.active", [])),
            _since(dig(o, "status.lastScheduleTime"))
            if dig(o, "status.lastScheduleTime")
            else _NONE,
            _age(o),
        ],
    ),
    "ResourceQuota": (
        "Request|Limit|Age",
        lambda o: [_quota(o, limits=False), _quota(o, limits=True), _age(o)],
    ),
    "Lease": ("Holder|Age", lambda o: [dig(o, "spec.holderIdentity", ""), _age(o)]),
    "PodDisruptionBudget": (
        "Min Available|Max Unavailable|Allowed Disruptions|Age",
        lambda o: [
            str(dig(o, "spec.minAvailable", "N/A")),
            str(dig(o, "spec.maxUnavailable", "N/A")),
            dig(o, "status.disruptionsAllowed", 0),
            _age(o),
        ],
    ),
    "PersistentVolumeClaim": (
        "Status|Volume|Capacity|Access Modes|StorageClass|Age",
        lambda o: [
            dig(o, "status.phase", ""),
            dig(o, "spec.volumeName", ""),
            dig(o, "status.capacity.storage", ""),
            ",".join(dig(o, "spec.accessModes", [])),
            dig(o, "spec.storageClassName", ""),
            _age(o),
        ],
    ),
    "HorizontalPodAutoscaler": (
        "Reference|MinPods|MaxPods|Replicas|Age",
        lambda o: [
            f"{dig(o, 'spec.scaleTargetRef.kind')}/{dig(o, 'spec.scaleTargetRef.name')}",
            str(dig(o, "spec.minReplicas", 1)),
            dig(o, "spec.maxReplicas", 0),
            dig(o, "status.currentReplicas", 0),
            _age(o),
        ],
    ),
    "Ingress": (
        "Class|Hosts|Address|Ports|Age",
        lambda o: [
            dig(o, "spec.ingressClassName", _NONE),
            ",".join(rule.get("host", "*") for rule in dig(o, "spec.rules", [])) or "*",
            ",".join(
                item.get("hostname") or item.get("ip", "")
                for item in dig(o, "status.loadBalancer.ingress", [])
            ),
            "80, 443" if dig(o, "spec.tls") else "80",
            _age(o),
        ],
    ),
}


_CREATED = ".metadata.creationTimestamp"
_STEP = re.compile(
    r"""\.?(?:\[\?\(@\.(\w+)\s*==\s*["'](.*?)["']\)\]|\[(\d+)\]|((?:\\\.|[^.\[])+))"""
)


def _custom_value(obj: Object, path: str, type_: str) -> Any:
    """A printer column's JSON path: names, indexes, and elements where a field equals a text."""
    value: Any = obj
    for name, wanted, index, step in _STEP.findall(path):
        if step:
            value = value.get(step.replace("\\.", ".")) if isinstance(value, dict) else None
        elif isinstance(value, list):
            found = [item for item in value if not name or item.get(name) == wanted]
            value = next(iter(found[int(index or 0) :]), None)
    if type_ == "date":
        return _since(value)
    return value


def _columns(call: Call) -> tuple[list[tuple[str, str, int]], Row]:
    kind = call.kind
    if kind.custom:
        columns = kind.columns or ({"name": "Age", "type": "date", "jsonPath": _CREATED},)
        heads = [(c["name"], c["type"], c.get("priority", 0)) for c in columns]
        return heads, lambda o: [_custom_value(o, c["jsonPath"], c["type"]) for c in columns]
    names, row = _TABLES.get(kind.kind, ("Created At", lambda o: [_created(o)]))
    return [(name.rstrip("*"), "string", int(name.endswith("*"))) for name in names.split("|")], row


def _created(obj: Object) -> str:
    return str(obj["metadata"].get("creationTimestamp", ""))


def table(call: Call, items: list[Object], meta: Object, store: Store) -> Object:
    """The Table of these objects, each row with as much of its object as the client asked for."""
    include = call.query.get("includeObject", "Metadata")
    if include not in ("None", "Metadata", "Object"):
        raise ApiError(400, "BadRequest", f'invalid parameter includeObject: "{include}"')
    heads, row = _columns(call)
    named = call.kind.kind != "Event"  # whose name says nothing
    columns = [*([("Name", "string", 0)] if named else []), *heads]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta or {"resourceVersion": str(store.revision)},
        "columnDefinitions": [
            {
                "name": name,
                "type": type_,
                "format": "name" if name == "Name" else "",
                "description": "",
                "priority": priority,
            }
            for name, type_, priority in columns
        ],
        "rows": [
            {
                "cells": [*([item["metadata"]["name"]] if named else []), *row(item)],
                **_included(item, include),
            }
            for item in items
        ],
    }


def _included(obj: Object, include: str) -> Object:
    if include == "None":
        return {}
    if include == "Object":
        return {"object": obj}
    return {"object": partial(obj)}


def partial(obj: Object) -> Object:
    about = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return {**about, "metadata": obj["metadata"]}
