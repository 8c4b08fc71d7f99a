"""The sources that speak HTTP, against real servers on loopback."""

from __future__ import annotations

import errno
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from runbook_lib.config import Config, Endpoints
from runbook_lib.sources import http, prometheus
from runbook_lib.sources.clients import Sources
from runbook_lib.sources.redaction import Redactor
from runbook_lib.sources.seam import SourceError

WATCHDOG = {
    "labels": {"alertname": "Watchdog", "severity": "none"},
    "annotations": {"summary": "Always fires."},
    "state": "firing",
    "activeAt": "2026-11-14T03:00:00.123456789Z",
    "value": "1e+00",
}
Answer = Callable[[BaseHTTPRequestHandler], None]


def reply(status: int, body: str = "", **headers: str) -> Answer:
    """Answer every request like this."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body.encode())

    return answer


class Server:
    """A loopback server with one answer to whatever is asked; remembers what was."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[str] = []
        remembered = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                remembered.append(f"{self.command} {self.path}")
                answer(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = _Quiet(("127.0.0.1", 0), Handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


Serve = Callable[..., Server]
Make = Callable[..., Sources]


class _Quiet(ThreadingHTTPServer):
    """A client that refuses our certificate, or leaves, is what a test asks for."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers that end with the test."""
    started: list[Server] = []

    def start(answer: Answer, tls: ssl.SSLContext | None = None) -> Server:
        started.append(Server(answer, tls))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def sources() -> Iterator[Make]:
    """Sources whose endpoints are these."""
    made: list[Sources] = []

    def make(**endpoints: str) -> Sources:
        made.append(Sources(Config(endpoints=Endpoints(**endpoints)), Redactor()))
        return made[-1]

    yield make
    for one in made:
        one.http.close()


def nowhere() -> str:
    """An address on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_both_endpoints_with_their_status_time_and_origin(serve: Serve, sources: Make) -> None:
    mlflow, api = serve(reply(200, "ok")), serve(reply(500, "it is 200 by no means"))
    found = http.endpoints.ask(sources(mlflow=f"{mlflow.url}/health", api=f"{api.url}/health"))
    assert [(one["name"], one["status"]) for one in found] == [("mlflow", 200), ("api", 500)]
    assert [one["said"] for one in found] == ["", "it is 200 by no means"]
    assert {one["tried_from"] for one in found} == {socket.gethostname()}
    assert all(0 < one["seconds"] < http.ENDPOINT_SECONDS for one in found)
    assert mlflow.asked == api.asked == ["GET /health"]


def test_a_redirect_is_reported_and_not_followed(serve: Serve, sources: Make) -> None:
    target = serve(reply(200))
    server = serve(reply(302, location=f"{target.url}/login?state=s3cret#top"))
    found = http.endpoints.ask(sources(mlflow=server.url, api=server.url))
    assert (found[0]["status"], found[0]["redirect"]) == (302, f"{target.url}/login")
    assert target.asked == []


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("nowhere", "refused"),
        ("gopher://localhost/", "unreachable"),
    ],
)
def test_no_answer_is_an_answer_that_says_how(
    url: str, kind: str, serve: Serve, sources: Make
) -> None:
    other = serve(reply(200))
    found = http.endpoints.ask(
        sources(mlflow=nowhere() if url == "nowhere" else url, api=other.url)
    )
    assert (found[0]["status"], found[0]["kind"]) == (None, kind)
    assert found[0]["reason"]
    assert found[1]["status"] == 200


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "dns"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "offline"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "offline"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "unreachable"),
        (TimeoutError("timed out"), "timeout"),
    ],
)
def test_a_fault_of_our_own_network_is_told_apart(error: OSError, kind: str) -> None:
    above = RuntimeError("all connection attempts failed")
    above.__cause__ = error
    assert http.why(above)[0] == kind


def test_credentials_and_query_of_an_address_are_not_kept(serve: Serve, sources: Make) -> None:
    server = serve(reply(200))
    port = server.url.rpartition(":")[2]
    found = http.endpoints.ask(
        sources(mlflow=f"http://me:not-kept@localhost:{port}/h?token=abcd", api=server.url)
    )
    assert found[0]["url"] == f"http://localhost:{port}/h"


def test_a_trickling_server_does_not_cost_the_other_its_answer(
    serve: Serve, sources: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()

    def trickle(request: BaseHTTPRequestHandler) -> None:
        while not done.wait(0.05):
            request.wfile.write(b"H")

    monkeypatch.setattr(http, "ENDPOINT_SECONDS", 0.5)
    slow, quick = serve(trickle), serve(reply(200))
    began = time.monotonic()
    found = http.endpoints.ask(sources(mlflow=slow.url, api=quick.url))
    done.set()
    assert (found[0]["kind"], found[1]["status"]) == ("timeout", 200)
    assert time.monotonic() - began < 5


def _tls(ca: trustme.CA, name: str = "localhost", **given: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name, **given).configure_cert(context)
    return context


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A certificate authority that this process trusts."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return ca


def test_sound_tls_tells_its_version_and_end(
    serve: Serve, sources: Make, trusted: trustme.CA
) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
    server = serve(reply(200), _tls(trusted, not_after=ends))
    found = http.endpoints.ask(sources(mlflow=server.url, api=server.url))
    assert found[0]["tls"] == {"version": "TLSv1.3", "expires": ends.isoformat()}


@pytest.mark.parametrize("fault", ["expired", "name", "unknown", "none"])
def test_broken_tls_is_told_apart(
    fault: str, serve: Serve, sources: Make, trusted: trustme.CA
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=400)
    contexts = {
        "expired": lambda: _tls(
            trusted, not_before=long_ago, not_after=long_ago + timedelta(days=90)
        ),
        "name": lambda: _tls(trusted, "mlflow.example.org"),
        "unknown": lambda: _tls(trustme.CA()),
        "none": lambda: None,
    }
    server = serve(reply(200), contexts[fault]())
    url = server.url.replace("http://", "https://")
    found = http.endpoints.ask(sources(mlflow=url, api=url))
    assert (found[0]["status"], found[0]["kind"]) == (None, "tls")
    # OpenSSL's words for the other two differ from version to version.
    said = {"expired": "has expired", "name": "mismatch"}.get(fault, "")
    assert said in found[0]["reason"] and found[0]["reason"]


def test_the_command_asks_both_addresses() -> None:
    command = http.endpoints.command(Config())
    assert command.count("https://") == 2
    assert command.count("curl") == 2


def test_alerts_in_prometheus_own_shape(serve: Serve, sources: Make) -> None:
    body = {"status": "success", "data": {"alerts": [WATCHDOG]}}
    server = serve(reply(200, json.dumps(body)))
    found = prometheus.alerts.ask(sources(prometheus=f"{server.url}/prefix/"))
    assert server.asked == ["GET /prefix/api/v1/alerts"]
    assert found == [
        {
            "name": "Watchdog",
            "severity": "none",
            "state": "firing",
            "since": "2026-11-14T03:00:00.123456789Z",
            "labels": {},
            "summary": "Always fires.",
            "runbook_url": "",
        }
    ]


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (
            422,
            '{"status":"error","errorType":"execution","error":"expanding series"}',
            "bad-answer",
            "execution: expanding series",
        ),
        (503, "Service Unavailable", "bad-answer", "503: Service Unavailable"),
        (200, "<html>Please log in</html>", "bad-answer", "Please log in"),
        (200, '{"status":"success","data":{}}', "bad-answer", "no alerts"),
        (200, "[]", "bad-answer", "[]"),
        (302, "", "bad-answer", "302"),
        (401, "", "unauthenticated", "401"),
        (403, "no", "forbidden", "403"),
        (404, "404 page not found", "missing", "404 page not found"),
    ],
)
def test_what_prometheus_refuses_is_an_error_with_its_reason(
    status: int, body: str, kind: str, said: str, serve: Serve, sources: Make
) -> None:
    server = serve(reply(status, body))
    with pytest.raises(SourceError) as caught:
        prometheus.alerts.ask(sources(prometheus=server.url))
    assert caught.value.kind == kind
    assert said in str(caught.value)
    assert caught.value.next


def test_an_unreachable_prometheus_tells_how_to_reach_it(sources: Make) -> None:
    with pytest.raises(SourceError) as caught:
        prometheus.alerts.ask(sources(prometheus="http://prom.monitoring.invalid:9090"))
    assert caught.value.kind == "unreachable"
    assert "GET /api/v1/alerts of http://prom.monitoring.invalid:9090" in str(caught.value)
    assert "port-forward -n monitoring svc/prom 9090" in caught.value.next


def test_a_local_prometheus_is_no_matter_of_forwarding(sources: Make) -> None:
    with pytest.raises(SourceError) as caught:
        prometheus.alerts.ask(sources(prometheus=nowhere()))
    assert "refused" in str(caught.value)
    assert "port-forward" not in caught.value.next
