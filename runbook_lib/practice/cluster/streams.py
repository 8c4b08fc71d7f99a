"""Commands in containers, over a WebSocket: v5.channel.k8s.io and v4.channel.k8s.io.

The first byte of a message names its channel. Source: k8s.io/apimachinery, remotecommand.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from aiohttp import WSMsgType, web

from runbook_lib.practice.cluster.logs import is_running
from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.kubernetes.kubelets import Executed
from runbook_lib.practice.objects.errors import ApiError, bad_request
from runbook_lib.practice.objects.store import Object

_V5, _V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
_STDIN, _STDOUT, _STDERR, _STATUS = b"\x00", b"\x01", b"\x02", b"\x03"
_CLOSE = b"\xff"  # v5 only: the channel in the next byte has ended
_QUIET_SECONDS = 1.0  # a pause ends the input, too: v4 has no other way, and few close it in v5
_PIECE_BYTES = 32 * 1024

# A command in a container of a pod, with its standard input.
Run = Callable[[Object, str, list[str], bytes], Awaitable[Executed]]


async def execute(
    call: Call, run: Run, pod: Object, container: str, request: web.Request
) -> web.StreamResponse:
    """Run the command, pass on what it wrote, and say how it ended."""
    if not is_running(pod, container):
        message = f'unable to upgrade connection: container not found ("{container}")'
        raise ApiError(500, "InternalError", message)
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise bad_request("Upgrade request required: the practice API streams over WebSocket only")
    socket = web.WebSocketResponse(protocols=(_V5, _V4))
    await socket.prepare(request)
    if socket.ws_protocol not in (_V5, _V4):
        await socket.close(message=b"v5.channel.k8s.io or v4.channel.k8s.io is needed")
        return socket
    typed = call.flag("stdin") and not call.flag("tty")
    stdin = await _input(socket) if typed else b""
    done = await run(pod, container, request.query.getall("command"), stdin)
    await _send(call, socket, done)
    # Waits until the client, too, has closed: it has then read everything.
    await socket.close()
    return socket


async def _input(socket: web.WebSocketResponse) -> bytes:
    """All of standard input, until it is closed or pauses."""
    found = b""
    while True:
        try:
            message = await socket.receive(timeout=_QUIET_SECONDS)
        except TimeoutError:
            return found
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
            return found
        data = message.data if message.type is WSMsgType.BINARY else message.data.encode()
        if data[:1] == _CLOSE and data[1:2] == _STDIN:
            return found
        if data[:1] == _STDIN:
            found += data[1:]


async def _send(call: Call, socket: web.WebSocketResponse, done: Executed) -> None:
    out, err = done.out, done.err
    if call.flag("tty"):  # a terminal has one stream, and its line ends
        out, err = (out + err).replace(b"\n", b"\r\n"), b""
    for channel, text, wanted in ((_STDOUT, out, "stdout"), (_STDERR, err, "stderr")):
        if call.flag(wanted):
            for start in range(0, len(text), _PIECE_BYTES):
                await socket.send_bytes(channel + text[start : start + _PIECE_BYTES])
    await socket.send_bytes(_STATUS + json.dumps(_status(done.code)).encode())


def _status(code: int) -> Object:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
