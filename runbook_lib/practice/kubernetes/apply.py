"""Server-side apply: who owns which field, conflicts, and fields that were given up.

Only appliers own fields here: other writes leave no entry in managedFields.
Source: the FieldsV1 form of the Kubernetes API.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from runbook_lib.practice.kubernetes.errors import ApiError
from runbook_lib.practice.kubernetes.patches import MERGE_KEYS, merge_patch, strategic_merge
from runbook_lib.practice.kubernetes.resources import Kind
from runbook_lib.practice.kubernetes.store import Object, copy_of, stamp

Path = tuple[str, ...]


def merged(kind: Kind, old: Object | None, body: Object, manager: str, *, force: bool) -> Object:
    """The object after `manager` applied `body`; 409 where others own other values."""
    body = copy_of(body)
    body["metadata"].pop("managedFields", None)
    mine = fields_v1(_owned_part(body))
    entries = copy_of((old or {}).get("metadata", {}).get("managedFields") or [])
    others = [entry for entry in entries if entry["manager"] != manager]
    before: Object = copy_of(old) if old is not None else {}
    _settle_conflicts(kind, before, body, mine, others, force=force)
    kept = {path for entry in others for path in leaves(entry["fieldsV1"])} | set(leaves(mine))
    for entry in entries:
        if entry["manager"] == manager:
            for path in leaves(entry["fieldsV1"]):
                if path not in kept:
                    _drop(before, path)
    merge = merge_patch if kind.custom else strategic_merge
    result: Object = merge(before, body)
    entry = {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": kind.api_version,
        "time": stamp(),
        "fieldsType": "FieldsV1",
        "fieldsV1": mine,
    }
    result["metadata"]["managedFields"] = [*others, entry]
    return result


def _owned_part(body: Object) -> Object:
    part = {k: v for k, v in body.items() if k not in ("apiVersion", "kind", "metadata")}
    identity = ("name", "namespace", "uid", "resourceVersion")
    meta = {key: value for key, value in body["metadata"].items() if key not in identity}
    return {**part, "metadata": meta} if meta else part


def fields_v1(value: Any, field: str = "") -> dict[str, Any]:
    """The set of fields of a value, as managedFields notes it."""
    if isinstance(value, dict):
        return {f"f:{key}": fields_v1(item, key) for key, item in value.items()}
    if isinstance(value, list) and field in MERGE_KEYS:
        keyed = {}
        for item in value:
            key = next((k for k in MERGE_KEYS[field] if isinstance(item, dict) and k in item), None)
            if key is None:
                return {}
            keyed[f"k:{json.dumps({key: item[key]})}"] = {".": {}, **fields_v1(item)}
        return keyed
    return {}


def leaves(fields: dict[str, Any], path: Path = ()) -> Iterator[Path]:
    inner = {step: below for step, below in fields.items() if step != "."}
    if not inner:
        yield path
    for step, below in inner.items():
        yield from leaves(below, (*path, step))


def _settle_conflicts(
    kind: Kind,
    old: Object,
    body: Object,
    mine: dict[str, Any],
    others: list[Object],
    *,
    force: bool,
) -> None:
    wanted = set(leaves(mine))
    causes = []
    for entry in others:
        for path in set(leaves(entry["fieldsV1"])) & wanted:
            if _value(old, path) == _value(body, path):
                continue
            if force:
                _forget(entry["fieldsV1"], path)
            else:
                dotted = "".join("." + step[2:] for step in path)
                causes.append(
                    {
                        "reason": "FieldManagerConflict",
                        "message": f'conflict with "{entry["manager"]}"',
                        "field": dotted,
                    }
                )
    if causes:
        number = f"{len(causes)} conflict{'s' if len(causes) > 1 else ''}"
        text = ", ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
        details = {"name": body["metadata"]["name"], "kind": kind.plural, "causes": causes}
        raise ApiError(409, "Conflict", f"Apply failed with {number}: {text}", details)


def _step(value: Any, step: str) -> Any:
    if step.startswith("f:"):
        return value.get(step[2:]) if isinstance(value, dict) else None
    wanted = json.loads(step[2:])
    items = value if isinstance(value, list) else []
    return next((item for item in items if wanted.items() <= item.items()), None)


def _value(obj: Object, path: Path) -> Any:
    value: Any = obj
    for step in path:
        value = _step(value, step)
    return value


def _drop(obj: Object, path: Path) -> None:
    parent = _value(obj, path[:-1])
    last = path[-1]
    if isinstance(parent, dict):
        parent.pop(last[2:], None)
        # An element that holds nothing but its key went with its last field.
        if path[-2:-1] and path[-2].startswith("k:") and parent == json.loads(path[-2][2:]):
            _value(obj, path[:-2]).remove(parent)
    elif isinstance(parent, list) and (item := _step(parent, last)) is not None:
        parent.remove(item)


def _forget(fields: dict[str, Any], path: Path) -> None:
    for step in path[:-1]:
        fields = fields[step]
    fields.pop(path[-1], None)
