"""What a pod meets when it looks up a name or opens a connection, from the cluster's state."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from runbook_lib.practice.cluster.network import End, blocked
from runbook_lib.practice.cluster.owners import is_alive, is_ready
from runbook_lib.practice.cluster.program import Program
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store

_ZONE = re.compile(r"^\s*kubernetes\s+(\S+)", re.M)
_FORWARDS = re.compile(r"^\s*forward\s+\.\s+\S+", re.M)
_REAL_SECONDS = 2.0
_OUTSIDE = End("10.0.201.10")  # where in life what is on loopback in practice would be

_REAL = "real"
Outcome = str  # "connected", "refused", "timeout", or of a name "absent" and "no answer"


@dataclass(frozen=True)
class Dialed:
    """How an attempt went; the pod and its container where one was reached."""

    outcome: Outcome
    ip: str = ""
    pod: Object | None = None
    container: str = ""
    port: int = 0


class Network:
    """Names and connections as pods of this cluster see them.

    `hosts` says where names outside the cluster are: name to IP address. Loopback addresses
    other than the pod's own ports are tried for real: there the practice platform's systems are.
    """

    def __init__(self, store: Store, program: Callable[[Object, str], Program]) -> None:
        self._store = store
        self.program = program
        self.hosts: dict[str, str] = {}

    def end(self, pod: Object) -> End:
        """The pod as an end of a connection."""
        meta, spec = pod["metadata"], pod["spec"]
        space = self._store.find("namespaces", meta["namespace"]) or {}
        return End(
            dig(pod, "status.podIP", ""),
            meta["namespace"],
            meta["name"],
            meta.get("labels") or {},
            dig(space, "metadata.labels", {}),
            {p["name"]: p["containerPort"] for p in _ports(spec) if p.get("name")},
            bool(spec.get("hostNetwork")),
        )

    def resolve(self, pod: Object, name: str) -> tuple[Outcome, str, str]:
        """(outcome, address, full name) of a name, through the cluster's DNS."""
        try:
            return "connected", str(ipaddress.ip_address(name)), name
        except ValueError:
            pass
        if name == "localhost":
            return "connected", "127.0.0.1", name
        servers = self._pods_of("kube-system", "kube-dns", ready=True)
        if not any(self._open(pod, server, 53, "UDP") for server in servers):
            return "no answer", "", name
        corefile = dig(self._store.find("configmaps", "coredns", "kube-system"), "data.Corefile")
        zone = _ZONE.search(corefile) if corefile else None
        zones = [zone[1].rstrip(".")] if zone else [] if corefile else ["cluster.local"]
        own = pod["metadata"]["namespace"]
        for full in _searched(name, own):
            if (address := self._service_address(full, zones)) is not None:
                return "connected", address, full
        address = self.hosts.get(name.rstrip("."), "")
        if address and (not corefile or _FORWARDS.search(corefile)):
            return "connected", address, name.rstrip(".")
        return "absent", "", name

    def _service_address(self, full: str, zones: list[str]) -> str | None:
        """The address of `service.namespace.svc.zone`; None where that is no such name."""
        for zone in zones:
            parts = full.removesuffix(f".svc.{zone}").split(".")
            if not full.endswith(f".svc.{zone}") or len(parts) not in (2, 3):
                continue
            service = self._store.find("services", parts[-2], parts[-1])
            if service is None:
                return None
            if len(parts) == 3 or dig(service, "spec.clusterIP") == "None":
                pods = self._pods_of(parts[-1], parts[-2], ready=True)
                named = [p for p in pods if len(parts) == 2 or dig(p, "metadata.name") == parts[0]]
                return str(dig(named[0], "status.podIP")) if named else None
            return str(dig(service, "spec.clusterIP", ""))
        return None

    def _pods_of(self, namespace: str, service: str, *, ready: bool) -> list[Object]:
        found = self._store.find("services", service, namespace)
        selector = dig(found, "spec.selector", {})
        return [
            pod
            for pod in self._store.all("pods")
            if selector
            and pod["metadata"]["namespace"] == namespace
            and (pod["metadata"].get("labels") or {}).items() >= selector.items()
            and is_alive(pod)
            and (is_ready(pod) or not ready)
        ]

    def _policies(self) -> Iterable[Object]:
        return self._store.all("networkpolicies", "networking.k8s.io")

    def _open(self, source: Object, target: Object, port: int, protocol: str = "TCP") -> bool:
        ends = (self.end(source), self.end(target))
        return blocked(self._policies(), *ends, port, protocol) is None

    async def connect(self, pod: Object, host: str, port: int) -> Dialed:
        """Open a TCP connection from a pod."""
        went = self._simulated(pod, host, port)
        return await _really(went.ip, port) if went.outcome == _REAL else went

    def reaches(self, pod: Object, where: str) -> Outcome:
        """How a connection to "host:port" would go; what is really there counts as connected."""
        host, _, port = where.rpartition(":")
        outcome = self._simulated(pod, host, int(port)).outcome
        return "connected" if outcome == _REAL else outcome

    def _simulated(self, pod: Object, host: str, port: int) -> Dialed:
        outcome, ip, _ = self.resolve(pod, host)
        if outcome != "connected":
            return Dialed(outcome)
        local = ipaddress.ip_address(ip).is_loopback
        if ip == dig(pod, "status.podIP") or local:
            if container := self._listener(pod, port):
                return Dialed("connected", ip, pod, container, port)
            if not local or host == "localhost":
                return Dialed("refused", ip)
            if blocked(self._policies(), self.end(pod), _OUTSIDE, port):
                return Dialed("timeout", ip)
            return Dialed(_REAL, ip)
        return self._to_service(pod, ip, port) or self._to_address(pod, ip, port)

    def _to_service(self, source: Object, ip: str, port: int) -> Dialed | None:
        """As kube-proxy forwards it: to a ready endpoint, or refused where there is none."""
        for service in self._store.all("services"):
            if dig(service, "spec.clusterIP") != ip:
                continue
            meta = service["metadata"]
            listed = [p for p in dig(service, "spec.ports", []) if p["port"] == port]
            if not listed:
                return Dialed("timeout", ip)  # no rule takes the packet, nobody answers it
            pods = self._pods_of(meta["namespace"], meta["name"], ready=True)
            for target in pods:
                number = _target_port(listed[0], target)
                if number and self._open(source, target, number):
                    return self._to_pod(target, ip, number)
            return Dialed("timeout" if pods else "refused", ip)
        return None

    def _to_address(self, source: Object, ip: str, port: int) -> Dialed:
        for target in self._store.all("pods"):
            if dig(target, "status.podIP") == ip and is_alive(target):
                if not self._open(source, target, port):
                    return Dialed("timeout", ip)
                return self._to_pod(target, ip, port)
        return Dialed("timeout", ip)  # outside: nothing of it is simulated

    def _to_pod(self, target: Object, ip: str, port: int) -> Dialed:
        node = self._store.find("nodes", dig(target, "spec.nodeName", "")) or {}
        conditions = dig(node, "status.conditions", [])
        if any(c["type"] == "Ready" and c["status"] == "Unknown" for c in conditions):
            return Dialed("timeout", ip)
        container = self._listener(target, port)
        return Dialed("connected" if container else "refused", ip, target, container, port)

    def _listener(self, pod: Object, port: int) -> str:
        """The running container of the pod that listens on a port, '' where none does."""
        for status in dig(pod, "status.containerStatuses", []):
            if not dig(status, "state.running"):
                continue
            name = status["name"]
            spec = next(c for c in pod["spec"]["containers"] if c["name"] == name)
            declared = [p["containerPort"] for p in spec.get("ports") or []]
            listens = self.program(pod, name).listens
            if port in (declared if listens is None else listens):
                return str(name)
        return ""


async def _really(ip: str, port: int) -> Dialed:
    try:
        async with asyncio.timeout(_REAL_SECONDS):
            _, writer = await asyncio.open_connection(ip, port)
    except TimeoutError:
        return Dialed("timeout", ip)
    except OSError:
        return Dialed("refused", ip)
    writer.close()
    return Dialed("connected", ip, port=port)


def _ports(spec: Object) -> list[Object]:
    return [port for container in spec["containers"] for port in container.get("ports") or []]


def _searched(name: str, namespace: str) -> list[str]:
    """The full names that a pod's resolver tries, as resolv.conf has it (ndots 5)."""
    if name.endswith("."):
        return [name.rstrip(".")]
    domains = (f"{namespace}.svc.cluster.local", "svc.cluster.local", "cluster.local")
    return [*(f"{name}.{domain}" for domain in domains), name]


def _target_port(port: Object, pod: Object) -> int | None:
    """The number of the pod's port behind a service's; None for a name that the pod has not."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    return next(
        (int(p["containerPort"]) for p in _ports(pod["spec"]) if p.get("name") == target), None
    )
