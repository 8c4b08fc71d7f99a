"""Creating, replacing, patching and deleting objects."""

from __future__ import annotations

from typing import Any

from runbook_lib.practice.kubernetes import apply, reads
from runbook_lib.practice.kubernetes.admission import (
    apply_defaults,
    drop_nulls,
    is_validated,
    named,
    updated,
    validate,
)
from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.kubernetes.errors import (
    already_exists,
    bad_request,
    conflict,
    invalid,
    not_allowed,
    not_found,
    unsupported_media,
)
from runbook_lib.practice.kubernetes.kubelets import Kubelets
from runbook_lib.practice.kubernetes.patches import json_patch, merge_patch, strategic_merge
from runbook_lib.practice.kubernetes.resources import Kind
from runbook_lib.practice.kubernetes.selectors import dig
from runbook_lib.practice.kubernetes.store import Object, Store, copy_of, key_of, stamp

_PATCHES = {
    "application/json-patch+json": json_patch,
    "application/merge-patch+json": merge_patch,
    "application/strategic-merge-patch+json": strategic_merge,
}
_APPLY = "application/apply-patch+yaml"
Answer = tuple[Object, int]


def warm_up() -> None:
    """Load the models that `validate` needs; slow once, so off the event loop."""
    import kubernetes.client.models  # noqa: F401


def answer(call: Call, store: Store, kubelets: Kubelets) -> Answer:
    match call.method, bool(call.name):
        case "POST", False:
            return create(call, store, call.body()), 201
        case "PUT", True:
            return replace(call, store, call.body()), 200
        case "PATCH", True:
            return patch(call, store)
        case "DELETE", True:
            return delete(call, store, kubelets, store.get(call.kind, call.namespace, call.name))
        case "DELETE", False:
            for obj in reads.select(call, store):
                delete(call, store, kubelets, obj)
            return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, 200
    raise not_allowed()


def _checked(call: Call, obj: Object) -> None:
    if not call.kind.custom:
        drop_nulls(obj)
    apply_defaults(call.kind, obj)
    if is_validated(call.kind):
        validate(call.kind, obj, strict=call.query.get("fieldValidation") == "Strict")


def create(call: Call, store: Store, body: Any) -> Object:
    kind, dry = call.kind, call.dry_run()
    obj = named(kind, call.namespace, body)
    if kind.namespaced and store.find("namespaces", call.namespace) is None:
        raise not_found(store.catalogue.of("namespaces"), call.namespace)
    for field in ("uid", "creationTimestamp", "generation", "deletionTimestamp"):
        obj["metadata"].pop(field, None)
    if "status" in kind.subresources and not kind.custom:
        obj.pop("status", None)
    _checked(call, obj)
    if kind.kind == "CustomResourceDefinition":
        obj["status"] = established(obj)
    if (obj["metadata"].get("namespace") or "", obj["metadata"]["name"]) in store.table(kind):
        raise already_exists(kind, obj["metadata"]["name"])
    store.admit(kind, obj)
    if dry:
        obj["metadata"] |= {"uid": "00000000-0000-0000-0000-000000000000"}
        obj["metadata"] |= {"creationTimestamp": stamp()}
        return obj
    return store.add(kind, obj)


def established(crd: Object) -> Object:
    """The status that makes clients (`kubectl wait --for=condition=established`) go on."""
    conditions = [
        {"type": name, "status": "True", "reason": reason, "lastTransitionTime": stamp()}
        for name, reason in (("NamesAccepted", "NoConflicts"), ("Established", "InitialNames"))
    ]
    names = {**crd["spec"]["names"]}
    return {"conditions": conditions, "acceptedNames": names, "storedVersions": []}


def replace(call: Call, store: Store, body: Any, subresource: str = "") -> Object:
    old = store.get(call.kind, call.namespace, call.name)
    version = dig(body, "metadata.resourceVersion")
    if call.kind.custom and not version:
        text = "Invalid value: 0: must be specified for an update"
        raise invalid(
            call.kind, call.name, [("FieldValueInvalid", text, "metadata.resourceVersion")]
        )
    return _store_update(call, store, old, updated(call.kind, old, body, subresource), subresource)


def _store_update(
    call: Call, store: Store, old: Object, new: Object, subresource: str = ""
) -> Object:
    if subresource != "status":
        _checked(call, new)
    if call.dry_run():
        return new
    new = store.update(call.kind, old, new)
    gone = new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers")
    if gone and call.kind.kind != "Pod":
        store.remove(call.kind, new)
    return new


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
        return _apply(call, store)
    old = store.get(call.kind, call.namespace, call.name)
    new = updated(call.kind, old, patched(call, old), subresource)
    return _store_update(call, store, old, new, subresource), 200


def _apply(call: Call, store: Store) -> Answer:
    manager = call.query.get("fieldManager")
    if not manager:
        cause = (
            "FieldValueRequired",
            "Required value: is required for apply patch",
            "fieldManager",
        )
        raise invalid(call.kind, "", [cause])
    body = named(call.kind, call.namespace, call.parse())
    if body["metadata"]["name"] != call.name:
        raise bad_request("the name of the object does not match the name on the URL")
    old = store.table(call.kind).get(key_of(body))
    new = apply.merged(call.kind, old, body, manager, force=call.flag("force"))
    if old is None:
        return create(call, store, new), 201
    return _store_update(call, store, old, updated(call.kind, old, new)), 200


def delete(call: Call, store: Store, kubelets: Kubelets, obj: Object) -> Answer:
    """Delete one object as the DeleteOptions of the call say."""
    options = call.body() or {}
    kind, meta = call.kind, obj["metadata"]
    wanted = options.get("preconditions") or {}
    for field in ("uid", "resourceVersion"):
        if wanted.get(field) and wanted[field] != meta[field]:
            what = "UID" if field == "uid" else "ResourceVersion"
            why = f"Precondition failed: {what} in precondition: {wanted[field]}, "
            raise conflict(kind, meta["name"], f"{why}{what} in object meta: {meta[field]}")
    policy = options.get("propagationPolicy") or call.query.get("propagationPolicy")
    if not call.dry_run(options):
        grace = options.get("gracePeriodSeconds", call.number("gracePeriodSeconds"))
        remove(store, kubelets, kind, obj, grace=grace, orphan=policy == "Orphan")
    if kind.kind in ("Pod", "Namespace"):
        return {**obj, "metadata": {**meta, "deletionTimestamp": stamp()}}, 200
    details = {"name": meta["name"], "kind": kind.plural, "uid": meta["uid"]}
    if kind.group:
        details["group"] = kind.group
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return {**body, "details": details}, 200


def remove(
    store: Store,
    kubelets: Kubelets,
    kind: Kind,
    obj: Object,
    *,
    grace: int | None = None,
    orphan: bool = False,
) -> None:
    """Remove now, or mark as terminating what a finalizer or a silent kubelet holds back."""

    def terminating(new: Object) -> None:
        new["metadata"].setdefault("deletionTimestamp", stamp())
        new["metadata"].setdefault("deletionGracePeriodSeconds", grace or 30)

    held = kind.kind == "Pod" and grace != 0 and not kubelets.can_stop(obj)
    if held or obj["metadata"].get("finalizers"):
        store.edit(kind, obj, terminating)
    else:
        store.remove(kind, copy_of(obj), orphan=orphan)
