"""Values that are none of those which the API reference lists: AWS refuses them, moto keeps many.

Sources: the service models of botocore, which carry the lists; "Common errors" of each service.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runbook_lib.practice.aws.wire import AwsError, Call, model

# Services that refuse in words of their own, by our modules.
OWN_WORDS = ("eks", "cloudwatch")
CODES = {"ecr": "InvalidParameterException", "route53": "InvalidInput"}


def check(call: Call) -> None:
    """Raises AwsError for a value that is not on the list of its parameter."""
    if call.service in OWN_WORDS or call.operation is None:
        return
    shape = model(call.service).operation_model(call.operation).input_shape
    for path, value, listed, location in _unlisted(shape, call.parameters, "", None):
        raise _refusal(call, path, value, listed, location)


def _unlisted(
    shape: Any, value: Any, path: str, location: str | None
) -> Iterator[tuple[str, str, list[str], str | None]]:
    """Each value that is on no list, with its parameter's path, the list and where it stood."""
    if shape is None or value is None:
        return
    if shape.type_name == "structure" and isinstance(value, dict):
        for name, member in shape.members.items():
            where = location or member.serialization.get("location")
            below = f"{path}.{name}" if path else name
            yield from _unlisted(member, value.get(name), below, where)
    elif shape.type_name == "list" and isinstance(value, list):
        for one in value:
            yield from _unlisted(shape.member, one, path, location)
    elif shape.type_name == "string" and shape.enum and value not in shape.enum:
        yield path, value, shape.enum, location


def _refusal(
    call: Call, path: str, value: str, listed: list[str], location: str | None
) -> AwsError:
    if call.service == "ec2":
        name = path[:1].lower() + path[1:]
        return AwsError(
            "InvalidParameterValue", f"Value ({value}) for parameter {name} is invalid."
        )
    if call.service == "s3":
        if location:
            return AwsError("InvalidArgument", f"Invalid value for {path}: {value}")
        return AwsError(
            "MalformedXML",
            "The XML you provided was not well-formed or did not validate against our published "
            "schema",
        )
    plain = "ValidationException" if "json" in call.protocol else "ValidationError"
    name = path[:1].lower() + path[1:]
    return AwsError(
        CODES.get(call.service, plain),
        f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: "
        f"Member must satisfy enum value set: [{', '.join(listed)}]",
    )
