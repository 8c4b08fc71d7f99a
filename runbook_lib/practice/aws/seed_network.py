"""The healthy account's network: subnets, security groups, machines, load balancer, names."""

from __future__ import annotations

import time
from typing import Any

from runbook_lib.practice.aws.additions import Ask
from runbook_lib.practice.aws.ec2 import instance_of
from runbook_lib.practice.aws.names import (
    BUCKETS,
    CLUSTER,
    DOMAIN,
    HOSTS,
    INSTANCE_TYPE,
    LOAD_BALANCER,
    NODE_GROUP,
    NODE_PROFILE,
)
from runbook_lib.practice.seed.parts import AGE, NODES
from runbook_lib.practice.services import feast_registry

ROOT_VOLUME = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 80, "VolumeType": "gp3"}}
IMAGE = "ami-0a1b2c3d4e5f60718"
# Where the Services' node ports are, by target group.
TARGET_GROUPS = {"mlflow": 31500, "platform-api": 31800}
MLMODEL = b"flavors:\n  sklearn: {}\n"
ANYWHERE = "0.0.0.0/0"
# Of every application load balancer in us-east-1 (AWS: Elastic Load Balancing endpoints).
BALANCER_ZONE = "Z35SXDOTRQ7X7K"


def tags(given: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in given.items()]


def tagged(kind: str, given: dict[str, str]) -> list[dict[str, Any]]:
    """TagSpecifications for one new resource."""
    return [{"ResourceType": kind, "Tags": tags(given)}]


def network(ask: Ask) -> tuple[str, dict[str, list[str]]]:
    """VPC and its subnets, {"private": [id, …], "public": [id, …]} in the order of NODES."""
    cluster_tag = f"kubernetes.io/cluster/{CLUSTER}"
    vpc: str = ask(
        "ec2",
        "CreateVpc",
        {"CidrBlock": "10.0.0.0/16", "TagSpecifications": tagged("vpc", {"Name": CLUSTER})},
    )["Vpc"]["VpcId"]
    subnets: dict[str, list[str]] = {"private": [], "public": []}
    for place, node in enumerate(NODES, 1):
        for kind, block, role in (
            ("private", node.subnet, "kubernetes.io/role/internal-elb"),
            ("public", f"10.0.{100 + place}.0/24", "kubernetes.io/role/elb"),
        ):
            name = f"{CLUSTER}-{kind}-{node.zone}"
            made = ask(
                "ec2",
                "CreateSubnet",
                {
                    "VpcId": vpc,
                    "CidrBlock": block,
                    "AvailabilityZone": node.zone,
                    "TagSpecifications": tagged(
                        "subnet", {"Name": name, role: "1", cluster_tag: "shared"}
                    ),
                },
            )
            subnets[kind].append(made["Subnet"]["SubnetId"])
    return vpc, subnets


def security_groups(ask: Ask, vpc: str) -> dict[str, str]:
    """Ids of the groups cluster, nodes, rds and alb, with their rules."""
    groups = {}
    for name, title, text in (
        ("cluster", f"eks-cluster-sg-{CLUSTER}", "EKS created security group"),
        ("nodes", f"{CLUSTER}-nodes", "Worker nodes"),
        ("rds", f"{CLUSTER}-rds", "PostgreSQL of MLflow"),
        ("alb", f"{LOAD_BALANCER}-alb", "Public load balancer"),
    ):
        made = ask(
            "ec2",
            "CreateSecurityGroup",
            {
                "GroupName": title,
                "Description": text,
                "VpcId": vpc,
                "TagSpecifications": tagged("security-group", {"Name": title}),
            },
        )
        groups[name] = made["GroupId"]
    rules: tuple[tuple[str, str, int, int, dict[str, Any]], ...] = (
        ("cluster", "-1", -1, -1, _from_group(groups["cluster"])),
        ("cluster", "tcp", 443, 443, _from_group(groups["nodes"])),
        ("nodes", "-1", -1, -1, _from_group(groups["nodes"])),
        ("nodes", "tcp", 1025, 65535, _from_group(groups["cluster"])),
        ("nodes", "tcp", 30000, 32767, _from_group(groups["alb"])),
        ("rds", "tcp", 5432, 5432, _from_group(groups["nodes"])),
        ("alb", "tcp", 443, 443, {"IpRanges": [{"CidrIp": ANYWHERE}]}),
    )
    for group, protocol, low, high, source in rules:
        rule: dict[str, Any] = {"IpProtocol": protocol, **source}
        if protocol != "-1":
            rule |= {"FromPort": low, "ToPort": high}
        ask(
            "ec2",
            "AuthorizeSecurityGroupIngress",
            {"GroupId": groups[group], "IpPermissions": [rule]},
        )
    return groups


def _from_group(group: str) -> dict[str, Any]:
    return {"UserIdGroupPairs": [{"GroupId": group}]}


def machines(ask: Ask, private: list[str], group: str) -> dict[str, str]:
    """The EC2 instance id of each node, by the node's name."""
    instances = {}
    labels = {
        "Name": f"{CLUSTER}-{NODE_GROUP}",
        "eks:cluster-name": CLUSTER,
        "eks:nodegroup-name": NODE_GROUP,
        f"kubernetes.io/cluster/{CLUSTER}": "owned",
        f"k8s.io/cluster-autoscaler/{CLUSTER}": "owned",
        "k8s.io/cluster-autoscaler/enabled": "true",
    }
    for node, subnet in zip(NODES, private, strict=True):
        made = ask(
            "ec2",
            "RunInstances",
            {
                "ImageId": IMAGE,
                "InstanceType": INSTANCE_TYPE,
                "MinCount": 1,
                "MaxCount": 1,
                "SubnetId": subnet,
                "PrivateIpAddress": node.ip,
                "SecurityGroupIds": [group],
                "IamInstanceProfile": {"Name": NODE_PROFILE},
                "BlockDeviceMappings": [ROOT_VOLUME],
                "TagSpecifications": tagged("instance", labels),
            },
        )
        instances[node.name] = made["Instances"][0]["InstanceId"]
        instance_of(node.name).launch_time -= AGE
    return instances


def load_balancer(
    ask: Ask, vpc: str, public: list[str], group: str, instances: list[str], certificate: str
) -> tuple[str, dict[str, str]]:
    """The ALB's DNS name, and the ARN of each target group; listeners and rules with them."""
    balancer = ask(
        "elbv2",
        "CreateLoadBalancer",
        {
            "Name": LOAD_BALANCER,
            "Subnets": public,
            "SecurityGroups": [group],
            "Scheme": "internet-facing",
            "Type": "application",
            "Tags": tags({"elbv2.k8s.aws/cluster": CLUSTER}),
        },
    )["LoadBalancers"][0]
    groups = {}
    for name, port in TARGET_GROUPS.items():
        groups[name] = ask(
            "elbv2",
            "CreateTargetGroup",
            {
                "Name": f"k8s-{name}",
                "Protocol": "HTTP",
                "Port": port,
                "VpcId": vpc,
                "TargetType": "instance",
                "HealthCheckPath": "/health",
                "HealthCheckPort": "traffic-port",
                "HealthCheckProtocol": "HTTP",
                # The controller's own, where annotations say nothing.
                "HealthCheckIntervalSeconds": 15,
                "HealthCheckTimeoutSeconds": 5,
                "HealthyThresholdCount": 2,
                "UnhealthyThresholdCount": 2,
            },
        )["TargetGroups"][0]["TargetGroupArn"]
        ask(
            "elbv2",
            "RegisterTargets",
            {
                "TargetGroupArn": groups[name],
                "Targets": [{"Id": one, "Port": port} for one in instances],
            },
        )
    listener = ask(
        "elbv2",
        "CreateListener",
        {
            "LoadBalancerArn": balancer["LoadBalancerArn"],
            "Protocol": "HTTPS",
            "Port": 443,
            "SslPolicy": "ELBSecurityPolicy-TLS13-1-2-2021-06",
            "Certificates": [{"CertificateArn": certificate}],
            "DefaultActions": [
                {
                    "Type": "fixed-response",
                    "FixedResponseConfig": {"StatusCode": "404", "ContentType": "text/plain"},
                }
            ],
        },
    )["Listeners"][0]["ListenerArn"]
    targets = {HOSTS[0]: "mlflow", HOSTS[1]: "platform-api", HOSTS[2]: "platform-api"}
    for priority, (host, name) in enumerate(targets.items(), 1):
        ask(
            "elbv2",
            "CreateRule",
            {
                "ListenerArn": listener,
                "Priority": priority,
                "Conditions": [{"Field": "host-header", "HostHeaderConfig": {"Values": [host]}}],
                "Actions": [{"Type": "forward", "TargetGroupArn": groups[name]}],
            },
        )
    return str(balancer["DNSName"]), groups


def names(ask: Ask, alb_hostname: str) -> str:
    """The hosted zone's id; each host is an alias of the load balancer."""
    zone: str = ask(
        "route53", "CreateHostedZone", {"Name": f"{DOMAIN}.", "CallerReference": "seed"}
    )["HostedZone"]["Id"].rsplit("/", 1)[-1]
    changes = [
        {
            "Action": "CREATE",
            "ResourceRecordSet": {
                "Name": f"{host}.",
                "Type": "A",
                "AliasTarget": {
                    "HostedZoneId": BALANCER_ZONE,
                    "DNSName": f"{alb_hostname}.",
                    "EvaluateTargetHealth": True,
                },
            },
        }
        for host in HOSTS
    ]
    ask(
        "route53",
        "ChangeResourceRecordSets",
        {"HostedZoneId": zone, "ChangeBatch": {"Changes": changes}},
    )
    return zone


def buckets(ask: Ask) -> None:
    """The platform's buckets and what lies in them."""
    contents: dict[str, dict[str, bytes]] = {
        "artifacts": {
            "1/6f1c2d3e4b5a4c7d8e9f0a1b2c3d4e5f/artifacts/model/MLmodel": MLMODEL,
            "test.txt": b"reachable\n",
        },
        "features": {"registry.db": feast_registry.dump(feast_registry.healthy(time.time()))},
        "models": {
            # Where the storageUris of the InferenceServices point (seed/models.py).
            "churn-model/model.joblib": b"\x80\x04\x95",
            "churn-model/MLmodel": MLMODEL,
            "recommender/v1/model.joblib": b"\x80\x04\x95",
            "recommender/v2/model.joblib": b"\x80\x04\x95",
        },
    }
    for name, objects in contents.items():
        ask("s3", "CreateBucket", {"Bucket": BUCKETS[name]})
        for key, body in objects.items():
            ask("s3", "PutObject", {"Bucket": BUCKETS[name], "Key": key, "Body": body})
