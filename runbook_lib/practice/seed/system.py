"""What an EKS cluster and KServe run for themselves."""

from __future__ import annotations

from runbook_lib.practice.seed.parts import Object, Program, service, workload


def workloads() -> list[Object]:
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
