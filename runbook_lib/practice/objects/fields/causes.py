"""What is wrong with a field of an object, as the API server words it.

Source: k8s.io/apimachinery/pkg/util/validation/field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from runbook_lib.practice.objects import data

Cause = tuple[str, str, str]  # reason, message, the field


def wrong(field: str, value: Any, why: str) -> Cause:
    return "FieldValueInvalid", f"Invalid value: {json.dumps(value, default=str)}: {why}", field


def misnamed(rule: str, name: str) -> str:
    """What a rule of `data/names.yaml` says of a name; '' where it allows it."""
    known = data.table("names")[rule]
    if len(name) > known["longest"]:
        return f"must be no more than {known['longest']} bytes"
    return "" if re.fullmatch(known["pattern"], name) else str(known["says"])


def required(field: str, why: str = "") -> Cause:
    return "FieldValueRequired", f"Required value{': ' if why else ''}{why}", field


def forbidden(field: str, why: str) -> Cause:
    """A field that may not be there, or not as it is."""
    return "FieldValueForbidden", f"Forbidden: {why}", field


def not_found(field: str, name: str) -> Cause:
    """A field that names what is not there."""
    return "FieldValueNotFound", f"Not found: {json.dumps(name)}", field


def unsupported(field: str, value: Any, supported: Iterable[Any]) -> Cause:
    listed = ", ".join(map(json.dumps, supported))
    text = f"Unsupported value: {json.dumps(value)}: supported values: {listed}"
    return "FieldValueNotSupported", text, field
