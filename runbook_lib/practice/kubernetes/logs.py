"""Logs of containers, whole, in part, or followed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time

from aiohttp import web

from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.kubernetes.errors import ApiError, bad_request, invalid
from runbook_lib.practice.kubernetes.kubelets import Kubelets
from runbook_lib.practice.kubernetes.selectors import dig
from runbook_lib.practice.kubernetes.store import Object, Store, seconds, stamp

_LOOK_SECONDS = 0.2  # between two looks at a followed log


async def answer(
    call: Call, store: Store, kubelets: Kubelets, request: web.Request
) -> web.StreamResponse:
    pod = store.get(call.kind, call.namespace, call.name)
    _require_sense(call)
    container = container_of(call, pod)
    if not dig(pod, "spec.nodeName"):
        return web.Response(text="")
    path = f"containerLogs/{call.namespace}/{call.name}/{container}"
    require_kubelet(store, kubelets, pod, path)
    previous = call.flag("previous")
    found = kubelets.logs(pod, container, previous=previous)
    if found is None:
        raise bad_request(_no_log(pod, container, previous=previous))
    if not call.flag("follow") or previous:
        return web.Response(text=_text(call, _excerpt(call, found)))
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    with contextlib.suppress(ConnectionResetError):  # the reader went away
        await response.write(_text(call, _excerpt(call, found)).encode())
        await _follow(call, store, kubelets, container, response, len(found))
    return response


async def _follow(
    call: Call,
    store: Store,
    kubelets: Kubelets,
    container: str,
    response: web.StreamResponse,
    seen: int,
) -> None:
    """Write what is added, until the container that began it has ended."""
    while not store.closed:
        pod = store.table(call.kind).get((call.namespace, call.name))
        found = kubelets.logs(pod, container, previous=False) if pod else None
        if pod is None or found is None or len(found) < seen:  # gone, or begun anew
            return
        await response.write(_text(call, found[seen:]).encode())
        seen = len(found)
        if not is_running(pod, container):
            return
        await asyncio.sleep(_LOOK_SECONDS)


def require_kubelet(store: Store, kubelets: Kubelets, pod: Object, path: str) -> None:
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


def is_running(pod: Object, container: str) -> bool:
    statuses = [
        *dig(pod, "status.containerStatuses", []),
        *dig(pod, "status.initContainerStatuses", []),
    ]
    return any(s["name"] == container and dig(s, "state.running") is not None for s in statuses)


def container_of(call: Call, pod: Object) -> str:
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


def _no_log(pod: Object, container: str, *, previous: bool) -> str:
    name = pod["metadata"]["name"]
    if previous:
        return f'previous terminated container "{container}" in pod "{name}" not found'
    statuses = [
        *dig(pod, "status.containerStatuses", []),
        *dig(pod, "status.initContainerStatuses", []),
    ]
    found: Object = next((s for s in statuses if s["name"] == container), {})
    reason = dig(found, "state.waiting.reason", "ContainerCreating")
    what = "trying and failing to pull image" if "mage" in reason else reason
    return f'container "{container}" in pod "{name}" is waiting to start: {what}'


def _require_sense(call: Call) -> None:
    """422 for a part of a log that cannot be."""
    causes = [
        ("FieldValueInvalid", f"Invalid value: {text}: must be greater than {least - 1}", field)
        for field, least in (("tailLines", 0), ("sinceSeconds", 1), ("limitBytes", 1))
        if re.fullmatch(r"-?\d+", text := call.query.get(field, "")) and int(text) < least
    ]
    if causes:
        raise invalid(call.kind.named("", "PodLogOptions"), "", causes)


def _excerpt(call: Call, lines: list[tuple[float, str]]) -> list[tuple[float, str]]:
    since = call.number("sinceSeconds")
    if since is not None:
        lines = [line for line in lines if line[0] >= time.time() - since]
    if begin := call.query.get("sinceTime"):
        lines = [line for line in lines if line[0] >= seconds(begin)]
    tail = call.number("tailLines")
    if tail is not None:
        lines = lines[-tail:] if tail else []
    return lines


def _text(call: Call, lines: list[tuple[float, str]]) -> str:
    stamped = call.flag("timestamps")
    text = "".join(
        f"{stamp(at)[:-1]}.000000000Z {line}\n" if stamped else f"{line}\n" for at, line in lines
    )
    limit = call.number("limitBytes")
    return text if limit is None else text.encode()[:limit].decode(errors="ignore")
