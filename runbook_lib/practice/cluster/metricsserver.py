"""The metrics server, which answers for metrics.k8s.io: the API passes its requests on.

Source: k8s.io/metrics/pkg/apis/metrics/v1beta1.
"""

from __future__ import annotations

from aiohttp import web

from runbook_lib.practice.cluster import stats
from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.cluster.objects import is_running
from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.kubernetes.reads import selection
from runbook_lib.practice.objects.errors import ApiError, not_allowed, not_found
from runbook_lib.practice.objects.store import Store


class MetricsServer:
    """Fulfils `kubernetes.kubelets.MetricsServer`; runs where its Deployment does."""

    def __init__(self, store: Store, kubelet: Kubelet) -> None:
        self._store = store
        self._kubelet = kubelet

    def require(self) -> None:
        if not is_running(self._store, "kube-system", "metrics-server"):
            message = "the server is currently unable to handle the request"
            raise ApiError(503, "ServiceUnavailable", message)

    def answer(self, call: Call) -> web.Response:
        self.require()
        if call.method != "GET" or call.flag("watch"):
            raise not_allowed()
        usage = stats.pod_usage if call.kind.namespaced else stats.node_usage
        store, kind = self._store, call.kind
        if call.name:
            source = store.find(kind.plural, call.name, call.namespace)
            found = usage(source, store, self._kubelet) if source else None
            if found is None:
                raise not_found(kind, call.name)
            return web.json_response(found)
        selects = selection(call)
        items = [usage(obj, store, self._kubelet) for obj in store.all(kind.plural) if selects(obj)]
        known = [item for item in items if item is not None]
        return web.json_response({**kind.head("List"), "metadata": {}, "items": known})
