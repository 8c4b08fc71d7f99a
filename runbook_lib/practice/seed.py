"""What a healthy platform looks like in Kubernetes, as the objects that an engineer would list."""

from __future__ import annotations

import base64
import datetime
import json
from dataclasses import dataclass
from typing import Any

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
NAMESPACES = ("mlops-platform", "models", "kserve", "kube-system", "monitoring")
PLATFORM = "mlops-platform"
AGE = datetime.timedelta(days=21)
STARTED_AGO = "6d"

Object = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """A worker node, in Kubernetes and as the EC2 instance below it."""

    name: str
    ip: str
    subnet: str
    zone: str


NODES = (
    Node("ip-10-0-1-7.ec2.internal", "10.0.1.7", "10.0.1.0/24", "us-east-1a"),
    Node("ip-10-0-2-15.ec2.internal", "10.0.2.15", "10.0.2.0/24", "us-east-1b"),
    Node("ip-10-0-3-22.ec2.internal", "10.0.3.22", "10.0.3.0/24", "us-east-1c"),
)
CALM_NODE = {"fs_used_percent": 46, "memory_used_percent": 40, "cpu_used_percent": 30}


def objects(database: dict[str, str], jwt_secret: str, database_url: str) -> list[Object]:
    """All objects of the healthy platform, owners before what they own.

    `database` is what Secret mlflow-db-secret holds: host, port, username, password, database.
    """
    return [
        *(namespace(name) for name in NAMESPACES),
        *(node(one) for one in NODES),
        secret("mlflow-db-secret", database),
        secret("platform-api-secrets", {"jwt-secret": jwt_secret, "database-url": database_url}),
        *platform_workloads(),
        *system_workloads(),
    ]


def namespace(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": _meta(name, None, {"kubernetes.io/metadata.name": name}),
        "status": {"phase": "Active"},
    }


def node(one: Node) -> Object:
    """An m5.xlarge worker. The cloud's providerID is set once the instance is known."""
    resources = {"cpu": "4", "memory": "16Gi", "pods": "58", "ephemeral-storage": "80Gi"}
    labels = {
        "kubernetes.io/hostname": one.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": "m5.xlarge",
        "topology.kubernetes.io/region": one.zone[:-1],
        "topology.kubernetes.io/zone": one.zone,
        "eks.amazonaws.com/nodegroup": "compute-nodes",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            **_meta(one.name, None, labels),
            "annotations": {"practice.runbook/stats": json.dumps(CALM_NODE)},
        },
        "spec": {},
        "status": {
            "capacity": resources,
            "allocatable": {**resources, "cpu": "3920m", "memory": "15Gi"},
            "addresses": [
                {"type": "InternalIP", "address": one.ip},
                {"type": "Hostname", "address": one.name},
                {"type": "InternalDNS", "address": one.name},
            ],
            "nodeInfo": {
                "kubeletVersion": "v1.32.9-eks-113cf36",
                "kubeProxyVersion": "v1.32.9-eks-113cf36",
                "containerRuntimeVersion": "containerd://1.7.28",
                "osImage": "Amazon Linux 2023",
                "operatingSystem": "linux",
                "architecture": "amd64",
                "kernelVersion": "6.1.156-177.286.amzn2023.x86_64",
                "machineID": "",
                "systemUUID": "",
                "bootID": "",
            },
        },
    }


def secret(name: str, values: dict[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _meta(name, PLATFORM),
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def service(
    name: str, selector: dict[str, str], port: int, target: int, *, namespace: str = PLATFORM
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(name, namespace, selector),
        "spec": {
            "type": "ClusterIP",
            "selector": selector,
            "ports": [{"name": "http", "port": port, "targetPort": target, "protocol": "TCP"}],
        },
    }


@dataclass(frozen=True)
class Program:
    """What a container does, for the kubelet stand-in, and what it uses and may use."""

    image: str
    port: int
    cpu: str
    memory: str
    cpu_used: str
    memory_used: str
    log: tuple[str, ...] = ()
    needs_env: tuple[str, ...] = ()
    probe_path: str | None = "/health"


def workload(
    kind: str,
    name: str,
    labels: dict[str, str],
    program: Program,
    *,
    replicas: int = 1,
    namespace: str = PLATFORM,
    env: tuple[Object, ...] = (),
    env_from: tuple[Object, ...] = (),
) -> Object:
    """A Deployment, StatefulSet or DaemonSet with one container of its own name."""
    behaviour: Object = {
        "log": list(program.log) or [f"INFO {name} started"],
        "started_ago": STARTED_AGO,
        "usage": {"cpu": program.cpu_used, "memory": program.memory_used},
    }
    if program.needs_env:
        behaviour |= {"needs_env": list(program.needs_env), "exit_code": 1}
    container: Object = {
        "name": name,
        "image": f"{REGISTRY}/{program.image}",
        "ports": [{"containerPort": program.port}],
        "resources": {
            "requests": {"cpu": program.cpu, "memory": program.memory},
            "limits": {"memory": program.memory},
        },
    }
    if program.probe_path:
        probe = {"httpGet": {"path": program.probe_path, "port": program.port}}
        container["readinessProbe"] = {**probe, "periodSeconds": 10}
        container["livenessProbe"] = {**probe, "periodSeconds": 20, "initialDelaySeconds": 30}
    if env:
        container["env"] = list(env)
    if env_from:
        container["envFrom"] = list(env_from)
    spec: Object = {
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {
                "labels": labels,
                "annotations": {"practice.runbook/program": json.dumps({name: behaviour})},
            },
            "spec": {"containers": [container]},
        },
    }
    if kind != "DaemonSet":
        spec["replicas"] = replicas
    if kind == "StatefulSet":
        spec["serviceName"] = name
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": _meta(name, namespace, labels),
        "spec": spec,
    }


def _secret_env(variable: str, name: str, key: str, *, optional: bool = False) -> Object:
    reference: Object = {"name": name, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


API_LOG = (
    "INFO:     Started server process [1]",
    "INFO:     Application startup complete.",
    "INFO:     Uvicorn running on http://0.0.0.0:8000",
)


def platform_workloads() -> list[Object]:
    """Namespace mlops-platform: MLflow, the platform API, Feast and its Redis."""
    feast = {"app": "feast"}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _meta("platform-api-config", PLATFORM),
            "data": {"DB_POOL_SIZE": "5", "DB_MAX_OVERFLOW": "2", "LOG_LEVEL": "info"},
        },
        workload(
            "Deployment",
            "mlflow",
            {"app": "mlflow"},
            Program("mlflow:3.6.0", 5000, "500m", "1Gi", "120m", "520Mi"),
            replicas=2,
            env=(
                *(
                    _secret_env(f"DB_{key.upper()}", "mlflow-db-secret", key)
                    for key in ("host", "port", "username", "password", "database")
                ),
                {"name": "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "value": "2"},
                {"name": "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", "value": "1"},
            ),
        ),
        service("mlflow", {"app": "mlflow"}, 5000, 5000),
        workload(
            "Deployment",
            "platform-api",
            {"app": "platform-api"},
            Program(
                "platform-api:1.8.2",
                8000,
                "250m",
                "512Mi",
                "90m",
                "240Mi",
                API_LOG,
                ("JWT_SECRET",),
            ),
            replicas=3,
            env=(
                # Optional: a missing key then shows as the application's own crash.
                _secret_env("JWT_SECRET", "platform-api-secrets", "jwt-secret", optional=True),
                _secret_env("DATABASE_URL", "platform-api-secrets", "database-url"),
                {"name": "MLFLOW_TRACKING_URI", "value": "http://mlflow:5000"},
            ),
            env_from=({"configMapRef": {"name": "platform-api-config"}},),
        ),
        service("platform-api", {"app": "platform-api"}, 80, 8000),
        workload(
            "Deployment",
            "feast-feature-server",
            {**feast, "component": "feature-server"},
            Program("feast:0.56.0", 6566, "250m", "512Mi", "80m", "260Mi"),
            replicas=2,
        ),
        service("feast-feature-server", {**feast, "component": "feature-server"}, 6566, 6566),
        workload(
            "StatefulSet",
            "feast-redis-master",
            {"app": "feast-redis", "role": "master"},
            Program("redis:7.4", 6379, "250m", "1Gi", "40m", "310Mi", probe_path=None),
        ),
        service("feast-redis-master", {"app": "feast-redis", "role": "master"}, 6379, 6379),
    ]


def platform_api() -> Object:
    """The Deployment platform-api, as it is when all is well."""
    return next(
        one
        for one in platform_workloads()
        if one["kind"] == "Deployment" and one["metadata"]["name"] == "platform-api"
    )


def system_workloads() -> list[Object]:
    """KServe's controller and what an EKS cluster runs in kube-system."""
    dns = {"k8s-app": "kube-dns"}
    return [
        _controller(
            "kserve-controller-manager",
            {"control-plane": "kserve-controller-manager"},
            "kserve-controller:0.15.2",
            8443,
            namespace="kserve",
        ),
        _controller("coredns", dns, "eks/coredns:v1.11.4", 8080, replicas=2),
        service("kube-dns", dns, 53, 53, namespace="kube-system"),
        _controller(
            "aws-node", {"k8s-app": "aws-node"}, "amazon-k8s-cni:v1.20.4", 61678, kind="DaemonSet"
        ),
        _controller(
            "kube-proxy",
            {"k8s-app": "kube-proxy"},
            "eks/kube-proxy:v1.32.9",
            10249,
            kind="DaemonSet",
        ),
        _controller(
            "cluster-autoscaler",
            {"app": "cluster-autoscaler"},
            "cluster-autoscaler:v1.32.3",
            8085,
        ),
        _controller(
            "metrics-server", {"k8s-app": "metrics-server"}, "metrics-server:v0.8.0", 10250
        ),
    ]


def _controller(
    name: str,
    labels: dict[str, str],
    image: str,
    port: int,
    *,
    kind: str = "Deployment",
    namespace: str = "kube-system",
    replicas: int = 1,
) -> Object:
    """A small workload that serves the cluster itself."""
    program = Program(image, port, "100m", "128Mi", "12m", "44Mi", probe_path=None)
    return workload(kind, name, labels, program, replicas=replicas, namespace=namespace)


def _meta(name: str, namespace: str | None, labels: dict[str, str] | None = None) -> Object:
    created = datetime.datetime.now(datetime.UTC) - AGE
    meta: Object = {"name": name, "creationTimestamp": created.strftime("%Y-%m-%dT%H:%M:%SZ")}
    if namespace:
        meta["namespace"] = namespace
    if labels:
        meta["labels"] = dict(labels)
    return meta
