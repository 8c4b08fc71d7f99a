"""The account's names, as the rest of the platform and an engineer's commands use them."""

from __future__ import annotations

from runbook_lib.practice.aws.lean import ACCOUNT, REGION

CLUSTER = "mlops-platform-production"
CLUSTER_VERSION = "1.32"
NODE_GROUP = "compute-nodes"
NODE_PROFILE = "eks-node-profile"
INSTANCE_TYPE = "m5.xlarge"
DB_INSTANCE = "mlops-platform-production-mlflow"
DB_PARAMETER_GROUP = "mlops-mlflow-params"
DB_CLASS = "db.r5.large"
DOMAIN = "mlops-platform.com"
HOSTS = (f"mlflow.{DOMAIN}", f"api.{DOMAIN}", DOMAIN)
BUCKETS = {name: f"{CLUSTER}-{name}" for name in ("artifacts", "features", "models")}
LOAD_BALANCER = "k8s-mlopsplatform"
ISSUER = f"oidc.eks.{REGION}.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE"
OIDC_PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"
ON_CALL = "on-call"


def role_arn(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"
