"""A fresh platform is healthy, seen through the clients that an engineer would use."""

from __future__ import annotations

import base64
import re
import stat
import tomllib
from pathlib import Path

import httpx
import psycopg
import pytest
from practice.ordinary import connect, core, database_connections

from runbook_lib.practice.lookers import aws_client, dns
from runbook_lib.practice.platform import Platform, PracticeError


def test_database_answers_the_monitoring_role(platform: Platform) -> None:
    with connect(platform.env) as connection:
        row = connection.execute(
            "SELECT rolsuper, current_setting('max_connections')::int,"
            " current_setting('superuser_reserved_connections')::int,"
            " (SELECT count(*) FROM pg_stat_statements) > 0, (SELECT count(*) FROM runs)"
            " FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        major = connection.info.server_version // 10000
    assert row == (major < 16, 40, 3, True, 400)


def test_monitoring_role_sees_the_applications_sessions(platform: Platform) -> None:
    with connect(platform.env) as connection:
        rows = connection.execute(
            "SELECT usename, application_name, state, count(*) FROM pg_stat_activity"
            " WHERE usename IN ('platform_api', 'mlflow') GROUP BY 1, 2, 3 ORDER BY 1"
        ).fetchall()
    held = {(role, name): number for role, name, state, number in rows if state == "idle"}
    # Two for each pod, and what its requests have opened.
    assert held["mlflow", "mlflow"] >= 4 and held["platform_api", "platform-api"] >= 6
    assert sum(held.values()) < 28


def test_database_refuses_a_wrong_password(platform: Platform) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(platform.env, password="wrong")


def test_eks_names_the_kubernetes_api_and_its_certificate(platform: Platform) -> None:
    import yaml

    kubeconfig = yaml.safe_load(Path(platform.env["KUBECONFIG"]).read_text())
    served = kubeconfig["clusters"][0]["cluster"]
    eks = aws_client(platform, "eks")
    cluster = eks.describe_cluster(name="mlops-platform-production")["cluster"]
    assert cluster["status"] == "ACTIVE"
    assert cluster["endpoint"] == served["server"]
    certificate = base64.b64decode(cluster["certificateAuthority"]["data"])
    assert certificate.startswith(b"-----BEGIN CERTIFICATE-----")
    assert cluster["resourcesVpcConfig"]["clusterSecurityGroupId"].startswith("sg-")
    group = aws_client(platform, "eks").describe_nodegroup(
        clusterName="mlops-platform-production", nodegroupName="compute-nodes"
    )["nodegroup"]
    assert group["scalingConfig"] == {"minSize": 3, "maxSize": 6, "desiredSize": 3}
    assert group["health"]["issues"] == []


def test_each_node_is_an_instance_with_passing_status_checks(platform: Platform) -> None:
    ec2 = aws_client(platform, "ec2")
    for node in core(platform).list_node().items:
        name = node.metadata.name
        found = ec2.describe_instances(Filters=[{"Name": "private-dns-name", "Values": [name]}])
        (instance,) = found["Reservations"][0]["Instances"]
        zone = instance["Placement"]["AvailabilityZone"]
        assert node.spec.provider_id == f"aws:///{zone}/{instance['InstanceId']}"
        assert node.metadata.labels["topology.kubernetes.io/zone"] == zone
        checks = ec2.describe_instance_status(InstanceIds=[instance["InstanceId"]])
        (status,) = checks["InstanceStatuses"]
        assert status["InstanceStatus"]["Status"] == status["SystemStatus"]["Status"] == "ok"


def test_rds_is_available_and_its_last_hour_calm(platform: Platform) -> None:
    rds = aws_client(platform, "rds")
    name = "mlops-platform-production-mlflow"
    (instance,) = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"]
    assert (instance["DBInstanceStatus"], instance["DBInstanceClass"]) == (
        "available",
        "db.r5.large",
    )
    (group,) = instance["DBParameterGroups"]
    parameters = rds.describe_db_parameters(
        DBParameterGroupName=group["DBParameterGroupName"], Source="user"
    )
    assert {one["ParameterName"]: one["ParameterValue"] for one in parameters["Parameters"]} == {
        "max_connections": "40"
    }
    points = database_connections(platform)
    assert len(points) >= 11
    assert 10 <= min(points) <= max(points) <= 20


def test_nodes_and_pods_are_ready(platform: Platform) -> None:
    api = core(platform)
    nodes = api.list_node().items
    assert len(nodes) == 3
    for one in [*nodes, *api.list_pod_for_all_namespaces().items]:
        (ready,) = [
            condition.status for condition in one.status.conditions if condition.type == "Ready"
        ]
        assert ready == "True", one.metadata.name


@pytest.mark.parametrize(
    ("namespace", "selector", "count"),
    [
        ("mlops-platform", "app=mlflow", 2),
        ("mlops-platform", "app=platform-api", 3),
        ("mlops-platform", "app=feast", 2),
        ("kserve", "control-plane=kserve-controller-manager", 1),
        ("kube-system", "k8s-app=aws-node", 3),
        ("kube-system", "k8s-app=kube-dns", 2),
        ("kube-system", "app=cluster-autoscaler", 1),
    ],
)
def test_pods_carry_the_runbooks_labels(
    platform: Platform, namespace: str, selector: str, count: int
) -> None:
    pods = core(platform).list_namespaced_pod(namespace, label_selector=selector).items
    assert len(pods) == count


def test_critical_services_have_ready_endpoints(platform: Platform) -> None:
    import kubernetes

    api = kubernetes.client.DiscoveryV1Api(core(platform).api_client)
    for name in ("mlflow", "platform-api", "feast-feature-server"):
        slices = api.list_namespaced_endpoint_slice(
            "mlops-platform", label_selector=f"kubernetes.io/service-name={name}"
        ).items
        ready = [one for part in slices for one in part.endpoints or [] if one.conditions.ready]
        assert len(ready) >= 2, name


def test_database_secret_opens_the_database(platform: Platform) -> None:
    data = core(platform).read_namespaced_secret("mlflow-db-secret", "mlops-platform").data
    value = {key: base64.b64decode(text).decode() for key, text in data.items()}
    with connect(
        platform.env,
        host=value["host"],
        port=value["port"],
        user=value["username"],
        password=value["password"],
        dbname=value["database"],
    ) as connection:
        assert connection.execute("SELECT count(*) FROM experiments").fetchone() == (20,)


def test_endpoints_are_healthy(platform: Platform) -> None:
    for name, body in (("mlflow", "OK"), ("api", "healthy"), ("feast", "")):
        answer = httpx.get(f"{platform.endpoints[name]}/health", trust_env=False)
        assert answer.status_code == 200
        assert body in answer.text


def test_prometheus_fires_what_it_always_does(platform: Platform) -> None:
    answer = httpx.get(f"{platform.endpoints['prometheus']}/api/v1/alerts", trust_env=False).json()
    assert answer["status"] == "success"
    # A rule that has begun to hold only after a heal is pending, and no alert yet.
    alerts = [one for one in answer["data"]["alerts"] if one["state"] == "firing"]
    assert {one["labels"]["alertname"] for one in alerts} == {"Watchdog", "InfoInhibitor"}
    for one in alerts:
        assert (one["state"], one["labels"]["severity"]) == ("firing", "none")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", one["activeAt"])


def test_configuration_file_names_the_endpoints_and_no_secret(platform: Platform) -> None:
    text = Path(platform.env["RUNBOOK_CONFIG"]).read_text()
    configuration = tomllib.loads(text)
    assert configuration["database"] == {
        "host": "127.0.0.1",
        "port": int(platform.env["PGPORT"]),
        "name": "mlflow",
        "user": "mlops_admin",
        "sslmode": "disable",
    }
    assert configuration["endpoints"]["mlflow"] == f"{platform.endpoints['mlflow']}/health"
    assert not [value for value in platform.secrets if value in text]


def test_state_folder_is_for_its_owner_alone(platform: Platform) -> None:
    assert stat.S_IMODE(platform.state.stat().st_mode) == 0o700
    for name in ("platform.json", "kubeconfig"):
        assert stat.S_IMODE((platform.state / name).stat().st_mode) == 0o600


def test_secrets_are_complete_and_long(platform: Platform) -> None:
    environment = {platform.env[name] for name in ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY")}
    assert environment <= set(platform.secrets)
    assert {*platform.passwords.values(), platform.jwt_secret} <= set(platform.secrets)
    assert min(map(len, platform.secrets)) >= 16


def test_a_running_platform_can_be_attached_to(platform: Platform) -> None:
    other = Platform.attach(platform.state)
    assert other.env == platform.env
    assert all(other.control("status")["systems"].values())


def test_a_second_platform_in_the_same_folder_is_refused(platform: Platform) -> None:
    with pytest.raises(PracticeError, match="already runs"):
        Platform.start(platform.state)
    assert all(platform.control("status")["systems"].values())


def test_attaching_to_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(PracticeError, match="no practice platform runs in"):
        Platform.attach(tmp_path)


def test_control_refuses_a_wrong_token(platform: Platform) -> None:
    import json

    url = json.loads((platform.state / "platform.json").read_text())["control"]["url"]
    answer = httpx.post(
        url, json={"action": "shutdown"}, headers={"Authorization": "Bearer x"}, trust_env=False
    )
    assert answer.status_code == 401
    assert all(platform.control("status")["systems"].values())


def test_control_names_what_it_does_not_know(platform: Platform) -> None:
    with pytest.raises(PracticeError, match="unknown action 'sing'"):
        platform.control("sing")


def test_the_databases_own_name_leads_to_it(platform: Platform) -> None:
    (instance,) = aws_client(platform, "rds").describe_db_instances()["DBInstances"]
    assert dns(platform, instance["Endpoint"]["Address"]) == ["127.0.0.1"]
