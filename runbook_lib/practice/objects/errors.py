"""Refusals of the practice API, worded and shaped as the real API server's Status bodies.

Source: k8s.io/apimachinery/pkg/api/errors.
"""

from __future__ import annotations

from typing import Any

from runbook_lib.practice.objects.fields.causes import Cause
from runbook_lib.practice.objects.resources import Kind


class ApiError(Exception):
    """An answer other than success; `status` is the Status object that the client receives."""

    def __init__(
        self, code: int, reason: str, message: str, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }
        if details:
            self.status["details"] = details


def about(kind: Kind, name: str) -> dict[str, Any]:
    """The details of a Status: which object it speaks of."""
    details: dict[str, Any] = {"name": name}
    if kind.group:
        details["group"] = kind.group
    return {**details, "kind": kind.plural}


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def not_found(kind: Kind, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{kind.qualified} "{name}" not found', about(kind, name))


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def not_allowed(what: str = "") -> ApiError:
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", f"{message}{': ' if what else ''}{what}", {})


def already_exists(kind: Kind, name: str) -> ApiError:
    message = f'{kind.qualified} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, about(kind, name))


def forbidden(
    kind: Kind, name: str, why: str, causes: list[dict[str, str]] | None = None
) -> ApiError:
    details = about(kind, name) | ({"causes": causes} if causes else {})
    message = f'{kind.qualified} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, details)


def denied(webhook: str, why: str) -> ApiError:
    """What a validating webhook says no to."""
    return ApiError(403, "Forbidden", f'admission webhook "{webhook}" denied the request: {why}')


def conflict(kind: Kind, name: str, why: str = "") -> ApiError:
    why = why or (
        "the object has been modified; please apply your changes to the latest version and "
        "try again"
    )
    message = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, about(kind, name))


def invalid(kind: Kind, name: str, *causes: Cause) -> ApiError:
    """A 422 for what is wrong with these fields."""
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    texts = [f"{field}: {message}" for _, message, field in causes]
    text = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    details = about(kind, name)
    details["kind"] = kind.kind
    details["causes"] = [
        {"reason": reason, "message": message, "field": field} for reason, message, field in causes
    ]
    return ApiError(422, "Invalid", f'{qualified} "{name}" is invalid: {text}', details)


def unsupported_media(accepted: str) -> ApiError:
    message = (
        "the body of the request was in an unknown format - accepted media types include: "
        + accepted
    )
    return ApiError(415, "UnsupportedMediaType", message, {})
