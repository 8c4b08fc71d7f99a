"""MLflow's error codes, and the parameters that it refuses with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_CODES = {
    "INVALID_PARAMETER_VALUE": (400, "KAM00", "INVALID_PARAMETER_VALUE"),
    "RESOURCE_ALREADY_EXISTS": (400, "KAM00", "RESOURCE_ALREADY_EXISTS"),
    "BAD_REQUEST": (400, "KAM00", "INVALID_PARAMETER_VALUE"),
    "RESOURCE_DOES_NOT_EXIST": (404, "KAM00", "RESOURCE_NOT_FOUND"),
    "INTERNAL_ERROR": (500, "XXM00", "CLIENT_INTERNAL_ERROR"),
    "TEMPORARILY_UNAVAILABLE": (503, "XXM00", "CLIENT_INTERNAL_ERROR"),
}
HINT = "See the API docs for more information about request parameters."


class MlflowError(Exception):
    """A refusal with MLflow's error code; `status` is the HTTP status that goes with it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.status, state, class_ = _CODES[code]
        self.body = {
            "error_code": code,
            "message": message,
            "sqlstate": state,
            "error_class": class_,
        }


def invalid(message: str) -> MlflowError:
    return MlflowError("INVALID_PARAMETER_VALUE", message)


def required(given: Mapping[str, Any], name: str) -> Any:
    """A parameter that must be there. Raises MlflowError."""
    if given.get(name) in (None, ""):
        raise invalid(f"Missing value for required parameter '{name}'. {HINT}")
    return given[name]


def limit_of(given: Mapping[str, Any], default: int, most: int) -> int:
    """The parameter max_results. Raises MlflowError."""
    value = given.get("max_results", default)
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise invalid(
            f"Invalid value \"{value}\" for parameter 'max_results' supplied:  "
            f"Hint: Value was of type '{type(value).__name__}'. {HINT}"
        ) from None
    if not 1 <= number <= most:
        must = "be a positive integer" if number < 1 else f"be at most {most}"
        raise invalid(
            f"Invalid value {number} for parameter 'max_results' supplied. It must {must}"
        )
    return number


def offset_of(given: Mapping[str, Any]) -> int:
    """The parameter page_token, which is an offset here. Raises MlflowError."""
    token = str(given.get("page_token") or "0")
    if not token.isdigit():
        raise invalid("Invalid page token, could not base64-decode")
    return int(token)


def parsed(body: bytes) -> dict[str, Any]:
    """A request's JSON object; what is none counts as empty, as in MLflow."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
