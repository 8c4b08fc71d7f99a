"""Namespace monitoring, as kube-prometheus-stack makes it, small."""

from __future__ import annotations

from runbook_lib.practice.seed.parts import Container, Object, service, service_account, workload

_NAMESPACE = "monitoring"
_STACK = "prometheus-kube-prometheus"


def workloads() -> list[Object]:
    """Prometheus, Alertmanager, Grafana and kube-state-metrics."""
    prometheus = {"app.kubernetes.io/name": "prometheus"}
    alertmanager = {"app.kubernetes.io/name": "alertmanager"}
    grafana = {"app.kubernetes.io/name": "grafana"}
    state = {"app.kubernetes.io/name": "kube-state-metrics"}
    return [
        service_account(f"{_STACK}-prometheus", namespace=_NAMESPACE),
        workload(
            "StatefulSet",
            f"prometheus-{_STACK}-prometheus",
            prometheus,
            Container(
                "prometheus/prometheus:v3.5.0",
                9090,
                "250m",
                "1Gi",
                "110m",
                "820Mi",
                ('level=INFO msg="Server is ready to receive web requests."',),
                probe_path="/-/ready",
                memory_limit="2Gi",
                mounts={"prometheus-db": "/prometheus"},
            ),
            namespace=_NAMESPACE,
            account=f"{_STACK}-prometheus",
            claim="prometheus-db 50Gi",
        ),
        service(f"{_STACK}-prometheus", prometheus, 9090, 9090, namespace=_NAMESPACE),
        workload(
            "StatefulSet",
            f"alertmanager-{_STACK}-alertmanager",
            alertmanager,
            Container(
                "prometheus/alertmanager:v0.28.1",
                9093,
                "50m",
                "128Mi",
                "4m",
                "40Mi",
                probe_path="/-/ready",
            ),
            namespace=_NAMESPACE,
        ),
        service(f"{_STACK}-alertmanager", alertmanager, 9093, 9093, namespace=_NAMESPACE),
        workload(
            "Deployment",
            "prometheus-grafana",
            grafana,
            Container(
                "grafana/grafana:12.1.0",
                3000,
                "50m",
                "256Mi",
                "6m",
                "130Mi",
                probe_path="/api/health",
            ),
            namespace=_NAMESPACE,
        ),
        service("prometheus-grafana", grafana, 80, 3000, namespace=_NAMESPACE),
        workload(
            "Deployment",
            "prometheus-kube-state-metrics",
            state,
            Container(
                "kube-state-metrics/kube-state-metrics:v2.16.0",
                8080,
                "20m",
                "128Mi",
                "3m",
                "50Mi",
                probe_path="/livez",
            ),
            namespace=_NAMESPACE,
        ),
    ]
