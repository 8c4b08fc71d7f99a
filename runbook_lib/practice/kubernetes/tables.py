"""What `kubectl get` prints: Table objects, their columns as `data/columns.txt` has them.

Source: k8s.io/kubernetes/pkg/printers/internalversion.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from runbook_lib.practice.kubernetes import data
from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.kubernetes.errors import bad_request
from runbook_lib.practice.kubernetes.selectors import condition, dig
from runbook_lib.practice.kubernetes.store import Object, Store, seconds

Cell = Callable[[Object], Any]
Column = tuple[str, str, int, Cell]  # name, type, priority (1: wide only), value
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


# values that are more than a path


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


def _ready_containers(pod: Object) -> str:
    ready = sum(bool(c.get("ready")) for c in dig(pod, "status.containerStatuses", []))
    return f"{ready}/{len(pod['spec']['containers'])}"


def _restarts(pod: Object) -> str:
    containers = dig(pod, "status.containerStatuses", [])
    restarts = sum(container.get("restartCount", 0) for container in containers)
    ends = [dig(c, "lastState.terminated.finishedAt") for c in containers]
    last = max(filter(None, ends), default=None)
    return f"{restarts} ({_since(last)} ago)" if restarts and last else str(restarts)


def _node_status(node: Object) -> str:
    words = {"True": "Ready", "False": "NotReady", "Unknown": "NotReady"}
    word = words.get(condition(node, "Ready"), "Unknown")
    return f"{word},SchedulingDisabled" if dig(node, "spec.unschedulable") else word


def _node_roles(node: Object) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = node["metadata"].get("labels") or {}
    roles = [label.removeprefix(prefix) for label in labels if label.startswith(prefix)]
    return ",".join(sorted(roles)) or _NONE


def _job_status(job: Object) -> str:
    words = ("Complete", "Failed", "Suspended")
    return next((word for word in words if condition(job, word) == "True"), "Running")


def _job_duration(job: Object) -> str:
    begin, end = dig(job, "status.startTime"), dig(job, "status.completionTime")
    return duration((seconds(end) if end else time.time()) - seconds(begin)) if begin else ""


def _service_ports(service: Object) -> str:
    ports = dig(service, "spec.ports", [])
    return ",".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in ports) or _NONE


def _some(found: list[str]) -> str:
    more = f" + {len(found) - 3} more..." if len(found) > 3 else ""
    return ",".join(found[:3]) + more or _NONE


def _addresses(endpoints: Object) -> str:
    return _some(
        [
            f"{address['ip']}:{port['port']}"
            for subset in endpoints.get("subsets") or []
            for address in subset.get("addresses") or []
            for port in subset.get("ports") or []
        ]
    )


def _event_object(event: Object) -> str:
    about = event.get("involvedObject") or {}
    return f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"


def _modes(volume: Object) -> str:
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX"}
    return ",".join(short.get(mode, "RWOP") for mode in dig(volume, "spec.accessModes", []))


def _quota(quota: Object, *, limits: bool) -> str:
    hard, used = dig(quota, "status.hard", {}), dig(quota, "status.used", {})
    names = sorted(name for name in hard if name.startswith("limits.") == limits)
    return ", ".join(f"{name}: {used.get(name, '0')}/{hard[name]}" for name in names)


def _targets(scaler: Object) -> str:
    """How much each metric is and is to be; "<unknown>" where it cannot be read."""
    specs, statuses = dig(scaler, "spec.metrics", []), dig(scaler, "status.currentMetrics", [])
    found = []
    for number, spec in enumerate(specs):
        field = spec["type"][0].lower() + spec["type"][1:]
        status = statuses[number] if number < len(statuses) else {}
        found.append(_target(spec["type"], spec[field], dig(status, f"{field}.current", {})))
    more = f" + {len(found) - 2} more..." if len(found) > 2 else ""
    return ", ".join(found[:2]) + more or _NONE


def _target(type_: str, spec: Object, current: Object) -> str:
    goal = spec["target"]
    of_pods = type_ in ("Resource", "ContainerResource")
    head = f"{spec['name']}: " if of_pods else ""
    if "averageValue" in goal:
        tail = " (avg)" if type_ in ("External", "Object") else ""
        return f"{head}{current.get('averageValue', '<unknown>')}/{goal['averageValue']}{tail}"
    if not of_pods:
        return f"{current.get('value', '<unknown>')}/{goal.get('value', '<auto>')}"
    used, wanted = current.get("averageUtilization"), goal.get("averageUtilization")
    shown = "<unknown>" if used is None else f"{used}%"
    return f"{head}{shown}/{'<auto>' if wanted is None else f'{wanted}%'}"


_OF_OBJECTS: dict[str, Cell] = {
    "age": lambda o: _since(dig(o, "metadata.creationTimestamp")),
    "pod_status": pod_status,
    "ready_containers": _ready_containers,
    "restarts": _restarts,
    "node_status": _node_status,
    "node_roles": _node_roles,
    "job_status": _job_status,
    "job_duration": _job_duration,
    "service_ports": _service_ports,
    "ingress_ports": lambda o: "80, 443" if dig(o, "spec.tls") else "80",
    "addresses": _addresses,
    "slice_addresses": lambda o: _some([a for e in o["endpoints"] or [] for a in e["addresses"]]),
    "event_object": _event_object,
    "last_seen": lambda o: _since(o.get("lastTimestamp") or o.get("eventTime")),
    "data_count": lambda o: len(o.get("data") or {}) + len(o.get("binaryData") or {}),
    "modes": _modes,
    "targets": _targets,
    "quota_requests": lambda o: _quota(o, limits=False),
    "quota_limits": lambda o: _quota(o, limits=True),
}


def _value(text: str) -> Cell:
    """The value that a line of `data/columns.txt` describes."""
    text = text.strip()
    if " / " in text:
        first, second = (_value(part) for part in text.split(" / "))
        return lambda o: f"{first(o)}/{second(o)}"
    if text in _OF_OBJECTS:
        return _OF_OBJECTS[text]
    text, given, default = text.partition("?")
    absent: Any = default.strip() if given else _NONE
    absent = int(absent) if absent.isdecimal() else absent
    function, _, path = text.strip().rpartition(" ")
    path = path.lstrip(".")
    name, _, field = function.partition(".")
    match name:
        case "":
            return lambda o: dig(o, path, absent)
        case "count":
            return lambda o: len(dig(o, path, []))
        case "since":
            return lambda o: _since(dig(o, path)) if dig(o, path) else absent
        case "pairs":
            return lambda o: ",".join(f"{k}={v}" for k, v in dig(o, path, {}).items()) or absent
        case "names":
            return lambda o: ",".join(str(i.get(field, "")) for i in dig(o, path, [])) or absent
        case "balancer":
            return lambda o: _names(dig(o, "status.loadBalancer.ingress", []), absent)
        case "address":
            return lambda o: _address(o, path)
    raise ValueError(f"a column of {text!r}")


def _names(balancers: list[Object], absent: str) -> str:
    return ",".join(item.get("hostname") or item.get("ip", "") for item in balancers) or absent


def _address(node: Object, type_: str) -> str:
    listed = dig(node, "status.addresses", [])
    return next((str(item["address"]) for item in listed if item["type"] == type_), _NONE)


@cache
def _built_in() -> dict[str, list[Column]]:
    found: dict[str, list[Column]] = {}
    for line in data.lines("columns.txt"):
        kind, _, columns = line.partition(": ")
        found[kind] = []
        for column in columns.split(" | "):
            head, _, value = column.partition(" = ")
            found[kind].append((head.strip("*"), "string", int(head.endswith("*")), _value(value)))
    return found


# columns of custom kinds

_CREATED = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
_STEP = re.compile(
    r"""\.?(?:\[\?\(@\.(\w+)\s*==\s*["']?(.*?)["']?\)\]|\['(.+?)'\]|\[(\d+|\*)\]|([^.\[]+))"""
)


def _custom_value(obj: Object, path: str, type_: str) -> Any:
    """A printer column's JSON path: names, indexes, and elements where a field equals a text."""
    values: list[Any] = [obj]
    for field, wanted, quoted, index, name in _STEP.findall(path):
        key = name or quoted.replace("\\.", ".")
        if key:
            values = [v[key] for v in values if isinstance(v, dict) and v.get(key) is not None]
            continue
        items = [item for value in values if isinstance(value, list) for item in value]
        if field:
            items = [i for i in items if str(i.get(field)).lower() == wanted.lower()]
        values = items[int(index) :][:1] if index.isdecimal() else items
    if not values:
        return None
    if type_ == "date":
        return _since(values[0])
    return values[0] if len(values) == 1 else " ".join(map(str, values))


def _columns(call: Call) -> list[Column]:
    kind = call.kind
    if not kind.custom:
        created: Column = ("Created At", "date", 0, lambda o: o["metadata"]["creationTimestamp"])
        return _built_in().get(kind.kind, [created])

    def column(given: Object) -> Column:
        path, type_ = given["jsonPath"], given["type"]
        value: Cell = lambda o: _custom_value(o, path, type_)  # noqa: E731
        return given["name"], type_, given.get("priority", 0), value

    return [column(given) for given in kind.columns or (_CREATED,)]


def table(call: Call, items: list[Object], meta: Object, store: Store) -> Object:
    """The Table of these objects, each row with as much of its object as the client asked for."""
    include = call.query.get("includeObject", "Metadata")
    if include not in ("None", "Metadata", "Object"):
        raise bad_request(f'invalid parameter includeObject: "{include}"')
    columns = _columns(call)
    if call.kind.kind != "Event":  # whose name says nothing
        columns = [("Name", "string", 0, lambda o: o["metadata"]["name"]), *columns]
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
            for name, type_, priority, _ in columns
        ],
        "rows": [
            {"cells": [value(item) for *_, value in columns], **_included(item, include)}
            for item in items
        ],
    }


def _included(obj: Object, include: str) -> Object:
    if include == "None":
        return {}
    return {"object": obj if include == "Object" else partial(obj)}


def partial(obj: Object) -> Object:
    """An object of which only the metadata is told."""
    about = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return {**about, "metadata": obj["metadata"]}
