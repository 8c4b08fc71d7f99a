"""What is wrong with a field of an object, as the API server words it.

Source: k8s.io/apimachinery/pkg/util/validation/field.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

Cause = tuple[str, str, str]  # reason, message, the field


def wrong(field: str, value: Any, why: str) -> Cause:
    return "FieldValueInvalid", f"Invalid value: {json.dumps(value, default=str)}: {why}", field


def required(field: str, why: str = "") -> Cause:
    return "FieldValueRequired", f"Required value{': ' if why else ''}{why}", field


def forbidden(field: str, why: str) -> Cause:
    """A field that may not be there, or not as it is."""
    return "FieldValueForbidden", f"Forbidden: {why}", field


def unsupported(field: str, value: Any, supported: Iterable[Any]) -> Cause:
    listed = ", ".join(map(json.dumps, supported))
    text = f"Unsupported value: {json.dumps(value)}: supported values: {listed}"
    return "FieldValueNotSupported", text, field
