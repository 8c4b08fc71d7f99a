"""A few raw calls to the practice Kubernetes API, as any outsider with its token could make."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
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

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call("PATCH", path, json=body, headers=MERGE_PATCH)

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


def pod_is_ready(pod: dict[str, Any]) -> bool:
    """The pod's own Ready condition is True."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
