"""The platform's load balancer: HTTPS by server name, HTTP that redirects, every TLS fault."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.network.certificates import DAYS, FAULTS, Authority, Certificate, context
from runbook_lib.practice.network.hello import Hello, read_hello
from runbook_lib.practice.network.listener import ADDRESS, Listener
from runbook_lib.practice.network.proxy import SERVER, Proxy, page, redirect
from runbook_lib.practice.system import System

if TYPE_CHECKING:
    from aiohttp import web

HOSTS = ("mlflow.mlops-platform.com", "api.mlops-platform.com", "mlops-platform.com")
HANDSHAKE_FAULTS = ("closes", "resets", "plain_http", "hangs")
# Far below the load balancer's 60 s: who waits 5 s must see its 504.
UPSTREAM_SECONDS = 4.0
HANDSHAKE_SECONDS = 10.0
SHUTDOWN_SECONDS = 0.1


class Gateway(System):
    """Terminates TLS for the platform's hosts and forwards to what serves them.

    `folder` receives the certificate of the root that clients trust (`ca_file`) and the issuer's
    revocation list (`crl_file`). `upstreams` maps a host name to the base URL of what serves it
    now, or None; it is called in the event loop. See `Proxy` for `timeout_seconds`.
    """

    def __init__(
        self,
        folder: Path,
        upstreams: Callable[[str], str | None],
        *,
        timeout_seconds: float = UPSTREAM_SECONDS,
    ) -> None:
        self.ca_file = folder / "gateway-ca.pem"
        self.crl_file = folder / "gateway.crl"
        self._proxy = Proxy(HOSTS, upstreams, timeout_seconds)
        self._listeners = {"https": Listener(self._secure), "http": Listener(self._plain)}
        self._states = dict.fromkeys(self._listeners, "open")
        self._authority: Authority | None = None
        self._certificates: dict[str, Certificate] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}  # what each host presents now
        self._handshakes: dict[str, str] = {}
        self._servers: dict[str, web.Server] = {}

    @property
    def address(self) -> str:
        """Where HTTPS is, as `host:port`; the load balancer's 443."""
        return f"{ADDRESS}:{self._listeners['https'].port}"

    @property
    def http_address(self) -> str:
        """Where HTTP is, as `host:port`; the load balancer's 80."""
        return f"{ADDRESS}:{self._listeners['http'].port}"

    # life

    @property
    def running(self) -> bool:
        return bool(self._servers)

    async def start(self) -> None:
        from aiohttp import web

        if self.running:
            return
        if self._authority is None:
            await asyncio.to_thread(self._make_certificates)
        self._proxy.open()
        try:
            self._servers["https"] = web.Server(self._proxy.handle, access_log=None)
            await self._listeners["https"].become(self._states["https"])
            # Whoever is redirected must arrive, so not at 443.
            to_https = redirect(self._listeners["https"].port)
            self._servers["http"] = web.Server(to_https, access_log=None)
            await self._listeners["http"].become(self._states["http"])
        except OSError:  # a port was taken meanwhile
            await self.stop()
            raise

    async def stop(self) -> None:
        servers, self._servers = self._servers, {}
        for listener in self._listeners.values():
            await listener.become("closed")
        for server in servers.values():
            for connection in server.connections:
                if connection.transport is not None:
                    connection.transport.abort()  # a TLS farewell would outlive us
            await server.shutdown(SHUTDOWN_SECONDS)
        await self._proxy.close()

    async def heal(self) -> None:
        self._handshakes.clear()
        self._contexts = {
            host: await asyncio.to_thread(context, certificate)
            for host, certificate in self._certificates.items()
        }
        self._write_revocations([])
        for scheme, listener in self._listeners.items():
            self._states[scheme] = "open"
            await listener.become("open")

    def _make_certificates(self) -> None:
        authority = Authority()
        self.ca_file.parent.mkdir(parents=True, exist_ok=True)
        self.ca_file.write_bytes(authority.root)
        self._authority = authority
        self._certificates = {host: authority.issue(host) for host in HOSTS}
        self._contexts = {host: context(one) for host, one in self._certificates.items()}
        self._write_revocations([])

    def _write_revocations(self, revoked: list[Certificate]) -> None:
        assert self._authority is not None
        part = self.crl_file.with_suffix(".part")
        part.write_bytes(self._authority.revocations(revoked))
        part.rename(self.crl_file)

    # verbs

    def verbs(self) -> Mapping[str, Callable[..., Any]]:
        return {
            "certificate": self.certificate,
            "handshake": self.handshake,
            "listener": self.listener,
        }

    def certificate(self, host: str, fault: str, days: float | None = None) -> None:
        """Present a certificate with this fault for a host (see FAULTS), `revoked` or `renewed`.

        `days`: how long ago it expired, how long until it begins to be valid, or expires. A
        revoked one is on the list in `crl_file`; clients that look at no list take it. `renewed`
        is without fault.
        """
        self._require(host)
        if days is not None and (fault not in DAYS or days <= 0):
            raise ValueError(f"days are a positive number for {', '.join(DAYS)} only")
        if fault == "renewed":
            self._contexts[host] = context(self._certificates[host])
            return None
        if fault == "revoked":
            self._contexts[host] = context(self._certificates[host])
            return self._write_revocations([self._certificates[host]])
        if fault not in FAULTS:
            raise ValueError(f"there is no fault {fault!r}; there are {', '.join(FAULTS)}, renewed")
        assert self._authority is not None
        made = FAULTS[fault](self._authority, host, days or DAYS.get(fault, 0.0))
        self._contexts[host] = made
        return None

    def handshake(self, host: str, fault: str) -> None:
        """Fail before TLS begins: closes, resets, plain_http (no TLS on the port), hangs."""
        self._require(host)
        if fault not in HANDSHAKE_FAULTS:
            raise ValueError(f"there is no {fault!r}; there are {', '.join(HANDSHAKE_FAULTS)}")
        self._handshakes[host] = fault

    async def listener(self, scheme: str, state: str) -> None:
        """Let the listener of https or http be open, closed (missing) or filtered (dropped)."""
        if scheme not in self._listeners:
            raise ValueError(f"there are listeners for {', '.join(self._listeners)} only")
        await self._listeners[scheme].become(state)
        self._states[scheme] = state

    def _require(self, host: str) -> None:
        if host not in HOSTS:
            raise ValueError(f"{host!r} is none of the load balancer's hosts: {', '.join(HOSTS)}")
        if self._authority is None:
            raise ValueError("the load balancer was not started yet")

    # connections

    async def _plain(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(self._servers["http"], connection)

    async def _secure(self, connection: socket.socket) -> None:
        """What the client asks for decides what it gets: a fault, or the host's certificate."""
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                hello = await read_hello(connection)
        except TimeoutError:
            hello = None
        if hello is None:
            return connection.close()
        # Without a known name a load balancer presents its default certificate, the first.
        host = hello.host if hello.host in HOSTS else HOSTS[0]
        fault = self._handshakes.get(host)
        if fault is not None and (hello.tls or fault == "plain_http"):
            return await self._fail(connection, hello, fault)
        if not hello.tls:
            return await _refuse_in_plain(connection)
        return await self._serve_over_tls(connection, self._contexts[host], hello)

    async def _serve_over_tls(
        self, connection: socket.socket, tls: ssl.SSLContext, hello: Hello
    ) -> None:
        loop = asyncio.get_running_loop()
        if alert := _alert(tls, hello):
            await loop.sock_sendall(connection, alert)
            return await _close_politely(connection)
        await loop.connect_accepted_socket(
            self._servers["https"], connection, ssl=tls, ssl_handshake_timeout=HANDSHAKE_SECONDS
        )
        return None

    async def _fail(self, connection: socket.socket, hello: Hello, fault: str) -> None:
        if fault == "plain_http" and not hello.tls:
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(self._servers["https"], connection)
        elif fault == "plain_http":
            await _refuse_in_plain(connection)
        elif fault == "hangs":
            await _until_gone(connection)
        elif fault == "resets":
            no_farewell = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_farewell)
            connection.close()
        else:
            await _close_politely(connection)


def _alert(tls: ssl.SSLContext, hello: Hello) -> bytes:
    """What OpenSSL answers to a hello that it cannot agree to; nothing where it can.

    Asked beforehand, for asyncio closes such a connection without sending the alert.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(hello.head)
    try:
        tls.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    except ssl.SSLWantReadError:
        return b""
    except ssl.SSLError:
        return outgoing.read()
    return b""


async def _refuse_in_plain(connection: socket.socket) -> None:
    """The answer of an HTTP server to something that is no request for it."""
    body = page(400)
    head = (
        f"HTTP/1.1 400 Bad Request\r\nServer: {SERVER}\r\nContent-Type: text/html\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, (head + body).encode())
    await _close_politely(connection)


async def _close_politely(connection: socket.socket) -> None:
    """Read what came first: closing with unread bytes would send a reset."""
    with contextlib.suppress(BlockingIOError, ConnectionError):
        connection.recv(65536)
    connection.close()


async def _until_gone(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        while await loop.sock_recv(connection, 65536):
            pass
    finally:
        connection.close()
