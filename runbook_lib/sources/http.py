"""What the health check asks of HTTP endpoints: one GET each, side by side, no redirect followed.

An endpoint that cannot be reached is what is asked, so that is an answer and no error.
"""

from __future__ import annotations

import errno
import socket
import ssl
import time
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from runbook_lib.sources.clients import Sources
from runbook_lib.sources.seam import SourceError, probe
from runbook_lib.sources.side_by_side import ask_each

# No resolver answers, or there is no way out: that says nothing about whom we wanted to ask.
_OFFLINE = (socket.EAI_AGAIN, errno.ENETUNREACH, errno.ENETDOWN)
ENDPOINT_SECONDS = 7.0
SAID_CHARACTERS = 200
_CURL = (
    "curl -sS -o /dev/null -w '%{http_code} %{ssl_verify_result} %{time_total}s %{redirect_url}'"
)


@probe(
    lambda config, **_: f"{_CURL} {config.endpoints.mlflow}; {_CURL} {config.endpoints.api}",
    seconds=ENDPOINT_SECONDS + 2,
)
def endpoints(sources: Sources) -> list[dict[str, Any]]:
    """How each of the platform's endpoints answers a GET. Health check, point 8.

    [{name, url, tried_from, status, seconds, redirect, said, tls, kind, reason}]: `tried_from`
    is this machine's name; `seconds` run to the answer's headers; `tls` is {version, expires}
    or None over plain HTTP; `said` is the start of an answer other than 200. When none came,
    status is None, kind is dns, refused, timeout, tls or unreachable, and reason says how; kind
    is offline or bad-answer where this machine could not ask at all.
    """
    client = sources.http  # built, and httpx imported, before the clock of an answer runs
    wanted = {"mlflow": sources.config.endpoints.mlflow, "api": sources.config.endpoints.api}
    found = ask_each(list(wanted), lambda name: ask(client, wanted[name]), ENDPOINT_SECONDS)
    return [
        {
            "name": name,
            "url": without_query(url),
            "tried_from": socket.gethostname(),
            **_NO_ANSWER,
            **_fields(found[name]),
        }
        for name, url in wanted.items()
    ]


def _fields(answer: dict[str, Any] | SourceError) -> dict[str, Any]:
    if isinstance(answer, SourceError):
        return {"kind": answer.kind, "reason": str(answer).rstrip(".")}
    return answer


_NO_ANSWER: dict[str, Any] = {
    "status": None, "seconds": None, "redirect": "", "said": "", "tls": None,
    "kind": "", "reason": "",
}  # fmt: skip


def ask(client: Any, url: str) -> dict[str, Any]:
    """GET one address; the fields of `endpoints` that differ from no answer."""
    import httpx

    began = time.monotonic()
    try:
        with client.stream("GET", url) as response:
            return {
                "status": response.status_code,
                "seconds": round(time.monotonic() - began, 3),
                "redirect": without_query(response.headers.get("location", "")),
                "said": "" if response.status_code == 200 else _start_of(response),
                "tls": _tls(response),
            }
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        kind, reason = why(error)
        return {"kind": kind, "reason": reason, "seconds": round(time.monotonic() - began, 3)}


def why(error: Exception) -> tuple[str, str]:
    """Tell apart how a request found no answer: (kind, reason), from the causes of its error."""
    chain: list[BaseException] = [error]
    while below := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(below)
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            return "tls", one.verify_message
        if isinstance(one, ssl.SSLError):
            return "tls", one.reason or str(one)
        if isinstance(one, OSError) and one.errno in _OFFLINE:
            return "offline", f"this machine could not ask ({one.strerror})"
        if isinstance(one, socket.gaierror):
            return "dns", f"its name does not resolve ({one.strerror})"
        if isinstance(one, ConnectionRefusedError):
            return "refused", "the connection is refused"
        if isinstance(one, TimeoutError):
            return "timeout", "no answer in time"
    return "unreachable", str(error) or type(error).__name__


def without_query(url: str) -> str:
    """An address without its query, fragment and credentials: those may hold a token."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _start_of(response: Any) -> str:
    """The first bytes of a body, whatever its length, as one line."""
    first = next(response.iter_bytes(SAID_CHARACTERS), b"")
    return " ".join(first.decode(errors="replace").split())


def _tls(response: Any) -> dict[str, Any] | None:
    """The protocol and the certificate's end, of the connection that gave this answer."""
    wrapped = response.extensions["network_stream"].get_extra_info("ssl_object")
    if wrapped is None:
        return None
    from datetime import UTC, datetime

    ends = ssl.cert_time_to_seconds(wrapped.getpeercert()["notAfter"])
    return {"version": wrapped.version(), "expires": datetime.fromtimestamp(ends, UTC).isoformat()}
