"""Values that RDS refuses for an instance; moto keeps them as they come.

Sources: RDS API reference, CreateDBInstance and ModifyDBInstance; RDS for PostgreSQL release notes.
"""

from __future__ import annotations

from typing import Any

from runbook_lib.practice.aws.additions import backend
from runbook_lib.practice.aws.wire import AwsError, Document

STORAGE = ("standard", "gp2", "gp3", "io1", "io2")
MONITORING_SECONDS = (0, 1, 5, 10, 15, 30, 60)
MOST_BACKUP_DAYS = 35
# The minor versions of PostgreSQL that RDS has, by major one.
VERSIONS = {
    14: range(15, 21), 15: range(10, 16), 16: range(4, 12), 17: range(2, 8),
}  # fmt: skip


def check(given: Document, database: Any = None) -> None:
    """Raises AwsError for a value that no instance takes, or not this one (moto's `database`)."""
    storage = given.get("StorageType", "gp3")
    if storage not in STORAGE:
        raise AwsError("InvalidParameterValue", f"Invalid storage type: {storage}")
    days = given.get("BackupRetentionPeriod", 0)
    if not 0 <= days <= MOST_BACKUP_DAYS:
        raise AwsError(
            "InvalidParameterValue",
            f"Invalid backup retention period: {days}. Retention period must be between 0 and "
            f"{MOST_BACKUP_DAYS}.",
        )
    _check_monitoring(given, database)
    groups = backend("ec2")
    for group in given.get("VpcSecurityGroupIds", []):
        if groups.get_security_group_from_id(group) is None:
            raise AwsError(
                "InvalidParameterValue", f"Invalid security group , groupId= {group}, groupName=."
            )
    engine = database.engine if database else given.get("Engine")
    if engine == "postgres" and "EngineVersion" in given:
        _check_version(given["EngineVersion"], database)
    if "NewDBInstanceIdentifier" in given:
        raise AwsError("NotImplemented", "The practice platform's RDS renames no instance.", 501)


def _check_monitoring(given: Document, database: Any) -> None:
    seconds = given.get("MonitoringInterval", 0)
    if seconds not in MONITORING_SECONDS:
        raise AwsError(
            "InvalidParameterValue",
            f"Invalid monitoring interval: {seconds}. Valid values: "
            f"{', '.join(str(one) for one in MONITORING_SECONDS)}",
        )
    role = given.get("MonitoringRoleArn") or getattr(database, "monitoring_role_arn", None)
    if seconds and not role:
        raise AwsError(
            "InvalidParameterCombination",
            "A MonitoringRoleARN value is required if you specify a MonitoringInterval value "
            "other than 0.",
        )


def _check_version(wanted: str, database: Any) -> None:
    major, _, minor = wanted.partition(".")
    known = major.isdecimal() and minor.isdecimal() and int(minor) in VERSIONS.get(int(major), ())
    if not known:
        raise AwsError("InvalidParameterCombination", f"Cannot find version {wanted} for postgres")
    if database is None or wanted == database.engine_version:
        return
    if _numbers(wanted) < _numbers(database.engine_version):
        raise AwsError(
            "InvalidParameterCombination",
            f"Cannot upgrade postgres from {database.engine_version} to {wanted}",
        )
    raise AwsError(
        "NotImplemented", "The practice platform's RDS upgrades no server to another version.", 501
    )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
