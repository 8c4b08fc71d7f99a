"""A few raw calls to the practice Kubernetes API: by its director, who sees what is hidden."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path
from typing import Any

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
TIMEOUT_SECONDS = 5.0


class Cluster:
    """Reads, merge-patches and deletions by path.

    All raise httpx.HTTPStatusError with the API's own message, or httpx.TransportError.
    """

    def __init__(self, url: str, ca_file: Path, token: str) -> None:
        # Imported here: only who seeds or breaks a platform needs it.
        import httpx

        self._client = httpx.Client(
            base_url=url,
            verify=ssl.create_default_context(cafile=str(ca_file)),
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
        )

    def get(self, path: str, **query: str) -> dict[str, Any]:
        return self._call("GET", path, params=query)

    def patch(self, path: str, body: dict[str, Any], kind: str = MERGE_PATCH) -> dict[str, Any]:
        return self._call("PATCH", path, json=body, headers={"Content-Type": kind})

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call("POST", path, json=body)

    def delete(self, path: str, **query: str) -> dict[str, Any]:
        return self._call("DELETE", path, params=query)

    def close(self) -> None:
        self._client.close()

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        import httpx

        answer = self._client.request(method, path, **request)
        if answer.is_error:
            raise httpx.HTTPStatusError(
                f"{method} {path} of the practice Kubernetes API: {answer.status_code} "
                f"{answer.text[:300]}",
                request=answer.request,
                response=answer,
            )
        body: dict[str, Any] = answer.json()
        return body


def resource_path(resource: str, namespace: str = "") -> str:
    """The path of PLURAL[.GROUP][/NAME[/SUBRESOURCE]]; the groups are those of the runbook's kinds.

    `deployments/mlflow` needs no group: where a plural is served in one place only, it is known.
    """
    kind, _, rest = resource.partition("/")
    plural, _, group = kind.partition(".")
    prefix = _prefix(plural, group)
    where = f"/namespaces/{namespace}" if namespace else ""
    return f"{prefix}{where}/{plural}" + (f"/{rest}" if rest else "")


@functools.cache
def _prefix(plural: str, group: str) -> str:
    # Light, but only scenarios need it.
    from runbook_lib.practice.objects.data import first_objects
    from runbook_lib.practice.objects.resources import Catalogue

    catalogue = Catalogue()
    for first in first_objects():
        if first["kind"] == "CustomResourceDefinition":
            catalogue.define(first)
    found = [k for k in catalogue if k.plural == plural and (not group or k.group == group)]
    if not found:
        raise ValueError(f"no kind {plural!r} is known in group {group!r}")
    # The core group's comes first: `services` are not Knative's, `pods` not the metrics API's.
    kind = found[0]
    return f"/apis/{kind.api_version}" if kind.group else "/api/v1"
