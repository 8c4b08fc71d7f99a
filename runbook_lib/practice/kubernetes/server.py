"""The HTTP face: paths, authentication, content types, Status bodies.

A request is read into a `Call`, which names a kind, a verb and an object; everything that is not
served is refused with the Status that a real API server would send.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from runbook_lib.practice.kubernetes import openapi, reads, subresources, writes
from runbook_lib.practice.kubernetes.audit import Audit, note_call
from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.kubernetes.identity import Identities, User
from runbook_lib.practice.kubernetes.kubelets import Behind
from runbook_lib.practice.kubernetes.rbac import Attempt, Authorizer
from runbook_lib.practice.kubernetes.reviews import impersonated, review
from runbook_lib.practice.objects.errors import ApiError, no_such_path, not_allowed
from runbook_lib.practice.objects.fields.shapes import is_validated
from runbook_lib.practice.objects.store import Object, Store

_LOG = logging.getLogger(__name__)
_VERSION = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.9-practice",
    "gitCommit": "0" * 40,
    "gitTreeState": "clean",
    "buildDate": "2025-09-09T00:00:00Z",
    "goVersion": "go1.23.12",
    "compiler": "gc",
    "platform": "linux/amd64",
}
_HEALTH = ("healthz", "readyz", "livez")


@dataclass
class Server:
    """Answers requests from the store and from what works behind it; `before` may refuse them."""

    store: Store
    behind: Behind
    identities: Identities
    audit: Audit
    before: Callable[[web.Request], Awaitable[None]]

    def __post_init__(self) -> None:
        self._authorizer = Authorizer(self.store)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer, and write down that it was answered."""
        record = self.audit.begin(request)
        code = 0  # the client went away
        try:
            response = await self._judged(request, record)
            code = response.status
            return response
        finally:
            self.audit.end(record, code)

    async def _judged(self, request: web.Request, record: Object) -> web.StreamResponse:
        headers: dict[str, str] = {}
        try:
            await self.before(request)
            return await self._answer(request, record)
        except ApiError as refusal:
            error = refusal
            if wait := refusal.status.get("details", {}).get("retryAfterSeconds"):
                headers["Retry-After"] = str(wait)
        except Exception as failure:  # noqa: BLE001 - the seam: our bug is a 500, as theirs
            _LOG.exception("%s %s failed", request.method, request.path)
            error = ApiError(500, "InternalError", f"Internal error occurred: {failure!r}")
        names = ("status", "message", "reason")
        record["responseStatus"] = {name: error.status[name] for name in names}
        return web.json_response(error.status, status=error.code, headers=headers)

    def _authenticate(self, request: web.Request, record: Object) -> User:
        asker = self.identities.authenticate(request.headers.get("Authorization", ""))
        if asker is None:
            raise ApiError(401, "Unauthorized", "Unauthorized")
        record["user"] = asker.document()
        acting = impersonated(request.headers, asker, self._authorizer)
        if acting is not asker:
            record["impersonatedUser"] = acting.document()
        return acting

    def _allow(self, user: User, attempt: Attempt, record: Object) -> None:
        """Note the authorizer's decision; 403 where it is a refusal."""
        record["annotations"] = {"authorization.k8s.io/decision": "forbid"}
        self._authorizer.require(user, attempt)
        record["annotations"]["authorization.k8s.io/decision"] = "allow"

    async def _answer(self, request: web.Request, record: Object) -> web.StreamResponse:
        parts = [part for part in request.path.split("/") if part]
        if parts and parts[0] in _HEALTH and len(parts) == 1:  # open to anyone, as by default
            return web.Response(text="ok")
        if parts == ["version"]:
            return web.json_response(_VERSION)
        user = self._authenticate(request, record)
        if (parts[:1] == ["api"] and len(parts) > 2) or (parts[:1] == ["apis"] and len(parts) > 3):
            call = await self._call(request, parts, user)
            note_call(record, call)
            self._allow(user, call.attempt, record)
            return await self._resource(call, request)
        self._allow(user, Attempt(request.method.lower(), path=request.path), record)
        document = self._document(request, parts)
        if document is None:
            raise no_such_path()
        if request.method != "GET":
            raise not_allowed()
        if parts == ["openapi", "v2"] and openapi.ASKED in request.headers.get("Accept", ""):
            return web.Response(body=openapi.version_2_protobuf(), content_type=openapi.PROTOBUF)
        return web.json_response(document)

    def _document(self, request: web.Request, parts: list[str]) -> Any:
        """Discovery and OpenAPI; None where the path is about objects."""
        catalogue = self.store.catalogue
        groups = catalogue.groups()
        match parts:
            case []:
                paths = ["/api", "/api/v1", "/apis", "/healthz", "/openapi/v3", "/version"]
                return {"paths": paths}
            case ["openapi", "v2"]:
                return openapi.version_2()
            case ["openapi", "v3", *rest]:
                return openapi.version_3(catalogue, "/".join(rest))
            case ["api"]:
                address = {"clientCIDR": "0.0.0.0/0", "serverAddress": request.host}
                about = {"kind": "APIVersions", "versions": ["v1"]}
                return {**about, "serverAddressByClientCIDRs": [address]}
            case ["apis"]:
                listed = [catalogue.group_document(group) for group in groups if group]
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
            case ["api", "v1"]:
                return catalogue.resource_list("", "v1")
            case ["apis", group] if group in groups:
                return catalogue.group_document(group)
            case ["apis", group, version] if version in groups.get(group, []):
                if group == "metrics.k8s.io":
                    self.behind.metrics.require()
                return catalogue.resource_list(group, version)
        return None

    async def _call(self, request: web.Request, parts: list[str], user: User) -> Call:
        """The request as it names a kind, a verb and an object; 404 where there is no such kind."""
        group, rest = ("", parts[1:]) if parts[0] == "api" else (parts[1], parts[2:])
        version, *rest = rest
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        kind = self.store.catalogue.find(group, version, rest[0])
        if kind is None or (namespace and not kind.namespaced):
            self._authorizer.require(user, Attempt(request.method.lower(), path=request.path))
            raise no_such_path()
        rest += ["", ""]
        return Call(
            kind=kind,
            namespace=namespace,
            name=rest[1],
            subresource=rest[2],
            path="/".join(part for part in rest[3:] if part),
            method=request.method,
            query=dict(request.query),
            accept=request.headers.get("Accept", ""),
            agent=request.headers.get("User-Agent", ""),
            content_type=request.content_type if request.can_read_body else "",
            raw=await request.read(),
            user=user,
        )

    async def _resource(self, call: Call, request: web.Request) -> web.StreamResponse:
        kind, store, behind = call.kind, self.store, self.behind
        if kind.namespaced and not call.namespace and call.method != "GET":
            raise not_allowed()
        if call.subresource:
            return await subresources.answer(call, store, behind, self.identities, request)
        if kind.verbs == ("create",):
            return web.json_response(review(call, self._authorizer), status=201)
        if "delete" not in kind.verbs:
            return behind.metrics.answer(call)
        if call.method == "GET" and call.flag("watch"):
            return await reads.watch(call, store, request)
        if call.method == "GET":
            return reads.item(call, store) if call.name else reads.listing(call, store)
        if call.creates_by_apply and (call.namespace, call.name) not in store.table(kind):
            self._authorizer.require(call.user, replace(call.attempt, verb="create"))
        if call.method != "DELETE" and is_validated(kind):
            await asyncio.to_thread(writes.warm_up)
        body, code = writes.answer(call, store, behind.collector)
        headers = CIMultiDict(("Warning", f"299 - {json.dumps(text)}") for text in call.warnings)
        return web.json_response(call.shown(body), status=code, headers=headers)


def application(server: Server) -> web.Application:
    app = web.Application(client_max_size=8 * 2**20)
    app.router.add_route("*", "/{path:.*}", server.handle)
    return app
