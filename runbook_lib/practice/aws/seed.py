"""The AWS account of a healthy platform, made by ordinary calls, with the same ids each time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.aws import seed_identity, seed_metrics, seed_network
from runbook_lib.practice.aws.additions import Ask, backend
from runbook_lib.practice.aws.elbv2 import balancer_name
from runbook_lib.practice.aws.names import (
    CLUSTER,
    CLUSTER_VERSION,
    DB_CLASS,
    DB_INSTANCE,
    DB_PARAMETER_GROUP,
    INSTANCE_TYPE,
    ISSUER,
    NODE_GROUP,
    role_arn,
)
from runbook_lib.practice.postgres.server import ADMIN, DATABASE, MAX_CONNECTIONS
from runbook_lib.practice.seed.parts import REGISTRY

if TYPE_CHECKING:
    from runbook_lib.practice.aws.server import Aws

SEED = 1
SERVICES = (
    "acm", "autoscaling", "ec2", "ecr", "eks", "elbv2", "iam", "kms", "rds", "route53", "s3",
    "servicequotas", "ssm", "sts",
)  # fmt: skip
# Repository to tag: the images that the platform's workloads name.
IMAGES = {
    "mlflow": "3.6.0",
    "platform-api": "1.8.2",
    "feast": "0.56.0",
    "redis": "7.4",
    "kserve-controller": "v0.15.2",
    "eks/coredns": "v1.11.4",
    "amazon-k8s-cni": "v1.20.4",
    "eks/kube-proxy": "v1.32.9",
    "cluster-autoscaler": "v1.32.3",
    "metrics-server": "v0.8.0",
    "churn-model": "3",
    "recommender": "8",
}


@dataclass(frozen=True)
class Seeded:
    """What other systems name of the account; nothing in it is secret."""

    instances: dict[str, str]  # EC2 instance id of each node, by the node's name
    subnets: dict[str, list[str]]  # private, public
    security_groups: dict[str, str]  # cluster, nodes, rds, alb
    autoscaling_group: str
    certificate_arn: str
    alb_hostname: str
    target_groups: dict[str, str]  # ARN, by mlflow and platform-api
    node_ports: dict[str, int]  # to which the target groups send, by the same names
    hosted_zone: str
    database_address: str
    roles: dict[str, str]  # ARN of each role, by its name
    registry: str
    oidc_issuer: str  # the `iss` of ServiceAccounts' tokens


def empty() -> None:
    """An account with nothing in it."""
    from moto.core.base_backend import BackendDict

    BackendDict.reset()


def fill(aws: Aws, master_password: str) -> Seeded:
    """Make the resources in an empty account. Raises AwsError where AWS refuses one."""
    from moto.moto_api._internal import mock_random

    # What they make of themselves when first asked for (a default VPC) must not draw ids later.
    for service in SERVICES:
        backend(service)
    ask = aws.ask
    mock_random.seed(SEED)
    certificate = seed_identity.certificate(ask)
    seed_identity.roles(ask)
    seed_identity.on_call(ask, aws.access_key_id, aws.secret_access_key)
    vpc, subnets = seed_network.network(ask)
    groups = seed_network.security_groups(ask, vpc)
    instances = seed_network.machines(ask, subnets["private"], groups["nodes"])
    alb, targets = seed_network.load_balancer(
        ask, vpc, subnets["public"], groups["alb"], list(instances.values()), certificate
    )
    zone = seed_network.names(ask, alb)
    seed_network.buckets(ask)
    scaling = _cluster(ask, subnets, list(instances.values()))
    address = _database(ask, subnets["private"], groups["rds"], master_password)
    _images(ask)
    roles = [*seed_identity.POD_ROLES, "eks-node-role", "eks-cluster-role"]
    seeded = Seeded(
        instances=instances,
        subnets=subnets,
        security_groups=groups,
        autoscaling_group=scaling,
        certificate_arn=certificate,
        alb_hostname=alb,
        target_groups=targets,
        node_ports=dict(seed_network.TARGET_GROUPS),
        hosted_zone=zone,
        database_address=address,
        roles={role: role_arn(role) for role in roles},
        registry=REGISTRY,
        oidc_issuer=f"https://{ISSUER}",
    )
    complete(aws, seeded)
    return seeded


def complete(aws: Aws, seeded: Seeded) -> None:
    """What the front holds of the healthy account: the cluster's group, and the metrics."""
    aws.eks.security_group = seeded.security_groups["cluster"]
    balancer = balancer_name()
    groups = [arn.rsplit(":", 1)[1] for arn in seeded.target_groups.values()]
    volumes = [one["VolumeId"] for one in aws.ask("ec2", "DescribeVolumes", {})["Volumes"]]
    instances = list(seeded.instances.values())
    seed_metrics.publish(aws.metrics, balancer, groups, instances, volumes)


def _cluster(ask: Ask, subnets: dict[str, list[str]], instances: list[str]) -> str:
    """Cluster, node group and its machines; the name of their Auto Scaling group."""
    ask(
        "eks",
        "CreateCluster",
        {
            "name": CLUSTER,
            "version": CLUSTER_VERSION,
            "roleArn": role_arn("eks-cluster-role"),
            "resourcesVpcConfig": {
                "subnetIds": [*subnets["private"], *subnets["public"]],
                "endpointPublicAccess": True,
                "endpointPrivateAccess": False,
                "publicAccessCidrs": ["0.0.0.0/0"],
            },
        },
    )
    moto_cluster().identity = {"oidc": {"issuer": f"https://{ISSUER}"}}
    template = ask(
        "ec2",
        "CreateLaunchTemplate",
        {
            "LaunchTemplateName": f"{CLUSTER}-{NODE_GROUP}",
            "LaunchTemplateData": {
                "ImageId": seed_network.IMAGE,
                "InstanceType": INSTANCE_TYPE,
                "BlockDeviceMappings": [seed_network.ROOT_VOLUME],
            },
        },
    )["LaunchTemplate"]
    group = ask(
        "eks",
        "CreateNodegroup",
        {
            "clusterName": CLUSTER,
            "nodegroupName": NODE_GROUP,
            "subnets": subnets["private"],
            "nodeRole": role_arn("eks-node-role"),
            "version": CLUSTER_VERSION,
            "scalingConfig": {"minSize": 3, "maxSize": 6, "desiredSize": 3},
            "instanceTypes": [INSTANCE_TYPE],
            "launchTemplate": {"id": template["LaunchTemplateId"], "version": "1"},
        },
    )["nodegroup"]
    name = str(group["resources"]["autoScalingGroups"][0]["name"])
    _scaling_group(ask, name, template["LaunchTemplateId"], subnets["private"], instances)
    return name


def _scaling_group(
    ask: Ask, name: str, template: str, subnets: list[str], instances: list[str]
) -> None:
    """EKS makes it for a node group; moto does not. It takes in the machines that run."""
    labels = {
        f"k8s.io/cluster-autoscaler/{CLUSTER}": "owned",
        "k8s.io/cluster-autoscaler/enabled": "true",
        "eks:cluster-name": CLUSTER,
        "eks:nodegroup-name": NODE_GROUP,
    }
    ask(
        "autoscaling",
        "CreateAutoScalingGroup",
        {
            "AutoScalingGroupName": name,
            "MinSize": 0,
            "MaxSize": 6,
            "DesiredCapacity": 0,
            "LaunchTemplate": {"LaunchTemplateId": template, "Version": "1"},
            "VPCZoneIdentifier": ",".join(subnets),
            "Tags": [
                {
                    "ResourceId": name,
                    "ResourceType": "auto-scaling-group",
                    "Key": key,
                    "Value": value,
                    "PropagateAtLaunch": True,
                }
                for key, value in labels.items()
            ],
        },
    )
    ask(
        "autoscaling",
        "AttachInstances",
        {"AutoScalingGroupName": name, "InstanceIds": instances},
    )
    ask("autoscaling", "UpdateAutoScalingGroup", {"AutoScalingGroupName": name, "MinSize": 3})


def moto_cluster() -> Any:
    return backend("eks").clusters[CLUSTER]


def _database(ask: Ask, subnets: list[str], group: str, master_password: str) -> str:
    """The RDS instance and its parameter group; the instance's address."""
    ask(
        "rds",
        "CreateDBParameterGroup",
        {
            "DBParameterGroupName": DB_PARAMETER_GROUP,
            "DBParameterGroupFamily": "postgres16",
            "Description": "MLflow's database",
        },
    )
    ask(
        "rds",
        "ModifyDBParameterGroup",
        {
            "DBParameterGroupName": DB_PARAMETER_GROUP,
            "Parameters": [
                {
                    "ParameterName": "max_connections",
                    "ParameterValue": str(MAX_CONNECTIONS),
                    "ApplyMethod": "pending-reboot",
                }
            ],
        },
    )
    ask(
        "rds",
        "CreateDBSubnetGroup",
        {
            "DBSubnetGroupName": f"{CLUSTER}-private",
            "DBSubnetGroupDescription": "Private subnets",
            "SubnetIds": subnets,
        },
    )
    made = ask(
        "rds",
        "CreateDBInstance",
        {
            "DBInstanceIdentifier": DB_INSTANCE,
            "DBInstanceClass": DB_CLASS,
            "Engine": "postgres",
            "EngineVersion": "16.4",
            "AllocatedStorage": 100,
            "StorageType": "gp3",
            "DBName": DATABASE,
            "MasterUsername": ADMIN,
            "MasterUserPassword": master_password,
            "DBParameterGroupName": DB_PARAMETER_GROUP,
            "DBSubnetGroupName": f"{CLUSTER}-private",
            "VpcSecurityGroupIds": [group],
            "MultiAZ": True,
        },
    )["DBInstance"]
    return str(made["Endpoint"]["Address"])


def _images(ask: Ask) -> None:
    for name, tag in IMAGES.items():
        ask("ecr", "CreateRepository", {"repositoryName": name})
        manifest = (
            '{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2'
            f'+json", "config": {{"digest": "sha256:{name}"}}, "layers": []}}'
        )
        ask(
            "ecr",
            "PutImage",
            {"repositoryName": name, "imageTag": tag, "imageManifest": manifest},
        )


def point_cluster_at(url: str, certificate: str) -> None:
    """Make DescribeCluster name the practice Kubernetes API. `certificate`: base64 of PEM."""
    cluster = moto_cluster()
    cluster.endpoint = url
    cluster.certificate_authority = {"data": certificate}
