"""Who owns which field: managedFields of every write, and server-side apply.

A set of fields is a set of paths; a step of a path is `f:NAME`, `k:{KEYS}` for an element of a
list that merges by key, or `.` for that element itself. Controllers leave no entry.
Source: the FieldsV1 form of the Kubernetes API, and "Server-Side Apply" of its documentation.
"""

from __future__ import annotations

import json
from typing import Any

from runbook_lib.practice.objects import veil
from runbook_lib.practice.objects.errors import ApiError, about
from runbook_lib.practice.objects.fields.patches import merge_keys, merge_patch, strategic_merge
from runbook_lib.practice.objects.resources import Kind
from runbook_lib.practice.objects.store import Object, copy_of, stamp

Path = tuple[str, ...]
_BEFORE = "before-first-apply"  # owns what was there without owners
_UNOWNED = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"}
    | {"deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"}
)


def applied(kind: Kind, old: Object | None, body: Object, manager: str, *, force: bool) -> Object:
    """The object after `manager` applied `body`; 409 where others own other values."""
    body = copy_of(body)
    body["metadata"].pop("managedFields", None)
    mine, before = owned(kind, body), copy_of(old or {})
    others: list[Object] = []
    former: set[Path] = set()
    if old is not None and not _entries(before):
        _note(before, [_entry(kind, owned(kind, old), _BEFORE, "Update")])
    for entry in _entries(before):
        if (entry["manager"], entry["operation"]) == (manager, "Apply"):
            former = paths(entry["fieldsV1"])
        else:
            others.append(entry)
    conflicts = [
        (path, entry)
        for entry in others
        for path in sorted(paths(entry["fieldsV1"]) & mine)
        if path[-1] != "." and _value(before, path) != _value(body, path)
    ]
    if conflicts and not force:
        raise _conflict(kind, body, conflicts)
    for path, entry in conflicts:
        entry["fieldsV1"] = tree(paths(entry["fieldsV1"]) - {path})
    kept = mine.union(*(paths(entry["fieldsV1"]) for entry in others))
    held = {path[:end] for path in kept for end in range(1, len(path) + 1)}
    for path in former - kept:
        _drop(before, path, held)
    merge = merge_patch if kind.custom else strategic_merge
    result: Object = merge(before, body)
    _note(result, [*others, _entry(kind, mine, manager, "Apply")])
    return result


def written(kind: Kind, old: Object | None, new: Object, manager: str, subresource: str) -> None:
    """Note in `new` that `manager` set what differs from `old`; from others it is taken."""
    entries = copy_of(_entries(old or {}))
    before = owned(kind, old) if old else set()
    after = owned(kind, new)
    changed = {path for path in after if path not in before or _differs(path, old, new)}
    mine: set[Path] = set()
    others = []
    for entry in entries:
        same = (entry["manager"], entry["operation"]) == (manager, "Update")
        if same and entry.get("subresource", "") == subresource:
            mine = paths(entry["fieldsV1"]) & after
        else:
            entry["fieldsV1"] = tree((paths(entry["fieldsV1"]) & after) - (changed & before))
            others.append(entry)
    at = "" if changed else next((e["time"] for e in entries if e["manager"] == manager), "")
    others.append(_entry(kind, mine | changed, manager, "Update", subresource, at))
    _note(new, others)


def _entries(obj: Object) -> list[Object]:
    return (obj.get("metadata") or {}).get("managedFields") or []


def _note(obj: Object, entries: list[Object]) -> None:
    obj["metadata"]["managedFields"] = [entry for entry in entries if entry["fieldsV1"]]
    if not obj["metadata"]["managedFields"]:
        del obj["metadata"]["managedFields"]


def _entry(
    kind: Kind, mine: set[Path], manager: str, operation: str, subresource: str = "", at: str = ""
) -> Object:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": kind.api_version,
        "time": at or stamp(),
        "fieldsType": "FieldsV1",
        "fieldsV1": tree(mine),
        **({"subresource": subresource} if subresource else {}),
    }


def owned(kind: Kind, obj: Object) -> set[Path]:
    """All fields of an object that somebody can own."""
    found: set[Path] = set()
    for name, value in obj.items():
        if name == "metadata":
            for inner, item in value.items():
                if inner not in _UNOWNED:
                    _add(found, ("f:metadata", f"f:{inner}"), item, inner, keyed=True)
        elif name not in ("apiVersion", "kind"):
            _add(found, (f"f:{name}",), value, name, keyed=not kind.custom)
    return {path for path in found if not path[-1].startswith(f"f:{veil.PREFIX}")}


def _add(found: set[Path], path: Path, value: Any, field: str, *, keyed: bool) -> None:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            _add(found, (*path, f"f:{name}"), item, name, keyed=keyed)
    elif isinstance(value, list) and value and keyed and field in merge_keys():
        for item in value:
            step = _key(field, item)
            if step is None:
                found.add(path)
                continue
            found.add((*path, step, "."))
            _add(found, (*path, step), item, "", keyed=keyed)
    else:
        found.add(path)


def _key(field: str, item: Any) -> str | None:
    """How an element is told apart from the others of its list."""
    if not isinstance(item, dict):
        return None
    name = next((name for name in merge_keys()[field] if name in item), None)
    if name is None:
        return None
    key = {name: item[name]}
    if field == "ports":
        key["protocol"] = item.get("protocol", "TCP")
    return f"k:{json.dumps(key, separators=(',', ':'), sort_keys=True)}"


def tree(fields: set[Path]) -> dict[str, Any]:
    """FieldsV1 of a set of paths."""
    root: dict[str, Any] = {}
    for path in sorted(fields):
        node = root
        for step in path:
            node = node.setdefault(step, {})
    return root


def paths(fields: dict[str, Any], path: Path = ()) -> set[Path]:
    """The set of paths that FieldsV1 stands for."""
    if not fields:
        return {path} if path else set()
    return set().union(*(paths(below, (*path, step)) for step, below in fields.items()))


def _conflict(kind: Kind, body: Object, conflicts: list[tuple[Path, Object]]) -> ApiError:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{entry["manager"]}"' + _how(entry),
            "field": _dotted(path),
        }
        for path, entry in conflicts
    ]
    number = f"{len(causes)} conflict{'s' if len(causes) > 1 else ''}"
    if len({cause["message"] for cause in causes}) == 1:
        fields = [cause["field"] for cause in causes]
        listed = fields[0] if len(fields) == 1 else "".join(f"\n- {field}" for field in fields)
        text = f"{causes[0]['message']}:{'' if len(fields) > 1 else ' '}{listed}"
    else:
        text = "conflicts with:" + "".join(f"\n- {c['message']}: {c['field']}" for c in causes)
    details = {**about(kind, body["metadata"]["name"]), "causes": causes}
    return ApiError(409, "Conflict", f"Apply failed with {number}: {text}", details)


def _how(entry: Object) -> str:
    if entry["operation"] != "Update":
        return ""
    part = f' with subresource "{entry["subresource"]}"' if "subresource" in entry else ""
    return f"{part} using {entry['apiVersion']}"


def _dotted(path: Path) -> str:
    text = ""
    for step in path:
        if step.startswith("f:"):
            text += "." + step[2:]
        elif step.startswith("k:"):
            keys = json.loads(step[2:])
            text += "[" + ",".join(f"{k}={json.dumps(v)}" for k, v in keys.items()) + "]"
    return text


def _step(value: Any, step: str) -> Any:
    if step == ".":
        return value
    if step.startswith("f:"):
        return value.get(step[2:]) if isinstance(value, dict) else None
    wanted = json.loads(step[2:])
    for item in value if isinstance(value, list) else []:
        if wanted.items() <= {"protocol": "TCP", **item}.items():
            return item
    return None


def _value(obj: Object | None, path: Path) -> Any:
    value: Any = obj
    for step in path:
        value = _step(value, step)
    return value


def _differs(path: Path, old: Object | None, new: Object) -> bool:
    return path[-1] != "." and _value(old, path) != _value(new, path)


def _drop(obj: Object, path: Path, held: set[Path]) -> None:
    """Remove a field that was given up, with all above it in which nobody holds anything."""
    # Labels and annotations have other writers, of which nothing is noted.
    first = len(path) if path[0] == "f:metadata" else min(2, len(path))
    end = next((end for end in range(first, len(path) + 1) if path[:end] not in held), 0)
    if not end or path[end - 1] == ".":
        return
    parent, last = _value(obj, path[: end - 1]), path[end - 1]
    if last.startswith("f:") and isinstance(parent, dict):
        parent.pop(last[2:], None)
    elif isinstance(parent, list) and (element := _step(parent, last)) is not None:
        parent.remove(element)
