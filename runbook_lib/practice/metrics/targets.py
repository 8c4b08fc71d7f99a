"""The targets of the platform's Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.kubernetes.store import Store
from runbook_lib.practice.metrics.collectors.databases import PostgresExporter, RedisExporter
from runbook_lib.practice.metrics.collectors.kubernetes import KubeState
from runbook_lib.practice.metrics.collectors.nodes import Cadvisor, NodeExporter
from runbook_lib.practice.metrics.samples import Collector, Sample
from runbook_lib.practice.metrics.scrape import Target

if TYPE_CHECKING:
    import psycopg
    import redis

POSTGRES = "mlops-platform-production-mlflow"
REDIS = "feast-redis-master:6379"


@dataclass(frozen=True)
class Application:
    """A collector of what counts requests but is no collector itself."""

    job: str
    counted: Callable[[], Iterable[Sample]]
    running: Callable[[], bool]

    def collect(self) -> Iterable[Sample]:
        if not self.running():
            raise ConnectionRefusedError(f"{self.job} refuses connections")
        return self.counted()


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
