"""Parts of which the healthy platform's Kubernetes objects are made."""

from __future__ import annotations

import base64
import datetime
import json
from dataclasses import dataclass, field
from typing import Any

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
ACCOUNT = "123456789012"
CLUSTER = "mlops-platform-production"
PLATFORM, MODELS, SYSTEM = "mlops-platform", "models", "kube-system"
NAMESPACES = (
    PLATFORM,
    MODELS,
    "kserve",
    "knative-serving",
    "kourier-system",
    SYSTEM,
    "monitoring",
)
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


def namespace(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": meta(name, None, {"kubernetes.io/metadata.name": name}),
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
            **meta(one.name, None, labels),
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
        "metadata": meta(name, PLATFORM),
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def service(
    name: str,
    selector: dict[str, str],
    port: int,
    target: int | str,
    *,
    namespace: str = PLATFORM,
    port_name: str = "http",
    headless: bool = False,
) -> Object:
    spec: Object = {
        "type": "ClusterIP",
        "selector": selector,
        "ports": [{"name": port_name, "port": port, "targetPort": target, "protocol": "TCP"}],
    }
    if headless:
        spec |= {"clusterIP": "None", "clusterIPs": ["None"]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(name, namespace, selector),
        "spec": spec,
    }


def config_map(name: str, data: dict[str, str], *, namespace: str = PLATFORM) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta(name, namespace),
        "data": data,
    }


def service_account(name: str, *, role: str = "", namespace: str = PLATFORM) -> Object:
    """A ServiceAccount; with `role`, the name of the IAM role that its pods take on (IRSA)."""
    account: Object = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": meta(name, namespace),
    }
    if role:
        arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
        account["metadata"]["annotations"] = {"eks.amazonaws.com/role-arn": arn}
    return account


@dataclass(frozen=True)
class Container:
    """A container as its manifest has it, and what it does, uses and answers in practice.

    Quantities are Kubernetes'. `cpu` and `memory` are requests; the limit of memory is `memory`
    unless `memory_limit` says otherwise, that of CPU `cpu_limit` if given. `behaviour` holds
    further fields of the practice program (see docs/practice-cluster.md).
    """

    image: str
    port: int
    cpu: str
    memory: str
    cpu_used: str
    memory_used: str
    log: tuple[str, ...] = ()
    probe_path: str | None = "/health"
    port_name: str = "http"
    memory_limit: str = ""
    cpu_limit: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[Object, ...] = ()
    env_from: tuple[Object, ...] = ()
    mounts: dict[str, str] = field(default_factory=dict)  # volume to path
    behaviour: Object = field(default_factory=dict)

    def manifest(self, name: str) -> Object:
        limits = {"memory": self.memory_limit or self.memory}
        if self.cpu_limit:
            limits["cpu"] = self.cpu_limit
        found: Object = {
            "name": name,
            "image": self.image if "/" in self.image else f"{REGISTRY}/{self.image}",
            "ports": [{"name": self.port_name, "containerPort": self.port, "protocol": "TCP"}],
            "resources": {"requests": {"cpu": self.cpu, "memory": self.memory}, "limits": limits},
        }
        if self.probe_path:
            probe = {"httpGet": {"path": self.probe_path, "port": self.port, "scheme": "HTTP"}}
            found["readinessProbe"] = {**probe, "periodSeconds": 10}
            found["livenessProbe"] = {**probe, "periodSeconds": 20, "initialDelaySeconds": 30}
        for name_, value in (
            ("command", self.command),
            ("args", self.args),
            ("env", self.env),
            ("envFrom", self.env_from),
        ):
            if value:
                found[name_] = list(value)
        if self.mounts:
            mounts = [{"name": v, "mountPath": path} for v, path in self.mounts.items()]
            found["volumeMounts"] = mounts
        return found

    def program(self, name: str) -> Object:
        return {
            "log": list(self.log) or [f"INFO {name} started"],
            "started_ago": STARTED_AGO,
            "usage": {"cpu": self.cpu_used, "memory": self.memory_used},
            **self.behaviour,
        }


def workload(
    kind: str,
    name: str,
    labels: dict[str, str],
    container: Container,
    *,
    replicas: int = 1,
    namespace: str = PLATFORM,
    account: str = "",
    claim: str = "",
    **pod: Any,
) -> Object:
    """A Deployment, StatefulSet or DaemonSet with one container of its own name.

    `claim`: of a StatefulSet, "volume size" of its one volumeClaimTemplate. `pod`: further
    fields of the pod's spec.
    """
    if account:
        pod["serviceAccountName"] = account
    program = json.dumps({name: container.program(name)})
    spec: Object = {
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels, "annotations": {"practice.runbook/program": program}},
            "spec": {"containers": [container.manifest(name)], **pod},
        },
    }
    if kind != "DaemonSet":
        spec["replicas"] = replicas
    if kind == "StatefulSet":
        spec["serviceName"] = name
    if claim:
        volume, size = claim.split()
        wanted = {"accessModes": ["ReadWriteOnce"], "storageClassName": "gp3"}
        requested = {"resources": {"requests": {"storage": size}}}
        template = {"metadata": {"name": volume}, "spec": {**wanted, **requested}}
        spec["volumeClaimTemplates"] = [template]
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": meta(name, namespace, labels),
        "spec": spec,
    }


def variable(name: str, value: str) -> Object:
    return {"name": name, "value": value}


def secret_env(variable: str, name: str, key: str, *, optional: bool = False) -> Object:
    reference: Object = {"name": name, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def meta(name: str, namespace: str | None, labels: dict[str, str] | None = None) -> Object:
    created = datetime.datetime.now(datetime.UTC) - AGE
    made: Object = {"name": name, "creationTimestamp": created.strftime("%Y-%m-%dT%H:%M:%SZ")}
    if namespace:
        made["namespace"] = namespace
    if labels:
        made["labels"] = dict(labels)
    return made
