"""The clients that an engineer has, pointed at a practice platform by its environment."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import httpx
import psycopg

from runbook_lib.practice.lookers import aws_client
from runbook_lib.practice.platform import Platform


def connect(env: Mapping[str, str], **changes: str) -> psycopg.Connection:
    """A connection by these libpq variables, which `changes` overrides."""
    parameters = {
        "host": env["PGHOST"],
        "port": env["PGPORT"],
        "user": env["PGUSER"],
        "password": env["PGPASSWORD"],
        "dbname": env["PGDATABASE"],
        "sslmode": env["PGSSLMODE"],
        "connect_timeout": "5",
    }
    return psycopg.connect(**{**parameters, **changes}, autocommit=True)


def core(platform: Platform) -> Any:
    import kubernetes

    client = kubernetes.config.new_client_from_config(platform.env["KUBECONFIG"])
    return kubernetes.client.CoreV1Api(client)


def database_connections(platform: Platform) -> list[float]:
    """CloudWatch's maxima of the last hour, oldest first."""
    now = datetime.datetime.now(datetime.UTC)
    answer = aws_client(platform, "cloudwatch").get_metric_statistics(
        Namespace="AWS/RDS",
        MetricName="DatabaseConnections",
        Dimensions=[{"Name": "DBInstanceIdentifier", "Value": "mlops-platform-production-mlflow"}],
        StartTime=now - datetime.timedelta(hours=1),
        EndTime=now,
        Period=300,
        Statistics=["Maximum"],
    )
    points = sorted(answer["Datapoints"], key=lambda point: point["Timestamp"])
    return [point["Maximum"] for point in points]


def firing(platform: Platform) -> dict[str, dict[str, Any]]:
    """The alerts that fire, by name."""
    answer = httpx.get(f"{platform.endpoints['prometheus']}/api/v1/alerts", trust_env=False)
    alerts = answer.json()["data"]["alerts"]
    return {one["labels"]["alertname"]: one for one in alerts if one["state"] == "firing"}
