"""What the API asks of what works behind it: kubelets, metrics server, garbage collector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.objects.resources import Kind
from runbook_lib.practice.objects.store import Object


@dataclass(frozen=True)
class Executed:
    """How a command in a container ended, and what it wrote."""

    code: int
    out: bytes = b""
    err: bytes = b""


class Kubelets(Protocol):
    """The kubelets of all nodes; pods and nodes are given as stored objects."""

    def answers(self, node: Object) -> bool:
        """Whether the kubelet of this node takes connections."""

    async def logs(
        self, call: Call, pod: Object, container: str, request: web.Request
    ) -> web.StreamResponse:
        """A container's log, as much of it as is asked for; ApiError 400 where there is none."""

    async def stream(
        self, call: Call, pod: Object, container: str, request: web.Request
    ) -> web.StreamResponse:
        """Run a command in a container, over a WebSocket."""

    def get(self, call: Call, node: Object) -> web.Response | None:
        """What a kubelet itself answers; None where it knows no such path."""


class MetricsServer(Protocol):
    """Answers for metrics.k8s.io."""

    def require(self) -> None:
        """ApiError 503 unless it runs."""

    def answer(self, call: Call) -> web.Response:
        """Measurements of nodes or of pods."""


class Collector(Protocol):
    """Ends objects, and with them what they own."""

    def delete(
        self, kind: Kind, obj: Object, *, policy: str = "Background", grace: int | None = None
    ) -> None:
        """Ask for an object's end: it goes now, or once nothing holds it back any more."""

    def what_is_left(self, obj: Object) -> Object | None:
        """The object as it is now: None where it is gone."""


@dataclass(frozen=True)
class Behind:
    """Everything that works behind the API."""

    kubelets: Kubelets
    metrics: MetricsServer
    collector: Collector
