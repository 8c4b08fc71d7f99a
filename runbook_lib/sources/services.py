"""Whether the platform's critical services have anything behind them, and its database room."""

from __future__ import annotations

import socket
from typing import Any

from runbook_lib.sources import postgres
from runbook_lib.sources.clients import Sources
from runbook_lib.sources.seam import SourceError, probe

_SERVICE = "kubernetes.io/service-name"


@probe(
    lambda config, **_: (
        f"kubectl get endpointslices -n {config.namespaces.platform} -L {_SERVICE}; "
        f"kubectl get svc -n {config.namespaces.platform} {' '.join(config.services.critical)}"
    )
)
def critical(sources: Sources) -> list[dict[str, Any]]:
    """Each critical service and its endpoints. Health check, point 4.

    [{name, namespace, exists, selector, ready: [target], not_ready: [target]}]; a target is the
    pod's name, or the address of what is no pod. A ready condition that is absent means ready,
    as the EndpointSlice API says; a target that is in several slices counts once.
    """
    namespace = sources.config.namespaces.platform
    services = {
        one["metadata"]["name"]: one
        for one in sources.kubernetes.list(f"/api/v1/namespaces/{namespace}/services")
    }
    slices = sources.kubernetes.list(
        f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    )
    return [
        behind(name, namespace, services.get(name), slices)
        for name in sources.config.services.critical
    ]


@probe(postgres.sessions.command, seconds=12)
def database(sources: Sources) -> dict[str, Any]:
    """Whether the database lets in us, and ordinary clients too. Health check, point 9.

    As `postgres.reachable` (reached, version, kind, reason), with slots {setting: count},
    used: the sessions of clients, and tried_from: this machine. A role that may not see other
    sessions gives no slots, and why in `reason`. It may still have come in by a reserved slot
    (pg_use_reserved_connections lets see nothing), so that says nothing of ordinary clients.
    """
    here: dict[str, Any] = {"slots": {}, "used": None, "tried_from": socket.gethostname()}
    found = postgres.reachable.ask(sources) | here
    if not found["reached"]:
        return found
    try:
        stats = postgres.sessions.ask(sources)
    except SourceError as error:
        if error.kind != "forbidden":
            raise
        return found | {"reason": str(error)}
    refused = stats["refused"] or (stats["refused_by"] or {}).get("said")
    if refused:
        return found | {"reached": False, "kind": "refused", "reason": refused}
    return found | {"slots": stats["slots"], "used": len(stats["sessions"])}


def behind(
    name: str, namespace: str, service: dict[str, Any] | None, slices: list[dict[str, Any]]
) -> dict[str, Any]:
    """One service's entry in `critical`, from its object (or None) and all EndpointSlices."""
    endpoints = [
        endpoint
        for one in slices
        if one["metadata"].get("labels", {}).get(_SERVICE) == name
        for endpoint in one.get("endpoints") or []
    ]
    ready = {_target(e) for e in endpoints if (e.get("conditions") or {}).get("ready") is not False}
    return {
        "name": name,
        "namespace": namespace,
        "exists": service is not None,
        "selector": (service or {}).get("spec", {}).get("selector") or {},
        "ready": sorted(ready),
        "not_ready": sorted({_target(e) for e in endpoints} - ready),
    }


def _target(endpoint: dict[str, Any]) -> str:
    reference = endpoint.get("targetRef") or {}
    return str(reference.get("name") or next(iter(endpoint.get("addresses") or []), "?"))
