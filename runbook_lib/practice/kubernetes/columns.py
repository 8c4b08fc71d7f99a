"""The cells of what `kubectl get` prints: `data/columns.yaml` evaluated, and what is no mere path.

Source: k8s.io/kubernetes/pkg/printers/internalversion.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import jmespath
from jmespath.functions import Functions, signature

from runbook_lib.practice.objects import data
from runbook_lib.practice.objects.selectors import condition, dig
from runbook_lib.practice.objects.store import Object, seconds

_NONE = "<none>"
_ANY: dict[str, list[str]] = {"types": []}
_ROLE = "node-role.kubernetes.io/"
_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX"}


class Column:
    """One column; `wide` ones are shown by `-o wide` only."""

    def __init__(
        self, name: str, expression: str, type_: str = "string", *, wide: bool = False
    ) -> None:
        self.name = name
        self.type = type_
        self.wide = wide
        self._expression = jmespath.compile(expression)

    def cell(self, obj: Object) -> Any:
        """What the column shows of an object; None where that is nothing."""
        found = self._expression.search(obj, _OPTIONS)
        return " ".join(map(str, found)) or None if isinstance(found, list) else found


@cache
def built_in(kind: str) -> list[Column]:
    """The columns of a built-in kind beside its name."""
    if kind not in data.table("columns"):
        return [Column("Created At", "metadata.creationTimestamp", "date")]
    return [
        Column(name.rstrip("*"), f"not_null({value}, '{_NONE}')", wide=name.endswith("*"))
        for name, value in data.table("columns")[kind].items()
    ]


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


class _Cells(Functions):
    """Functions of columns. What is missing in an object comes to them as None."""

    @signature(_ANY)
    def _func_age(self, stamp: str | None) -> str:
        return _since(stamp)

    @signature(_ANY, _ANY)
    def _func_between(self, begin: str | None, end: str | None) -> str:
        return duration((seconds(end) if end else time.time()) - seconds(begin)) if begin else ""

    @signature(_ANY, _ANY)
    def _func_of(self, part: Any, whole: Any) -> str:
        return f"{part}/{whole}"

    @signature(_ANY)
    def _func_count(self, items: Any) -> int:
        return len(items or ())

    @signature(_ANY)
    def _func_lower(self, text: str | None) -> str:
        return (text or "").lower()

    @signature(_ANY)
    def _func_joined(self, items: list[Any] | None) -> str | None:
        return ",".join(map(str, items or ())) or None

    @signature(_ANY)
    def _func_some(self, items: list[str] | None) -> str | None:
        items = items or []
        more = f" + {len(items) - 3} more..." if len(items) > 3 else ""
        return ",".join(items[:3]) + more or None

    @signature(_ANY)
    def _func_pairs(self, items: Object | None) -> str | None:
        return ",".join(f"{key}={value}" for key, value in (items or {}).items()) or None

    @signature(_ANY)
    def _func_pod_status(self, pod: Object) -> str:
        return pod_status(pod)

    @signature(_ANY)
    def _func_restarts(self, containers: list[Object] | None) -> str:
        restarts = sum(container.get("restartCount", 0) for container in containers or ())
        ends = [dig(c, "lastState.terminated.finishedAt") for c in containers or ()]
        last = max(filter(None, ends), default=None)
        return f"{restarts} ({_since(last)} ago)" if restarts and last else str(restarts)

    @signature(_ANY)
    def _func_node_status(self, node: Object) -> str:
        words = {"True": "Ready", "False": "NotReady", "Unknown": "NotReady"}
        word = words.get(condition(node, "Ready"), "Unknown")
        return f"{word},SchedulingDisabled" if dig(node, "spec.unschedulable") else word

    @signature(_ANY)
    def _func_node_roles(self, labels: Object | None) -> str | None:
        roles = [n.removeprefix(_ROLE) for n in labels or () if n.startswith(_ROLE)]
        return ",".join(sorted(roles)) or None

    @signature(_ANY)
    def _func_sockets(self, subsets: list[Object] | None) -> list[str]:
        return [
            f"{address['ip']}:{port['port']}"
            for subset in subsets or ()
            for address in subset.get("addresses") or ()
            for port in subset.get("ports") or ()
        ]

    @signature(_ANY)
    def _func_access_modes(self, modes: list[str] | None) -> str:
        return ",".join(_MODES.get(mode, "RWOP") for mode in modes or ())

    @signature(_ANY, _ANY)
    def _func_quota(self, status: Object | None, limits: bool) -> str:
        hard, used = dig(status, "hard", {}), dig(status, "used", {})
        names = sorted(name for name in hard if name.startswith("limits.") == limits)
        return ", ".join(f"{name}: {used.get(name, '0')}/{hard[name]}" for name in names)

    @signature(_ANY, _ANY)
    def _func_targets(self, specs: list[Object] | None, now: list[Object] | None) -> str | None:
        """How much each metric is and is to be; "<unknown>" where it cannot be read."""
        found = []
        for number, spec in enumerate(specs or ()):
            field = spec["type"][0].lower() + spec["type"][1:]
            status = now[number] if now and number < len(now) else {}
            found.append(_target(spec["type"], spec[field], dig(status, f"{field}.current", {})))
        more = f" + {len(found) - 2} more..." if len(found) > 2 else ""
        return ", ".join(found[:2]) + more or None


_OPTIONS = jmespath.Options(custom_functions=_Cells())


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


def _reason(state: Object, fallback: str) -> str:
    """The word for a container that waits or has ended."""
    if waiting := state.get("waiting"):
        return str(waiting.get("reason", fallback))
    if ended := state.get("terminated"):
        code = ended.get("exitCode")
        return str(ended.get("reason") or (f"ExitCode:{code}" if code else "Completed"))
    return fallback


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
