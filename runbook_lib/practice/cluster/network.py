"""Whether NetworkPolicies let one end of a connection reach the other. Pure functions.

https://kubernetes.io/docs/concepts/services-networking/network-policies/: policies add up; a pod
that no policy selects for a direction is open in that direction; both ends must allow.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.practice.objects.selectors import dig, matches
from runbook_lib.practice.objects.store import Object


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod, or (without a name) something outside the cluster."""

    ip: str
    namespace: str = ""
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)  # named ports of its containers
    on_host: bool = False  # in the node's network: policies do not see it as a pod


@dataclass(frozen=True)
class Blocked:
    """By which direction's policies a connection is dropped."""

    direction: str  # "egress" of the source, or "ingress" of the target
    policies: tuple[str, ...]  # namespace/name of those that select that end


def blocked(
    policies: Iterable[Object], source: End, target: End, port: int, protocol: str = "TCP"
) -> Blocked | None:
    """Why the packets are dropped; None where they arrive. `port` is the target pod's own."""
    if source.ip == target.ip:  # a pod reaches itself, and a node its own pods
        return None
    policies = list(policies)
    for direction, own, other in (("egress", source, target), ("ingress", target, source)):
        selecting = [policy for policy in policies if _selects(policy, own, direction)]
        if selecting and not any(
            _allows(policy, direction, own, other, target, port, protocol) for policy in selecting
        ):
            names = tuple(
                f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in selecting
            )
            return Blocked(direction, names)
    return None


def _selects(policy: Object, end: End, direction: str) -> bool:
    if not end.name or end.on_host or policy["metadata"]["namespace"] != end.namespace:
        return False
    spec = policy.get("spec") or {}
    # Without policyTypes: ingress always, egress where there are egress rules.
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return direction.capitalize() in types and matches(spec.get("podSelector"), end.labels)


def _allows(
    policy: Object, direction: str, own: End, other: End, target: End, port: int, protocol: str
) -> bool:
    peers = "from" if direction == "ingress" else "to"
    for rule in dig(policy, f"spec.{direction}", []):
        named = not rule.get(peers) or any(_is_peer(p, own.namespace, other) for p in rule[peers])
        if named and _is_port(rule.get("ports"), target, port, protocol):
            return True
    return False


def _is_peer(peer: Mapping[str, Any], namespace: str, other: End) -> bool:
    if block := peer.get("ipBlock"):
        address = ipaddress.ip_address(other.ip)
        without = [ipaddress.ip_network(cidr) for cidr in block.get("except") or []]
        inside = address in ipaddress.ip_network(block["cidr"])
        return inside and not any(address in network for network in without)
    if not other.name or other.on_host:
        return False
    if "namespaceSelector" in peer:
        if not matches(peer["namespaceSelector"], other.namespace_labels):
            return False
    elif other.namespace != namespace:
        return False
    return matches(peer.get("podSelector"), other.labels)


def _is_port(listed: list[Mapping[str, Any]] | None, target: End, port: int, protocol: str) -> bool:
    for one in listed or []:
        if one.get("protocol", "TCP") != protocol:
            continue
        wanted = one.get("port")
        number = target.ports.get(wanted) if isinstance(wanted, str) else wanted
        if wanted is None or number == port:
            return True
        if isinstance(number, int) and number <= port <= one.get("endPort", number):
            return True
    return not listed
