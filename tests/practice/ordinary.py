"""The clients that an engineer has, pointed at a practice platform by its environment."""

from __future__ import annotations

import datetime
from typing import Any

import httpx
import psycopg

from runbook_lib.practice.platform import Platform


def connect(platform: Platform, **changes: str) -> psycopg.Connection:
    env = platform.env
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


def aws(platform: Platform, service: str, *, read_timeout: float = 5) -> Any:
    import boto3
    from botocore.config import Config

    env = platform.env
    return boto3.client(
        service,
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_DEFAULT_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        config=Config(
            retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=read_timeout
        ),
    )


def core(platform: Platform) -> Any:
    import kubernetes

    client = kubernetes.config.new_client_from_config(platform.env["KUBECONFIG"])
    return kubernetes.client.CoreV1Api(client)


def database_connections(platform: Platform) -> list[float]:
    """CloudWatch's maxima of the last hour, oldest first."""
    now = datetime.datetime.now(datetime.UTC)
    answer = aws(platform, "cloudwatch").get_metric_statistics(
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
