"""The front: faults first, then what an addition says, else moto."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from runbook_lib.practice.aws import wire
from runbook_lib.practice.aws.faults import TRANSPORT, Rules, failure
from runbook_lib.practice.aws.served import served
from runbook_lib.practice.aws.wire import Application, AwsError, Call, Document, Environ

# Takes the call, asks moto by `call.forward()` where it wants to, and returns the answer as a
# boto3 user sees it; raises AwsError to refuse. None passes moto's own answer on untouched.
Handler = Callable[[Call], Document | None]
DELAY_SECONDS = 30.0


class Front:
    """WSGI in front of moto."""

    def __init__(
        self,
        application: Application,
        handlers: Mapping[str, Handler],
        checks: Sequence[Callable[[Call], None]],
    ) -> None:
        """`handlers` by "service.Operation"; `checks` raise AwsError for what may not be."""
        self._application = application
        self._handlers = handlers
        self._checks = checks
        self.rules = Rules()
        self.closing = threading.Event()
        # moto is not made for threads; and no request may draw ids while the account is seeded.
        self.one_at_a_time = threading.RLock()

    def __call__(self, environ: Environ, start_response: wire.StartResponse) -> Iterable[bytes]:
        call = wire.read(environ, self._application)
        for rule in self.rules.striking(call):
            if rule["kind"] in TRANSPORT:
                self._disturb(rule, environ)
            else:
                error = failure(call, rule["kind"], rule.get("message"))
                return call.refuse(error).send(start_response)
        return self._answer(call).send(start_response)

    def release(self) -> None:
        """End the delays and the hanging connections of faults that are no more."""
        self.closing.set()
        self.closing = threading.Event()

    def call(self, service: str, operation: str, parameters: Document) -> Document:
        """One call inside the process, past the faults. Raises AwsError, or ValueError for what
        AWS does not know."""
        from botocore.handlers import json_decode_policies

        environ = wire.asked(service, operation, parameters)
        call = wire.read(environ, self._application)
        response = self._answer(call)
        if response.status >= 300:
            raise _as_error(call, response)
        parsed = call.parsed(response)
        if service == "iam":
            # Its documents come quoted; boto3 reads them for its users too.
            json_decode_policies(parsed, wire.model(service).operation_model(operation))
        return parsed

    def _answer(self, call: Call) -> wire.Response:
        with self.one_at_a_time:
            return self._answer_now(call)

    def _answer_now(self, call: Call) -> wire.Response:
        if call.operation not in served().get(call.service, ()):
            return call.refuse(_not_served(call))
        handler = self._handlers.get(f"{call.service}.{call.operation}")
        try:
            for check in self._checks:
                check(call)
            document = handler(call) if handler else None
            if document is not None:
                return call.answer(document)
            response = call.pass_on()
        except AwsError as error:
            return call.refuse(error)
        except wire.Refused as refused:
            return refused.response
        return response

    def _disturb(self, rule: dict[str, Any], environ: Environ) -> None:
        """Delay, or end the connection without an answer."""
        if rule["kind"] == "delay":
            # An event, not a sleep: stopping the server ends it.
            self.closing.wait(float(rule.get("seconds", DELAY_SECONDS)))
            return
        if rule["kind"] == "hang":
            self.closing.wait()
        elif connection := environ.get("werkzeug.socket"):
            # With no time to linger the kernel sends RST, as a middlebox does.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionResetError("practice fault")


def _as_error(call: Call, response: wire.Response) -> AwsError:
    said = call.parsed(response).get("Error", {})
    return AwsError(said.get("Code", "?"), said.get("Message", ""), response.status)


def _not_served(call: Call) -> AwsError:
    """moto may know it, but nothing of the practice account is behind it. Loud, and with a status
    that no client tries again."""
    asked = call.operation or f"{call.environ['REQUEST_METHOD']} {call.environ['PATH_INFO']}"
    what = "operations" if call.service in served() else "services"
    message = (
        f"The practice platform's AWS does not serve {call.service}:{asked}. "
        f"docs/practice-aws.md says which {what} it serves."
    )
    return AwsError("NotImplemented", message, 501)
