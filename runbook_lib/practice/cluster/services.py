"""Controllers without pods of their own: EndpointSlice, Endpoints, PodDisruptionBudget."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from runbook_lib.practice.cluster.owners import is_alive, is_ready, share
from runbook_lib.practice.objects.selectors import dig, matches
from runbook_lib.practice.objects.store import Object, Store, owner_reference

_DISCOVERY = "discovery.k8s.io"


class Services:
    def __init__(self, store: Store) -> None:
        self._store = store

    def sync(self) -> None:
        pods: dict[str, list[Object]] = defaultdict(list)
        for pod in self._store.all("pods"):
            pods[pod["metadata"]["namespace"]].append(pod)
        for service in self._store.all("services"):
            selector = dig(service, "spec.selector")
            if selector:
                chosen = _chosen(pods, service, {"matchLabels": selector})
                self._write_slice(service, chosen)
                self._write_endpoints(service, chosen)
        for budget in self._store.all("poddisruptionbudgets", "policy"):
            self._sync_budget(budget, _chosen(pods, budget, dig(budget, "spec.selector", {})))

    def _write_slice(self, service: Object, pods: list[Object]) -> None:
        meta = service["metadata"]
        placed = [pod for pod in pods if dig(pod, "status.podIP")]
        unready_too = bool(dig(service, "spec.publishNotReadyAddresses"))
        body: Object = {
            "addressType": "IPv4",
            "ports": [
                {
                    "name": port.get("name", ""),
                    "port": _target(port, placed),
                    "protocol": port.get("protocol", "TCP"),
                }
                for port in dig(service, "spec.ports", [])
            ],
            "endpoints": [
                {
                    "addresses": [pod["status"]["podIP"]],
                    "conditions": {
                        "ready": unready_too or (is_ready(pod) and is_alive(pod)),
                        "serving": is_ready(pod),
                        "terminating": "deletionTimestamp" in pod["metadata"],
                    },
                    **_node(pod),
                    "targetRef": _reference(pod),
                }
                for pod in placed
            ],
        }
        name = f"{meta['name']}-{meta['uid'][:5]}"
        labels = {
            "kubernetes.io/service-name": meta["name"],
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        }
        self._put("endpointslices", _DISCOVERY, service, name, labels, body)

    def _write_endpoints(self, service: Object, pods: list[Object]) -> None:
        placed = [pod for pod in pods if dig(pod, "status.podIP") and is_alive(pod)]
        groups = {
            "addresses": [pod for pod in placed if is_ready(pod)],
            "notReadyAddresses": [pod for pod in placed if not is_ready(pod)],
        }
        subset: Object = {
            field: [
                {
                    "ip": pod["status"]["podIP"],
                    **_node(pod),
                    "targetRef": _reference(pod),
                }
                for pod in chosen
            ]
            for field, chosen in groups.items()
            if chosen
        }
        if subset:
            subset["ports"] = [
                {"port": _target(port, placed), "protocol": port.get("protocol", "TCP")}
                | ({"name": port["name"]} if port.get("name") else {})
                for port in dig(service, "spec.ports", [])
            ]
        body = {"subsets": [subset] if subset else []}
        self._put("endpoints", "", service, service["metadata"]["name"], {}, body)

    def _put(
        self,
        plural: str,
        group: str,
        service: Object,
        name: str,
        labels: dict[str, str],
        body: Object,
    ) -> None:
        kind = self._store.catalogue.of(plural, group)
        namespace = service["metadata"]["namespace"]
        known = self._store.find(plural, name, namespace, group)
        if known is not None:
            self._store.edit(kind, known, lambda new: new.update(body))
            return
        meta = {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(service)],
            "creationTimestamp": service["metadata"]["creationTimestamp"],
        }
        obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta}
        self._store.add(kind, {**obj, **body})

    def _sync_budget(self, budget: Object, pods: list[Object]) -> None:
        spec = budget.get("spec") or {}
        pods = [pod for pod in pods if is_alive(pod)]
        healthy = sum(map(is_ready, pods))
        if "maxUnavailable" in spec:
            wanted = len(pods) - share(spec["maxUnavailable"], len(pods), up=True)
        else:
            wanted = share(spec.get("minAvailable", 1), len(pods), up=True)
        status = {
            "currentHealthy": healthy,
            "desiredHealthy": max(0, wanted),
            "expectedPods": len(pods),
            "disruptionsAllowed": max(0, healthy - max(0, wanted)),
            "observedGeneration": budget["metadata"].get("generation", 1),
        }
        kind = self._store.catalogue.of("poddisruptionbudgets", "policy")
        self._store.edit(kind, budget, lambda new: new.setdefault("status", {}).update(status))


def _chosen(pods: dict[str, list[Object]], owner: Object, selector: dict[str, Any]) -> list[Object]:
    return [
        pod
        for pod in pods[owner["metadata"]["namespace"]]
        if matches(selector, pod["metadata"].get("labels") or {})
        and dig(pod, "status.phase") not in ("Failed", "Succeeded")
    ]


def _node(pod: Object) -> Object:
    """The pod's node, where it has one: its status may be written by hand."""
    name = pod["spec"].get("nodeName")
    return {"nodeName": name} if name else {}


def _reference(pod: Object) -> Object:
    meta = pod["metadata"]
    names = ("name", "namespace", "uid")
    return {"kind": "Pod", **{name: meta[name] for name in names}}


def _target(port: Object, pods: list[Object]) -> int:
    """The number of a service's target port; a named one is looked up in the pods."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    for pod in pods:
        for container in pod["spec"]["containers"]:
            for opened in container.get("ports") or []:
                if opened.get("name") == target:
                    return int(opened["containerPort"])
    return int(port["port"])
