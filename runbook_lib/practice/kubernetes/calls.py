"""One request about objects, read but not yet judged."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.practice.kubernetes.identity import User
from runbook_lib.practice.kubernetes.rbac import Attempt
from runbook_lib.practice.objects import protobuf
from runbook_lib.practice.objects.errors import ApiError, bad_request, invalid, unsupported_media
from runbook_lib.practice.objects.fields import causes
from runbook_lib.practice.objects.resources import Kind
from runbook_lib.practice.objects.veil import veiled

# What Go's strconv.ParseBool takes for true: older clients send `watch=True`.
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_OPTIONS = {
    "POST": "CreateOptions",
    "PUT": "UpdateOptions",
    "PATCH": "PatchOptions",
    "DELETE": "DeleteOptions",
}
_BODIES = "application/json, application/yaml, application/vnd.kubernetes.protobuf"


@dataclass(frozen=True)
class Call:
    kind: Kind
    namespace: str
    name: str
    subresource: str
    path: str  # what follows the subresource, for proxies
    method: str
    query: dict[str, str]
    accept: str
    agent: str
    content_type: str
    raw: bytes
    user: User
    warnings: list[str] = field(default_factory=list)  # sent to the client as headers

    @property
    def manager(self) -> str:
        """Who owns the fields that this request sets."""
        return self.query.get("fieldManager") or self.agent.partition("/")[0] or "unknown"

    @property
    def verb(self) -> str:
        """What is asked, as RBAC and the audit log name it."""
        if self.method == "GET" and not self.subresource:
            if self.flag("watch"):
                return "watch"
            return "get" if self.name else "list"
        if self.method == "DELETE" and not self.name:
            return "deletecollection"
        return _VERBS.get(self.method, self.method.lower())

    @property
    def attempt(self) -> Attempt:
        """What RBAC is asked: a namespace lies in itself, one name selected is that name."""
        selected = re.fullmatch(r"metadata\.name==?([^,=!]+)", self.query.get("fieldSelector", ""))
        home = self.name if self.kind.table == ("", "namespaces") else self.namespace
        return Attempt(
            verb=self.verb,
            group=self.kind.group,
            resource="/".join(filter(None, (self.kind.plural, self.subresource))),
            namespace=home,
            name=self.name or (selected[1] if selected else ""),
        )

    @property
    def creates_by_apply(self) -> bool:
        """Whether the object, where there is none, comes to be by server-side apply."""
        return self.method == "PATCH" and "apply-patch" in self.content_type

    @property
    def replaces(self) -> bool:
        """Whether what it does not name may go: of a PUT, or a JSON patch of a whole field."""
        return self.method == "PUT" or "json-patch+json" in self.content_type

    def shown(self, obj: dict[str, Any]) -> dict[str, Any]:
        """The object as this user may see it."""
        return obj if self.user.directs else veiled(obj)

    def flag(self, name: str) -> bool:
        return self.query.get(name, "") in _TRUE

    def number(self, name: str) -> int | None:
        """A whole number of the query, not negative; 400 for anything else."""
        text = self.query.get(name)
        if text is None or text == "":
            return None
        if not text.isdecimal():
            raise bad_request(f'invalid query parameter {name}: strconv.ParseInt: "{text}"')
        return int(text)

    @property
    def wants_table(self) -> bool:
        return "as=Table" in self.accept

    @property
    def wants_metadata(self) -> bool:
        return "as=PartialObjectMetadata" in self.accept

    def require_json(self) -> None:
        """406 where the client takes none of what we can send."""
        plain = [part.split(";")[0].strip() for part in self.accept.split(",")]
        if self.accept and not {"application/json", "application/*", "*/*"} & set(plain):
            message = "only the following media types are accepted: application/json"
            raise ApiError(406, "NotAcceptable", message, {})

    def body(self) -> Any:
        """The body as data; None where there is none. 415 for what cannot be read."""
        if not self.raw:
            return None
        if self.content_type == protobuf.MEDIA_TYPE:
            return protobuf.decode(self.raw)
        if self.content_type not in (
            "application/json",
            "application/yaml",
            "application/octet-stream",  # a client that named no type
        ):
            raise unsupported_media(_BODIES)
        return self.parse()

    def parse(self) -> Any:
        import yaml

        try:
            return yaml.safe_load(self.raw) if "yaml" in self.content_type else json.loads(self.raw)
        except ValueError as failure:
            raise bad_request(f"couldn't get version/kind; json parse error: {failure}") from None
        except yaml.YAMLError as failure:
            raise bad_request(f"yaml: {failure}") from None

    def dry_run(self, options: Any = None) -> bool:
        """Whether nothing may be stored; 422 for a value that is not All."""
        values = [self.query["dryRun"]] if "dryRun" in self.query else []
        if isinstance(options, dict):
            values += options.get("dryRun") or []
        for value in values:
            self.require_option("dryRun", value, ("All",))
        return bool(values)

    def require_option(self, field: str, value: Any, supported: tuple[str, ...]) -> None:
        """422 for another value of an option than these."""
        if value not in supported:
            kind = self.kind.named("meta.k8s.io", _OPTIONS[self.method])
            raise invalid(kind, "", causes.unsupported(field, value, supported))
