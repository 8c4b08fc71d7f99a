"""What the API server does to an object before it is stored: checks and defaults."""

from __future__ import annotations

import base64
import random
from typing import Any

from runbook_lib.practice.objects import data
from runbook_lib.practice.objects.errors import bad_request, conflict, invalid
from runbook_lib.practice.objects.fields import causes
from runbook_lib.practice.objects.resources import Kind
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, copy_of

# Fields of metadata that belong to the server.
_SYSTEM = (
    "uid",
    "creationTimestamp",
    "name",
    "namespace",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


def random_suffix(length: int = 5) -> str:
    """As generateName makes it: no vowels, no letters that look like digits."""
    return "".join(random.choices("bcdfghjklmnpqrstvwxz2456789", k=length))


def named(kind: Kind, namespace: str, body: Any) -> Object:
    """A copy of a posted object with its kind, name and namespace settled; 400 or 422 if not."""
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized: it must be a JSON object")
    obj: Object = copy_of(body)
    meta = obj.setdefault("metadata", {})
    for field, value in kind.head().items():
        if obj.setdefault(field, value) != value:
            raise bad_request(
                f"the {field} in the data ({obj[field]}) does not match the expected {field} "
                f"({value})"
            )
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"] + random_suffix()
    name = meta.get("name") or ""
    if not name:
        cause = causes.required("metadata.name", "name or generateName is required")
        raise invalid(kind, "", cause)
    if why := causes.misnamed(_name_rule(kind), name):
        raise invalid(kind, name, causes.wrong("metadata.name", name, why))
    if not kind.namespaced:
        meta.pop("namespace", None)
    elif meta.setdefault("namespace", namespace) != namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    meta.pop("resourceVersion", None)
    return obj


def _name_rule(kind: Kind) -> str:
    if kind.group.startswith("rbac."):
        return "pathSegment"
    return "label" if kind.table in (("", "namespaces"), ("", "services")) else "subdomain"


def updated(kind: Kind, old: Object, body: Any, subresource: str = "") -> Object:
    """The object to store for a PUT or a patched body: only what the client may change changes."""
    if not isinstance(body, dict) or not isinstance(body.get("metadata", {}), dict):
        raise bad_request("the object provided is unrecognized: it must be a JSON object")
    new: Object = copy_of(body)
    before, meta = old["metadata"], new.setdefault("metadata", {})
    if meta.get("name", before["name"]) != before["name"]:
        raise bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL "
            f"({before['name']})"
        )
    if meta.get("resourceVersion", before["resourceVersion"]) != before["resourceVersion"]:
        raise conflict(kind, before["name"])
    if meta.get("uid", before["uid"]) != before["uid"]:
        why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: "
        raise conflict(kind, before["name"], why + before["uid"])
    if subresource == "status":
        kept = {name: meta[name] for name in ("labels", "annotations") if name in meta}
        new = {**copy_of(old), "status": new.get("status", {})}
        new["metadata"] |= kept
        return new
    if "status" in kind.subresources:
        new.pop("status", None)
        if "status" in old:
            new["status"] = old["status"]
    meta |= {field: before[field] for field in _SYSTEM if field in before}
    new |= kind.head()
    for path in () if kind.custom else _known(kind).get("fixed", ()):
        if dig(old, path) is not None:
            _immutable(kind, old, new, path)
    if kind.kind in ("ConfigMap", "Secret") and old.get("immutable"):
        _immutable(kind, old, new, "data")
    if kind.kind == "Pod" and _fixed_part(old) != _fixed_part(new):
        text = "pod updates may not change fields other than " + _POD_MAY_CHANGE
        raise invalid(kind, before["name"], causes.forbidden("spec", text))
    return new


_POD_MAY_CHANGE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def _fixed_part(pod: Object) -> Object:
    """The spec of a pod without what an update may change."""
    spec: Object = copy_of(pod.get("spec") or {})
    for field in ("activeDeadlineSeconds", "tolerations"):
        spec.pop(field, None)
    drop_nulls(spec)
    for container in (spec.get("containers") or []) + (spec.get("initContainers") or []):
        container.pop("image", None)
    return spec


def _immutable(kind: Kind, old: Object, new: Object, path: str) -> None:
    if dig(new, path) != dig(old, path):
        said = "cannot change roleRef" if path == "roleRef" else "field is immutable"
        raise invalid(kind, old["metadata"]["name"], causes.wrong(path, dig(new, path), said))


def drop_nulls(value: Any) -> None:
    """Remove, in place, fields that are null: to a typed server they are not there."""
    if isinstance(value, dict):
        for key in [key for key, item in value.items() if item is None]:
            del value[key]
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            drop_nulls(item)


# defaults


def _known(kind: Kind) -> dict[str, Any]:
    found: dict[str, Any] = data.table("fields").get(kind.kind, {})
    return found


def apply_defaults(kind: Kind, obj: Object) -> None:
    """Fill in, in place, the defaults that clients read back."""
    if kind.custom or not isinstance(obj.get("spec", {}), dict):
        return
    _fill(obj, _known(kind).get("defaults", {}))
    match kind.kind:
        case "Secret":
            for name, value in (obj.pop("stringData", None) or {}).items():
                encoded = base64.b64encode(str(value).encode()).decode()
                obj.setdefault("data", {})[name] = encoded
        case "Namespace":
            name = obj["metadata"]["name"]
            obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name
        case "Service" if "spec" in obj:
            _service_defaults(obj["spec"])
        case "Pod" if "spec" in obj:
            _container_defaults(obj["spec"])
            quality = quality_of_service(obj["spec"])
            obj.setdefault("status", {"phase": "Pending", "qosClass": quality})
        case _:
            for path in ("spec.template.spec", "spec.jobTemplate.spec.template.spec"):
                _container_defaults(dig(obj, path, {}))


def _fill(obj: Object, defaults: dict[str, Any]) -> None:
    """Set what is missing, as the defaults of `data/fields.yaml` say."""
    for name, default in defaults.items():
        field = name.rstrip("[]?")
        if field == "rollingUpdate" and obj.get("type") != "RollingUpdate":
            continue
        if field == name:
            obj.setdefault(field, {} if isinstance(default, dict) else copy_of(default))
        given = obj.get(field)
        for part in given if name.endswith("[]") and isinstance(given, list) else [given]:
            if isinstance(part, dict):
                _fill(part, default)


def _container_defaults(spec: Any) -> None:
    """What depends on the rest of a container: when to pull, and requests from limits."""
    for field in ("containers", "initContainers"):
        for container in dig(spec, field, []):
            if not isinstance(container, dict):
                continue
            latest = str(container.get("image", "")).rpartition(":")[2] == "latest"
            container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
            if limits := dig(container, "resources.limits"):
                _fill(container["resources"].setdefault("requests", {}), limits)


def _service_defaults(spec: Object) -> None:
    if spec["type"] != "ExternalName" and not spec.get("clusterIP"):
        # Any free-looking address does: nothing routes to it.
        spec["clusterIP"] = f"172.20.{random.randrange(256)}.{random.randrange(1, 255)}"
        spec["clusterIPs"] = [spec["clusterIP"]]
    for port in spec.get("ports") or []:
        port["targetPort"] = port.get("targetPort") or port.get("port")


def quality_of_service(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort, from the containers' resources."""
    requests, guaranteed = False, True
    for container in spec.get("containers") or []:
        resources = container.get("resources") or {}
        limits, wanted = resources.get("limits") or {}, resources.get("requests") or {}
        requests = requests or bool(limits or wanted)
        equal = all(limits.get(n) and wanted.get(n, limits[n]) == limits[n] for n in _COMPUTE)
        guaranteed = guaranteed and equal
    return "Guaranteed" if requests and guaranteed else "Burstable" if requests else "BestEffort"


_COMPUTE = ("cpu", "memory")
