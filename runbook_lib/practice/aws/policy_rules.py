"""Policy documents that S3, IAM and KMS refuse; moto keeps some that no request gets past.

Sources: IAM user guide, "IAM JSON policy elements reference"; S3 API reference, PutBucketPolicy
(MalformedPolicy); IAM API reference (MalformedPolicyDocument). The words are the services' own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runbook_lib.practice.aws import policies
from runbook_lib.practice.aws.additions import Addition
from runbook_lib.practice.aws.front import Handler
from runbook_lib.practice.aws.wire import AwsError, Call, Document

PRINCIPALS = ("AWS", "Federated", "Service", "CanonicalUser")


class Malformed(Exception):
    """Why a policy document is none."""


class PolicyRules(Addition):
    """Looks at what is put; moto keeps it."""

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "s3.PutBucketPolicy": _bucket,
            "iam.CreateRole": _trust,
            "iam.UpdateAssumeRolePolicy": _trust,
            **dict.fromkeys(
                (
                    "iam.PutRolePolicy",
                    "iam.PutUserPolicy",
                    "iam.CreatePolicy",
                    "iam.CreatePolicyVersion",
                ),
                _identity,
            ),
            "kms.CreateKey": _key,
        }


def check_identity(text: str) -> None:
    """Raises Malformed for what is no policy of a user, group or role."""
    unreadable = "Syntax errors in policy."
    try:
        statements = _statements(text, unreadable)
    except Malformed:
        raise Malformed(unreadable) from None  # IAM tells no more
    for statement in statements:
        if {"Principal", "NotPrincipal"} & set(statement):
            raise Malformed("Policy document should not specify a principal.")
        if not {"Action", "NotAction"} & set(statement):
            raise Malformed("Policy statement must contain actions.")
        if not {"Resource", "NotResource"} & set(statement):
            raise Malformed("Policy statement must contain resources.")


def _bucket(call: Call) -> None:
    name = call.parameters["Bucket"]
    text = call.parameters["Policy"]
    try:
        if not text.startswith("{"):
            raise Malformed("Policies must be valid JSON and the first byte must be '{'")
        for statement in _statements(text, "This policy contains invalid Json"):
            _required(statement, "Principal", "Action", "Resource")
            for action in _listed(statement, "Action", "NotAction"):
                if action != "*" and not action.lower().startswith("s3:"):
                    raise Malformed("Policy has invalid action")
            for resource in _listed(statement, "Resource", "NotResource"):
                if not policies.like(resource.split("/")[0], f"arn:aws:s3:::{name}"):
                    raise Malformed("Policy has invalid resource")
    except Malformed as error:
        raise AwsError("MalformedPolicy", str(error)) from None


def _trust(call: Call) -> None:
    text = call.parameters.get("AssumeRolePolicyDocument") or call.parameters["PolicyDocument"]
    try:
        for statement in _statements(text, "This policy contains invalid Json"):
            _required(statement, "Principal", "Action")
            if {"Resource", "NotResource"} & set(statement):
                raise Malformed("Has prohibited field Resource")
            for action in _listed(statement, "Action", "NotAction"):
                if not action.lower().startswith("sts:"):
                    raise Malformed("AssumeRole policy may only specify STS AssumeRole actions.")
    except Malformed as error:
        raise AwsError("MalformedPolicyDocument", str(error)) from None


def _identity(call: Call) -> None:
    try:
        check_identity(call.parameters["PolicyDocument"])
    except Malformed as error:
        raise AwsError("MalformedPolicyDocument", str(error)) from None


def _key(call: Call) -> None:
    """KMS gives no reason."""
    try:
        for statement in _statements(call.parameters.get("Policy") or EVERYTHING, ""):
            _required(statement, "Principal", "Action", "Resource")
    except Malformed:
        raise AwsError("MalformedPolicyDocumentException", "") from None


# What KMS takes where no policy is given.
EVERYTHING = json.dumps(
    {"Statement": {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}}
)


def _statements(text: str, unreadable: str) -> list[Document]:
    """The statements of a document, each with an effect, and conditions that are evaluated here.

    Raises Malformed (`unreadable` for what is no JSON object), or AwsError for other conditions.
    """
    try:
        document = json.loads(text)
    except ValueError:
        raise Malformed(unreadable) from None
    if not isinstance(document, dict):
        raise Malformed(unreadable)
    if "Statement" not in document:
        raise Malformed("Missing required field Statement")
    given = document["Statement"]
    statements = given if isinstance(given, list) else [given]
    if not statements:
        raise Malformed("Could not parse the policy: Statement is empty!")
    for statement in statements:
        if not isinstance(statement, dict):
            raise Malformed(unreadable)
        _required(statement, "Effect")
        if statement["Effect"] not in ("Allow", "Deny"):
            raise Malformed(f"Invalid effect: {statement['Effect']}")
        for field in ("Action", "NotAction", "Resource", "NotResource"):
            _listed(statement, field)
        for field in ("Principal", "NotPrincipal"):
            if not _is_principal(statement.get(field, "*")):
                raise Malformed("Invalid principal in policy")
        _check_conditions(statement.get("Condition", {}))
    return statements


def _required(statement: Document, *fields: str) -> None:
    for field in fields:
        if field not in statement and f"Not{field}" not in statement:
            raise Malformed(f"Missing required field {field}")


def _listed(statement: Document, *fields: str) -> list[str]:
    """The texts of the field that is there."""
    value: Any = next((statement[field] for field in fields if field in statement), [])
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in listed):
        raise Malformed("Syntax errors in policy.")
    return listed


def _is_principal(value: Any) -> bool:
    if not isinstance(value, dict):
        return bool(value == "*")
    named = [one if isinstance(one, list) else [one] for one in value.values()]
    return set(value) <= set(PRINCIPALS) and all(
        isinstance(name, str) for names in named for name in names
    )


def _check_conditions(conditions: Any) -> None:
    if not isinstance(conditions, dict):
        raise Malformed("Syntax errors in policy.")
    for operator, keys in conditions.items():
        if not isinstance(keys, dict):
            raise Malformed("Syntax errors in policy.")
        policies.check_operator(operator)
