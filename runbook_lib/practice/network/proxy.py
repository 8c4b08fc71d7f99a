"""The load balancer's HTTP: requests go to upstreams, and its own answers have its own words."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import ClientSession, web

LOG = logging.getLogger(__name__)
SERVER = "awselb/2.0"
REASONS = {
    301: "Moved Permanently",
    400: "Bad Request",
    502: "Bad Gateway",
    503: "Service Temporarily Unavailable",
    504: "Gateway Time-out",
}
# RFC 9110, 7.6.1: these concern one connection. The lengths of bodies are set anew.
HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


def page(status: int) -> str:
    """The body of an answer that an Application Load Balancer gives by itself."""
    title = f"{status} {REASONS[status]}"
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    )


class Proxy:
    """Forwards a host's requests to the upstream's address; open it in the loop that uses it.

    `upstreams` maps one of `hosts` to the base URL of what serves it, None where nothing does.
    An upstream has `timeout_seconds` for its whole answer.
    """

    def __init__(
        self,
        hosts: tuple[str, ...],
        upstreams: Callable[[str], str | None],
        timeout_seconds: float,
    ) -> None:
        self._hosts = hosts
        self._upstreams = upstreams
        self._timeout_seconds = timeout_seconds
        self._session: ClientSession | None = None

    def open(self) -> None:
        import aiohttp

        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        )

    async def close(self) -> None:
        if self._session:
            session, self._session = self._session, None
            await session.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request: forwarded, or answered as the listener's rules say."""
        from aiohttp import web

        host = request.host.partition(":")[0].lower()
        if host not in self._hosts:  # the controller's default rule
            return web.Response(status=404, content_type="text/plain", headers={"Server": SERVER})
        upstream = self._upstreams(host)
        if upstream is None:
            return _own_answer(503)
        return await self._forward(request, upstream)

    async def _forward(self, request: web.BaseRequest, upstream: str) -> web.StreamResponse:
        import aiohttp
        from aiohttp import web
        from multidict import CIMultiDict
        from yarl import URL

        assert self._session is not None
        headers = _end_to_end(request.headers.items())
        headers += [
            ("X-Forwarded-For", request.remote or ""),
            ("X-Forwarded-Proto", request.scheme),
            ("X-Forwarded-Port", "443" if request.secure else "80"),
        ]
        try:
            async with self._session.request(
                request.method,
                URL(upstream.rstrip("/") + request.raw_path, encoded=True),
                headers=headers,
                data=request.content if request.can_read_body else None,
                allow_redirects=False,
            ) as answer:
                # A body says its own length; the answer to a HEAD has none to say it.
                body = None if request.method == "HEAD" else await answer.read()
                return web.Response(
                    status=answer.status,
                    reason=answer.reason,
                    body=body,
                    headers=CIMultiDict(
                        (name, value)
                        for name, value in _end_to_end(answer.headers.items())
                        if body is None or name.lower() != "content-length"
                    ),
                )
        except TimeoutError:
            return _own_answer(504)
        except aiohttp.ClientError as error:
            LOG.info("%s does not answer: %s", upstream, error)
            return _own_answer(502)


def redirect(port: int) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """A handler that sends every request to HTTPS, as the annotation `ssl-redirect` asks."""
    from aiohttp import web

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        host = request.host.partition(":")[0]
        headers = {"Location": f"https://{host}:{port}{request.raw_path}", "Server": SERVER}
        return web.Response(status=301, text=page(301), content_type="text/html", headers=headers)

    return handle


def _own_answer(status: int) -> web.Response:
    from aiohttp import web

    return web.Response(
        status=status, text=page(status), content_type="text/html", headers={"Server": SERVER}
    )


def _end_to_end(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in HOP_BY_HOP]
