"""Objects of the right shape: metadata, and built-in kinds by the official client's models."""

from __future__ import annotations

from typing import Any

from runbook_lib.practice.objects.errors import ApiError, bad_request, invalid
from runbook_lib.practice.objects.fields import causes
from runbook_lib.practice.objects.fields.causes import Cause
from runbook_lib.practice.objects.resources import Kind
from runbook_lib.practice.objects.store import Object

_METADATA = frozenset(
    {"name", "generateName", "namespace", "selfLink", "uid", "resourceVersion", "generation"}
    | {"creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "labels"}
    | {"annotations", "ownerReferences", "finalizers", "managedFields"}
)


def check_metadata(kind: Kind, obj: Object, *, strict: bool) -> list[str]:
    """Drop unknown fields of metadata, or with `strict` refuse them; 4xx for wrong ones."""
    meta = obj["metadata"]
    found: list[Cause] = []
    unknown = [f"metadata.{name}" for name in meta if name not in _METADATA]
    if unknown and strict:
        raise unknown_fields(kind, unknown)
    for name in unknown:
        del meta[name.partition(".")[2]]
    for field in ("labels", "annotations"):
        for key, value in (meta.get(field) or {}).items():
            if not isinstance(value, str):
                raise _unreadable(kind, value, f"ObjectMeta.metadata.{field} of type string")
            if why := causes.misnamed("labelKey", key):
                found.append(causes.wrong(f"metadata.{field}", key, why))
            elif field == "labels" and (why := causes.misnamed("labelValue", value)):
                found.append(causes.wrong("metadata.labels", value, why))
    if found:
        raise invalid(kind, meta.get("name", ""), *found)
    return unknown


def _unreadable(kind: Kind, value: Any, where: str) -> ApiError:
    names: dict[type, str] = {bool: "bool", int: "number", float: "number", list: "array"}
    what = names.get(type(value), "string" if isinstance(value, str) else "object")
    return bad_request(
        f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: json: '
        f"cannot unmarshal {what} into Go struct field {where}"
    )


def unknown_fields(kind: Kind, fields: list[str]) -> ApiError:
    listed = ", ".join(f'unknown field "{field}"' for field in fields)
    return bad_request(
        f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
        f"strict decoding error: {listed}"
    )


def is_validated(kind: Kind) -> bool:
    """Not custom kinds, which have no model, nor those that machines write all the time."""
    return not kind.custom and kind.kind not in ("Node", "Event", "Lease", "Namespace")


def validate(kind: Kind, obj: Object, *, strict: bool) -> list[str]:
    """Refuse, with 400 or 422, what the official client's model of the kind refuses.

    Unknown fields are dropped and returned, or with `strict` refused; a number given for a
    quantity becomes text. Kinds without a model are not looked at.
    """
    # Slow to import (a second), so only once a client writes.
    from kubernetes.client import models
    from pydantic import ValidationError

    name = kind.version.capitalize() + kind.kind
    model = getattr(models, name, None) or getattr(models, "Core" + name, None)
    dropped: list[str] = []
    if model is None:
        return dropped
    for _ in range(2):  # a second look, once what can be mended is mended
        try:
            model.model_validate({k: v for k, v in obj.items() if k not in ("status", "metadata")})
            break
        except ValidationError as failure:
            errors = failure.errors()
        if left := [error for error in errors if not _mend(obj, error, strict=strict)]:
            raise _refusal(kind, obj, left)
        dropped += [_path(error) for error in errors if error["type"] == "extra_forbidden"]
    return dropped


def _mend(obj: Object, error: Any, *, strict: bool) -> bool:
    *path, last = error["loc"]
    parent: Any = obj
    for step in path:
        if not isinstance(parent, dict | list):
            return False
        parent = parent[step]
    if error["type"] == "extra_forbidden" and not strict:
        parent.pop(last, None)
        return True
    if error["type"] == "string_type" and isinstance(error["input"], int | float):
        if not {"requests", "limits", "hard", "capacity", "allocatable"} & set(path):
            return False
        parent[last] = str(error["input"])
        return True
    return False


def _path(error: Any) -> str:
    text = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in error["loc"])
    return text.lstrip(".")


def _is_mistyped(error: Any) -> bool:
    """Whether a Go program could not even read it: such a body is no object of the kind."""
    return error["type"].endswith(("_type", "_parsing")) and error["input"] is not None


def _refusal(kind: Kind, obj: Object, errors: list[Any]) -> ApiError:
    for error in filter(_is_mistyped, errors):
        raise _unreadable(kind, error["input"], f"{kind.kind}.{_path(error)}")
    unknown = [_path(e) for e in errors if e["type"] == "extra_forbidden"]
    if unknown:
        return unknown_fields(kind, unknown)
    found = [
        causes.required(_path(e))
        if e["type"] == "missing" or e["input"] is None
        else causes.wrong(_path(e), e["input"], e["msg"])
        for e in errors
    ]
    return invalid(kind, obj["metadata"].get("name", ""), *found)
