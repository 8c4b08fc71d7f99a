"""The patch types of the API: JSON patch, merge patch, strategic merge patch.

Sources: RFC 6902, RFC 7386, and the Kubernetes API conventions for strategic merge.
"""

from __future__ import annotations

from typing import Any

from runbook_lib.practice.objects import data
from runbook_lib.practice.objects.errors import ApiError, bad_request
from runbook_lib.practice.objects.store import copy_of

_PRIMITIVE = ("finalizers",)
# Directives, which are no fields of the result.
_ORDER, _DELETE_FROM, _RETAIN = "$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys"


def merge_keys() -> dict[str, list[str]]:
    """patchMergeKey of the lists that are merged by element."""
    found: dict[str, list[str]] = data.table("fields")["mergeKeys"]
    return found


def merge_patch(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_merge(target: Any, patch: Any, field: str = "") -> Any:
    """Merge by element where Kubernetes does so; `field` is the name of the list's field."""
    if isinstance(patch, dict):
        return _merge_map(target, patch)
    if isinstance(patch, list) and isinstance(target or [], list):
        if field in _PRIMITIVE:
            return list(dict.fromkeys([*(target or []), *patch]))
        if field in merge_keys() and all(isinstance(item, dict) for item in patch):
            return _merge_list(target or [], patch, merge_keys()[field])
    return patch


def _merge_map(target: Any, patch: dict[str, Any]) -> dict[str, Any]:
    patch = dict(patch)
    if patch.pop("$patch", "merge") == "replace":
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    if _RETAIN in patch:
        kept = patch.pop(_RETAIN)
        result = {key: value for key, value in result.items() if key in kept}
    for key, value in patch.items():
        if key.startswith(_ORDER):
            continue
        if key.startswith(_DELETE_FROM):
            name = key.removeprefix(_DELETE_FROM)
            result[name] = [item for item in result.get(name) or [] if item not in value]
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = strategic_merge(result.get(key), value, key)
    return result


def _merge_list(target: list[Any], patch: list[Any], keys: list[str]) -> list[Any]:
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    result = list(target)
    for item in patch:
        key = next((key for key in keys if key in item), None)
        if key is None:
            raise bad_request(f"map: {item} does not contain declared merge key: {keys[0]}")
        same = [n for n, old in enumerate(result) if old.get(key) == item[key]]
        if item.get("$patch") == "delete":
            result = [old for n, old in enumerate(result) if n not in same]
        elif same:
            result[same[0]] = _merge_map(result[same[0]], item)
        else:
            result.append(_merge_map(None, item))
    return result


def json_patch(target: Any, patch: Any) -> Any:
    import jsonpatch

    if not isinstance(patch, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    try:
        return jsonpatch.apply_patch(copy_of(target), patch)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as failure:
        raise ApiError(
            422,
            "Invalid",
            f"the server rejected our request due to an error in our request: {failure}",
        ) from failure
