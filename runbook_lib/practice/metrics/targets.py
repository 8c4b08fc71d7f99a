"""The targets of the platform's Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.metrics.collectors.databases import PostgresExporter, RedisExporter
from runbook_lib.practice.metrics.collectors.kubernetes import KubeState
from runbook_lib.practice.metrics.collectors.nodes import Cadvisor, NodeExporter
from runbook_lib.practice.metrics.samples import Collector
from runbook_lib.practice.metrics.scrape import Target
from runbook_lib.practice.objects.store import Store

if TYPE_CHECKING:
    import psycopg
    import redis

POSTGRES = "mlops-platform-production-mlflow"
REDIS = "feast-redis-master:6379"


def targets(
    store: Store,
    kubelet: Kubelet,
    postgres: Callable[[], psycopg.Connection],
    redis: Callable[[], redis.Redis],
    applications: Mapping[str, Collector],
) -> list[Target]:
    """All targets. `applications` are by their instance, such as `mlflow:5000`.

    `postgres` opens an autocommit connection of the monitoring role, `redis` a client that does
    not try again; both have time limits of a second or less, for a scrape waits for them.
    """
    return [
        Target(KubeState(store), "kube-state-metrics:8080"),
        Target(Cadvisor(store, kubelet), "kubelet"),
        Target(NodeExporter(store), "node-exporter"),
        Target(PostgresExporter(postgres), POSTGRES),
        Target(RedisExporter(redis), REDIS),
        *(Target(application, instance) for instance, application in applications.items()),
    ]
