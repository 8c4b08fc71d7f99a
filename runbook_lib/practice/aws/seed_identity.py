"""The healthy account's identities: who may do what, and the certificate of its hosts."""

from __future__ import annotations

import json
from typing import Any

from runbook_lib.practice.aws.additions import Ask, backend
from runbook_lib.practice.aws.identity import add_managed_policies
from runbook_lib.practice.aws.names import (
    BUCKETS,
    CLUSTER,
    DOMAIN,
    ISSUER,
    NODE_PROFILE,
    OIDC_PROVIDER,
    ON_CALL,
)

# Roles that pods take through their ServiceAccount: namespace, name, and what they may do.
POD_ROLES = {
    "mlops-mlflow-role": ("mlops-platform", "mlflow-sa"),
    "mlops-feast-role": ("mlops-platform", "feast-sa"),
    "mlops-kserve-role": ("models", "kserve-models-sa"),
    "eks-cluster-autoscaler-role": ("kube-system", "cluster-autoscaler"),
}
SCALING_READS = [
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
    "autoscaling:DescribeLaunchConfigurations",
    "autoscaling:DescribeScalingActivities",
    "autoscaling:DescribeTags",
    "ec2:DescribeImages",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeLaunchTemplateVersions",
    "ec2:GetInstanceTypesFromInstanceRequirements",
    "eks:DescribeNodegroup",
]
SCALING_WRITES = [
    "autoscaling:SetDesiredCapacity",
    "autoscaling:TerminateInstanceInAutoScalingGroup",
]
NODE_POLICIES = (
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryReadOnly",
    "AmazonSSMManagedInstanceCore",
)
OIDC_THUMBPRINT = "9e99a48a9960b14926bb7f3b02e22da2b0ab7280"


def trust_of_pod(namespace: str, account: str) -> dict[str, Any]:
    """The trust policy by which a ServiceAccount of the cluster takes a role (IRSA)."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": OIDC_PROVIDER},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {
                    "StringEquals": {
                        f"{ISSUER}:sub": f"system:serviceaccount:{namespace}:{account}",
                        f"{ISSUER}:aud": "sts.amazonaws.com",
                    }
                },
            }
        ],
    }


def _trust_of_service(service: str) -> dict[str, Any]:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sts:AssumeRole",
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def _allow(actions: list[str], resources: list[str], **condition: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
    return statement | ({"Condition": condition} if condition else {})


def _bucket(name: str) -> list[dict[str, Any]]:
    arn = f"arn:aws:s3:::{BUCKETS[name]}"
    return [
        _allow(["s3:ListBucket"], [arn]),
        _allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], [f"{arn}/*"]),
    ]


def _readable_bucket(name: str) -> list[dict[str, Any]]:
    arn = f"arn:aws:s3:::{BUCKETS[name]}"
    return [_allow(["s3:ListBucket"], [arn]), _allow(["s3:GetObject"], [f"{arn}/*"])]


def roles(ask: Ask) -> None:
    """Roles with their trust and their policies, and the cluster's OIDC provider."""
    add_managed_policies()
    ask(
        "iam",
        "CreateOpenIDConnectProvider",
        {
            "Url": f"https://{ISSUER}",
            "ClientIDList": ["sts.amazonaws.com"],
            "ThumbprintList": [OIDC_THUMBPRINT],
        },
    )
    own_groups = {f"aws:ResourceTag/k8s.io/cluster-autoscaler/{CLUSTER}": "owned"}
    policies: dict[str, tuple[str, list[dict[str, Any]]]] = {
        "mlops-mlflow-role": ("mlflow-artifacts", [*_bucket("artifacts"), *_bucket("models")]),
        "mlops-feast-role": ("feast-registry", _bucket("features")),
        "mlops-kserve-role": ("models", _readable_bucket("models")),
        "eks-cluster-autoscaler-role": (
            "cluster-autoscaler",
            [_allow(SCALING_READS, ["*"]), _allow(SCALING_WRITES, ["*"], StringEquals=own_groups)],
        ),
        "eks-node-role": ("logs", [_allow(["logs:PutLogEvents"], ["*"])]),
        "eks-cluster-role": (
            "cluster",
            [_allow(["ec2:DescribeSubnets", "ec2:CreateNetworkInterface"], ["*"])],
        ),
    }
    services = {"eks-node-role": "ec2.amazonaws.com", "eks-cluster-role": "eks.amazonaws.com"}
    for role, (policy, statements) in policies.items():
        trust = (
            _trust_of_service(services[role])
            if role in services
            else trust_of_pod(*POD_ROLES[role])
        )
        ask(
            "iam",
            "CreateRole",
            {"RoleName": role, "AssumeRolePolicyDocument": json.dumps(trust)},
        )
        document = {"Version": "2012-10-17", "Statement": statements}
        ask(
            "iam",
            "PutRolePolicy",
            {
                "RoleName": role,
                "PolicyName": policy,
                "PolicyDocument": json.dumps(document),
            },
        )
    profile = {"InstanceProfileName": NODE_PROFILE}
    ask("iam", "CreateInstanceProfile", profile)
    ask("iam", "AddRoleToInstanceProfile", {**profile, "RoleName": "eks-node-role"})
    for policy in NODE_POLICIES:
        arn = f"arn:aws:iam::aws:policy/{policy}"
        ask("iam", "AttachRolePolicy", {"RoleName": "eks-node-role", "PolicyArn": arn})


def on_call(ask: Ask, access_key_id: str, secret_access_key: str) -> None:
    """The engineer whose credentials everybody outside the platform uses."""
    ask("iam", "CreateUser", {"UserName": ON_CALL})
    everything = {"Version": "2012-10-17", "Statement": [_allow(["*"], ["*"])]}
    ask(
        "iam",
        "PutUserPolicy",
        {
            "UserName": ON_CALL,
            "PolicyName": "administrator",
            "PolicyDocument": json.dumps(everything),
        },
    )
    # AWS chooses the keys of users; the practice platform gave these out before it began.
    key = backend("iam").create_access_key(ON_CALL)
    key.access_key_id, key.secret_access_key = access_key_id, secret_access_key


def certificate(ask: Ask) -> str:
    """The ARN of the issued certificate of all hosts."""
    made = ask(
        "acm",
        "RequestCertificate",
        {
            "DomainName": f"*.{DOMAIN}",
            "SubjectAlternativeNames": [f"*.{DOMAIN}", DOMAIN],
            "ValidationMethod": "DNS",
        },
    )
    arn = str(made["CertificateArn"])
    backend("acm").get_certificate(arn).status = "ISSUED"
    return arn
