"""What the API server refuses of objects whose fields are of the right types.

Only rules that a client of the platform can meet; each is stated in the contract suite.
Source: k8s.io/kubernetes/pkg/apis/*/validation, k8s.io/apimachinery/pkg/api/validation.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from runbook_lib.practice.objects.errors import bad_request, invalid
from runbook_lib.practice.objects.fields import causes, rules
from runbook_lib.practice.objects.fields.causes import Cause
from runbook_lib.practice.objects.fields.schemas import definition_causes
from runbook_lib.practice.objects.resources import Kind
from runbook_lib.practice.objects.selectors import dig, matches
from runbook_lib.practice.objects.store import Object

_WITH_TEMPLATE = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job")


def check(kind: Kind, obj: Object, old: Object | None) -> None:
    """Refuse an object, or what an update makes of it (`old`), with 400 or 422."""
    found = [*_metadata_causes(obj, old), *_causes(kind, obj)]
    if found:
        raise invalid(kind, obj["metadata"]["name"], *found)


def _metadata_causes(obj: Object, old: Object | None) -> Iterator[Cause]:
    meta = obj["metadata"]
    if old is not None and "deletionTimestamp" in old["metadata"]:
        before = old["metadata"].get("finalizers") or []
        new = [f'"{name}"' for name in meta.get("finalizers") or [] if name not in before]
        if new:
            text = (
                "no new finalizers can be added if the object is being deleted, found new "
                f"finalizers []string{{{', '.join(new)}}}"
            )
            yield causes.forbidden("metadata.finalizers", text)


def _causes(kind: Kind, obj: Object) -> Iterator[Cause]:
    if kind.custom:
        return
    yield from rules.broken(kind.kind, obj)
    if kind.kind == "Pod":
        yield from _pod_causes(obj["spec"], "spec")
    elif kind.kind in _WITH_TEMPLATE:
        yield from _pod_causes(dig(obj, "spec.template.spec", {}), "spec.template.spec")
        yield from _selector_causes(obj)
    elif kind.kind == "Secret":
        _require_base64(obj)
    elif kind.kind == "Event":
        namespace = dig(obj, "involvedObject.namespace", "")
        if namespace != obj["metadata"]["namespace"]:
            text = "does not match event.namespace"
            yield causes.wrong("involvedObject.namespace", namespace, text)
    elif kind.kind == "CustomResourceDefinition":
        if obj["metadata"]["name"] != f"{obj['spec']['names']['plural']}.{obj['spec']['group']}":
            text = 'must be spec.names.plural+"."+spec.group'
            yield causes.wrong("metadata.name", obj["metadata"]["name"], text)
        yield from definition_causes(obj)
    elif kind.kind == "ClusterRole" and "aggregationRule" in obj:
        text = "the practice API does not aggregate roles"
        yield causes.forbidden("aggregationRule", text)
    elif kind.kind == "PodDisruptionBudget" and {"minAvailable", "maxUnavailable"} <= set(
        obj["spec"]
    ):
        text = "minAvailable and maxUnavailable cannot be both set"
        yield causes.wrong("spec", obj["spec"], text)


# pods and what makes them


def _pod_causes(spec: Object, at: str) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield causes.required(f"{at}.containers")
    for field in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(field) or []):
            yield from _resource_causes(container, f"{at}.{field}[{number}].resources")


def _resource_causes(container: Object, at: str) -> Iterator[Cause]:
    resources = container.get("resources") or {}
    amounts: dict[str, dict[str, float]] = {"requests": {}, "limits": {}}
    for what, numbers in amounts.items():
        for name, text in (resources.get(what) or {}).items():
            numbers[name] = rules.amount(text)
            if numbers[name] < 0:
                yield causes.wrong(
                    f"{at}.{what}[{name}]", text, "must be greater than or equal to 0"
                )
    for name, wanted in amounts["requests"].items():
        if wanted > amounts["limits"].get(name, wanted):
            limit = resources["limits"][name]
            text = f"must be less than or equal to {name} limit of {limit}"
            yield causes.wrong(f"{at}.requests", resources["requests"][name], text)


def _selector_causes(obj: Object) -> Iterator[Cause]:
    selector = dig(obj, "spec.selector")
    labels = dig(obj, "spec.template.metadata.labels", {})
    if selector and not matches(selector, labels):
        text = "`selector` does not match template `labels`"
        yield causes.wrong("spec.template.metadata.labels", labels, text)


# secrets


def _require_base64(secret: Object) -> None:
    for value in (secret.get("data") or {}).values():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError):
            raise bad_request(
                'Secret in version "v1" cannot be handled as a Secret: illegal base64 data'
            ) from None
