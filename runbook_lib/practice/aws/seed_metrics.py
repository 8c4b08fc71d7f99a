"""CloudWatch in health: what the account's database, load balancer and machines publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook_lib.practice.aws.names import DB_INSTANCE
from runbook_lib.practice.aws.series import Series

if TYPE_CHECKING:
    from runbook_lib.practice.aws.cloudwatch import Metrics

GIB = 1024.0**3
RDS = "AWS/RDS"
DATABASE = {"DBInstanceIdentifier": DB_INSTANCE}
# Of a calm platform: middle, swing, unit.
Calm = dict[str, tuple[float, float, str]]
CALM: Calm = {
    # As the pools of the applications' pods, and the exporter, have it.
    "DatabaseConnections": (15.0, 1.0, "Count"),
    "CPUUtilization": (18.0, 6.0, "Percent"),
    "FreeStorageSpace": (61.0 * GIB, 0.2 * GIB, "Bytes"),
    "FreeableMemory": (9.5 * GIB, 0.3 * GIB, "Bytes"),
    "ReadLatency": (0.0006, 0.0002, "Seconds"),
    "WriteLatency": (0.0011, 0.0003, "Seconds"),
    "ReadIOPS": (45.0, 15.0, "Count/Second"),
    "WriteIOPS": (80.0, 20.0, "Count/Second"),
    "DiskQueueDepth": (0.1, 0.05, "Count"),
    "SwapUsage": (0.0, 0.0, "Bytes"),
    "EBSIOBalance%": (99.0, 0.0, "Percent"),
    "EBSByteBalance%": (99.0, 0.0, "Percent"),
}
BALANCER: Calm = {
    "RequestCount": (620.0, 80.0, "Count"),
    "TargetResponseTime": (0.085, 0.01, "Seconds"),
    "HTTPCode_Target_2XX_Count": (605.0, 78.0, "Count"),
    "HTTPCode_Target_4XX_Count": (12.0, 4.0, "Count"),
    "HTTPCode_Target_5XX_Count": (0.0, 0.0, "Count"),
    "HTTPCode_ELB_5XX_Count": (0.0, 0.0, "Count"),
    "TargetConnectionErrorCount": (0.0, 0.0, "Count"),
    "ActiveConnectionCount": (90.0, 10.0, "Count"),
}
TARGET_GROUP: Calm = {
    "HealthyHostCount": (3.0, 0.0, "Count"),
    "UnHealthyHostCount": (0.0, 0.0, "Count"),
    "TargetResponseTime": (0.085, 0.01, "Seconds"),
    "RequestCount": (310.0, 40.0, "Count"),
    "HTTPCode_Target_5XX_Count": (0.0, 0.0, "Count"),
}
MACHINE: Calm = {
    "CPUUtilization": (30.0, 8.0, "Percent"),
    "StatusCheckFailed": (0.0, 0.0, "Count"),
    "StatusCheckFailed_Instance": (0.0, 0.0, "Count"),
    "StatusCheckFailed_System": (0.0, 0.0, "Count"),
    "StatusCheckFailed_AttachedEBS": (0.0, 0.0, "Count"),
    "NetworkIn": (4.1e7, 6e6, "Bytes"),
    "NetworkOut": (3.2e7, 5e6, "Bytes"),
    "EBSIOBalance%": (99.0, 0.0, "Percent"),
}
VOLUME: Calm = {
    "VolumeReadOps": (220.0, 60.0, "Count"),
    "VolumeWriteOps": (900.0, 200.0, "Count"),
    "VolumeQueueLength": (0.05, 0.02, "Count"),
    "VolumeIdleTime": (55.0, 2.0, "Seconds"),
}
# Ten requests of one minute: most a little faster than the middle, one much slower.
REQUESTS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.8)


def publish(
    metrics: Metrics,
    balancer: str,
    target_groups: list[str],
    instances: list[str],
    volumes: list[str],
) -> None:
    """`balancer` and `target_groups` as their dimensions have them: app/NAME/ID, targetgroup/…"""
    _add(metrics, RDS, DATABASE, CALM)
    _add(metrics, "AWS/ApplicationELB", {"LoadBalancer": balancer}, BALANCER)
    for group in target_groups:
        dimensions = {"TargetGroup": group, "LoadBalancer": balancer}
        _add(metrics, "AWS/ApplicationELB", dimensions, TARGET_GROUP)
    for instance in instances:
        _add(metrics, "AWS/EC2", {"InstanceId": instance}, MACHINE)
    for volume in volumes:
        _add(metrics, "AWS/EBS", {"VolumeId": volume}, VOLUME)


def _add(metrics: Metrics, namespace: str, dimensions: dict[str, str], calm: Calm) -> None:
    for name, (middle, swing, unit) in calm.items():
        tail = REQUESTS if name == "TargetResponseTime" else (1.0,)
        whole = unit == "Count" and middle in (0.0, round(middle))
        series = Series(namespace, name, dict(dimensions), unit, middle, swing, whole, tail=tail)
        metrics.add(series)
