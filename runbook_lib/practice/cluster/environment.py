"""A container's environment and volumes, resolved from the real Secrets and ConfigMaps."""

from __future__ import annotations

import base64

from runbook_lib.practice.cluster.containers import ConfigError, expanded
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store

# (plural, name of the kind, name in messages about a missing object)
_SECRET = ("secrets", "Secret", "secret")
_CONFIG_MAP = ("configmaps", "ConfigMap", "configmap")


def environment(store: Store, pod: Object, container: Object) -> dict[str, str]:
    """The variables that the container starts with; ConfigError, worded as the kubelet's."""
    namespace = pod["metadata"]["namespace"]
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        for field, kinds in (("secretRef", _SECRET), ("configMapRef", _CONFIG_MAP)):
            if reference := source.get(field):
                data = _data(store, namespace, reference, kinds)
                prefix = source.get("prefix", "")
                found |= {prefix + name: value for name, value in (data or {}).items()}
    for variable in container.get("env") or []:
        value = _value(store, pod, variable, found)
        if value is not None:
            found[variable["name"]] = value
    return found


def _value(store: Store, pod: Object, variable: Object, known: dict[str, str]) -> str | None:
    source = variable.get("valueFrom")
    if not source:
        return expanded(variable.get("value") or "", known)
    for field, kinds in (("secretKeyRef", _SECRET), ("configMapKeyRef", _CONFIG_MAP)):
        if reference := source.get(field):
            namespace, key = pod["metadata"]["namespace"], reference["key"]
            data = _data(store, namespace, reference, kinds)
            if data is None or key in data:
                return None if data is None else data[key]
            if reference.get("optional"):
                return None
            text = f"couldn't find key {key} in {kinds[1]} {namespace}/{reference['name']}"
            raise ConfigError(text)
    path = dig(source, "fieldRef.fieldPath", "")
    return str(dig(pod, path, "")) if path else ""


def _data(
    store: Store, namespace: str, reference: Object, kinds: tuple[str, str, str]
) -> dict[str, str] | None:
    """The referred object's data; None where it is missing and may be."""
    plural, _, word = kinds
    obj = store.find(plural, reference["name"], namespace)
    if obj is None:
        if reference.get("optional"):
            return None
        raise ConfigError(f'{word} "{reference["name"]}" not found')
    data = obj.get("data") or {}
    if plural == "secrets":
        return {k: base64.b64decode(v).decode(errors="replace") for k, v in data.items()}
    return dict(data)


def mount_problem(store: Store, pod: Object) -> str:
    """Why the kubelet cannot mount the pod's volumes, in its words; '' where it can."""
    namespace = pod["metadata"]["namespace"]
    for volume in dig(pod, "spec.volumes", []):
        for source in [volume, *dig(volume, "projected.sources", [])]:
            if problem := _source_problem(store, namespace, source):
                return f'MountVolume.SetUp failed for volume "{volume["name"]}" : {problem}'
    return ""


def _source_problem(store: Store, namespace: str, source: Object) -> str:
    for field, plural, word in (
        ("secret", "secrets", "secret"),
        ("configMap", "configmaps", "configmap"),
    ):
        reference = source.get(field)
        if not reference or reference.get("optional"):
            continue
        name = reference.get("secretName") or reference.get("name", "")
        obj = store.find(plural, name, namespace)
        if obj is None:
            return f'{word} "{name}" not found'
        data = {**(obj.get("data") or {}), **(obj.get("binaryData") or {})}
        for item in reference.get("items") or []:
            if item["key"] not in data:
                return f"references non-existent {word} key: {item['key']}"
    return ""
