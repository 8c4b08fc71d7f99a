"""Where names come from: Route 53's record sets and Kubernetes' Services, as they are now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runbook_lib.practice.network.listener import ADDRESS, ELSEWHERE
from runbook_lib.practice.network.zone import ALIAS_TTL, TYPES, Record

Object = Mapping[str, Any]
SERVICES = ".svc.cluster.local"


def hosted_zone(zone: Any) -> list[Record]:
    """The records of one of moto's hosted zones, for `NameServer(zone=…)`.

    SOA, record types that are not served and wildcards are left out. An alias is taken for one
    of addresses, whichever record it names. Raises ValueError for values that Route 53 refuses.
    """
    return [
        Record(name, *_type_and_values(one), int(one.ttl or 0))
        for one in list(zone.rrsets)
        if one.type in TYPES and not (name := one.name.rstrip(".").lower()).startswith(("*", "\\"))
    ]


def _type_and_values(record_set: Any) -> tuple[str, tuple[str, ...]]:
    if record_set.alias_target:
        return "ALIAS", (record_set.alias_target["DNSName"].rstrip(".").lower(),)
    if record_set.type == "TXT":
        return "TXT", tuple(value.strip('"') for value in record_set.records)
    return record_set.type, tuple(record_set.records)


def other_balancers(names: Iterable[str], own: str) -> list[Record]:
    """Records of the account's load balancers but the platform's own: nobody answers there."""
    known = (name.lower() for name in names)
    return [Record(name, "A", (ELSEWHERE,), ALIAS_TTL) for name in known if name != own]


def service_addresses(
    name: str, services: Iterable[Object], slices: Iterable[Object]
) -> list[str] | None:
    """What CoreDNS answers for a name below cluster.local, for `NameServer(services=…)`.

    `services` and `slices` are all Services and EndpointSlices. Every address is loopback; an
    ExternalName is its other name. Empty: the name has no address (a namespace with Services, a
    headless Service without ready pods); None: there is no such name.
    """
    if not name.endswith(SERVICES):
        return None
    match name.removesuffix(SERVICES).split("."):
        case [namespace]:
            exists = any(one["metadata"]["namespace"] == namespace for one in services)
            return [] if exists else None
        case [service, namespace]:
            pod = None
        case [pod, service, namespace]:
            pass
        case _:
            return None
    spec = next((s["spec"] for s in services if _is(s, service, namespace)), None)
    if spec is None:
        return None
    if spec.get("type") == "ExternalName":
        return [spec["externalName"]] if pod is None else None
    if spec.get("clusterIP") != "None":
        return [ADDRESS] if pod is None else None
    ready = _ready_pods(service, namespace, slices)
    if pod is not None:
        return [ADDRESS] if pod in ready else None
    return [ADDRESS] if ready else []


def _is(thing: Object, name: str, namespace: str) -> bool:
    meta = thing["metadata"]
    return bool(meta["name"] == name and meta["namespace"] == namespace)


def _ready_pods(service: str, namespace: str, slices: Iterable[Object]) -> set[str]:
    """Names of the ready pods behind a Service; those of StatefulSets are their host names."""
    return {
        endpoint.get("targetRef", {}).get("name", "")
        for one in slices
        if one["metadata"]["namespace"] == namespace
        and one["metadata"].get("labels", {}).get("kubernetes.io/service-name") == service
        for endpoint in one.get("endpoints") or []
        if endpoint.get("conditions", {}).get("ready", True)
    }
