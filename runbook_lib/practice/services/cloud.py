"""How a container reaches AWS: with the role that its pod was given when it was made."""

from __future__ import annotations

from typing import Any, Protocol

from runbook_lib.practice.cluster import files
from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.objects.store import Object, Store


class Cloud(Protocol):
    """What gives boto3 clients of the practice AWS; they block."""

    def client(self, service: str) -> Any:
        """The on-call engineer's."""

    def client_of_pod(self, service: str, pod: str, role: str, token: str) -> Any:
        """Of a pod (its uid) with that role and web identity token; '' for its node's role."""


def client_in(
    cloud: Cloud, store: Store, kubelet: Kubelet, pod: Object, container: str, service: str
) -> Any:
    """The client that boto3 makes in a container. Raises botocore's ClientError. Blocks."""
    env = kubelet.environment(pod, container) or {}
    role, path = env.get("AWS_ROLE_ARN", ""), env.get("AWS_WEB_IDENTITY_TOKEN_FILE", "")
    program = kubelet.program(pod, container)
    found = files.content(store, pod, container, program, path) if role and path else None
    if found is None:
        role = ""
    return cloud.client_of_pod(service, pod["metadata"]["uid"], role, (found or b"").decode())
