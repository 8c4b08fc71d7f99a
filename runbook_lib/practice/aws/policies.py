"""IAM policies evaluated: explicit deny, allow, or nothing that allows.

Source: IAM user guide, "Policy evaluation logic" and "IAM JSON policy elements". Of conditions the
string operators are known; a policy with another one is refused, not guessed at.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable
from typing import Any

from runbook_lib.practice.aws.wire import AwsError, Document

OPERATORS = ("StringEquals", "StringLike", "StringNotEquals", "StringNotLike", "Bool", "Null")
ALLOWED, EXPLICIT_DENY, IMPLICIT_DENY = "allowed", "explicitDeny", "implicitDeny"
Context = dict[str, str]


def decide(
    documents: Iterable[str | Document],
    action: str,
    resource: str | None,
    context: Context,
    principals: Iterable[str] | None = None,
) -> str:
    """ALLOWED, EXPLICIT_DENY or IMPLICIT_DENY by all statements together.

    `resource` None: not known, so any matches. `principals`: the names under which the caller may
    stand in a resource's own policy; None for policies of the caller, which name nobody.
    """
    allowed = False
    for document in documents:
        for statement in _statements(document):
            if not _concerns(statement, action, resource, context, principals):
                continue
            if statement["Effect"] == "Deny":
                return EXPLICIT_DENY
            allowed = True
    return ALLOWED if allowed else IMPLICIT_DENY


def _statements(document: str | Document) -> list[Document]:
    read: Document = json.loads(document) if isinstance(document, str) else document
    return _listed(read.get("Statement", []))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def like(patterns: Any, value: str, *, folded: bool = False) -> bool:
    """Whether one of the patterns (* and ? are wild) is met."""
    for pattern in _listed(patterns):
        # fnmatch knows [sets], IAM does not.
        literal = str(pattern).replace("[", "[[]")
        if folded:
            literal, value = literal.lower(), value.lower()
        if fnmatch.fnmatchcase(value, literal):
            return True
    return False


def _concerns(
    statement: Document,
    action: str,
    resource: str | None,
    context: Context,
    principals: Iterable[str] | None,
) -> bool:
    if "NotAction" in statement:
        if like(statement["NotAction"], action, folded=True):
            return False
    elif not like(statement.get("Action", []), action, folded=True):
        return False
    if resource is not None:
        if "NotResource" in statement and like(statement["NotResource"], resource):
            return False
        if "Resource" in statement and not like(statement["Resource"], resource):
            return False
    if principals is not None and not _names(statement, set(principals)):
        return False
    return all(
        _holds(operator, key, values, context)
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    )


def _names(statement: Document, principals: set[str]) -> bool:
    if "NotPrincipal" in statement:
        return not _names({"Principal": statement["NotPrincipal"]}, principals)
    given = statement.get("Principal", {})
    if given == "*":
        return True
    named = {str(one) for values in given.values() for one in _listed(values)}
    return "*" in named or bool(named & principals)


def check_operator(operator: str) -> None:
    """Raises AwsError for a condition operator that is not evaluated here."""
    if operator.removesuffix("IfExists") not in OPERATORS:
        raise AwsError(
            "NotImplemented", f"The practice platform evaluates no condition {operator}.", 501
        )


def _holds(operator: str, key: str, values: Any, context: Context) -> bool:
    check_operator(operator)
    optional = operator.endswith("IfExists")
    base = operator.removesuffix("IfExists")
    actual = context.get(key)
    if base == "Null":
        return (actual is None) == (str(_listed(values)[0]).lower() == "true")
    negated = "Not" in base
    if actual is None:
        return optional or negated
    if base == "Bool":
        return actual.lower() in [str(one).lower() for one in _listed(values)]
    met = (
        like(values, actual)
        if base.endswith("Like")
        else actual in [str(one) for one in _listed(values)]
    )
    return met is not negated
