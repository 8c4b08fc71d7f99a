"""All kubelets of the practice cluster, as the API asks them."""

from __future__ import annotations

from runbook_lib.practice.cluster import stats
from runbook_lib.practice.cluster.exec import Exec
from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.cluster.nodes import kubelet_answers
from runbook_lib.practice.kubernetes.kubelets import Executed
from runbook_lib.practice.kubernetes.store import Object, Store


class ClusterKubelets:
    """Fulfils `kubernetes.kubelets.Kubelets` from the one stand-in for all kubelets."""

    def __init__(self, store: Store, kubelet: Kubelet) -> None:
        self._store = store
        self._kubelet = kubelet
        self.exec_in = Exec(store, kubelet)

    def answers(self, node: Object) -> bool:
        return kubelet_answers(node)

    def can_stop(self, pod: Object) -> bool:
        return self._kubelet.can_stop(pod)

    def logs(
        self, pod: Object, container: str, *, previous: bool
    ) -> list[tuple[float, str]] | None:
        return self._kubelet.logs(pod, container, previous=previous)

    async def exec(self, pod: Object, container: str, argv: list[str], stdin: bytes) -> Executed:
        return await self.exec_in.run(pod, container, argv, stdin)

    def summary(self, node: Object) -> Object:
        return stats.summary(node, self._store, self._kubelet)

    def journal(self, node: Object) -> str:
        return stats.kubelet_log(node)

    def node_usage(self, node: Object) -> Object | None:
        return stats.node_usage(node, self._store, self._kubelet)

    def pod_usage(self, pod: Object) -> Object | None:
        return stats.pod_usage(pod, self._store, self._kubelet)
