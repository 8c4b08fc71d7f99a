"""Nothing here can write: the clients themselves refuse, before anything leaves the process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from runbook_lib import config
from runbook_lib.practice.platform import Platform
from runbook_lib.sources.clients import Sources
from runbook_lib.sources.redaction import Redactor
from runbook_lib.sources.seam import SourceError

# An address that nobody listens on: what is refused before the request is never "unreachable".
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def sources(connected: Platform) -> Iterator[Sources]:
    with closing(Sources(config.load(), Redactor())) as made:
        yield made


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "get", ""])
def test_kubernetes_is_only_read(sources: Sources, method: str) -> None:
    path = "/api/v1/namespaces/mlops-platform/pods"
    with pytest.raises(SourceError, match=f"{method} {path} is not a read") as refused:
        sources.kubernetes.request(method, path)
    assert refused.value.kind == "refused"
    assert refused.value.next
    assert json.loads(sources.kubernetes.request("GET", path))["items"]


@pytest.mark.parametrize(
    ("service", "operation", "arguments"),
    [
        ("rds", "modify_db_instance", {"DBInstanceIdentifier": "x"}),
        ("rds", "reboot_db_instance", {"DBInstanceIdentifier": "x"}),
        ("ec2", "terminate_instances", {"InstanceIds": ["i-1"]}),
        ("ec2", "get_password_data", {"InstanceId": "i-1"}),
        ("secretsmanager", "get_secret_value", {"SecretId": "x"}),
        ("ssm", "get_parameter", {"Name": "x"}),
        ("ec2", "create_tags", {"Resources": ["i-1"], "Tags": []}),
        ("eks", "update_nodegroup_config", {"clusterName": "x", "nodegroupName": "y"}),
        (
            "autoscaling",
            "set_desired_capacity",
            {"AutoScalingGroupName": "x", "DesiredCapacity": 1},
        ),
        ("cloudwatch", "put_metric_data", {"Namespace": "x", "MetricData": []}),
        ("secretsmanager", "get_secret_value", {"SecretId": "x"}),
        ("secretsmanager", "batch_get_secret_value", {}),
        ("iam", "attach_role_policy", {"RoleName": "x", "PolicyArn": "y" * 20}),
        ("s3", "delete_object", {"Bucket": "x", "Key": "y"}),
    ],
)
def test_aws_is_only_read_and_refused_before_any_request(
    sources: Sources, monkeypatch: pytest.MonkeyPatch, service: str, operation: str, arguments: dict
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", NOWHERE)
    with pytest.raises(SourceError, match="is not a read") as refused:
        getattr(sources.aws(service), operation)(**arguments)
    assert refused.value.kind == "refused"
    assert refused.value.next


def test_aws_reads_pass(sources: Sources) -> None:
    assert sources.aws("rds").describe_db_instances()["DBInstances"]
    assert sources.aws("eks").list_clusters()["clusters"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE runbook_was_here (x int)",
        "DELETE FROM experiments",
        "UPDATE experiments SET name = 'x'",
        "TRUNCATE experiments",
        "ALTER ROLE mlflow CONNECTION LIMIT 5",
        "GRANT ALL ON SCHEMA public TO mlflow",
    ],
)
def test_postgres_is_only_read(sources: Sources, statement: str) -> None:
    with pytest.raises(SourceError, match="read-only transaction"), sources.postgres() as session:
        session.execute(statement)


def test_a_postgres_session_is_short_tempered_and_says_who_it_is(sources: Sources) -> None:
    names = ("statement_timeout", "lock_timeout", "application_name")
    with sources.postgres() as session:
        said = {n: session.execute(f"SHOW {n}").fetchone()[n] for n in names}
    assert said == {"statement_timeout": "5s", "lock_timeout": "1s", "application_name": "runbook"}


def test_a_statement_that_takes_too_long_is_a_timeout(sources: Sources) -> None:
    with (
        pytest.raises(SourceError, match="statement timeout") as late,
        sources.postgres() as session,
    ):
        session.execute("SET statement_timeout = 20")
        session.execute("SELECT pg_sleep(30)")
    assert late.value.kind == "timeout"


def test_what_the_role_may_not_read_is_forbidden(sources: Sources) -> None:
    with pytest.raises(SourceError, match="permission denied") as refused, sources.postgres() as s:
        s.execute("SELECT pg_read_file('/etc/hostname')")
    assert refused.value.kind == "forbidden"
    assert refused.value.next.startswith("GRANT")
