"""All kubelets of the practice cluster, as the API asks them."""

from __future__ import annotations

from aiohttp import web

from runbook_lib.practice.cluster import logs, stats, streams
from runbook_lib.practice.cluster.exec import Exec
from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.cluster.nodes import kubelet_answers
from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.kubernetes.kubelets import Executed
from runbook_lib.practice.objects.store import Object, Store


class ClusterKubelets:
    """Fulfils `kubernetes.kubelets.Kubelets` from the one stand-in for all kubelets."""

    def __init__(self, store: Store, kubelet: Kubelet) -> None:
        self._store = store
        self._kubelet = kubelet
        self.exec_in = Exec(store, kubelet)

    def answers(self, node: Object) -> bool:
        return kubelet_answers(node)

    async def logs(
        self, call: Call, pod: Object, container: str, request: web.Request
    ) -> web.StreamResponse:
        return await logs.answer(call, self._store, self._kubelet, pod, container, request)

    async def stream(
        self, call: Call, pod: Object, container: str, request: web.Request
    ) -> web.StreamResponse:
        return await streams.execute(call, self.exec, pod, container, request)

    async def exec(self, pod: Object, container: str, argv: list[str], stdin: bytes) -> Executed:
        """Run a command in a running container."""
        return await self.exec_in.run(pod, container, argv, stdin)

    def get(self, call: Call, node: Object) -> web.Response | None:
        if call.path == "stats/summary":
            return web.json_response(stats.summary(node, self._store, self._kubelet))
        if call.path == "logs" and call.query.get("query") == "kubelet":
            lines = call.number("tailLines")
            text = stats.kubelet_log(node).splitlines(keepends=True)
            return web.Response(text="".join(text[-lines:] if lines else text))
        return web.Response(text="ok") if call.path == "healthz" else None
