"""What AWS answers instead when it is made to fail: by service, operation, parameters and count.

A rule is a dict:

kind       a key of ERRORS; or delay, hang (accepts, never answers), reset (torn down)
service    as botocore names it (eks, rds, cloudwatch, elbv2 …) or as requests are signed;
           absent: all
operation  as the API reference names it (DescribeCluster …); absent: all
where      {parameter: pattern}: only calls whose top-level parameters match (* and ? are wild),
           as {"Bucket": "*-artifacts", "Key": "secret/*"}
times      how often it strikes; absent: for good
seconds    of a delay
message    other words than AWS's usual ones
"""

from __future__ import annotations

import fnmatch
import threading
from typing import Any

from runbook_lib.practice.aws.lean import ACCOUNT
from runbook_lib.practice.aws.wire import AwsError, Call

Rule = dict[str, Any]
USER = f"arn:aws:iam::{ACCOUNT}:user/on-call"

# Code and HTTP status, by the family of protocols. Sources: "Common Errors" in each service's
# API reference; "Error codes" of the EC2 API; "Error responses" of Amazon S3.
ERRORS: dict[str, dict[str, tuple[str, int]]] = {
    "denied": {
        "ec2": ("UnauthorizedOperation", 403),
        "json": ("AccessDeniedException", 400),
        "query": ("AccessDenied", 403),
        "s3": ("AccessDenied", 403),
    },
    "throttled": {
        "ec2": ("RequestLimitExceeded", 503),
        "json": ("ThrottlingException", 400),
        "query": ("Throttling", 400),
        "s3": ("SlowDown", 503),
    },
    "expired": {
        "ec2": ("RequestExpired", 400),
        "json": ("ExpiredTokenException", 400),
        "query": ("ExpiredToken", 403),
        "s3": ("ExpiredToken", 400),
    },
    "unknown-identity": {
        "ec2": ("AuthFailure", 401),
        "json": ("UnrecognizedClientException", 400),
        "query": ("InvalidClientTokenId", 403),
        "s3": ("InvalidAccessKeyId", 403),
    },
    "wrong-signature": {
        "ec2": ("AuthFailure", 401),
        "json": ("InvalidSignatureException", 400),
        "query": ("SignatureDoesNotMatch", 403),
        "s3": ("SignatureDoesNotMatch", 403),
    },
    "unavailable": {
        "ec2": ("Unavailable", 503),
        "json": ("ServiceUnavailableException", 503),
        "query": ("ServiceUnavailable", 503),
        "s3": ("ServiceUnavailable", 503),
    },
    "internal": {
        "ec2": ("InternalError", 500),
        "json": ("InternalFailure", 500),
        "query": ("InternalFailure", 500),
        "s3": ("InternalError", 500),
    },
}
# REST-JSON services (EKS) give identity errors the status that says so.
REST_JSON_STATUS = {
    "denied": 403,
    "throttled": 429,
    "expired": 403,
    "unknown-identity": 403,
    "wrong-signature": 403,
}
MESSAGES = {
    "throttled": "Rate exceeded",
    "expired": "The security token included in the request is expired",
    "unknown-identity": "The security token included in the request is invalid.",
    "wrong-signature": "The request signature we calculated does not match the signature you "
    "provided. Check your AWS Secret Access Key and signing method. Consult the service "
    "documentation for details.",
    "unavailable": "The service is temporarily unavailable",
    "internal": "An internal error occurred",
}
OWN_MESSAGES = {
    ("ec2", "unknown-identity"): "AWS was not able to validate the provided access credentials",
    ("ec2", "wrong-signature"): "AWS was not able to validate the provided access credentials",
    ("ec2", "throttled"): "Request limit exceeded.",
    ("s3", "throttled"): "Please reduce your request rate.",
    ("s3", "denied"): "Access Denied",
    (
        "s3",
        "unknown-identity",
    ): "The AWS Access Key Id you provided does not exist in our records.",
}
TRANSPORT = ("delay", "hang", "reset")
FIELDS = {"kind", "service", "operation", "where", "times", "seconds", "message"}
# IAM's name of a service, where that is not the name in the signature.
IAM_PREFIX = {"monitoring": "cloudwatch"}


def family(call: Call) -> str:
    """Which column of ERRORS applies."""
    if call.service == "s3":
        return "s3"
    if "json" in call.protocol:
        return "json"
    return "ec2" if call.protocol == "ec2" else "query"


def failure(call: Call, kind: str, message: str | None = None) -> AwsError:
    """That failure, as this service puts it."""
    column = family(call)
    code, status = ERRORS[kind][column]
    if call.protocol == "rest-json":
        status = REST_JSON_STATUS.get(kind, status)
    action = f"{IAM_PREFIX.get(call.signed, call.signed)}:{call.operation}"
    denied = (
        f"User: {USER} is not authorized to perform: {action} "
        f"because no identity-based policy allows the {action} action"
    )
    said = message or OWN_MESSAGES.get((column, kind)) or MESSAGES.get(kind, denied)
    return AwsError(code, said, status)


def checked(rule: Rule) -> Rule:
    """A copy of the rule. Raises ValueError where it says what no rule can."""
    kinds = (*ERRORS, *TRANSPORT)
    if rule.get("kind") not in kinds:
        raise ValueError(f"unknown AWS fault {rule}: kind is one of {', '.join(kinds)}")
    if unknown := set(rule) - FIELDS:
        raise ValueError(f"unknown AWS fault {rule}: it has no {', '.join(sorted(unknown))}")
    times = rule.get("times")
    if times is not None and (not isinstance(times, int) or times < 1):
        raise ValueError(f"times is a count from 1, or absent for good, not {times!r}")
    if not isinstance(rule.get("where", {}), dict):
        raise ValueError(f"where maps parameters to patterns, not {rule['where']!r}")
    return dict(rule)


class Rules:
    """The faults in force."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._lock = threading.Lock()

    def replace(self, rules: list[Rule]) -> None:
        """Replace all. Raises ValueError for what cannot be asked."""
        fresh = [checked(rule) for rule in rules]
        with self._lock:
            self._rules = fresh

    def striking(self, call: Call) -> list[Rule]:
        """The rules that this request meets, counted down."""
        striking = []
        with self._lock:
            for rule in self._rules:
                if rule.get("times") != 0 and _meets(rule, call):
                    if rule.get("times"):
                        rule["times"] -= 1
                    striking.append(rule)
        return striking


def _meets(rule: Rule, call: Call) -> bool:
    if rule.get("service") not in (None, call.service, call.signed):
        return False
    if rule.get("operation") not in (None, call.operation):
        return False
    where = rule.get("where")
    if not where:
        return True
    if call.operation is None:
        return False
    given = call.parameters
    return all(
        any(fnmatch.fnmatchcase(str(one), pattern) for one in _values(given.get(name)))
        for name, pattern in where.items()
    )


def _values(value: Any) -> list[Any]:
    """A list parameter meets a pattern when one of its members does."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
