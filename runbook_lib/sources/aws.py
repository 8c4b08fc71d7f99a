"""What the runbooks ask of AWS: EKS, EC2, RDS and CloudWatch, read-only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from runbook_lib.config import Config
from runbook_lib.sources.clients import Sources
from runbook_lib.sources.seam import SourceError, probe

_FORBIDDEN = (
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "AuthorizationError",
)
_UNAUTHENTICATED = (
    "ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId",
    "UnrecognizedClientException", "SignatureDoesNotMatch", "AuthFailure",
)  # fmt: skip


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn botocore's errors into SourceError that name the operation and what AWS said."""
    from botocore import exceptions as aws

    try:
        yield
    except aws.ClientError as error:
        said = error.response["Error"]
        code, message = said.get("Code", "?"), said.get("Message", "no message")
        raise SourceError(*_refusal(what, code, message)) from None
    except (
        aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError,
        aws.TokenRetrievalError, aws.SSOError,
    ) as error:  # fmt: skip
        raise SourceError(
            "unauthenticated", f"{what}: {error}", "aws sso login, or set AWS_PROFILE."
        ) from None
    except (aws.ProfileNotFound, aws.ConfigParseError, aws.ConfigNotFound) as error:
        raise SourceError(
            "not-configured", f"{what}: {error}", "Mend AWS_PROFILE or ~/.aws/config."
        ) from None
    except (aws.ReadTimeoutError, aws.ConnectTimeoutError) as error:
        raise SourceError(
            "timeout", f"{what}: {error}", "Is the network path or VPC endpoint open?"
        ) from None
    except aws.BotoCoreError as error:
        raise SourceError("unreachable", f"{what}: {error}", "Is the network path open?") from None


def _refusal(what: str, code: str, said: str) -> tuple[str, str, str]:
    message = f"{what} gave {code}: {said}"
    if code in _FORBIDDEN:
        return "forbidden", message, "Add this read to the identity's policy."
    if code in _UNAUTHENTICATED:
        return "unauthenticated", message, "Renew the credentials: aws sts get-caller-identity."
    if "Throttl" in code or code == "RequestLimitExceeded":
        return "throttled", message, "Ask again in a minute."
    if "NotFound" in code:
        return "missing", message, "Is the name in runbook.toml right, and the region?"
    return "bad-answer", message, "Ask again in a minute; see AWS's own health dashboard."


@probe(
    lambda config: (
        f"aws eks describe-nodegroup --cluster-name {config.cluster.name}"
        f" --nodegroup-name {config.cluster.node_group} --region {config.cluster.region}"
    )
)
def node_group(sources: Sources) -> dict[str, Any]:
    """The EKS node group: {name, status, scaling: {minSize, maxSize, desiredSize},
    issues: [{code, message, resources}]}. Source: eks:DescribeNodegroup.
    """
    cluster = sources.config.cluster
    with asking(f"eks:DescribeNodegroup of {cluster.node_group}"):
        group = sources.aws("eks").describe_nodegroup(
            clusterName=cluster.name, nodegroupName=cluster.node_group
        )["nodegroup"]
    return {
        "name": group["nodegroupName"],
        "status": group["status"],
        "scaling": group.get("scalingConfig", {}),
        "issues": [
            {"code": i["code"], "message": i["message"], "resources": i.get("resourceIds", [])}
            for i in group.get("health", {}).get("issues", [])
        ],
    }


def _rds_command(config: Config) -> str:
    name = config.database.instance
    return f"aws rds describe-db-instances --db-instance-identifier {name}"


@probe(_rds_command)
def database_instance(sources: Sources) -> dict[str, Any]:
    """The RDS instance: {status, class, multi_az, storage_gb, pending, parameter_groups}.

    parameter_groups: [{name, apply: in-sync or pending-reboot}].
    """
    name = sources.config.database.instance
    with asking(f"rds:DescribeDBInstances of {name}"):
        found = sources.aws("rds").describe_db_instances(DBInstanceIdentifier=name)
    instance = found["DBInstances"][0]
    return {
        "status": instance["DBInstanceStatus"],
        "class": instance["DBInstanceClass"],
        "multi_az": instance.get("MultiAZ", False),
        "storage_gb": instance.get("AllocatedStorage"),
        "pending": instance.get("PendingModifiedValues", {}),
        "parameter_groups": [
            {"name": g["DBParameterGroupName"], "apply": g["ParameterApplyStatus"]}
            for g in instance.get("DBParameterGroups", [])
        ],
    }


@probe(
    lambda config, metric="DatabaseConnections", minutes=180: (
        "aws cloudwatch get-metric-statistics"
        f" --namespace AWS/RDS --metric-name {metric}"
        f" --dimensions Name=DBInstanceIdentifier,Value={config.database.instance}"
        f" --start-time $(date -u -d '{minutes} minutes ago' +%Y-%m-%dT%H:%M:%SZ)"
        " --end-time $(date -u +%Y-%m-%dT%H:%M:%SZ) --period 300 --statistics Maximum Average"
    )
)
def database_metric(
    sources: Sources, metric: str = "DatabaseConnections", minutes: int = 180
) -> dict[str, Any]:
    """One CloudWatch metric of the RDS instance, oldest first:
    {metric, points: [{time, maximum, average}]}, five-minute periods.
    """
    now = datetime.now(UTC)
    with asking(f"cloudwatch:GetMetricStatistics of {metric}"):
        answer = sources.aws("cloudwatch").get_metric_statistics(
            Namespace="AWS/RDS",
            MetricName=metric,
            Dimensions=[
                {"Name": "DBInstanceIdentifier", "Value": sources.config.database.instance}
            ],
            StartTime=now - timedelta(minutes=minutes),
            EndTime=now,
            Period=300,
            Statistics=["Maximum", "Average"],
        )
    points = [
        {"time": p["Timestamp"].isoformat(), "maximum": p["Maximum"], "average": p["Average"]}
        for p in answer["Datapoints"]
    ]
    return {"metric": metric, "points": sorted(points, key=lambda p: str(p["time"]))}
