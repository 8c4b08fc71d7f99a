"""Structural schemas of custom kinds: pruning, defaults, validation.

Source: "Extend the Kubernetes API with CustomResourceDefinitions" of the documentation. What a
schema says is checked with jsonschema; a definition with rules in CEL is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from runbook_lib.practice.objects.errors import invalid
from runbook_lib.practice.objects.fields import causes
from runbook_lib.practice.objects.fields.causes import Cause
from runbook_lib.practice.objects.fields.shapes import unknown_fields
from runbook_lib.practice.objects.resources import Kind
from runbook_lib.practice.objects.store import Object, copy_of

Schema = dict[str, Any]
_OPEN = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED = "x-kubernetes-embedded-resource"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_LIMITS = {
    "minimum": "should be greater than or equal to",
    "maximum": "should be less than or equal to",
    "maxLength": "should be at most",
    "minLength": "should be at least",
    "pattern": "should match",
    "maxItems": "must have at most",
    "minItems": "should have at least",
}


def definition_causes(crd: Object) -> Iterator[Cause]:
    """Why a definition cannot be served as it is meant."""
    if ((crd["spec"].get("conversion") or {}).get("strategy") or "None") != "None":
        text = "the practice API calls no webhooks"
        yield causes.forbidden("spec.conversion.strategy", text)
    for number, version in enumerate(crd["spec"].get("versions") or []):
        where = f"spec.versions[{number}]"
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            field = f"{where}.schema.openAPIV3Schema"
            yield causes.required(field, "schemas are required")
        scale = (version.get("subresources") or {}).get("scale")
        if scale and scale.get("specReplicasPath") != ".spec.replicas":
            text = "the practice API scales by .spec.replicas only"
            field = f"{where}.subresources.scale.specReplicasPath"
            yield causes.forbidden(field, text)
        if '"x-kubernetes-validations"' in json.dumps(schema):
            text = "the practice API does not evaluate x-kubernetes-validations"
            yield causes.forbidden(where, text)


def settle(kind: Kind, obj: Object, *, strict: bool) -> list[str]:
    """Prune and default, in place, then validate; the names of the pruned fields.

    422 for what the schema refuses, with `strict` 400 for unknown fields.
    """
    if not kind.schema:
        return []
    schema = {**kind.schema, "properties": {**(kind.schema.get("properties") or {})}}
    for own in ("apiVersion", "kind", "metadata"):
        schema["properties"][own] = {_OPEN: True}
    pruned: list[str] = []
    _prune(obj, schema, "", pruned)
    if pruned and strict:
        raise unknown_fields(kind, pruned)
    _default(obj, schema)
    if found := _causes(obj, schema):
        raise invalid(kind, obj["metadata"].get("name", ""), *found)
    return pruned


def _inner(value: Any, schema: Schema) -> list[tuple[str, Any, Schema]]:
    """The parts of a value that a schema speaks of: (step, part, its schema)."""
    found: list[tuple[str, Any, Schema]] = []
    if isinstance(value, dict):
        others = schema.get("additionalProperties")
        for name, item in value.items():
            known = (schema.get("properties") or {}).get(name)
            if known is None and isinstance(others, dict):
                known = others
            if known is not None:
                found.append((f".{name}", item, known))
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        found += [(f"[{n}]", item, schema["items"]) for n, item in enumerate(value)]
    return found


def _prune(value: Any, schema: Schema, path: str, pruned: list[str]) -> None:
    if isinstance(value, dict) and not schema.get(_OPEN) and "additionalProperties" not in schema:
        known = set(schema.get("properties") or {})
        if schema.get(_EMBEDDED):
            known |= {"apiVersion", "kind", "metadata"}
        for name in [name for name in value if name not in known]:
            del value[name]
            pruned.append(f"{path}.{name}".lstrip("."))
    for step, item, inner in _inner(value, schema):
        _prune(item, inner, path + step, pruned)


def _default(value: Any, schema: Schema) -> None:
    if isinstance(value, dict):
        for name, inner in (schema.get("properties") or {}).items():
            missing = name not in value or (value[name] is None and not inner.get("nullable"))
            if missing and "default" in inner:
                value[name] = copy_of(inner["default"])
            elif missing and value.get(name, 0) is None:
                del value[name]
    for _, item, inner in _inner(value, schema):
        _default(item, inner)


def _plain(schema: Any) -> Any:
    """The schema in JSON Schema's own words."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _plain(item) for name, item in schema.items() if name != "default"}
    if found.pop(_INT_OR_STRING, False):
        found.pop("type", None)
        found.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    if found.pop("nullable", False) is True and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    return found


def _causes(obj: Object, schema: Schema) -> list[Cause]:
    # Slow to import, so only once a client writes an object of a custom kind.
    from jsonschema import Draft4Validator  # type: ignore[import-untyped]

    errors = sorted(Draft4Validator(_plain(schema)).iter_errors(obj), key=lambda e: str(e.path))
    return list(map(_cause, errors))


def _cause(error: Any) -> Cause:
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path]
    field = "".join(steps).lstrip(".")
    match error.validator:
        case "required":
            name = next(n for n in error.validator_value if f"'{n}'" in error.message)
            return causes.required(f"{field}.{name}".lstrip("."))
        case "type":
            wanted = error.validator_value
            wanted = wanted[0] if isinstance(wanted, list) else wanted
            name = _type_name(error.instance)
            text = f'Invalid value: "{name}": {field} in body must be of type {wanted}: "{name}"'
            return "FieldValueTypeInvalid", text, field
        case "enum":
            return causes.unsupported(field, error.instance, error.validator_value)
    rule, limit = _LIMITS.get(error.validator), error.validator_value
    limit = f"'{limit}'" if error.validator == "pattern" else limit
    unit = {"Length": " chars long", "Items": " items"}.get(str(error.validator)[3:], "")
    said = f"{field} in body {rule} {limit}{unit}" if rule else error.message
    return causes.wrong(field, error.instance, said)


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return names.get(type(value), "object")
