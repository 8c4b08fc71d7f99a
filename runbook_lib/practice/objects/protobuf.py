"""Bodies in protobuf, which kubectl sends for `kubectl create …`, access reviews and evictions.

Only the fields named in `data/messages.txt` are read, whose numbers Kubernetes publishes in the
`generated.proto` files of k8s.io/api and k8s.io/apimachinery; a body with any other field is
refused. Answers are always JSON, which such clients take too.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from runbook_lib.practice import protobuf
from runbook_lib.practice.objects import data
from runbook_lib.practice.objects.errors import ApiError, bad_request

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_KINDS = frozenset(
    "ConfigMap Secret ServiceAccount Namespace Service ResourceQuota Deployment Job CronJob "  # noqa: SIM905
    "PodDisruptionBudget Ingress Role ClusterRole RoleBinding ClusterRoleBinding Eviction "
    "SelfSubjectReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview "
    "LocalSubjectAccessReview TokenRequest DeleteOptions".split()
)

Message = dict[int, tuple[str, str]]


def decode(raw: bytes) -> dict[str, Any]:
    """The object of a body; 400 for bytes that are no such message, 415 for what is not read."""
    if not raw.startswith(_MAGIC):
        raise bad_request("the body is no protobuf of Kubernetes: it does not begin with k8s\\x00")
    messages = _messages()
    try:
        envelope = _message(raw[len(_MAGIC) :], "Envelope", messages)
        kind = envelope["typeMeta"]["kind"]
        if kind not in _KINDS:
            raise _unread(f"objects of kind {kind}")
        body = _message(base64.b64decode(envelope.get("raw", "")), kind, messages)
    except (KeyError, ValueError) as failure:
        raise bad_request(f"the protobuf body cannot be decoded: {failure!r}") from failure
    body.pop("status", None)
    return {"apiVersion": envelope["typeMeta"]["apiVersion"], "kind": kind, **body}


def _unread(what: str) -> ApiError:
    message = f"the practice API does not read {what} in protobuf; send application/json"
    return ApiError(415, "UnsupportedMediaType", message)


def _messages() -> dict[str, Message]:
    found: dict[str, Message] = {}
    for block in data.lines("messages.txt"):
        name, _, fields = block.partition(":")
        found[name] = {}
        for entry in filter(None, map(str.strip, fields.split(","))):
            number, field, type_ = entry.split()
            found[name][int(number)] = (field, type_)
    return found


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field on the wire; a value is a number or bytes."""
    for number, kind, value in protobuf.fields(raw):
        if kind not in (protobuf.VARINT, protobuf.LENGTH):
            raise ValueError(f"wire type {kind}")
        yield number, protobuf.signed(value) if isinstance(value, int) else value


def _message(raw: bytes, name: str, messages: dict[str, Message]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in _fields(raw):
        if number not in messages[name]:
            if value in (b"", 0):
                continue  # a field that was left at its zero value
            raise _unread(f"field {number} of {name}")
        field, type_ = messages[name][number]
        kept, plain = type_.startswith("?"), type_.lstrip("?*%")
        if type_.startswith("%"):
            key, item = _entry(value, plain, messages)
            found.setdefault(field, {})[key] = item
        elif type_.startswith("*"):
            found.setdefault(field, []).append(_value(value, plain, messages))
        elif field == ".inline":
            found |= _value(value, plain, messages)
        elif (decoded := _value(value, plain, messages)) or kept:
            found[field] = decoded
    return found


def _entry(value: int | bytes, type_: str, messages: dict[str, Message]) -> tuple[str, Any]:
    parts = dict(_fields(_bytes(value)))
    return _bytes(parts.get(1, b"")).decode(), _value(parts.get(2, b""), type_, messages)


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where text or a message is expected")
    return value


def _value(value: int | bytes, type_: str, messages: dict[str, Message]) -> Any:
    match type_:
        case "int" | "bool":
            if not isinstance(value, int):
                raise ValueError("text or a message where a number is expected")
            return bool(value) if type_ == "bool" else value
        case "str":
            return _bytes(value).decode()
        case "bytes":
            return base64.b64encode(_bytes(value)).decode()
        case "Quantity":
            return _bytes(dict(_fields(_bytes(value))).get(1, b"")).decode()
        case "IntOrString":
            parts = dict(_fields(_bytes(value)))
            return _bytes(parts.get(3, b"")).decode() if parts.get(1) else parts.get(2, 0)
        case "Time":
            seconds = dict(_fields(_bytes(value))).get(1, 0)
            if not isinstance(seconds, int) or seconds <= 0:
                return None
            return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _message(_bytes(value), type_, messages)
