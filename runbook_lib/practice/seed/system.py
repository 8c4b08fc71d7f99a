"""What an EKS cluster runs for itself: network, names, scaling, load balancers, metrics."""

from __future__ import annotations

import datetime
from typing import Any

from runbook_lib.practice.seed.parts import (
    CLUSTER,
    SYSTEM,
    Container,
    Object,
    config_map,
    service,
    service_account,
    workload,
)

COREFILE = """.:53 {
    errors
    health {
        lameduck 5s
      }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
      pods insecure
      fallthrough in-addr.arpa ip6.arpa
    }
    prometheus :9153
    forward . /etc/resolv.conf
    cache 30
    loop
    reload
    loadbalance
}
"""
# Each with the microseconds that the scan had taken by then.
_AUTOSCALER_LOG = (
    (0, 'static_autoscaler.go:289] "Starting main loop"'),
    (1_204, "aws_manager.go:188] Found 1 ASGs matching k8s.io/cluster-autoscaler/enabled"),
    (2_871, 'filter_out_schedulable.go:76] "No unschedulable pods"'),
    (3_519, 'static_autoscaler.go:575] "No candidates for scale down"'),
)
_SCANNED_AGO = datetime.timedelta(minutes=3)
_DNS = {"k8s-app": "kube-dns"}
_CRITICAL = {"priorityClassName": "system-cluster-critical"}
_ON_THE_NODE: dict[str, Any] = {
    "hostNetwork": True,
    "priorityClassName": "system-node-critical",
    "tolerations": [{"operator": "Exists"}],
}


def workloads() -> list[Object]:
    """Everything in kube-system."""
    return [
        service_account("aws-node", role="eks-vpc-cni-role", namespace=SYSTEM),
        service_account("cluster-autoscaler", role="eks-cluster-autoscaler-role", namespace=SYSTEM),
        service_account(
            "aws-load-balancer-controller", role="eks-load-balancer-role", namespace=SYSTEM
        ),
        *(
            service_account(name, namespace=SYSTEM)
            for name in ("coredns", "kube-proxy", "metrics-server")
        ),
        config_map("coredns", {"Corefile": COREFILE}, namespace=SYSTEM),
        _system(
            "coredns",
            _DNS,
            Container(
                "eks/coredns:v1.11.4",
                53,
                "100m",
                "70Mi",
                "4m",
                "22Mi",
                ("[INFO] plugin/reload: Running configuration SHA512 = 8a7d59", "CoreDNS-1.11.4"),
                probe_path=None,
                port_name="dns",
                memory_limit="170Mi",
                mounts={"config-volume": "/etc/coredns"},
            ),
            replicas=2,
            volumes=[{"name": "config-volume", "configMap": {"name": "coredns"}}],
            **_CRITICAL,
        ),
        _dns_service(),
        _system(
            "aws-node",
            {"k8s-app": "aws-node"},
            _small("amazon-k8s-cni:v1.20.4", 61678, "25m", "0"),
            kind="DaemonSet",
            **_ON_THE_NODE,
        ),
        _system(
            "kube-proxy",
            {"k8s-app": "kube-proxy"},
            _small("eks/kube-proxy:v1.32.9", 10249, "100m", "0"),
            kind="DaemonSet",
            **_ON_THE_NODE,
        ),
        _system("cluster-autoscaler", {"app": "cluster-autoscaler"}, _autoscaler(), **_CRITICAL),
        _system(
            "aws-load-balancer-controller",
            {"app.kubernetes.io/name": "aws-load-balancer-controller"},
            _small("eks/aws-load-balancer-controller:v2.13.4", 9443, "100m", "200Mi"),
            **_CRITICAL,
        ),
        _system(
            "metrics-server",
            {"k8s-app": "metrics-server"},
            _small("metrics-server:v0.8.0", 10250, "100m", "200Mi"),
            **_CRITICAL,
        ),
    ]


def _autoscaler() -> Container:
    discovery = f"k8s.io/cluster-autoscaler/enabled,k8s.io/cluster-autoscaler/{CLUSTER}"
    return Container(
        "cluster-autoscaler:v1.32.3",
        8085,
        "100m",
        "600Mi",
        "9m",
        "88Mi",
        _autoscaler_log(datetime.datetime.now(datetime.UTC) - _SCANNED_AGO),
        probe_path=None,
        command=(
            "./cluster-autoscaler",
            "--v=4",
            "--cloud-provider=aws",
            "--skip-nodes-with-local-storage=false",
            "--expander=least-waste",
            f"--node-group-auto-discovery=asg:tag={discovery}",
        ),
    )


def _autoscaler_log(scan: datetime.datetime) -> tuple[str, ...]:
    """What one scan wrote, in klog's form: severity, time, process, source."""
    times = [scan + datetime.timedelta(microseconds=after) for after, _ in _AUTOSCALER_LOG]
    return tuple(
        f"I{at:%m%d %H:%M:%S.%f}       1 {text}"
        for at, (_, text) in zip(times, _AUTOSCALER_LOG, strict=True)
    )


def _dns_service() -> Object:
    made = service("kube-dns", _DNS, 53, 53, namespace=SYSTEM, port_name="dns-tcp")
    address = "172.20.0.10"
    made["spec"] |= {"clusterIP": address, "clusterIPs": [address]}
    udp = {"name": "dns", "port": 53, "targetPort": 53, "protocol": "UDP"}
    made["spec"]["ports"].insert(0, udp)
    return made


def _small(image: str, port: int, cpu: str, memory: str) -> Container:
    """A container that serves the cluster itself; memory 0: it asks for none."""
    return Container(
        image,
        port,
        cpu,
        memory if memory != "0" else "32Mi",
        "12m",
        "44Mi",
        probe_path=None,
        memory_limit="" if memory != "0" else "256Mi",
    )


def _system(
    name: str,
    labels: dict[str, str],
    container: Container,
    *,
    kind: str = "Deployment",
    **more: Any,
) -> Object:
    return workload(kind, name, labels, container, namespace=SYSTEM, account=name, **more)
