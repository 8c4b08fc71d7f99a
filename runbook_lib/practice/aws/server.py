"""AWS for the practice platform: moto's server behind a thin front that can inject faults.

A fault is a dict: `kind` (a key of ERRORS, or "delay"), and optionally `service` (as in a
signature: eks, ec2, rds, monitoring, sts …), `operation` (DescribeCluster …), `times` (how often
it strikes; for good when absent) and `seconds` (for delay). Without service it strikes all.
"""

from __future__ import annotations

import functools
import io
import json
import os
import re
import secrets
import string
import threading
from collections.abc import Callable, Iterable
from typing import Any

REGION = "us-east-1"
ACCOUNT = "123456789012"

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

# What AWS answers, by protocol: its code and HTTP status.
ERRORS: dict[str, dict[str, tuple[str, int]]] = {
    "denied": {
        "ec2": ("UnauthorizedOperation", 403),
        "json": ("AccessDeniedException", 403),
        "xml": ("AccessDenied", 403),
    },
    "throttled": {
        "ec2": ("RequestLimitExceeded", 503),
        "json": ("ThrottlingException", 400),
        "xml": ("Throttling", 400),
    },
    "expired": {
        "ec2": ("RequestExpired", 400),
        "json": ("ExpiredTokenException", 403),
        "xml": ("ExpiredToken", 403),
    },
    "unavailable": {
        "ec2": ("Unavailable", 503),
        "json": ("ServiceUnavailableException", 503),
        "xml": ("ServiceUnavailable", 503),
    },
}
MESSAGES = {
    "throttled": "Rate exceeded",
    "expired": "The security token included in the request is expired",
    "unavailable": "The service is temporarily unavailable",
}
IAM_PREFIX = {"monitoring": "cloudwatch"}


@functools.lru_cache
def _rest_operations(service: str) -> list[tuple[str, re.Pattern[str], str]]:
    """(method, path pattern, operation) of a service whose operations are paths, such as EKS."""
    import botocore.session
    from botocore.exceptions import UnknownServiceError

    try:
        model = botocore.session.get_session().get_service_model(service)
    except UnknownServiceError:
        return []
    operations = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        path = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(http["requestUri"].split("?")[0]))
        operations.append((http["method"], re.compile(path + "/?$"), name))
    return operations


def requested(environ: Environ) -> tuple[str, str | None, str]:
    """(service, operation, protocol) of a signed request; the body stays readable."""
    signed = re.search(
        r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", environ.get("HTTP_AUTHORIZATION", "")
    )
    service = signed[1] if signed else "unsigned"
    content_type = environ.get("CONTENT_TYPE", "")
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return service, target.rsplit(".", 1)[-1], "json"
    if "x-www-form-urlencoded" in content_type:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        action = re.search(rb"(?:^|&)Action=(\w+)", body)
        operation = action[1].decode() if action else None
        return service, operation, "ec2" if service == "ec2" else "xml"
    for method, path, name in _rest_operations(service):
        if method == environ["REQUEST_METHOD"] and path.match(environ["PATH_INFO"]):
            return service, name, "xml" if service == "s3" else "json"
    return service, None, "xml" if service == "s3" else "json"


def error_body(protocol: str, service: str, code: str, message: str) -> tuple[str, bytes]:
    """The content type and body in which that service words an error."""
    if protocol == "json":
        return "application/x-amz-json-1.1", json.dumps(
            {"__type": code, "message": message}
        ).encode()
    error = f"<Code>{code}</Code><Message>{message}</Message>"
    if protocol == "ec2":
        body = f"<Response><Errors><Error>{error}</Error></Errors></Response>"
    elif service == "s3":
        body = f"<Error>{error}</Error>"
    else:
        body = f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error></ErrorResponse>"
    return "text/xml", body.encode()


class FaultFront:
    """WSGI in front of moto: answers as a faulty AWS where a rule says so."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._rules: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self.closing = threading.Event()

    def set_rules(self, rules: list[dict[str, Any]]) -> None:
        """Replace all faults. Raises ValueError for a kind that does not exist."""
        for rule in rules:
            if rule.get("kind") not in {*ERRORS, "delay"}:
                raise ValueError(f"unknown AWS fault {rule}: kind is one of {[*ERRORS, 'delay']}")
        with self._lock:
            self._rules = [dict(rule) for rule in rules]

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        service, operation, protocol = requested(environ)
        for rule in self._striking(service, operation):
            if rule["kind"] == "delay":
                # An event, not a sleep: stopping the server ends it.
                self.closing.wait(float(rule.get("seconds", 30)))
                continue
            code, status = ERRORS[rule["kind"]][protocol]
            action = f"{IAM_PREFIX.get(service, service)}:{operation}"
            message = MESSAGES.get(
                rule["kind"],
                f"User: arn:aws:iam::{ACCOUNT}:user/on-call is not authorized to perform: {action} "
                f"because no identity-based policy allows the {action} action",
            )
            content_type, body = error_body(protocol, service, code, message)
            start_response(
                f"{status} practice fault",
                [
                    ("Content-Type", content_type),
                    ("x-amzn-errortype", code),
                    ("Content-Length", str(len(body))),
                ],
            )
            return [body]
        return self._application(environ, start_response)

    def _striking(self, service: str, operation: str | None) -> list[dict[str, Any]]:
        """The rules that this request meets, counted down."""
        striking = []
        with self._lock:
            for rule in self._rules:
                if rule.get("service") not in (None, service):
                    continue
                if rule.get("operation") not in (None, operation):
                    continue
                if rule.get("times") == 0:
                    continue
                if rule.get("times"):
                    rule["times"] -= 1
                striking.append(rule)
        return striking


def random_key(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


class Aws:
    """moto's server on loopback, in threads of this process. Its methods block."""

    def __init__(self) -> None:
        self.port = 0
        self.access_key_id = "AKIA" + random_key(string.ascii_uppercase + "234567", 16)
        self.secret_access_key = random_key(string.ascii_letters + string.digits, 40)
        self._front: FaultFront | None = None
        self._server: Any = None
        self._thread = threading.Thread()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def listening(self) -> bool:
        return self._server is not None

    def create(self) -> None:
        """Load moto and listen on a free port. Takes seconds, nearly all of it imports."""
        # The default images alone cost seconds; nothing here names one.
        os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._front = FaultFront(DomainDispatcherApplication(create_backend_app))
        self.start()

    def start(self) -> None:
        """Listen (again): on the port of before, with the state of before."""
        from moto.moto_server.werkzeug_app import MotoRequestHandler
        from werkzeug.serving import make_server

        class QuietHandler(MotoRequestHandler):
            def log_request(self, *_: object) -> None:
                """Requests are not logged: the host's log is for what went wrong."""

        if self._server:
            return
        assert self._front
        self._front.closing.clear()
        self._server = make_server(
            "127.0.0.1", self.port, self._front, threaded=True, request_handler=QuietHandler
        )
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections; the state stays."""
        if not self._server:
            return
        assert self._front
        self._front.closing.set()
        self._server.shutdown()
        # Its last act is to close the socket; only then are connections refused.
        self._thread.join()
        self._server = None

    def set_faults(self, rules: list[dict[str, Any]]) -> None:
        assert self._front
        self._front.set_rules(rules)

    def client(self, service: str) -> Any:
        """A boto3 client of our own server, for seeding."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(retries={"total_max_attempts": 1}),
        )
