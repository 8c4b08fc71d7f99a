"""Logs of containers and commands in them: judged here, and answered by kubelets."""

from __future__ import annotations

import re

from aiohttp import web

from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.kubernetes.kubelets import Kubelets
from runbook_lib.practice.objects.errors import ApiError, bad_request, invalid
from runbook_lib.practice.objects.fields import causes
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store


async def log(
    call: Call, store: Store, kubelets: Kubelets, request: web.Request
) -> web.StreamResponse:
    pod = store.get(call.kind, call.namespace, call.name)
    _require_sense(call)
    container = _container_of(call, pod)
    if not dig(pod, "spec.nodeName"):
        return web.Response(text="")
    _require_kubelet(
        store, kubelets, pod, f"containerLogs/{call.namespace}/{call.name}/{container}"
    )
    return await kubelets.logs(call, pod, container, request)


async def execute(
    call: Call, store: Store, kubelets: Kubelets, request: web.Request
) -> web.StreamResponse:
    pod = store.get(call.kind, call.namespace, call.name)
    container = _container_of(call, pod)
    if not request.query.get("command"):
        raise bad_request("you must specify at least 1 command for the container")
    if not dig(pod, "spec.nodeName"):
        raise bad_request(f"pod {call.name} does not have a host assigned")
    _require_kubelet(store, kubelets, pod, f"exec/{call.namespace}/{call.name}/{container}")
    return await kubelets.stream(call, pod, container, request)


def _require_kubelet(store: Store, kubelets: Kubelets, pod: Object, path: str) -> None:
    """500, as the API server says it, where the pod's kubelet takes no connection."""
    node = store.find("nodes", dig(pod, "spec.nodeName", ""))
    if node is None or not kubelets.answers(node):
        address = dig(pod, "status.hostIP", "")
        raise ApiError(
            500,
            "InternalError",
            f'Get "https://{address}:10250/{path}": dial tcp {address}:10250: connect: '
            "connection refused",
        )


def _container_of(call: Call, pod: Object) -> str:
    spec = pod["spec"]
    names = [c["name"] for c in spec["containers"]]
    inits = [c["name"] for c in spec.get("initContainers") or []]
    asked = call.query.get("container", "")
    if not asked and len(names) > 1:
        also = f" or one of the init containers: [{' '.join(inits)}]" if inits else ""
        raise bad_request(
            f"a container name must be specified for pod {call.name}, choose one of: "
            f"[{' '.join(names)}]{also}"
        )
    if asked and asked not in (*names, *inits):
        raise bad_request(f"container {asked} is not valid for pod {call.name}")
    return asked or names[0]


def _require_sense(call: Call) -> None:
    """422 for a part of a log that cannot be."""
    found = [
        causes.wrong(field, int(text), f"must be greater than {least - 1}")
        for field, least in (("tailLines", 0), ("sinceSeconds", 1), ("limitBytes", 1))
        if re.fullmatch(r"-?\d+", text := call.query.get(field, "")) and int(text) < least
    ]
    if found:
        raise invalid(call.kind.named("", "PodLogOptions"), "", *found)
