"""What the API server refuses of fields of built-in kinds: `data/rules.yaml`, and what depends.

Source: k8s.io/kubernetes/pkg/apis/*/validation, of Kubernetes 1.32.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from runbook_lib.practice.objects import data
from runbook_lib.practice.objects.errors import bad_request
from runbook_lib.practice.objects.fields import causes, schedules
from runbook_lib.practice.objects.fields.causes import Cause
from runbook_lib.practice.objects.quantities import quantity
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object

# Where a kind has the spec of pods. Not of a StatefulSet: nobody looks at its pods before they
# are made, since their volumes may be claims of the set.
_PODS = {
    "Pod": "spec",
    "Deployment": "spec.template.spec",
    "ReplicaSet": "spec.template.spec",
    "DaemonSet": "spec.template.spec",
    "Job": "spec.template.spec",
    "CronJob": "spec.jobTemplate.spec.template.spec",
}
_QUANTITY_RULE = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")


def broken(kind: str, obj: Object) -> Iterator[Cause]:
    """What is wrong with the fields of an object of a built-in kind."""
    yield from _against(kind, obj, "")
    if at := _PODS.get(kind):
        yield from _of_pods(dig(obj, at, {}), at)
    spec = obj.get("spec") or {}
    match kind:
        case "ConfigMap" | "Secret":
            yield from _of_keys(obj)
        case "Deployment":
            yield from _of_rollout(spec)
        case "Job" | "CronJob":
            yield from _of_restarts(dig(obj, _PODS[kind], {}), _PODS[kind])
        case "HorizontalPodAutoscaler":
            yield from _of_bounds(spec)
        case "Ingress":
            yield from _of_ingress(spec)
        case "Node":
            yield from _against("nodes", spec, "metadata")  # where the real one says they are
    if kind == "CronJob" and (why := schedules.problem(spec["schedule"])):
        yield causes.wrong("spec.schedule", spec["schedule"], why)


# the table


def _against(table: str, value: Any, at: str) -> Iterator[Cause]:
    for path, rule in data.table("rules").get(table, {}).items():
        for field, found in _values(value, path, at):
            if "oneOf" in rule and found not in rule["oneOf"]:
                yield causes.unsupported(field, found, rule["oneOf"])
            if "least" in rule and _is_less(found, rule["least"]):
                text = f"must be greater than or equal to {rule['least']}"
                yield causes.wrong(field, found, text)
            if "port" in rule and isinstance(found, int) and not 1 <= found <= 65535:
                yield causes.wrong(field, found, "must be between 1 and 65535, inclusive")


def _values(value: Any, path: str, at: str) -> Iterator[tuple[str, Any]]:
    """What is at the path: each field by name with its value."""
    step, _, rest = path.partition(".")
    name = step.rstrip("[]{}")
    inner = value.get(name) if isinstance(value, dict) else None
    field = f"{at}.{name}".lstrip(".")
    parts: list[tuple[str, Any]] = [(field, inner)]
    if step != name:
        many = inner.items() if isinstance(inner, dict) else enumerate(inner or [])
        parts = [(f"{field}[{key}]", part) for key, part in many]
    for found, part in parts:
        if part is not None:
            yield from _values(part, rest, found) if rest else [(found, part)]


def _is_less(value: Any, least: int) -> bool:
    return (amount(value) if isinstance(value, str) else value) < least


def amount(text: Any) -> float:
    """A quantity, which may be negative; 400 for what is none."""
    negative = str(text).startswith("-")
    try:
        return -quantity(str(text)[1:]) if negative else quantity(text)
    except ValueError:
        raise bad_request(_QUANTITY_RULE) from None


# pods


def _of_pods(spec: Object, at: str) -> Iterator[Cause]:
    volumes = {volume.get("name") for volume in spec.get("volumes") or []}
    for field in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(field) or []):
            here = f"{at}.{field}[{number}]"
            yield from _against("containers", container, here)
            for mount, name in _values(container, "volumeMounts[].name", here):
                if name not in volumes:
                    yield causes.not_found(mount, name)
            for probe in _PROBES:
                yield from _of_handler(container.get(probe), f"{here}.{probe}", "probes")
            for hook in ("postStart", "preStop"):
                given = dig(container, f"lifecycle.{hook}")
                yield from _of_handler(given, f"{here}.lifecycle.{hook}", "handlers")


def _of_handler(given: Object | None, at: str, table: str) -> Iterator[Cause]:
    if given is None:
        return
    handlers = [name for name in _HANDLERS if name in given]
    if not handlers:
        yield causes.required(at, "must specify a handler type")
    for name in handlers[1:]:
        yield causes.forbidden(f"{at}.{name}", "may not specify more than 1 handler type")
    yield from _against(table, given, at)


def _of_restarts(spec: Object, at: str) -> Iterator[Cause]:
    """Pods that end are not for ever restarted."""
    policy = spec.get("restartPolicy", "Always")
    if policy == "Always":
        yield causes.required(f"{at}.restartPolicy", 'valid values: "OnFailure", "Never"')
    elif policy not in ("OnFailure", "Never"):
        yield causes.unsupported(f"{at}.restartPolicy", policy, ("OnFailure", "Never"))


# fields that depend on others


def _of_keys(obj: Object) -> Iterator[Cause]:
    for field in ("data", "binaryData"):
        for key in obj.get(field) or {}:
            if why := causes.misnamed("configKey", key):
                yield causes.wrong(f"{field}[{key}]", key, why)


def _of_rollout(spec: Object) -> Iterator[Cause]:
    given = dig(spec, "strategy.rollingUpdate", {})
    unavailable, surge = given.get("maxUnavailable"), given.get("maxSurge")
    if _is_none(unavailable) and _is_none(surge):
        number, text = (0, unavailable) if isinstance(unavailable, str) else (unavailable, "")
        shown = f'intstr.IntOrString{{Type:{int(bool(text))}, IntVal:{number}, StrVal:"{text}"}}'
        message = f"Invalid value: {shown}: may not be 0 when `maxSurge` is 0"
        yield "FieldValueInvalid", message, "spec.strategy.rollingUpdate.maxUnavailable"


def _is_none(amount: int | str | None) -> bool:
    return amount is not None and str(amount).rstrip("%") == "0"


def _of_bounds(spec: Object) -> Iterator[Cause]:
    most = spec["maxReplicas"]
    if most < 1:
        yield causes.wrong("spec.maxReplicas", most, "must be greater than 0")
    if most < spec.get("minReplicas", 1):
        text = "must be greater than or equal to `minReplicas`"
        yield causes.wrong("spec.maxReplicas", most, text)


def _of_ingress(spec: Object) -> Iterator[Cause]:
    for field, host in _values(spec, "rules[].host", "spec"):
        if _is_address(host):
            yield causes.wrong(field, host, "must be a DNS name, not an IP address")
        elif why := causes.misnamed("subdomain", host.removeprefix("*.")):
            yield causes.wrong(field, host, why)
    for field, one in _values(spec, "rules[].http.paths[]", "spec"):
        path, type_ = one.get("path", ""), one.get("pathType")
        if not path.startswith("/") and (path or type_ in ("Exact", "Prefix")):
            yield causes.wrong(f"{field}.path", path, "must be an absolute path")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
