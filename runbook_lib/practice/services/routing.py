"""Which container a request reaches: host and path, Ingress, Service, ready endpoint, container.

Pure functions over the stored objects, which they only read. What has no way through raises
`GatewayError` in the words of the load balancer in front, so that the broken link shows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store

# The default of an ALB's idle timeout.
GATEWAY_SECONDS = 60.0
ATTRIBUTES = "alb.ingress.kubernetes.io/load-balancer-attributes"
ACTION = "alb.ingress.kubernetes.io/actions."
_REASONS = {
    404: "404 Not Found",
    502: "502 Bad Gateway",
    503: "503 Service Temporarily Unavailable",
    504: "504 Gateway Time-out",
}
_CLUSTER_DOMAIN = ("svc", "svc.cluster.local", "svc.cluster.local.")


class GatewayError(Exception):
    """The load balancer's own answer: its status, body and headers."""

    def __init__(self, status: int, body: str | None = None) -> None:
        super().__init__(f"the load balancer answers {status}")
        self.status = status
        self.headers = {"Server": "awselb/2.0", "Content-Type": "text/html"}
        if body is None:
            title = _REASONS[status]
            body = (
                f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
                f"<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
            )
        else:  # a fixed response of the controller's making
            self.headers["Content-Type"] = "text/plain; charset=utf-8"
        self.body = body


@dataclass(frozen=True)
class Backend:
    """A port of a Service, as a client or an Ingress names it, and how long one waits for it."""

    namespace: str
    service: str
    port: int | str
    timeout: float = GATEWAY_SECONDS


@dataclass(frozen=True)
class Target:
    """A container that takes the connection."""

    pod: Object = field(hash=False)
    container: str
    port: int

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])


def through_ingress(store: Store, host: str, path: str) -> Backend:
    """Where the Ingresses send a request.

    Raises GatewayError: 404 where no rule matches, or the answer that the load balancer was told
    to give by itself.
    """
    found: list[tuple[int, Object, Object]] = []
    for ingress in store.all("ingresses", "networking.k8s.io"):
        for rule in dig(ingress, "spec.rules", []):
            if not _is_for(rule.get("host", ""), host):
                continue
            for one in dig(rule, "http.paths", []):
                if length := _matched(one, path):
                    found.append((length, ingress, one["backend"]))
        if default := dig(ingress, "spec.defaultBackend"):
            found.append((0, ingress, default))
    if not found:
        raise GatewayError(404, "")
    _, ingress, backend = max(found, key=lambda one: one[0])
    _answer_itself(ingress, backend)
    return _backend(ingress["metadata"]["namespace"], backend, _timeout(ingress))


def _answer_itself(ingress: Object, backend: Object) -> None:
    """Raise GatewayError where a rule names an annotated action, a fixed response, as backend."""
    if dig(backend, "service.port", {}).get("name") != "use-annotation":
        return
    annotations = ingress["metadata"].get("annotations") or {}
    action = json.loads(annotations.get(ACTION + dig(backend, "service.name", ""), "{}"))
    fixed = action.get("fixedResponseConfig")
    if action.get("type") != "fixed-response" or not fixed:
        raise GatewayError(503, "Backend service does not exist")
    raise GatewayError(int(fixed["statusCode"]), fixed.get("messageBody", ""))


def named(store: Store, host: str, namespace: str) -> Backend | None:
    """The Service that an in-cluster name means, asked for from a namespace; None for no such."""
    name, _, port = host.partition(":")
    service, _, rest = name.partition(".")
    where, _, domain = rest.partition(".")
    if domain and domain not in _CLUSTER_DOMAIN:
        return None
    found = store.find("services", service, where or namespace)
    if found is None:
        return None
    return Backend(where or namespace, service, int(port or 80))


def targets(store: Store, backend: Backend) -> list[Target]:
    """All containers behind a Service's port that are ready to take a request.

    Raises GatewayError: 503 where there is no Service or no ready endpoint, 502 where nothing
    listens on the target port.
    """
    service = store.find("services", backend.service, backend.namespace)
    if service is None:
        raise GatewayError(503, "Backend service does not exist")
    port = _port_of(service, backend.port)
    if port is None:
        raise GatewayError(503, "Backend service does not exist")
    ready = [
        (reference["name"], int(number))
        for one in store.all("endpointslices", "discovery.k8s.io")
        if _belongs(one, backend)
        for number in _numbers(one, port)
        for endpoint in one.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready") is not False
        if (reference := endpoint.get("targetRef"))
    ]
    if not ready:
        raise GatewayError(503)
    listening = []
    for name, number in ready:
        pod = store.find("pods", name, backend.namespace)
        if pod and (container := listener(pod, number)):
            listening.append(Target(pod, container, number))
    if not listening:  # every connection is refused
        raise GatewayError(502)
    return listening


def listener(pod: Object, port: int) -> str:
    """The container that listens on a port of its pod; '' where none does."""
    for container in pod["spec"]["containers"]:
        if port in [one.get("containerPort") for one in container.get("ports") or []]:
            return str(container["name"])
    return ""


def _belongs(slice_: Object, backend: Backend) -> bool:
    meta = slice_["metadata"]
    labels = meta.get("labels") or {}
    owner = (meta["namespace"], labels.get("kubernetes.io/service-name"))
    return owner == (backend.namespace, backend.service)


def _numbers(slice_: Object, port: Object) -> list[Any]:
    """The target numbers that a slice gives to a Service's port; its name joins the two."""
    return [
        one["port"]
        for one in slice_.get("ports") or []
        if (one.get("name") or "") == (port.get("name") or "") and one.get("port")
    ]


def _port_of(service: Object, wanted: int | str) -> Object | None:
    ports: list[Object] = dig(service, "spec.ports", [])
    return next((one for one in ports if wanted in (one["port"], one.get("name"))), None)


def _backend(namespace: str, backend: Object, seconds: float) -> Backend:
    port = dig(backend, "service.port", {})
    number = port.get("number") or port.get("name") or 80
    return Backend(namespace, dig(backend, "service.name", ""), number, seconds)


def _is_for(rule_host: str, host: str) -> bool:
    if not rule_host:
        return True
    if rule_host.startswith("*."):
        return host.partition(".")[2] == rule_host[2:]
    return rule_host == host


def _matched(path: Object, wanted: str) -> int:
    """How specific a matching path is, 0 where it does not match."""
    prefix = path.get("path") or "/"
    if path.get("pathType") == "Exact":
        return len(prefix) + 1 if prefix == wanted else 0
    bare = prefix.rstrip("/")
    return len(prefix) if wanted == bare or wanted.startswith(bare + "/") else 0


def _timeout(ingress: Object) -> float:
    annotations = ingress["metadata"].get("annotations") or {}
    for attribute in annotations.get(ATTRIBUTES, "").split(","):
        name, _, value = attribute.strip().partition("=")
        if name == "idle_timeout.timeout_seconds" and value.isdigit():
            return float(value)
    return GATEWAY_SECONDS
