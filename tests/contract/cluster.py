"""A cluster as the statements ask it: plain objects over the official client's own connection.

The typed methods of the client rewrite names and drop what they do not know; a statement about
the wire needs the status, the headers and the object as they came.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

Object = dict[str, Any]

PATCHES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
REQUEST_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """What came back; `body` is decoded where it is said to be JSON, else text."""

    status: int
    headers: Any
    text: str

    @property
    def body(self) -> Any:
        is_json = "json" in (self.headers.get("Content-Type") or "")
        return json.loads(self.text) if is_json else self.text


class Refused(Exception):
    """The API server said no; `status` is its Status object (or text), `code` the HTTP code."""

    def __init__(self, asked: str, answer: Answer) -> None:
        super().__init__(f"{asked}: {answer.status} {answer.body}")
        self.code = answer.status
        self.status: Any = answer.body


class Cluster:
    """An API server and one identity, by an official ApiClient."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def with_token(self, token: str | None) -> Cluster:
        """The same server, asked by the bearer of a token, or by nobody."""
        from kubernetes import client

        other = copy.deepcopy(self.client.configuration)
        other.username = other.password = other.cert_file = other.key_file = None
        other.refresh_api_key_hook = None
        other.api_key = {} if token is None else {"authorization": f"Bearer {token}"}
        return Cluster(client.ApiClient(other))

    def ask(
        self, method: str, path: str, body: Any = None, *, headers: Any = None, **query: Any
    ) -> Answer:
        """Ask, and take whatever comes."""
        head = {"Accept": "application/json", "Content-Type": "application/json"} | (headers or {})
        request = self.client.param_serialize(
            method,
            f"{path}?{urlencode(query)}" if query else path,
            header_params=head,
            query_params=[],
            body=body,
            auth_settings=["BearerToken"],
        )
        came = self.client.call_api(*request, _request_timeout=REQUEST_SECONDS)
        return Answer(came.status, came.headers, came.read().decode())

    def get(self, path: str, **query: Any) -> Any:
        return self.do("GET", path, **query)

    def do(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The body of an answer that is a success; raises Refused for any other."""
        answer = self.ask(method, path, body, **more)
        if not 200 <= answer.status < 300:
            raise Refused(f"{method} {path}", answer)
        return answer.body

    def of(self, api_version: str, plural: str, namespace: str = "") -> Resource:
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        inside = f"/namespaces/{namespace}" if namespace else ""
        return Resource(self, f"{root}{inside}/{plural}")


@dataclass(frozen=True)
class Resource:
    """One collection of objects; keyword arguments are the API's own query parameters."""

    cluster: Cluster
    path: str

    def create(self, body: Object, **query: Any) -> Object:
        return self.cluster.do("POST", self.path, body, **query)

    def read(self, name: str, subresource: str = "", **query: Any) -> Any:
        return self.cluster.do("GET", self._item(name, subresource), **query)

    def list(self, **query: Any) -> Object:
        return self.cluster.do("GET", self.path, **query)

    def names(self, **query: Any) -> list[str]:
        return [item["metadata"]["name"] for item in self.list(**query)["items"]]

    def has(self, name: str) -> bool:
        return self.cluster.ask("GET", self._item(name)).status == 200

    def replace(self, name: str, body: Object, subresource: str = "", **query: Any) -> Object:
        return self.cluster.do("PUT", self._item(name, subresource), body, **query)

    def patch(
        self, name: str, body: Any, kind: str = "merge", subresource: str = "", **query: Any
    ) -> Object:
        head = {"Content-Type": PATCHES.get(kind, kind)}
        return self.cluster.do("PATCH", self._item(name, subresource), body, headers=head, **query)

    def apply(self, body: Object, manager: str, **query: Any) -> Object:
        return self.patch(body["metadata"]["name"], body, "apply", fieldManager=manager, **query)

    def post(self, name: str, subresource: str, body: Object, **query: Any) -> Object:
        return self.cluster.do("POST", self._item(name, subresource), body, **query)

    def delete(self, name: str, **options: Any) -> Object:
        """Delete with DeleteOptions."""
        return self.cluster.do("DELETE", self._item(name), options or None)

    def _item(self, name: str, subresource: str = "") -> str:
        return "/".join(part for part in (self.path, name, subresource) if part)


class Space:
    """The namespace that the statements work in."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.has_controllers = False
        self.config_maps = self.of("v1", "configmaps")
        self.secrets = self.of("v1", "secrets")
        self.pods = self.of("v1", "pods")
        self.services = self.of("v1", "services")
        self.service_accounts = self.of("v1", "serviceaccounts")
        self.events = self.of("v1", "events")
        self.deployments = self.of("apps/v1", "deployments")
        self.replica_sets = self.of("apps/v1", "replicasets")
        self.stateful_sets = self.of("apps/v1", "statefulsets")
        self.daemon_sets = self.of("apps/v1", "daemonsets")
        self.jobs = self.of("batch/v1", "jobs")
        self.budgets = self.of("policy/v1", "poddisruptionbudgets")
        self.roles = self.of("rbac.authorization.k8s.io/v1", "roles")
        self.role_bindings = self.of("rbac.authorization.k8s.io/v1", "rolebindings")
        self.slices = self.of("discovery.k8s.io/v1", "endpointslices")

    def of(self, api_version: str, plural: str) -> Resource:
        return self.cluster.of(api_version, plural, self.name)

    def seen_by(self, cluster: Cluster) -> Space:
        """The same namespace, asked by another identity."""
        return Space(cluster, self.name)


@contextmanager
def refused(code: int, reason: str = "") -> Iterator[Object]:
    """What stands inside is refused so; the Status is in the dictionary when the block has ended.

    >>> with refused(409, "Conflict") as status: ...
    """
    status: Object = {}
    with pytest.raises(Refused) as raised:
        yield status
    assert raised.value.code == code, raised.value
    if reason:
        assert raised.value.status["reason"] == reason, raised.value
        assert raised.value.status["kind"] == "Status"
        status.update(raised.value.status)


def causes(status: Object) -> dict[str, str]:
    """The fields that a Status complains of, each with its reason."""
    return {cause["field"]: cause["reason"] for cause in status["details"]["causes"]}
