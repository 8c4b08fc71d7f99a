"""What a kubelet tells of a container's log: whole, in part, or followed."""

from __future__ import annotations

import asyncio
import contextlib
import time

from aiohttp import web

from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.objects.errors import bad_request
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store, seconds, stamp

_LOOK_SECONDS = 0.2  # between two looks at a followed log


async def answer(
    call: Call, store: Store, kubelet: Kubelet, pod: Object, container: str, request: web.Request
) -> web.StreamResponse:
    previous = call.flag("previous")
    found = kubelet.logs(pod, container, previous=previous)
    if found is None:
        raise bad_request(_no_log(pod, container, previous=previous))
    if not call.flag("follow") or previous:
        return web.Response(text=_text(call, _excerpt(call, found)))
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    with contextlib.suppress(ConnectionResetError):  # the reader went away
        await response.write(_text(call, _excerpt(call, found)).encode())
        await _follow(call, store, kubelet, container, response, len(found))
    return response


async def _follow(
    call: Call,
    store: Store,
    kubelet: Kubelet,
    container: str,
    response: web.StreamResponse,
    seen: int,
) -> None:
    """Write what is added, until the container that began it has ended."""
    while not store.closed:
        pod = store.table(call.kind).get((call.namespace, call.name))
        found = kubelet.logs(pod, container, previous=False) if pod else None
        if pod is None or found is None or len(found) < seen:  # gone, or begun anew
            return
        await response.write(_text(call, found[seen:]).encode())
        seen = len(found)
        if not is_running(pod, container):
            return
        await asyncio.sleep(_LOOK_SECONDS)


def _status(pod: Object, container: str) -> Object:
    for field in ("status.containerStatuses", "status.initContainerStatuses"):
        for status in dig(pod, field, []):
            if status["name"] == container:
                found: Object = status
                return found
    return {}


def is_running(pod: Object, container: str) -> bool:
    return dig(_status(pod, container), "state.running") is not None


def _no_log(pod: Object, container: str, *, previous: bool) -> str:
    name = pod["metadata"]["name"]
    if previous:
        return f'previous terminated container "{container}" in pod "{name}" not found'
    reason = dig(_status(pod, container), "state.waiting.reason", "ContainerCreating")
    what = "trying and failing to pull image" if "mage" in reason else reason
    return f'container "{container}" in pod "{name}" is waiting to start: {what}'


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
