"""Parts of which the healthy platform's Kubernetes objects are made."""

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
    name: str, selector: dict[str, str], port: int, target: int, *, namespace: str = PLATFORM
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(name, namespace, selector),
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
        "metadata": meta(name, namespace, labels),
        "spec": spec,
    }


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
