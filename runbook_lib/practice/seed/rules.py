"""What rules over the platform's workloads: network, quotas, budgets, scaling, ingress, storage."""

from __future__ import annotations

import json
from typing import Any

from runbook_lib.practice.seed.parts import MODELS, PLATFORM, Object, meta

ALB_SUBNETS = ("10.0.101.0/24", "10.0.102.0/24", "10.0.103.0/24")


def _object(api: str, kind: str, name: str, namespace: str | None, **more: Any) -> Object:
    return {"apiVersion": api, "kind": kind, "metadata": meta(name, namespace), **more}


def classes(cloud: dict[str, str]) -> list[Object]:
    """What is there before any workload: priorities, storage, the class of ingresses."""
    return [
        *(
            _object(
                "scheduling.k8s.io/v1",
                "PriorityClass",
                name,
                None,
                value=value,
                globalDefault=False,
                preemptionPolicy="PreemptLowerPriority",
                description=description,
            )
            for name, value, description in (
                ("system-cluster-critical", 2_000_000_000, "Used for system critical pods."),
                ("system-node-critical", 2_000_001_000, "Used for system critical pods."),
                ("platform-critical", 1_000_000, "The platform API."),
                ("batch-low", -10, "Training jobs; they give way to everything."),
            )
        ),
        {
            **_object("storage.k8s.io/v1", "StorageClass", "gp3", None),
            "provisioner": "ebs.csi.aws.com",
            "parameters": {"type": "gp3", "encrypted": "true"},
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
            "allowVolumeExpansion": True,
        },
        _ingress_class(cloud["alb_hostname"]),
    ]


def _ingress_class(hostname: str) -> Object:
    """The class of the ALB's controller; its stand-in learns here which address AWS gave."""
    spec = {"controller": "ingress.k8s.aws/alb"}
    made = _object("networking.k8s.io/v1", "IngressClass", "alb", None, spec=spec)
    made["metadata"]["annotations"] = {"practice.runbook/load-balancer-hostname": hostname}
    return made


def rules(cloud: dict[str, str]) -> list[Object]:
    """Ingresses, budgets, autoscalers, quotas and network policies."""
    return [
        ingress("mlflow", 5000, cloud),
        ingress("platform-api", 80, cloud, host="api.mlops-platform.com"),
        *(_budget(name, labels) for name, labels in _BUDGETS.items()),
        _autoscaler("platform-api", 3, 8),
        _quota(PLATFORM, cpu="12", memory="24Gi", pods="60"),
        _quota(MODELS, cpu="10", memory="20Gi", pods="40"),
        _limits(MODELS),
        *_network_policies(),
    ]


def ingress(name: str, port: int, cloud: dict[str, str], *, host: str = "") -> Object:
    """An Ingress for the ALB; `cloud` names its address and certificate."""
    host = host or f"{name}.mlops-platform.com"
    backend = {"service": {"name": name, "port": {"number": port}}}
    made = _object(
        "networking.k8s.io/v1",
        "Ingress",
        name,
        PLATFORM,
        spec={
            "ingressClassName": "alb",
            "rules": [
                {
                    "host": host,
                    "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
                }
            ],
        },
        status={"loadBalancer": {"ingress": [{"hostname": cloud["alb_hostname"]}]}},
    )
    alb = "alb.ingress.kubernetes.io"
    made["metadata"]["annotations"] = {
        f"{alb}/scheme": "internet-facing",
        f"{alb}/target-type": "ip",
        f"{alb}/group.name": "mlops-platform",
        f"{alb}/listen-ports": json.dumps([{"HTTP": 80}, {"HTTPS": 443}]),
        f"{alb}/ssl-redirect": "443",
        f"{alb}/healthcheck-path": "/health",
        f"{alb}/certificate-arn": cloud["certificate_arn"],
    }
    return made


_BUDGETS = {
    "mlflow": {"app": "mlflow"},
    "platform-api": {"app": "platform-api"},
    "feast-feature-server": {"app": "feast", "component": "feature-server"},
    "feast-redis-master": {"app": "feast-redis", "role": "master"},
}


def _budget(name: str, labels: dict[str, str]) -> Object:
    # The one Redis master may be moved by hand only: a drain must stop and ask.
    limit = {"minAvailable": 1} if "redis" in name else {"maxUnavailable": 1}
    spec = {**limit, "selector": {"matchLabels": labels}}
    return _object("policy/v1", "PodDisruptionBudget", name, PLATFORM, spec=spec)


def _autoscaler(name: str, least: int, most: int) -> Object:
    target = {"type": "Utilization", "averageUtilization": 70}
    return _object(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        name,
        PLATFORM,
        spec={
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    )


def _quota(namespace: str, *, cpu: str, memory: str, pods: str) -> Object:
    hard = {"requests.cpu": cpu, "requests.memory": memory, "pods": pods}
    return _object("v1", "ResourceQuota", "compute", namespace, spec={"hard": hard})


def _limits(namespace: str) -> Object:
    limit = {
        "type": "Container",
        "default": {"memory": "1Gi"},
        "defaultRequest": {"cpu": "100m", "memory": "256Mi"},
    }
    return _object("v1", "LimitRange", "defaults", namespace, spec={"limits": [limit]})


# network


def _policy(
    name: str, pods: dict[str, str], namespace: str = PLATFORM, **directions: list[Object]
) -> Object:
    types = [direction.capitalize() for direction in directions]
    selector = {"matchLabels": pods} if pods else {}
    spec = {"podSelector": selector, "policyTypes": types, **directions}
    return _object("networking.k8s.io/v1", "NetworkPolicy", name, namespace, spec=spec)


def _namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _ports(*numbers: int, protocol: str = "TCP") -> list[Object]:
    return [{"protocol": protocol, "port": number} for number in numbers]


def _network_policies() -> list[Object]:
    """Nothing reaches a pod of the platform but what it needs; and it may ask for names."""
    load_balancer = [{"ipBlock": {"cidr": cidr}} for cidr in ALB_SUBNETS]
    dns = {
        **_namespace("kube-system"),
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    redis = {"podSelector": {"matchLabels": {"app": "feast-redis"}}}
    return [
        _policy("default-deny-ingress", {}, ingress=[]),
        _policy(
            "allow-from-load-balancer-mlflow",
            {"app": "mlflow"},
            ingress=[{"from": load_balancer, "ports": _ports(5000)}],
        ),
        _policy(
            "allow-from-load-balancer-platform-api",
            {"app": "platform-api"},
            ingress=[{"from": load_balancer, "ports": _ports(8000)}],
        ),
        _policy(
            "allow-mlops-traffic",
            {},
            ingress=[
                {
                    "from": [{"podSelector": {}}, _namespace(MODELS)],
                    "ports": _ports(5000, 8000, 6566),
                }
            ],
        ),
        _policy(
            "allow-redis-clients",
            {"app": "feast-redis"},
            ingress=[
                {
                    "from": [
                        {"podSelector": {"matchLabels": {"app": "feast"}}},
                        {"podSelector": {"matchLabels": {"app": "platform-api"}}},
                        redis,
                    ],
                    "ports": _ports(6379),
                }
            ],
        ),
        _policy("allow-monitoring", {}, ingress=[{"from": [_namespace("monitoring")]}]),
        _policy(
            "allow-dns-egress",
            {},
            egress=[
                {"to": [dns], "ports": [*_ports(53, protocol="UDP"), *_ports(53)]},
            ],
        ),
        _policy(
            "allow-platform-egress",
            {},
            egress=[
                {"to": [{"podSelector": {}}, _namespace(MODELS)]},
                # Postgres and AWS, wherever they are.
                {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}}]},
            ],
        ),
    ]
