"""AWS's wire protocols: requests and answers as the dictionaries that a boto3 user sees.

Both directions use the models of botocore through moto's parsers and serializers, so that what
the front adds is written in the words of the API reference and not in XML.
"""

from __future__ import annotations

import functools
import io
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode
from xml.sax.saxutils import escape

from runbook_lib.practice.aws.lean import REGION

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]
Document = dict[str, Any]

# The names by which requests are signed, where botocore's name of the service is another.
SIGNED_AS = {
    "monitoring": "cloudwatch",
    "elasticloadbalancing": "elbv2",
    "servicequotas": "service-quotas",
}
# The access key id of calls from inside the process: the account's administrator.
INTERNAL = "internal"
JSON_SERVICES = ("cloudwatch",)  # several protocols; boto3 speaks JSON to them
LOG = logging.getLogger("practice.aws")


class AwsError(Exception):
    """A refusal in AWS's own code and words."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


@dataclass
class Response:
    """An answer as it goes over the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def send(self, start_response: StartResponse) -> list[bytes]:
        start_response(f"{self.status} -", self.headers)
        return [self.body]


class Refused(Exception):
    """moto refused what it was asked; its answer is to be passed on as it is."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.status} {response.body[:500]!r}")
        self.response = response


def model(service: str) -> Any:
    """The service model that moto itself uses (one copy in memory)."""
    from moto.core.utils import get_service_model

    return get_service_model(service)


@functools.cache
def known_services() -> frozenset[str]:
    import botocore.session

    return frozenset(botocore.session.get_session().get_available_services())


@dataclass
class Call:
    """One request: which operation of which service, its parameters, and moto behind it."""

    service: str  # botocore's name: cloudwatch, elbv2 …
    signed: str  # the name in the signature: monitoring, elasticloadbalancing …
    operation: str | None
    protocol: str  # ec2, query, json, rest-json, rest-xml
    access_key_id: str
    environ: Environ
    body: bytes
    application: Application
    _labels: Mapping[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def parameters(self) -> Document:
        """What boto3 was called with (moments are naive UTC)."""
        from moto.core.parse import PROTOCOL_PARSERS
        from moto.core.request import Request

        request = Request(self._anew())
        parsed: Document = PROTOCOL_PARSERS[self.protocol](self._model).parse(
            {
                "method": request.method,
                "values": request.values,
                "headers": request.headers,
                "body": self.body,
                "url_path": request.path,
                "url_params": dict(self._labels),
            }
        )
        return parsed

    @functools.cached_property
    def _model(self) -> Any:
        return model(self.service).operation_model(self.operation)

    def _anew(self) -> Environ:
        """The request as nobody has read it yet."""
        return {**self.environ, "wsgi.input": io.BytesIO(self.body)}

    def pass_on(self) -> Response:
        """What moto answers, as bytes. Raises AwsError where it breaks or knows no answer."""
        status: list[Any] = []

        def started(line: str, headers: list[tuple[str, str]], *_: Any) -> None:
            status[:] = [int(line.split()[0]), headers]

        try:
            answer = self.application(self._anew(), started)
            try:
                body = b"".join(answer)
            finally:
                getattr(answer, "close", lambda: None)()
        except NotImplementedError as error:
            raise self._unserved(f": {error}".split(" has not been implemented")[0]) from error
        except Exception as error:
            # What moto raises depends on what it is asked: the platform itself is well.
            LOG.warning("moto fails at %s:%s", self.service, self.operation, exc_info=True)
            raise self._unserved(f", as it was asked: {type(error).__name__}: {error}") from error
        return Response(status[0], status[1], body)

    def _unserved(self, why: str) -> AwsError:
        """Loud, and with a status that no client tries again."""
        return AwsError(
            "NotImplemented",
            f"The practice platform's AWS does not serve {self.service}:{self.operation}{why}",
            501,
        )

    def forward(self) -> Document:
        """What moto answers, as a boto3 user sees it. Raises Refused with moto's refusal."""
        response = self.pass_on()
        if response.status >= 300:
            raise Refused(response)
        return self.parsed(response)

    def parsed(self, response: Response) -> Document:
        """An answer to this call as a boto3 user sees it; `Error` holds a refusal."""
        from botocore.parsers import create_parser

        # What is streamed is not text; the parser takes it for that unless it is no bytes.
        streamed = self._model.has_streaming_output and response.status < 300
        parsed: Document = create_parser(self.protocol).parse(
            {
                "status_code": response.status,
                "headers": _Headers({name.lower(): value for name, value in response.headers}),
                "body": io.BytesIO(response.body) if streamed else response.body,
                "context": {"operation_name": self.operation},
            },
            self._model.output_shape,
        )
        parsed.pop("ResponseMetadata", None)
        return parsed

    def answer(self, document: Document) -> Response:
        """That document in this request's protocol."""
        from moto.core.serialize import get_serializer_class

        serializer = get_serializer_class(self.service, self.protocol)(self._model)
        made = serializer.serialize(document)
        body = made["body"]
        raw = body.encode() if isinstance(body, str) else bytes(body)
        headers = {**made["headers"], "Content-Length": str(len(raw))}
        return Response(made["status_code"], [(k, str(v)) for k, v in headers.items()], raw)

    def refuse(self, error: AwsError) -> Response:
        """That refusal in this request's protocol."""
        if "json" in self.protocol:
            kind = "application/x-amz-json-1.1"
            body = json.dumps({"__type": error.code, "message": error.message})
        else:
            kind = "text/xml"
            said = f"<Code>{error.code}</Code><Message>{escape(error.message)}</Message>"
            if self.protocol == "ec2":
                body = f"<Response><Errors><Error>{said}</Error></Errors></Response>"
            elif self.service == "s3":
                body = f"<Error>{said}</Error>"
            else:
                body = f"<ErrorResponse><Error><Type>Sender</Type>{said}</Error></ErrorResponse>"
        # A HEAD has no body to name the error; S3 leaves its clients the status alone.
        raw = b"" if self.environ["REQUEST_METHOD"] == "HEAD" else body.encode()
        headers = [
            ("Content-Type", kind),
            ("x-amzn-errortype", error.code),
            ("Content-Length", str(len(raw))),
        ]
        return Response(error.status, headers, raw)


class _Headers(dict[str, str]):
    """botocore's parsers ask for headers in any case."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


CREDENTIAL = re.compile(r"Credential=([^/]+)/\d+/[^/]+/([^/]+)/")


def read(environ: Environ, application: Application) -> Call:
    """Which call this request is; `operation` is None where none can be told."""
    found = CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    query = parse_qs(environ.get("QUERY_STRING", ""))
    if not found:  # a link made by generate_presigned_url carries its credential in the query
        found = CREDENTIAL.search(f"Credential={query.get('X-Amz-Credential', [''])[0]}/")
    # S3's links have it in an older form, unless told otherwise.
    linked = (query.get("AWSAccessKeyId", [""])[0], "")
    key, signed = (found[1], found[2]) if found else linked
    service = SIGNED_AS.get(signed, signed)
    body = _body(environ)
    operation: str | None = None
    protocol = "query"
    labels: Mapping[str, Any] = {}
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        operation, protocol = target.rsplit(".", 1)[-1], "json"
    elif "x-www-form-urlencoded" in environ.get("CONTENT_TYPE", ""):
        form = parse_qs(body.decode())
        operation = form.get("Action", [None])[0]
        if not service and operation == "AssumeRoleWithWebIdentity":
            service = signed = "sts"  # the only call of ours that needs no signature
        if service == "elbv2" and form.get("Version") != ["2015-12-01"]:
            service = "elb"
        protocol = "ec2" if service == "ec2" else "query"
    else:
        service = service or "s3"  # which alone answers those who do not sign
        if service in known_services():
            operation, labels = _routed(service, environ)
            protocol = model(service).protocol
    signed = signed or service
    service = service or "unsigned"
    return Call(service, signed, operation, protocol, key, environ, body, application, labels)


def _body(environ: Environ) -> bytes:
    """All of the request's body; an upload in chunks gets the length that it turned out to have."""
    stream = environ["wsgi.input"]
    if not environ.get("wsgi.input_terminated"):
        return bytes(stream.read(int(environ.get("CONTENT_LENGTH") or 0)))
    body = bytes(stream.read())
    environ["CONTENT_LENGTH"] = str(len(body))
    return body


def _routed(service: str, environ: Environ) -> tuple[str | None, Mapping[str, Any]]:
    """The operation that a method and a path name, in services such as EKS and S3."""
    from moto.core.request import Request
    from moto.core.routing import get_service_router
    from werkzeug.exceptions import NotFound

    try:
        found, labels = get_service_router(service).match(Request(environ))
    except (NotFound, NotImplementedError):
        return None, {}
    return str(found.name), labels


def asked(service: str, operation: str, parameters: Document) -> Environ:
    """The WSGI request that boto3 would have sent, unsigned but for the service's name.

    Raises ValueError for an operation or a parameter that AWS does not have.
    """
    from botocore.model import OperationNotFoundError
    from botocore.serialize import create_serializer
    from botocore.validate import ParamValidator
    from werkzeug.test import EnvironBuilder

    if service not in known_services():
        raise ValueError(f"AWS has no service {service!r}")
    description = model(service)
    try:
        operation_model = description.operation_model(operation)
    except OperationNotFoundError:
        raise ValueError(f"{service} has no operation {operation!r}") from None
    if operation_model.input_shape is not None:
        report = ParamValidator().validate(parameters, operation_model.input_shape)
        if report.has_errors():
            raise ValueError(f"{service}.{operation}: {report.generate_report()}")
    protocol = "json" if service in JSON_SERVICES else description.protocol
    made = create_serializer(protocol, include_validation=False).serialize_to_request(
        parameters, operation_model
    )
    path, _, fixed = made["url_path"].partition("?")  # S3 has list-type=2 in its paths
    query: Any = made["query_string"]
    asked_for = query if isinstance(query, str) else urlencode(query, doseq=True)
    headers: dict[str, Any] = {
        **made["headers"],
        "Host": f"{description.signing_name}.{REGION}.amazonaws.com",
        "Authorization": "AWS4-HMAC-SHA256 "
        f"Credential={INTERNAL}/20260101/{REGION}/{description.signing_name}/aws4_request",
    }
    builder = EnvironBuilder(
        method=made["method"],
        path=path,
        query_string="&".join(part for part in (fixed, asked_for) if part),
        headers=list(headers.items()),
        data=made["body"] or b"",
    )
    return builder.get_environ()
