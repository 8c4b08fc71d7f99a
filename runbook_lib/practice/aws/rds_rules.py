"""What RDS refuses: classes, engines and parameters that it does not have.

Sources: RDS API reference, ModifyDBInstance, ModifyDBParameterGroup; RDS user guide, "DB instance
classes" and "Parameters on your RDS for PostgreSQL DB instance".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from runbook_lib.practice.aws.wire import AwsError, Document

SIZES = ("medium", "large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge")
FAMILIES = ("m5", "m6g", "m6i", "m7g", "r5", "r6g", "r6i", "r7g")
BURSTABLE = ("t3", "t4g")
CLASSES = frozenset(
    [f"db.{family}.{size}" for family in FAMILIES for size in SIZES[1:]]
    + [f"db.{family}.{size}" for family in BURSTABLE for size in ("micro", "small", *SIZES[:4])]
)


@dataclass(frozen=True)
class Parameter:
    """A PostgreSQL parameter of a DB parameter group."""

    static: bool
    kind: str
    allowed: str
    default: str | None = None

    def takes(self, value: str) -> bool:
        """Whether a value is allowed; formulas in braces are."""
        if "{" in value or self.kind == "string":
            return True
        if self.kind == "boolean" or "-" not in self.allowed:
            return value in self.allowed.split(",")
        low, _, high = self.allowed.rpartition("-")
        try:
            return float(low) <= float(value) <= float(high)
        except ValueError:
            return False


PARAMETERS = {
    "max_connections": Parameter(
        True, "integer", "6-8388607", "LEAST({DBInstanceClassMemory/9531392},5000)"
    ),
    "shared_buffers": Parameter(True, "integer", "16-1073741823", "{DBInstanceClassMemory/32768}"),
    "work_mem": Parameter(False, "integer", "64-2147483647"),
    "maintenance_work_mem": Parameter(False, "integer", "1024-2147483647"),
    "effective_cache_size": Parameter(False, "integer", "1-2147483647"),
    "shared_preload_libraries": Parameter(True, "string", "", "pg_stat_statements"),
    "pg_stat_statements.track": Parameter(False, "string", "none,top,all", "top"),
    "idle_in_transaction_session_timeout": Parameter(False, "integer", "0-2147483647", "86400000"),
    "idle_session_timeout": Parameter(False, "integer", "0-2147483647"),
    "statement_timeout": Parameter(False, "integer", "0-2147483647"),
    "lock_timeout": Parameter(False, "integer", "0-2147483647"),
    "log_min_duration_statement": Parameter(False, "integer", "-1-2147483647"),
    "log_lock_waits": Parameter(False, "boolean", "0,1"),
    "random_page_cost": Parameter(False, "float", "0-1.79769e+308"),
    "autovacuum": Parameter(False, "boolean", "0,1", "1"),
    "autovacuum_vacuum_scale_factor": Parameter(False, "float", "0-100", "0.1"),
    "max_wal_size": Parameter(False, "integer", "128-2147483647"),
    "checkpoint_timeout": Parameter(False, "integer", "30-3600"),
    "rds.force_ssl": Parameter(False, "boolean", "0,1", "1"),
    "tcp_keepalives_idle": Parameter(False, "integer", "0-2147483647", "300"),
}


# The practice Postgres takes these; the rest are of another server's memory, or of RDS itself.
REAL = frozenset(
    (
        "max_connections",
        "work_mem",
        "pg_stat_statements.track",
        "idle_in_transaction_session_timeout",
        "statement_timeout",
        "lock_timeout",
        "log_min_duration_statement",
        "log_lock_waits",
        "random_page_cost",
        "autovacuum",
        "autovacuum_vacuum_scale_factor",
        "max_wal_size",
        "checkpoint_timeout",
    )
)
PLAIN = re.compile(r"-?\d+(\.\d+)?|[a-z]+")


def real(parameters: Iterable[Document]) -> dict[str, str]:
    """Name and value of those that the practice Postgres takes; a formula leaves what it has."""
    return {
        one["ParameterName"]: value
        for one in parameters
        if one["ParameterName"] in REAL and PLAIN.fullmatch(value := one.get("ParameterValue", ""))
    }


def check_class(name: str) -> None:
    if name not in CLASSES:
        raise AwsError("InvalidParameterValue", f"Invalid DB Instance class: {name}")


def check_parameters(parameters: list[Document]) -> None:
    for given in parameters:
        name, value = given.get("ParameterName", ""), given.get("ParameterValue", "")
        known = PARAMETERS.get(name)
        if known is None:
            raise AwsError("InvalidParameterValue", f"Could not find parameter with name: {name}")
        if known.static and given.get("ApplyMethod") == "immediate":
            raise AwsError(
                "InvalidParameterCombination",
                "cannot use immediate apply method for static parameter",
            )
        if not known.takes(value):
            raise AwsError(
                "InvalidParameterValue",
                f"Value: {value} is outside of range: {known.allowed} for parameter: {name}",
            )


def described(name: str, user: Document | None) -> Document:
    """A parameter as DescribeDBParameters has it; `user` what a group says of it."""
    known = PARAMETERS[name]
    value = (user or {}).get("ParameterValue", known.default)
    shown: Document = {
        "ParameterName": name,
        "Source": "user" if user else ("system" if known.default else "engine-default"),
        "ApplyType": "static" if known.static else "dynamic",
        "DataType": known.kind,
        "IsModifiable": True,
        "ApplyMethod": (user or {}).get("ApplyMethod", "pending-reboot"),
    }
    if known.allowed:
        shown["AllowedValues"] = known.allowed
    if value is not None:
        shown["ParameterValue"] = value
    return shown
