"""Creating, replacing, patching and deleting objects."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from runbook_lib.practice.kubernetes import reads
from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.kubernetes.kubelets import Collector
from runbook_lib.practice.objects import veil
from runbook_lib.practice.objects.admission import apply_defaults, drop_nulls, named, updated
from runbook_lib.practice.objects.errors import (
    about,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_allowed,
    not_found,
    unsupported_media,
)
from runbook_lib.practice.objects.fields import apply, causes, schemas, validation
from runbook_lib.practice.objects.fields.patches import json_patch, merge_patch, strategic_merge
from runbook_lib.practice.objects.fields.shapes import check_metadata, is_validated, validate
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store, key_of, stamp

_PATCHES = {
    "application/json-patch+json": json_patch,
    "application/merge-patch+json": merge_patch,
    "application/strategic-merge-patch+json": strategic_merge,
}
_APPLY = "application/apply-patch+yaml"
# Of these a deletion answers the object, of others a Status (source: the API reference).
_ANSWERED_WHOLE = frozenset(
    {"PersistentVolume", "PersistentVolumeClaim", "PodTemplate", "ResourceQuota", "Service"}
    | {"ServiceAccount", "StorageClass"}
)
SUCCESS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
Answer = tuple[Object, int]


def warm_up() -> None:
    """Load the models that `validate` needs; slow once, so off the event loop."""
    import kubernetes.client.models  # noqa: F401


def answer(call: Call, store: Store, collector: Collector) -> Answer:
    match call.method, bool(call.name):
        case "POST", False:
            return create(call, store, call.body()), 201
        case "PUT", True:
            return replace(call, store, call.body()), 200
        case "PATCH", True:
            return patch(call, store)
        case "DELETE", True:
            return delete(call, collector, store.get(call.kind, call.namespace, call.name))
        case "DELETE", False:
            items = reads.select(call, store)
            for obj in items:
                delete(call, collector, obj)
            meta = {"resourceVersion": str(store.revision)}
            shown = list(map(call.shown, items))
            return {**call.kind.head("List"), "metadata": meta, "items": shown}, 200
    raise not_allowed()


def _checked(call: Call, obj: Object, old: Object | None = None) -> None:
    """Default and validate in place; unknown fields are refused or warned of, as is asked."""
    kind, wanted = call.kind, call.query.get("fieldValidation", "Warn")
    call.require_option("fieldValidation", wanted, ("Ignore", "Strict", "Warn"))
    strict = wanted == "Strict"
    dropped = check_metadata(kind, obj, strict=strict)
    if kind.custom:
        dropped += schemas.settle(kind, obj, strict=strict)
    else:
        drop_nulls(obj)
        apply_defaults(kind, obj)
        dropped += validate(kind, obj, strict=strict) if is_validated(kind) else []
    validation.check(kind, obj, old)
    if wanted == "Warn":
        call.warnings.extend(f'unknown field "{field}"' for field in dropped)


def create(call: Call, store: Store, body: Any, *, applying: bool = False) -> Object:
    kind, dry = call.kind, call.dry_run()
    obj = named(kind, call.namespace, body)
    if kind.namespaced:
        _require_namespace(call, store, obj["metadata"]["name"])
    for field in ("uid", "creationTimestamp", "generation", "deletionTimestamp"):
        obj["metadata"].pop(field, None)
    if "status" in kind.subresources:
        obj.pop("status", None)
    _checked(call, obj)
    if kind.kind == "CustomResourceDefinition":
        obj["status"] = established(obj)
    if (obj["metadata"].get("namespace") or "", obj["metadata"]["name"]) in store.table(kind):
        raise already_exists(kind, obj["metadata"]["name"])
    store.admit(kind, obj)
    store.deny(kind, obj)
    if not applying:
        apply.written(kind, None, obj, call.manager, "")
    if dry:
        return {
            **obj,
            "metadata": {**obj["metadata"], "uid": str(uuid4()), "creationTimestamp": stamp()},
        }
    return store.add(kind, obj)


def _require_namespace(call: Call, store: Store, name: str) -> None:
    namespace = store.find("namespaces", call.namespace)
    if namespace is None:
        raise not_found(store.catalogue.of("namespaces"), call.namespace)
    if namespace["metadata"].get("deletionTimestamp"):
        why = f"unable to create new content in namespace {call.namespace} because it is being "
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {call.namespace} is being terminated",
            "field": "metadata.namespace",
        }
        raise forbidden(call.kind, name, f"{why}terminated", [cause])


def established(crd: Object) -> Object:
    """The status that makes clients (`kubectl wait --for=condition=established`) go on."""
    conditions = [
        {"type": name, "status": "True", "reason": reason, "lastTransitionTime": stamp()}
        for name, reason in (("NamesAccepted", "NoConflicts"), ("Established", "InitialNames"))
    ]
    names = {**crd["spec"]["names"]}
    stored = [version["name"] for version in crd["spec"]["versions"] if version.get("storage")]
    return {"conditions": conditions, "acceptedNames": names, "storedVersions": stored}


def replace(call: Call, store: Store, body: Any, subresource: str = "") -> Object:
    old = store.get(call.kind, call.namespace, call.name)
    version = dig(body, "metadata.resourceVersion")
    if call.kind.custom and not version:
        cause = causes.wrong("metadata.resourceVersion", 0, "must be specified for an update")
        raise invalid(call.kind, call.name, cause)
    return save(call, store, old, updated(call.kind, old, body, subresource), subresource)


def save(
    call: Call,
    store: Store,
    old: Object,
    new: Object,
    subresource: str = "",
    *,
    applying: bool = False,
) -> Object:
    """Store a changed object, unless it is a dry run; what is stored or would be."""
    if subresource != "scale":
        _checked(call, new, old)
    if call.replaces and not call.user.directs:
        veil.keep(veil.revision(old, new, store.children(old, "replicasets", "apps")), new)
    if not subresource:
        store.deny(call.kind, new)
    if not applying and "managedFields" in old["metadata"] and new != old:
        new["metadata"]["managedFields"] = old["metadata"]["managedFields"]
    if not applying and new != old:
        apply.written(call.kind, old, new, call.manager, subresource)
    return new if call.dry_run() else store.update(call.kind, old, new)


def patched(call: Call, current: Object) -> Any:
    """The current object with the call's patch applied; 415 for a type that is not taken."""
    taken = [name for name in _PATCHES if not (call.kind.custom and "strategic" in name)]
    if call.content_type not in taken:
        raise unsupported_media(", ".join([*taken, _APPLY]))
    body = call.parse()
    if call.content_type != "application/json-patch+json" and not isinstance(body, dict):
        raise bad_request("the patch must be a JSON object")
    return _PATCHES[call.content_type](current, body)


def patch(call: Call, store: Store, subresource: str = "") -> Answer:
    if call.content_type == _APPLY:
        return _apply(call, store, subresource)
    old = store.get(call.kind, call.namespace, call.name)
    new = updated(call.kind, old, patched(call, old), subresource)
    return save(call, store, old, new, subresource), 200


def _apply(call: Call, store: Store, subresource: str) -> Answer:
    if subresource:
        raise not_allowed(
            f"{call.kind.plural}/{subresource} takes no server-side apply in practice"
        )
    manager = call.query.get("fieldManager")
    if not manager:
        raise invalid(call.kind, "", causes.required("fieldManager", "is required for apply patch"))
    body = named(call.kind, call.namespace, call.parse())
    if body["metadata"]["name"] != call.name:
        raise bad_request("the name of the object does not match the name on the URL")
    if body["metadata"].get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    old = store.table(call.kind).get(key_of(body))
    new = apply.applied(call.kind, old, body, manager, force=call.flag("force"))
    if old is None:
        return create(call, store, new, applying=True), 201
    return save(call, store, old, updated(call.kind, old, new), applying=True), 200


def delete(call: Call, collector: Collector, obj: Object) -> Answer:
    """Delete one object as the DeleteOptions of the call say."""
    options = call.body() or {}
    kind, meta = call.kind, obj["metadata"]
    wanted = options.get("preconditions") or {}
    for field, what in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        if wanted.get(field) and wanted[field] != meta[field]:
            why = f"Precondition failed: {what} in precondition: {wanted[field]}, "
            raise conflict(kind, meta["name"], f"{why}{what} in object meta: {meta[field]}")
    policy = options.get("propagationPolicy") or call.query.get("propagationPolicy")
    if options.get("orphanDependents"):
        policy = "Orphan"
    if policy:
        call.require_option("propagationPolicy", policy, ("Background", "Foreground", "Orphan"))
    if not call.dry_run(options):
        grace = options.get("gracePeriodSeconds", call.number("gracePeriodSeconds"))
        collector.delete(kind, obj, policy=policy or "Background", grace=grace)
    left = collector.what_is_left(obj)
    if left is not None or kind.kind in ("Pod", "Namespace"):
        gone = {**meta, "deletionTimestamp": stamp(), "deletionGracePeriodSeconds": 0}
        return left or {**obj, "metadata": gone}, 200
    if kind.kind in _ANSWERED_WHOLE:
        return obj, 200
    return {**SUCCESS, "details": {**about(kind, meta["name"]), "uid": meta["uid"]}}, 200
