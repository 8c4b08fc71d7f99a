"""A request as a container sees it, its answer, and the port at which requests arrive."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.services.routing import Target
from runbook_lib.practice.services.web import Server

if TYPE_CHECKING:
    from aiohttp import web


@dataclass(frozen=True)
class Answer:
    """An application's answer; a body that is no text or bytes is sent as JSON."""

    status: int
    body: Any = ""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A request as it arrives in a container, with the variables that this one started with."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    target: Target
    env: Mapping[str, str]
    log: Callable[[str], None]


class Front(Server):
    """One port on which everything is handed to a function."""

    def __init__(self, handle: Callable[[web.Request], Any]) -> None:
        super().__init__()
        self._handle = handle

    def routes(self) -> list[web.RouteDef]:
        from aiohttp import web

        return [web.route("*", "/{path:.*}", self._handle)]


def respond(given: Answer) -> web.Response:
    """The answer as aiohttp sends it."""
    from aiohttp import web

    body = given.body
    if not isinstance(body, str | bytes):
        body = json.dumps(body)
    raw = body.encode() if isinstance(body, str) else body
    headers = {"Content-Type": given.content_type, **given.headers}
    return web.Response(status=given.status, body=raw, headers=headers)
