"""RDS, CloudWatch, S3 and ECR as an engineer sees them, and what they refuse."""

from __future__ import annotations

import datetime
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runbook_lib.practice.aws import rds as rds_addition
from runbook_lib.practice.aws import seed_metrics
from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.wait import until

CLUSTER = "mlops-platform-production"
DATABASE = f"{CLUSTER}-mlflow"
GROUP = "mlops-mlflow-params"
ONE = {"DBInstanceIdentifier": DATABASE}
RDS_METRIC = {
    "Namespace": "AWS/RDS",
    "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": DATABASE}],
}
LATENCY = "TargetResponseTime"


def code(call: Any, **arguments: Any) -> str:
    """The code with which AWS refuses that call."""
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    return str(refused.value.response["Error"]["Code"])


def database(account: Aws) -> dict[str, Any]:
    found: dict[str, Any] = account.client("rds").describe_db_instances(**ONE)["DBInstances"][0]
    return found


def until_status(account: Aws, status: str) -> None:
    until(lambda: database(account)["DBInstanceStatus"] == status, 60, f"DB instance {status}")


def change(name: str, value: str, method: str = "pending-reboot") -> dict[str, str]:
    return {"ParameterName": name, "ParameterValue": value, "ApplyMethod": method}


@pytest.fixture
def hurried(breakable_account: Aws, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """RDS takes no seconds for a change of state."""
    monkeypatch.setattr(rds_addition, "PACE_SECONDS", 0.2)
    return breakable_account


def test_a_healthy_database(account: Aws) -> None:
    instance = database(account)
    assert instance["DBInstanceStatus"] == "available"
    assert instance["PendingModifiedValues"] == {}
    assert instance["DBParameterGroups"] == [
        {"DBParameterGroupName": GROUP, "ParameterApplyStatus": "in-sync"}
    ]
    ec2 = account.client("ec2")
    group = instance["VpcSecurityGroups"][0]["VpcSecurityGroupId"]
    rules = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in rules] == [(5432, 5432)]
    source = rules[0]["UserIdGroupPairs"][0]["GroupId"]
    machines = ec2.describe_instances()["Reservations"]
    groups = [one["Instances"][0]["SecurityGroups"][0]["GroupId"] for one in machines]
    assert groups == [source] * 3
    rds = account.client("rds")
    parameters = rds.describe_db_parameters(DBParameterGroupName=GROUP)["Parameters"]
    slots = next(one for one in parameters if one["ParameterName"] == "max_connections")
    assert (slots["Source"], slots["ApplyType"]) == ("user", "static")
    assert slots["ParameterValue"].isdigit()
    user = rds.describe_db_parameters(DBParameterGroupName=GROUP, Source="user")["Parameters"]
    assert [one["ParameterName"] for one in user] == ["max_connections"]
    assert rds.describe_pending_maintenance_actions()["PendingMaintenanceActions"] == []
    classes = rds.describe_orderable_db_instance_options(Engine="postgres")
    assert "db.r5.xlarge" in str(classes["OrderableDBInstanceOptions"])


def test_states_over_time(hurried: Aws) -> None:
    rds = hurried.client("rds")
    hurried.verbs()["rds_state"](status="storage-full", seconds=0.2)
    assert database(hurried)["DBInstanceStatus"] == "storage-full"
    until_status(hurried, "available")
    assert rds.stop_db_instance(**ONE)["DBInstance"]["DBInstanceStatus"] == "stopping"
    until_status(hurried, "stopped")
    with pytest.raises(ClientError, match="is not in available state"):
        rds.reboot_db_instance(**ONE)
    assert code(rds.modify_db_instance, **ONE, MultiAZ=False) == "InvalidDBInstanceState"
    assert rds.start_db_instance(**ONE)["DBInstance"]["DBInstanceStatus"] == "starting"
    until_status(hurried, "available")
    events = rds.describe_events(SourceType="db-instance", SourceIdentifier=DATABASE)["Events"]
    assert "low storage" in [one["EventCategories"][0] for one in events]
    with pytest.raises(ValueError, match="status is one of"):
        hurried.verbs()["rds_state"](status="tired")


def test_changes_wait_unless_applied_immediately(hurried: Aws) -> None:
    rds = hurried.client("rds")
    waiting = rds.modify_db_instance(**ONE, DBInstanceClass="db.r5.xlarge")["DBInstance"]
    assert waiting["DBInstanceClass"] == "db.r5.large"
    assert waiting["PendingModifiedValues"] == {"DBInstanceClass": "db.r5.xlarge"}
    assert waiting["DBInstanceStatus"] == "available"
    at_once = rds.modify_db_instance(**ONE, AllocatedStorage=200, ApplyImmediately=True)
    assert at_once["DBInstance"]["AllocatedStorage"] == 200
    assert at_once["DBInstance"]["DBInstanceStatus"] == "modifying"
    until_status(hurried, "available")


def test_a_static_parameter_waits_for_a_reboot(hurried: Aws) -> None:
    rds = hurried.client("rds")
    rds.modify_db_parameter_group(
        DBParameterGroupName=GROUP, Parameters=[change("max_connections", "400")]
    )
    assert database(hurried)["DBParameterGroups"][0]["ParameterApplyStatus"] == "pending-reboot"
    rds.reboot_db_instance(**ONE)
    assert database(hurried)["DBInstanceStatus"] == "rebooting"
    until_status(hurried, "available")
    assert database(hurried)["DBParameterGroups"][0]["ParameterApplyStatus"] == "in-sync"


def test_what_rds_refuses(breakable_account: Aws) -> None:
    rds = breakable_account.client("rds")
    modify, group = rds.modify_db_instance, {"DBParameterGroupName": GROUP}
    assert code(modify, **ONE, DBInstanceClass="db.z9.tiny") == "InvalidParameterValue"
    assert code(modify, **ONE, AllocatedStorage=10) == "InvalidParameterCombination"
    assert code(modify, **ONE, DBParameterGroupName="absent") == "DBParameterGroupNotFound"
    rds.create_db_parameter_group(
        DBParameterGroupName="other", DBParameterGroupFamily="mysql8.0", Description="other"
    )
    assert code(modify, **ONE, DBParameterGroupName="other") == "InvalidParameterCombination"
    parameters = rds.modify_db_parameter_group
    for wrong, expected in (
        (change("max_connectionz", "400"), "InvalidParameterValue"),
        (change("max_connections", "1"), "InvalidParameterValue"),
        (change("max_connections", "400", "immediate"), "InvalidParameterCombination"),
    ):
        assert code(parameters, **group, Parameters=[wrong]) == expected
    parameters(**group, Parameters=[change("work_mem", "65536", "immediate")])
    assert code(rds.delete_db_parameter_group, **group) == "InvalidDBParameterGroupState"
    new = {
        "DBInstanceIdentifier": "other",
        "AllocatedStorage": 20,
        "MasterUsername": "admin_user",
        "MasterUserPassword": "not-so-secret-1",
    }
    create = rds.create_db_instance
    wrong_engine = {"Engine": "postgress", "DBInstanceClass": "db.r5.large"}
    assert code(create, **new, **wrong_engine) == "InvalidParameterValue"
    wrong_class = {"Engine": "postgres", "DBInstanceClass": "db.r5.tiny"}
    assert code(create, **new, **wrong_class) == "InvalidParameterValue"
    absent = {"DBInstanceIdentifier": "absent"}
    assert code(rds.describe_db_instances, **absent) == "DBInstanceNotFound"
    assert code(rds.reboot_db_instance, **absent) == "DBInstanceNotFound"


def test_events_and_logs_of_the_database(breakable_account: Aws) -> None:
    verbs = breakable_account.verbs()
    verbs["rds_event"](message="Multi-AZ instance failover completed", category="failover", age=300)
    line = "2026-01-26 09:40:11 UTC::FATAL:  remaining connection slots are reserved"
    verbs["rds_log"](lines=["first", line])
    rds = breakable_account.client("rds")
    events = rds.describe_events(SourceType="db-instance", SourceIdentifier=DATABASE)["Events"]
    assert "Multi-AZ instance failover completed" in [one["Message"] for one in events]
    short = rds.describe_events(SourceType="db-instance", Duration=2)["Events"]
    assert "Multi-AZ instance failover completed" not in [one["Message"] for one in short]
    name = rds.describe_db_log_files(**ONE)["DescribeDBLogFiles"][0]["LogFileName"]
    read = rds.download_db_log_file_portion
    assert read(**ONE, LogFileName=name)["LogFileData"] == f"first\n{line}\n"
    assert read(**ONE, LogFileName=name, NumberOfLines=1)["LogFileData"] == f"{line}\n"


def last(minutes: float, **more: Any) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    return {"StartTime": now - datetime.timedelta(minutes=minutes), "EndTime": now, **more}


def maxima(account: Aws, metric: str, minutes: float = 60) -> list[float]:
    """One-minute maxima of a metric of the database, oldest first."""
    answer = account.client("cloudwatch").get_metric_statistics(
        **RDS_METRIC, MetricName=metric, Statistics=["Maximum"], **last(minutes, Period=60)
    )
    points = sorted(answer["Datapoints"], key=lambda point: point["Timestamp"])
    return [point["Maximum"] for point in points]


def test_metrics_keep_coming(account: Aws) -> None:
    calm = maxima(account, "CPUUtilization")
    assert 59 <= len(calm) <= 61
    assert all(10 < value < 26 for value in calm)
    metrics = account.client("cloudwatch").list_metrics(Namespace="AWS/ApplicationELB")["Metrics"]
    assert {"HTTPCode_Target_5XX_Count", LATENCY} <= {one["MetricName"] for one in metrics}
    machines = account.client("cloudwatch").list_metrics(
        Namespace="AWS/EC2", MetricName="CPUUtilization"
    )["Metrics"]
    assert len(machines) == 3


def test_percentiles(account: Aws) -> None:
    cloudwatch = account.client("cloudwatch")
    metrics = cloudwatch.list_metrics(Namespace="AWS/ApplicationELB", MetricName=LATENCY)["Metrics"]
    whole = next(one for one in metrics if len(one["Dimensions"]) == 1)
    points = cloudwatch.get_metric_statistics(
        **whole, ExtendedStatistics=["p50", "p99"], **last(60, Period=300)
    )["Datapoints"]
    for point in points:
        assert point["ExtendedStatistics"]["p99"] > 1.5 * point["ExtendedStatistics"]["p50"]
    query = {"Id": "slow", "MetricStat": {"Metric": whole, "Period": 300, "Stat": "p99"}}
    result = cloudwatch.get_metric_data(MetricDataQueries=[query], **last(60))["MetricDataResults"]
    assert result[0]["StatusCode"] == "Complete"
    assert result[0]["Values"][1] == pytest.approx(
        sorted(points, key=lambda point: point["Timestamp"])[-2]["ExtendedStatistics"]["p99"]
    )
    assert result[0]["Timestamps"] == sorted(result[0]["Timestamps"], reverse=True)


def test_a_metric_bends_to_a_level(breakable_account: Aws) -> None:
    metric = breakable_account.verbs()["metric"]
    metric("AWS/RDS", "CPUUtilization", seed_metrics.DATABASE, level=97.0, since=1800, ramp=900)
    seen = maxima(breakable_account, "CPUUtilization")
    assert all(value < 26 for value in seen[:28])
    assert seen[-10:] == [97.0] * 10
    assert seen[32:43] == sorted(seen[32:43])
    metric("AWS/RDS", "CPUUtilization", seed_metrics.DATABASE)
    assert all(value < 26 for value in maxima(breakable_account, "CPUUtilization"))
    with pytest.raises(ValueError, match="no metric"):
        metric("AWS/RDS", "Mood", seed_metrics.DATABASE)


def test_a_metric_that_ends(breakable_account: Aws) -> None:
    points = [[3000.0, 5.0], [2400.0, 7.0]]
    metric = breakable_account.verbs()["metric"]
    metric("AWS/RDS", "CPUUtilization", seed_metrics.DATABASE, points=points, hold=False)
    assert maxima(breakable_account, "CPUUtilization") == [5.0, 7.0]
    metric("AWS/RDS", "CPUUtilization", seed_metrics.DATABASE, points=points)
    assert maxima(breakable_account, "CPUUtilization")[-1] == 7.0
    assert len(maxima(breakable_account, "CPUUtilization")) > 35


def test_what_is_measured_replaces_what_is_assumed(breakable_account: Aws) -> None:
    metrics, database = breakable_account.metrics, seed_metrics.DATABASE
    history = [[600.0, 40.0], [300.0, 60.0]]
    metrics.metric("AWS/RDS", "DatabaseConnections", database, points=history)
    measured = [(time.time() - 120.0, 97.0)]
    metrics.report("AWS/RDS", "DatabaseConnections", database, measured, "Count")
    seen = maxima(breakable_account, "DatabaseConnections")
    assert seen[0] == 40.0
    assert seen[1] == 60.0
    assert seen[-1] == 97.0


def test_own_metrics_and_what_cloudwatch_refuses(breakable_account: Aws) -> None:
    cloudwatch = breakable_account.client("cloudwatch")
    cloudwatch.put_metric_data(
        Namespace="MLOps", MetricData=[{"MetricName": "Models", "Values": [3.0, 5.0]}]
    )
    answer = cloudwatch.get_metric_statistics(
        Namespace="MLOps", MetricName="Models", Statistics=["Average"], **last(5, Period=300)
    )
    # The five minutes may begin a new period.
    assert {point["Average"] for point in answer["Datapoints"]} == {4.0}
    ask, cpu = cloudwatch.get_metric_statistics, {**RDS_METRIC, "MetricName": "CPUUtilization"}
    average = {"Statistics": ["Average"]}
    assert code(ask, **cpu, **average, **last(60 * 24 * 2, Period=60)) == (
        "InvalidParameterCombination"
    )
    assert code(ask, **cpu, **average, **last(60, Period=90)) == "InvalidParameterValue"
    assert code(ask, **cpu, **average, **last(-5, Period=60)) == "InvalidParameterValue"
    assert code(ask, **cpu, **last(60, Period=60)) == "InvalidParameterCombination"
    wrong = {"ExtendedStatistics": ["p101"]}
    assert code(ask, **cpu, **wrong, **last(60, Period=60)) == "InvalidParameterValue"
    own = [{"MetricName": "CPUUtilization", "Value": 1.0}]
    put = cloudwatch.put_metric_data
    assert code(put, Namespace="AWS/RDS", MetricData=own) == "InvalidParameterValue"
    sums = [{"Id": "sum", "Expression": "SUM(METRICS())"}]
    assert code(cloudwatch.get_metric_data, MetricDataQueries=sums, **last(5)) == "ValidationError"


def test_buckets_and_what_is_in_them(account: Aws) -> None:
    s3 = account.client("s3")
    names = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert sorted(names) == [f"{CLUSTER}-{name}" for name in ("artifacts", "features", "models")]
    churn = s3.list_objects_v2(Bucket=f"{CLUSTER}-models", Prefix="churn-model/")
    assert [one["Key"] for one in churn["Contents"]] == [
        "churn-model/MLmodel",
        "churn-model/model.joblib",
    ]
    assert code(s3.get_object, Bucket=f"{CLUSTER}-models", Key="churn/9/x") == "NoSuchKey"
    assert code(s3.list_objects_v2, Bucket="no-such-bucket-here") == "NoSuchBucket"


def test_images_and_those_that_are_not_there(account: Aws) -> None:
    ecr = account.client("ecr")
    repositories = {one["repositoryName"] for one in ecr.describe_repositories()["repositories"]}
    assert {"mlflow", "platform-api", "feast", "redis"} <= repositories
    tags = ecr.describe_images(repositoryName="mlflow")["imageDetails"][0]["imageTags"]
    assert tags == ["3.6.0"]
    describe = ecr.describe_images
    missing = [{"imageTag": "9.9.9"}]
    assert code(describe, repositoryName="mlflow", imageIds=missing) == "ImageNotFoundException"
    assert code(describe, repositoryName="absent") == "RepositoryNotFoundException"
    token = ecr.get_authorization_token()["authorizationData"][0]
    left = token["expiresAt"] - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(hours=11) < left < datetime.timedelta(hours=12, minutes=1)
