"""Each fault is seen through ordinary clients, and healed."""

from __future__ import annotations

import base64
import datetime
import json
import ssl
from collections.abc import Iterator

import httpx
import psycopg
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from practice.ordinary import connect, core, database_connections, firing

from runbook_lib.practice import scenario as scenarios
from runbook_lib.practice.demo import SHOWN
from runbook_lib.practice.lookers import aws_client
from runbook_lib.practice.platform import Platform, PracticeError
from runbook_lib.practice.seed.parts import NODES
from runbook_lib.practice.wait import until

QUIET = {"Watchdog", "InfoInhibitor"}


@pytest.fixture
def breakable(platform: Platform) -> Iterator[Platform]:
    """The session's platform, healed afterwards."""
    yield platform
    scenarios.heal(platform)


def broken(platform: Platform, name: str) -> None:
    scenarios.break_platform(platform, scenarios.find(name))


def application(platform: Platform) -> psycopg.Connection:
    """A connection as the platform API makes it."""
    return connect(platform.env, user="platform_api", password=platform.passwords["platform_api"])


def test_leaked_connections_shut_ordinary_clients_out(breakable: Platform) -> None:
    broken(breakable, "rds-connection-exhaustion/leaking-client")
    with pytest.raises(psycopg.OperationalError, match=r"slots|too many clients"):
        application(breakable)
    with connect(breakable.env) as monitoring:
        counted = monitoring.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'platform-api'"
            " AND usename = 'platform_api' AND state = 'idle'"
        ).fetchone()
    assert counted and counted[0] > 20
    points = database_connections(breakable)
    assert points[0] < 20 < 30 < points[-1]
    assert "PostgresqlTooManyConnections" in firing(breakable)

    scenarios.heal(breakable)
    application(breakable).close()
    assert max(database_connections(breakable)) <= 20
    assert set(firing(breakable)) == QUIET


def _connects(platform: Platform) -> bool:
    try:
        application(platform).close()
    except psycopg.OperationalError:
        return False
    return True


def test_leaked_connections_can_be_ended_by_the_monitoring_role(breakable: Platform) -> None:
    broken(breakable, "rds-connection-exhaustion/leaking-client")
    with connect(breakable.env) as monitoring:
        monitoring.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'platform-api'"
        )
        until(lambda: _connects(breakable), 60, "ordinary clients get in again")
    scenarios.heal(breakable)
    with connect(breakable.env) as monitoring:
        pooled = monitoring.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'platform-api'"
        ).fetchone()
    assert pooled and 6 <= pooled[0] < 16


def test_full_disk_is_reported_by_its_node_alone(breakable: Platform) -> None:
    broken(breakable, "full-disk")
    name = NODES[1].name
    api = core(breakable)
    pressed = {}
    for node in api.list_node().items:
        (condition,) = [one for one in node.status.conditions if one.type == "DiskPressure"]
        pressed[node.metadata.name] = condition
    assert {node: one.status == "True" for node, one in pressed.items()} == {
        node: node == name for node in pressed
    }
    since = pressed[name].last_transition_time
    age = datetime.datetime.now(datetime.UTC) - since
    assert datetime.timedelta(minutes=24) < age < datetime.timedelta(minutes=30)
    answer = api.connect_get_node_proxy_with_path(name, "stats/summary", _preload_content=False)
    stats = json.loads(answer.data)
    filesystem = stats["node"]["fs"]
    assert filesystem["usedBytes"] / filesystem["capacityBytes"] == pytest.approx(0.96, abs=0.01)
    assert firing(breakable)["KubeNodePressure"]["labels"]["node"] == name

    scenarios.heal(breakable)
    for node in api.list_node().items:
        (condition,) = [one for one in node.status.conditions if one.type == "DiskPressure"]
        assert condition.status == "False"


def test_missing_secret_key_makes_the_api_crash_loop(breakable: Platform) -> None:
    broken(breakable, "missing-secret-key")
    api = core(breakable)
    pods = api.list_namespaced_pod("mlops-platform", label_selector="app=platform-api").items
    crashing = [
        pod
        for pod in pods
        for one in pod.status.container_statuses
        if one.state.waiting and one.state.waiting.reason == "CrashLoopBackOff"
    ]
    assert crashing
    (status,) = crashing[0].status.container_statuses
    assert status.restart_count >= 3
    assert status.last_state.terminated.exit_code == 1
    log = api.read_namespaced_pod_log(crashing[0].metadata.name, "mlops-platform", previous=True)
    assert "KeyError: 'JWT_SECRET'" in log
    assert breakable.passwords["platform_api"] in log
    assert "</script><img src=x onerror=alert(1)>" in log
    secret = api.read_namespaced_secret("platform-api-secrets", "mlops-platform")
    assert set(secret.data) == {"database-url"}
    alert = firing(breakable)["KubePodCrashLooping"]
    assert alert["labels"]["namespace"] == "mlops-platform"

    scenarios.heal(breakable)
    secret = api.read_namespaced_secret("platform-api-secrets", "mlops-platform")
    assert base64.b64decode(secret.data["jwt-secret"]).decode() == breakable.jwt_secret
    pods = api.list_namespaced_pod("mlops-platform", label_selector="app=platform-api").items
    assert [one.ready for pod in pods for one in pod.status.container_statuses] == [True] * 3


def test_all_faults_at_once_are_healed_together(breakable: Platform) -> None:
    for name in SHOWN:
        broken(breakable, name)
    assert set(firing(breakable)) == QUIET | {
        "PostgresqlTooManyConnections",
        "KubeNodePressure",
        "KubePodCrashLooping",
    }
    scenarios.heal(breakable)
    assert set(firing(breakable)) == QUIET
    application(breakable).close()
    warnings = core(breakable).list_event_for_all_namespaces(field_selector="type=Warning")
    assert not warnings.items


@pytest.mark.parametrize(
    ("kind", "codes", "status"),
    [
        ("denied", {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}, {400, 403}),
        (
            "throttled",
            {"Throttling", "ThrottlingException", "RequestLimitExceeded"},
            {400, 429, 503},
        ),
        ("expired", {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}, {400, 403}),
        (
            "unavailable",
            {"ServiceUnavailable", "ServiceUnavailableException", "Unavailable"},
            {503},
        ),
    ],
)
def test_aws_errors_in_each_services_own_words(
    breakable: Platform, kind: str, codes: set[str], status: set[int]
) -> None:
    breakable.do("aws", "faults", rules=[{"kind": kind}])
    calls = (
        ("eks", "list_clusters"),
        ("ec2", "describe_instances"),
        ("rds", "describe_db_instances"),
        ("cloudwatch", "list_metrics"),
        ("sts", "get_caller_identity"),
        ("autoscaling", "describe_auto_scaling_groups"),
    )
    seen = set()
    for service, operation in calls:
        with pytest.raises(ClientError) as refused:
            getattr(aws_client(breakable, service), operation)()
        seen.add(refused.value.response["Error"]["Code"])
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in status, service
    assert seen == codes


def test_aws_fault_strikes_the_operation_it_names_as_often_as_it_says(breakable: Platform) -> None:
    rule = {"kind": "denied", "service": "eks", "operation": "DescribeCluster", "times": 1}
    breakable.do("aws", "faults", rules=[rule])
    eks = aws_client(breakable, "eks")
    assert eks.list_clusters()["clusters"] == ["mlops-platform-production"]
    with pytest.raises(ClientError, match="not authorized to perform: eks:DescribeCluster"):
        eks.describe_cluster(name="mlops-platform-production")
    assert eks.describe_cluster(name="mlops-platform-production")["cluster"]


def test_aws_delay_outlasts_a_clients_patience(breakable: Platform) -> None:
    breakable.do("aws", "faults", rules=[{"kind": "delay", "service": "rds", "seconds": 60}])
    with pytest.raises(BotoCoreError, match="Read timeout"):
        aws_client(breakable, "rds", seconds=0.3).describe_db_instances()
    assert aws_client(breakable, "sts").get_caller_identity()["Account"] == "123456789012"


def test_unknown_aws_fault_is_refused(breakable: Platform) -> None:
    with pytest.raises(PracticeError, match="kind is one of"):
        breakable.do("aws", "faults", rules=[{"kind": "tired"}])


@pytest.mark.parametrize("name", ["mlflow", "api", "feast", "prometheus", "aws", "kubernetes"])
def test_stopped_system_refuses_and_returns_on_its_port(breakable: Platform, name: str) -> None:
    urls = {
        **breakable.endpoints,
        "aws": breakable.env["AWS_ENDPOINT_URL"],
        "kubernetes": breakable.kubernetes_url,
    }

    def answers() -> bool:
        try:
            httpx.get(urls[name], trust_env=False, verify=False)
        except httpx.ConnectError:
            return False
        return True

    assert answers()
    breakable.do(name, "stop")
    assert not answers()
    assert breakable.control("status")["systems"][name] is False
    breakable.do(name, "start")
    assert answers()


def test_kubernetes_returns_with_its_objects_and_certificate(breakable: Platform) -> None:
    before = core(breakable).read_node("ip-10-0-1-7.ec2.internal").metadata.uid
    breakable.do("kubernetes", "restart")
    assert core(breakable).read_node("ip-10-0-1-7.ec2.internal").metadata.uid == before
    eks = aws_client(breakable, "eks")
    cluster = eks.describe_cluster(name="mlops-platform-production")["cluster"]
    context = ssl.create_default_context(
        cadata=base64.b64decode(cluster["certificateAuthority"]["data"]).decode()
    )
    assert httpx.get(f"{cluster['endpoint']}/healthz", verify=context, trust_env=False).text == "ok"


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_ended_postgres_refuses_and_comes_back_with_its_rows(breakable: Platform, end: str) -> None:
    breakable.do("postgres", end)
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connect(breakable.env)
    breakable.do("postgres", "start")
    with connect(breakable.env) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (400,)


def test_heal_starts_what_was_stopped(breakable: Platform) -> None:
    for name in ("postgres", "aws", "kubernetes", "mlflow"):
        breakable.do(name, "stop")
    scenarios.heal(breakable)
    assert all(breakable.control("status")["systems"].values())
    assert len(core(breakable).list_node().items) == 3


def test_an_impossible_order_is_refused(breakable: Platform) -> None:
    with pytest.raises(PracticeError, match="there is no verb 'kill'"):
        breakable.do("aws", "kill")


def test_endpoint_answers_as_told(breakable: Platform) -> None:
    url = f"{breakable.endpoints['mlflow']}/health"
    breakable.do("mlflow", "behave", status=503, body="no database")
    answer = httpx.get(url, trust_env=False)
    assert (answer.status_code, answer.text) == (503, "no database")
    breakable.do("mlflow", "heal")
    breakable.do("mlflow", "slow", seconds=60)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(url, trust_env=False, timeout=0.3)
    breakable.do("mlflow", "heal")
    assert httpx.get(url, trust_env=False).text == "OK"


def test_kubernetes_api_can_refuse(breakable: Platform) -> None:
    import kubernetes

    breakable.do("kubernetes", "fault", status=403)
    with pytest.raises(kubernetes.client.ApiException) as refused:
        core(breakable).list_node()
    assert refused.value.status == 403
    breakable.do("kubernetes", "fault")
    assert len(core(breakable).list_node().items) == 3
