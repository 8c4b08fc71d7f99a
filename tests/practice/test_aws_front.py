"""The front before moto: faults in each service's own words, and verbs that a scenario uses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError
from botocore.exceptions import ConnectionError as Unreachable

from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.system import perform

CLUSTER = "mlops-platform-production"


def refusal(call: Any, **arguments: Any) -> tuple[str, int]:
    """The code and the status with which AWS refuses that call."""
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    answer = refused.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


@pytest.fixture
def failing(account: Aws) -> Iterator[Aws]:
    """For tests that need no other healing than to end the faults."""
    yield account
    account.faults([])


@pytest.mark.parametrize(
    ("kind", "service", "operation", "code", "status"),
    [
        ("denied", "eks", "list_clusters", "AccessDeniedException", 403),
        ("denied", "ec2", "describe_vpcs", "UnauthorizedOperation", 403),
        ("denied", "ssm", "describe_instance_information", "AccessDeniedException", 400),
        ("denied", "s3", "list_buckets", "AccessDenied", 403),
        ("throttled", "autoscaling", "describe_auto_scaling_groups", "Throttling", 400),
        ("throttled", "s3", "list_buckets", "SlowDown", 503),
        ("expired", "sts", "get_caller_identity", "ExpiredToken", 403),
        ("expired", "ec2", "describe_vpcs", "RequestExpired", 400),
        ("unknown-identity", "sts", "get_caller_identity", "InvalidClientTokenId", 403),
        ("unknown-identity", "eks", "list_clusters", "UnrecognizedClientException", 403),
        ("unknown-identity", "ec2", "describe_vpcs", "AuthFailure", 401),
        ("wrong-signature", "sts", "get_caller_identity", "SignatureDoesNotMatch", 403),
        ("wrong-signature", "eks", "list_clusters", "InvalidSignatureException", 403),
        ("unavailable", "rds", "describe_db_instances", "ServiceUnavailable", 503),
        ("internal", "elbv2", "describe_load_balancers", "InternalFailure", 500),
    ],
)
def test_failures_in_the_services_own_words(
    failing: Aws, kind: str, service: str, operation: str, code: str, status: int
) -> None:
    failing.faults([{"kind": kind}])
    call = getattr(failing.client(service), operation)
    assert refusal(call) == (code, status)


def test_a_fault_counts_its_strikes_and_keeps_to_its_operation(failing: Aws) -> None:
    failing.faults(
        [{"kind": "throttled", "service": "eks", "operation": "DescribeCluster", "times": 1}]
    )
    eks = failing.client("eks")
    assert eks.list_clusters()["clusters"] == [CLUSTER]
    assert refusal(eks.describe_cluster, name=CLUSTER) == ("ThrottlingException", 429)
    assert eks.describe_cluster(name=CLUSTER)["cluster"]["status"] == "ACTIVE"


def test_denied_for_one_bucket_and_prefix(failing: Aws) -> None:
    where = {"Bucket": "*-artifacts", "Key": "1/*"}
    failing.faults([{"kind": "denied", "service": "s3", "where": where}])
    s3 = failing.client("s3")
    bucket = f"{CLUSTER}-artifacts"
    key = "1/6f1c2d3e4b5a4c7d8e9f0a1b2c3d4e5f/artifacts/model/MLmodel"
    assert refusal(s3.get_object, Bucket=bucket, Key=key) == ("AccessDenied", 403)
    assert refusal(s3.head_object, Bucket=bucket, Key=key) == ("403", 403)
    assert s3.get_object(Bucket=bucket, Key="test.txt")["Body"].read() == b"reachable\n"
    assert s3.head_object(Bucket=f"{CLUSTER}-features", Key="registry.db")["ContentLength"] > 0
    assert refusal(s3.head_object, Bucket=bucket, Key="absent") == ("404", 404)


def test_one_service_is_torn_down_while_others_answer(failing: Aws) -> None:
    failing.faults([{"kind": "reset", "service": "eks"}])
    with pytest.raises((ConnectionClosedError, Unreachable)):
        failing.client("eks").list_clusters()
    assert failing.client("sts").get_caller_identity()["Account"] == "123456789012"


def test_a_hanging_service_ends_with_the_server(breakable_account: Aws) -> None:
    breakable_account.faults([{"kind": "hang", "service": "eks"}])
    answers: list[Exception] = []

    def ask() -> None:
        try:
            breakable_account.client("eks").list_clusters()
        except (ConnectionClosedError, Unreachable) as error:
            answers.append(error)

    waiting = threading.Thread(target=ask)
    waiting.start()
    assert breakable_account.client("sts").get_caller_identity()
    assert not answers
    asyncio.run(breakable_account.stop())
    waiting.join()
    assert len(answers) == 1


def test_stopped_refuses_connections_and_started_has_the_same_port(
    breakable_account: Aws,
) -> None:
    url = breakable_account.url
    asyncio.run(breakable_account.stop())
    assert not breakable_account.running
    with pytest.raises(EndpointConnectionError):
        breakable_account.client("sts").get_caller_identity()
    asyncio.run(breakable_account.start())
    assert breakable_account.url == url
    assert breakable_account.client("sts").get_caller_identity()["Arn"].endswith("user/on-call")


@pytest.mark.parametrize(
    "rule",
    [{"kind": "lazy"}, {"kind": "denied", "bucket": "x"}, {"kind": "denied", "times": 0}],
)
def test_rules_that_cannot_be_are_refused(account: Aws, rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown AWS fault|times"):
        account.faults([rule])


def test_call_is_an_ordinary_call_of_the_administrator(breakable_account: Aws) -> None:
    groups = breakable_account.call(
        "ec2",
        "DescribeSecurityGroups",
        {"Filters": [{"Name": "group-name", "Values": [f"{CLUSTER}-rds"]}]},
    )["SecurityGroups"]
    breakable_account.faults([{"kind": "denied"}])  # a scenario's own calls go past them
    breakable_account.call(
        "ec2",
        "RevokeSecurityGroupIngress",
        {"GroupId": groups[0]["GroupId"], "IpPermissions": groups[0]["IpPermissions"]},
    )
    breakable_account.faults([])
    seen = breakable_account.client("ec2").describe_security_groups(GroupIds=[groups[0]["GroupId"]])
    assert seen["SecurityGroups"][0]["IpPermissions"] == []
    listed = breakable_account.call("s3", "ListObjectsV2", {"Bucket": f"{CLUSTER}-models"})
    assert "churn-model/model.joblib" in [one["Key"] for one in listed["Contents"]]


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "said"),
    [
        ("ec3", "DescribeVpcs", {}, "no service"),
        ("ec2", "DescribeVpc", {}, "no operation"),
        ("eks", "DescribeCluster", {}, "name"),
        ("ec2", "DeleteSecurityGroup", {"GroupId": "${security_groups.x}"}, "account has no"),
        ("eks", "DescribeCluster", {"name": "x", "size": 1}, "Unknown parameter"),
        ("eks", "DescribeCluster", {"name": "x"}, "ResourceNotFoundException"),
    ],
)
def test_calls_that_aws_does_not_know_are_refused(
    account: Aws, service: str, operation: str, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        account.call(service, operation, arguments)


def test_heal_makes_the_same_account_again(breakable_account: Aws) -> None:
    before = breakable_account.call("ec2", "DescribeInstances")
    ids = [one["Instances"][0]["InstanceId"] for one in before["Reservations"]]
    breakable_account.point_cluster_at("https://127.0.0.1:6443", "Y2E=")
    breakable_account.faults([{"kind": "denied"}])
    breakable_account.call("ec2", "TerminateInstances", {"InstanceIds": ids})
    breakable_account.call("route53", "CreateHostedZone", {"Name": "a.b", "CallerReference": "1"})
    registry = {"Bucket": f"{CLUSTER}-features", "Key": "registry.db"}
    body = breakable_account.call("s3", "GetObject", registry)["ContentLength"]
    breakable_account.call("s3", "DeleteObject", registry)
    breakable_account.verbs()["cluster"](status="FAILED")
    asyncio.run(perform(breakable_account, "heal", {}))
    s3 = breakable_account.client("s3")
    assert len(s3.get_object(**registry)["Body"].read()) == body
    zones = breakable_account.client("route53").list_hosted_zones()["HostedZones"]
    assert [zone["Name"] for zone in zones] == ["mlops-platform.com."]
    after = breakable_account.client("ec2").describe_instances()["Reservations"]
    assert [one["Instances"][0]["InstanceId"] for one in after] == ids
    assert [one["Instances"][0]["State"]["Name"] for one in after] == ["running"] * 3
    cluster = breakable_account.client("eks").describe_cluster(name=CLUSTER)["cluster"]
    assert (cluster["endpoint"], cluster["status"]) == ("https://127.0.0.1:6443", "ACTIVE")


def test_the_keys_are_secret_and_the_environment_hands_them_out(account: Aws) -> None:
    environment = account.environment()
    assert set(account.secrets()) == {
        environment["AWS_ACCESS_KEY_ID"],
        environment["AWS_SECRET_ACCESS_KEY"],
    }
    assert Aws().secrets() != account.secrets()


@pytest.mark.parametrize(
    ("service", "operation", "arguments"),
    [
        # One of each protocol: JSON 1.1, JSON 1.0, REST with JSON, the query protocol.
        ("redshift-data", "execute_statement", {"Database": "features", "Sql": "SELECT 1"}),
        ("athena", "list_work_groups", {}),
        ("dynamodb", "list_tables", {}),
        ("lambda", "list_functions", {}),
        ("logs", "describe_log_groups", {}),
        ("sns", "list_topics", {}),
    ],
)
def test_services_that_are_not_served_are_refused_though_moto_knows_them(
    account: Aws, service: str, operation: str, arguments: dict[str, Any]
) -> None:
    call = getattr(account.client(service), operation)
    assert refusal(call, **arguments) == ("NotImplemented", 501)
    with pytest.raises(ClientError, match=f"does not serve {service}"):
        call(**arguments)


def test_steps_of_a_scenario_reach_only_what_is_served(account: Aws) -> None:
    with pytest.raises(ValueError, match="does not serve sns"):
        account.verbs()["call"](service="sns", operation="ListTopics")
