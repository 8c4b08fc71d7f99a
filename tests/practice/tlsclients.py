"""What stands behind the load balancer, and TLS clients before it."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import time
from typing import Any

import httpx
from practice.hosted import Hosted

from runbook_lib.practice.network.gateway import Gateway

MLFLOW = "mlflow.mlops-platform.com"
API = "api.mlops-platform.com"


class Upstream(http.server.BaseHTTPRequestHandler):
    """Says what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/slow":
            time.sleep(0.6)
        self.send_response(201 if body else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Seen", f"{self.command} {self.path} {self.headers['Host']}")
        self.send_header("X-Proto", self.headers["X-Forwarded-Proto"])
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # the load balancer waited long enough
            self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


def of(hosted: Hosted) -> Gateway:
    assert isinstance(hosted.system, Gateway)
    return hosted.system


def connection(hosted: Hosted, seconds: float = 3) -> socket.socket:
    host, port = of(hosted).address.split(":")
    return socket.create_connection((host, int(port)), seconds)


def trusting(hosted: Hosted) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(of(hosted).ca_file))


def verified(
    hosted: Hosted,
    host: str = MLFLOW,
    context: ssl.SSLContext | None = None,
    seconds: float = 3,
) -> dict[str, Any]:
    """The certificate that an ordinary client accepts; raises what it raises."""
    context = context or trusting(hosted)
    with (
        connection(hosted, seconds) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        certificate = tls.getpeercert()
        assert certificate
        return dict(certificate)


def presented(hosted: Hosted, host: str = MLFLOW) -> Any:
    """What it presents, looked at without trusting it."""
    from cryptography import x509

    context = trusting(hosted)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with connection(hosted) as plain, context.wrap_socket(plain, server_hostname=host) as tls:
        der = tls.getpeercert(binary_form=True)
        assert der
        return x509.load_der_x509_certificate(der)


def get(hosted: Hosted, path: str, host: str = MLFLOW, **request: Any) -> httpx.Response:
    """As `curl --cacert … --resolve host:port:127.0.0.1 https://host:port/path`."""
    with httpx.Client(verify=trusting(hosted), trust_env=False, timeout=3) as client:
        return client.request(
            request.pop("method", "GET"),
            f"https://{of(hosted).address}{path}",
            headers={"Host": host, **request.pop("headers", {})},
            extensions={"sni_hostname": host},
            **request,
        )
