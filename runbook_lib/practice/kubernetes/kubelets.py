"""What the API asks of the kubelets: all that it knows about nodes and containers at work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from runbook_lib.practice.kubernetes.store import Object


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

    def can_stop(self, pod: Object) -> bool:
        """Whether somebody is there to end the pod's containers."""

    def logs(
        self, pod: Object, container: str, *, previous: bool
    ) -> list[tuple[float, str]] | None:
        """(Unix time, line) of the current or the former run; None where there was none."""

    async def exec(self, pod: Object, container: str, argv: list[str], stdin: bytes) -> Executed:
        """Run a command in a running container."""

    def summary(self, node: Object) -> Object:
        """The Summary of k8s.io/kubelet/pkg/apis/stats/v1alpha1."""

    def journal(self, node: Object) -> str:
        """The kubelet's own log."""

    def node_usage(self, node: Object) -> Object | None:
        """A NodeMetrics; None while it cannot be measured."""

    def pod_usage(self, pod: Object) -> Object | None:
        """A PodMetrics; None while it cannot be measured."""
