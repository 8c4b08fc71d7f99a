"""Objects that a controller keeps for another object: made once, then kept as wanted."""

from __future__ import annotations

from runbook_lib.practice.objects.admission import apply_defaults
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store, copy_of, key_of, owner_reference


def keep(store: Store, owner: Object, wanted: Object) -> Object:
    """Create the object, owned by `owner`, or set its labels, annotations and spec as wanted."""
    kind = store.catalogue.for_object(wanted)
    known = store.table(kind).get(key_of(wanted))
    if known is not None:

        def renew(new: Object) -> None:
            for field in ("labels", "annotations"):
                if given := wanted["metadata"].get(field):
                    new["metadata"][field] = {**(new["metadata"].get(field) or {}), **given}
            if "spec" in wanted:
                new["spec"] = {**new["spec"], **copy_of(wanted["spec"])}
                apply_defaults(kind, new)

        return store.edit(kind, known, renew)
    made = copy_of(wanted)
    made["metadata"]["ownerReferences"] = [owner_reference(owner)]
    made["metadata"].setdefault("creationTimestamp", owner["metadata"]["creationTimestamp"])
    apply_defaults(kind, made)
    return store.add(kind, made)


def drop(store: Store, wanted: Object) -> None:
    """Remove the object of this kind and name, where it is."""
    kind = store.catalogue.for_object(wanted)
    if (known := store.table(kind).get(key_of(wanted))) is not None:
        store.remove(kind, known)


def is_running(store: Store, namespace: str, deployment: str) -> bool:
    """Whether a controller's own Deployment has a ready pod."""
    found = store.find("deployments", deployment, namespace, "apps")
    return bool(dig(found, "status.readyReplicas", 0))


def conditions(
    old: Object, found: dict[str, tuple[str, str, str]], at: str, **more: str
) -> list[Object]:
    """Conditions by type from (status, reason, message); times of those that stay are kept."""
    before = {c["type"]: c for c in dig(old, "status.conditions", [])}
    made = []
    for type_, (status, reason, message) in sorted(found.items()):
        same = before.get(type_, {}).get("status") == status
        one: Object = {"type": type_, "status": status, **more}
        one["lastTransitionTime"] = before[type_]["lastTransitionTime"] if same else at
        one |= {"reason": reason} if reason else {}
        made.append(one | ({"message": message} if message else {}))
    return made
