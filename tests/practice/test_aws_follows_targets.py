"""The load balancer's targets are as healthy as what is behind their nodes' ports."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from practice.ordinary import core

from runbook_lib.practice import scenario
from runbook_lib.practice.aws.elbv2 import TargetGroup
from runbook_lib.practice.lookers import aws_client
from runbook_lib.practice.platform import Platform
from runbook_lib.practice.seed.parts import NODES
from runbook_lib.practice.wait import until

SECONDS = 30.0
SPACE = "mlops-platform"
HEALTHY = {"State": "healthy"}


@pytest.fixture
def breakable(platform: Platform) -> Iterator[Platform]:
    """The session's platform, healed afterwards."""
    yield platform
    scenario.heal(platform)


def group_of(platform: Platform, name: str) -> str:
    (found,) = aws_client(platform, "elbv2").describe_target_groups(Names=[f"k8s-{name}"])[
        "TargetGroups"
    ]
    return str(found["TargetGroupArn"])


def health(platform: Platform, name: str) -> dict[str, dict[str, Any]]:
    """Of each target, by its machine's id."""
    answer = aws_client(platform, "elbv2").describe_target_health(
        TargetGroupArn=group_of(platform, name)
    )
    return {one["Target"]["Id"]: one["TargetHealth"] for one in answer["TargetHealthDescriptions"]}


def out(platform: Platform, name: str) -> list[tuple[str, str, str]]:
    """State, reason and description of the targets that are not healthy."""
    return [
        (one["State"], one["Reason"], one["Description"])
        for one in health(platform, name).values()
        if one["State"] != "healthy"
    ]


def until_out(platform: Platform, name: str, *wanted: tuple[str, str, str]) -> None:
    until(lambda: out(platform, name) == list(wanted), SECONDS, f"{name}: {wanted}")


def hosts(platform: Platform, name: str, metric: str, minutes: float = 30) -> list[float]:
    """The last minutes of a host count in CloudWatch, oldest first."""
    cloudwatch = aws_client(platform, "cloudwatch")
    group = group_of(platform, name).rsplit(":", 1)[1]
    (found,) = cloudwatch.list_metrics(
        MetricName=metric, Dimensions=[{"Name": "TargetGroup", "Value": group}]
    )["Metrics"]
    now = datetime.datetime.now(datetime.UTC)
    answer = cloudwatch.get_metric_statistics(
        **found,
        StartTime=now - datetime.timedelta(minutes=minutes),
        EndTime=now,
        Period=60,
        Statistics=["Maximum"],
    )
    points = sorted(answer["Datapoints"], key=lambda point: point["Timestamp"])
    return [point["Maximum"] for point in points]


def scale(platform: Platform, name: str, replicas: int) -> None:
    import kubernetes

    apps = kubernetes.client.AppsV1Api(core(platform).api_client)
    apps.patch_namespaced_deployment_scale(name, SPACE, {"spec": {"replicas": replicas}})


FAILED = ("unhealthy", "Target.FailedHealthChecks", "Health checks failed")
TIMEOUT = ("unhealthy", "Target.Timeout", "Request timed out")


def test_a_healthy_platform_has_healthy_targets(breakable: Platform) -> None:
    for name in ("mlflow", "platform-api"):
        assert list(health(breakable, name).values()) == [HEALTHY] * 3
        assert set(hosts(breakable, name, "HealthyHostCount")) == {3.0}
        assert set(hosts(breakable, name, "UnHealthyHostCount")) == {0.0}


def test_a_service_without_endpoints_has_no_healthy_target(breakable: Platform) -> None:
    scale(breakable, "platform-api", 0)
    until_out(breakable, "platform-api", FAILED, FAILED, FAILED)
    assert out(breakable, "mlflow") == []
    assert hosts(breakable, "platform-api", "HealthyHostCount")[-1] == 0
    unhealthy = hosts(breakable, "platform-api", "UnHealthyHostCount")
    assert (unhealthy[0], unhealthy[-1]) == (0, 3)
    scale(breakable, "platform-api", 3)
    until_out(breakable, "platform-api")
    assert hosts(breakable, "platform-api", "HealthyHostCount")[-1] == 3


def test_a_service_that_is_gone(breakable: Platform) -> None:
    core(breakable).delete_namespaced_service("mlflow", SPACE, _preload_content=False)
    until_out(breakable, "mlflow", FAILED, FAILED, FAILED)
    scenario.heal(breakable)
    # At once: nobody needs to wait after a heal.
    assert out(breakable, "mlflow") == []
    assert set(hosts(breakable, "mlflow", "UnHealthyHostCount")) == {0.0}


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (
            {"status": 503},
            (
                "unhealthy",
                "Target.ResponseCodeMismatch",
                "Health checks failed with these codes: [503]",
            ),
        ),
        pytest.param({"status": 200, "delay": 60.0}, TIMEOUT, marks=pytest.mark.slow),
    ],
)
def test_an_application_that_answers_badly(
    breakable: Platform, behaviour: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    breakable.do("mlflow", "behave", **behaviour)
    until_out(breakable, "mlflow", expected, expected, expected)
    scenario.heal(breakable)
    assert out(breakable, "mlflow") == []


@pytest.mark.slow
def test_an_application_that_fails_elsewhere_is_healthy(breakable: Platform) -> None:
    breakable.do("api", "behave", status=500, path="/api")
    breakable.do("mlflow", "stop")
    until_out(breakable, "mlflow", FAILED, FAILED, FAILED)  # by then both were checked
    assert out(breakable, "platform-api") == []


def test_a_node_that_is_not_ready_answers_no_check(breakable: Platform) -> None:
    core(breakable).delete_node(NODES[0].name)
    until_out(breakable, "mlflow", TIMEOUT)
    until_out(breakable, "platform-api", TIMEOUT)
    machine = aws_client(breakable, "ec2").describe_instances(
        Filters=[{"Name": "private-dns-name", "Values": [NODES[0].name]}]
    )["Reservations"][0]["Instances"][0]["InstanceId"]
    assert health(breakable, "mlflow")[machine]["Reason"] == "Target.Timeout"
    assert hosts(breakable, "mlflow", "HealthyHostCount")[-1] == 2


def test_a_wrong_path_or_port_is_checked_as_it_stands(breakable: Platform) -> None:
    elb, arn = aws_client(breakable, "elbv2"), group_of(breakable, "platform-api")
    elb.modify_target_group(TargetGroupArn=arn, HealthCheckPath="/nothing-here")
    wrong = (
        "unhealthy",
        "Target.ResponseCodeMismatch",
        "Health checks failed with these codes: [404]",
    )
    until_out(breakable, "platform-api", wrong, wrong, wrong)
    elb.modify_target_group(TargetGroupArn=arn, HealthCheckPath="/health")
    until_out(breakable, "platform-api")
    (target, *_) = health(breakable, "platform-api")
    elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": target, "Port": 31801}])
    until_out(breakable, "platform-api", FAILED)


@pytest.mark.slow
def test_a_machine_that_is_stopped_is_unused(breakable: Platform) -> None:
    (machine, *_) = health(breakable, "mlflow")
    aws_client(breakable, "ec2").stop_instances(InstanceIds=[machine])
    until(
        lambda: health(breakable, "mlflow")[machine].get("Reason") == "Target.InvalidState",
        SECONDS,
        "the target to be unused",
    )
    assert hosts(breakable, "mlflow", "HealthyHostCount")[-1] == 2
    assert hosts(breakable, "mlflow", "UnHealthyHostCount")[-1] == 0


def test_a_verb_goes_before_what_is_checked(breakable: Platform) -> None:
    breakable.do("aws", "target_health", target_group="mlflow", reason="Elb.InternalError")
    scale(breakable, "platform-api", 0)
    until_out(breakable, "platform-api", FAILED, FAILED, FAILED)
    assert {reason for _, reason, _ in out(breakable, "mlflow")} == {"Elb.InternalError"}
    assert hosts(breakable, "mlflow", "UnHealthyHostCount")[-1] == 3
    breakable.do("aws", "target_health", target_group="mlflow", reason=None)
    assert out(breakable, "mlflow") == []
    assert hosts(breakable, "mlflow", "UnHealthyHostCount")[-1] == 0


@pytest.mark.slow
def test_checks_leave_no_trace_in_a_pod(breakable: Platform) -> None:
    api = core(breakable)
    breakable.do("mlflow", "traffic", rate=0)
    (pod, *_) = api.list_namespaced_pod(SPACE, label_selector="app=mlflow").items
    elb, arn = aws_client(breakable, "elbv2"), group_of(breakable, "mlflow")
    elb.modify_target_group(TargetGroupArn=arn, HealthCheckPath="/not-to-be-seen")
    until(lambda: len(out(breakable, "mlflow")) == 3, SECONDS, "the checks to fail")
    assert "not-to-be-seen" not in api.read_namespaced_pod_log(pod.metadata.name, SPACE)


@pytest.mark.parametrize(
    ("codes", "taken", "refused"),
    [
        ("200", [200], [201, 404]),
        ("200,202", [200, 202], [201]),
        ("200-299,301", [204, 301], [302]),
    ],
)
def test_the_codes_that_a_group_takes(codes: str, taken: list[int], refused: list[int]) -> None:
    group = TargetGroup({}, "/", 5.0, codes)
    assert all(map(group.takes, taken))
    assert not any(map(group.takes, refused))
