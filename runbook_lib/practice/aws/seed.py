"""The AWS account of a healthy platform: network, nodes, EKS, RDS and their metrics' history."""

from __future__ import annotations

import datetime
import math
from typing import Any

from runbook_lib.practice.aws.server import ACCOUNT, REGION, Aws
from runbook_lib.practice.postgres.server import ADMIN, DATABASE, MAX_CONNECTIONS
from runbook_lib.practice.seed.parts import NODES, Node

CLUSTER = "mlops-platform-production"
NODE_GROUP = "compute-nodes"
DB_INSTANCE = "mlops-platform-production-mlflow"
DB_PARAMETER_GROUP = "mlops-mlflow-params"
INSTANCE_TYPE = "m5.xlarge"
GIB = 1024**3

# (age in seconds, value), newest first or not; a CloudWatch history before it has dates.
History = list[tuple[float, float]]


def seed(aws: Aws, master_password: str) -> dict[str, str]:
    """Make the account's resources; returns the EC2 instance id of each node by name."""
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets, instances = [], {}
    for node in NODES:
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=node.subnet, AvailabilityZone=node.zone)[
            "Subnet"
        ]["SubnetId"]
        subnets.append(subnet)
        instances[node.name] = _instance(ec2, node, subnet)
    cluster_group = ec2.create_security_group(
        GroupName=f"eks-cluster-sg-{CLUSTER}", Description="EKS control plane", VpcId=vpc
    )["GroupId"]
    _eks(aws, subnets, cluster_group)
    _rds(aws, master_password)
    for metric in CALM:
        set_history(aws, metric, calm_history(metric))
    return instances


def _instance(ec2: Any, node: Node, subnet: str) -> str:
    tags = {
        "Name": f"{CLUSTER}-{NODE_GROUP}",
        "eks:cluster-name": CLUSTER,
        "eks:nodegroup-name": NODE_GROUP,
        f"kubernetes.io/cluster/{CLUSTER}": "owned",
    }
    answer = ec2.run_instances(
        ImageId="ami-0a1b2c3d4e5f60718",
        InstanceType=INSTANCE_TYPE,
        MinCount=1,
        MaxCount=1,
        NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": subnet, "PrivateIpAddress": node.ip}],
        TagSpecifications=[
            {
                "ResourceType": "instance",
                "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
            }
        ],
    )
    return str(answer["Instances"][0]["InstanceId"])


def _eks(aws: Aws, subnets: list[str], cluster_group: str) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/eks-{{}}-role"
    eks = aws.client("eks")
    eks.create_cluster(
        name=CLUSTER,
        version="1.32",
        roleArn=role.format("cluster"),
        resourcesVpcConfig={
            "subnetIds": subnets,
            "endpointPublicAccess": True,
            "endpointPrivateAccess": False,
            "publicAccessCidrs": ["0.0.0.0/0"],
        },
    )
    # EKS makes this group itself; moto does not.
    _cluster().resources_vpc_config["clusterSecurityGroupId"] = cluster_group
    eks.create_nodegroup(
        clusterName=CLUSTER,
        nodegroupName=NODE_GROUP,
        subnets=subnets,
        nodeRole=role.format("node"),
        instanceTypes=[INSTANCE_TYPE],
        scalingConfig={"minSize": 3, "maxSize": 6, "desiredSize": 3},
    )


def _cluster() -> Any:
    from moto.eks.models import eks_backends

    return eks_backends[ACCOUNT][REGION].clusters[CLUSTER]


def _rds(aws: Aws, master_password: str) -> None:
    rds = aws.client("rds")
    rds.create_db_parameter_group(
        DBParameterGroupName=DB_PARAMETER_GROUP,
        DBParameterGroupFamily="postgres16",
        Description="MLflow's database",
    )
    rds.modify_db_parameter_group(
        DBParameterGroupName=DB_PARAMETER_GROUP,
        Parameters=[
            {
                "ParameterName": "max_connections",
                "ParameterValue": str(MAX_CONNECTIONS),
                "ApplyMethod": "pending-reboot",
            }
        ],
    )
    rds.create_db_instance(
        DBInstanceIdentifier=DB_INSTANCE,
        DBInstanceClass="db.r5.large",
        Engine="postgres",
        EngineVersion="16.4",
        AllocatedStorage=100,
        DBName=DATABASE,
        MasterUsername=ADMIN,
        MasterUserPassword=master_password,
        DBParameterGroupName=DB_PARAMETER_GROUP,
        MultiAZ=True,
    )


def point_cluster_at(url: str, certificate: str) -> None:
    """Make describe-cluster name the practice Kubernetes API. `certificate`: base64 of PEM."""
    cluster = _cluster()
    cluster.endpoint = url
    cluster.certificate_authority = {"data": certificate}


# AWS/RDS metrics of a calm database: middle, swing, unit.
CALM = {
    "DatabaseConnections": (10.0, 2.0, "Count"),
    "CPUUtilization": (18.0, 6.0, "Percent"),
    "FreeStorageSpace": (61.0 * GIB, 0.2 * GIB, "Bytes"),
    "FreeableMemory": (9.5 * GIB, 0.3 * GIB, "Bytes"),
    "ReadLatency": (0.0006, 0.0002, "Seconds"),
    "WriteLatency": (0.0011, 0.0003, "Seconds"),
}
HISTORY_AGES = [60.0 * minute for minute in range(1, 181)] + [
    300.0 * step for step in range(37, 289)
]


def calm_history(metric: str) -> History:
    """Values around the metric's middle: each minute for three hours, then each five for a day."""
    middle, swing, _ = CALM[metric]
    values = [middle + swing * math.sin(age / 700) for age in HISTORY_AGES]
    return list(
        zip(
            HISTORY_AGES,
            [round(value) if metric == "DatabaseConnections" else value for value in values],
            strict=True,
        )
    )


def set_history(aws: Aws, metric: str, points: History) -> None:
    """Replace the whole history of an AWS/RDS metric of the database instance."""
    from moto.cloudwatch.models import cloudwatch_backends

    backend = cloudwatch_backends[ACCOUNT][REGION]
    backend.metric_data = [
        datum
        for datum in backend.metric_data
        if (datum.namespace, datum.name) != ("AWS/RDS", metric)
    ]
    add_points(aws, metric, points)


def add_points(aws: Aws, metric: str, points: History) -> None:
    now = datetime.datetime.now(datetime.UTC)
    aws.client("cloudwatch").put_metric_data(
        Namespace="AWS/RDS",
        MetricData=[
            {
                "MetricName": metric,
                "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": DB_INSTANCE}],
                "Timestamp": now - datetime.timedelta(seconds=age),
                "Value": value,
                "Unit": CALM[metric][2],
            }
            for age, value in points
        ],
    )
