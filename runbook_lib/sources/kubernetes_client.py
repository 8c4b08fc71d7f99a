"""The Kubernetes API, read raw and in pages.

Raw, because typed models are many times slower on thousands of pods, and one odd object fails a
whole typed list. Source: the Kubernetes API concepts (lists in chunks, Status bodies).
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any
from urllib.parse import urlencode

from runbook_lib.config import Config
from runbook_lib.sources.redaction import Redactor
from runbook_lib.sources.seam import SourceError

PAGE = 500
TIMEOUT = (3, 8)
DEFAULT_KUBECONFIG = "~/.kube/config"
_KINDS = {
    401: ("unauthenticated", "Is the token expired, or has the identity no access entry?"),
    403: ("forbidden", "Grant the reader's ClusterRole to this identity."),
    404: ("missing", "Is the name right, and is that API installed?"),
    429: ("throttled", "The API server sheds load; ask again in a minute."),
}


class KubernetesClient:
    """Reads objects, lists and logs by their path. Everything but GET is refused."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self.host: str = api.configuration.host

    @classmethod
    def connect(cls, config: Config, redactor: Redactor) -> KubernetesClient:
        """Use the kubeconfig's context, else the pod's own service account.

        Raises SourceError (not-configured) if there is neither.
        """
        import yaml
        from kubernetes import client  # 1 s to import
        from kubernetes import config as kube
        from kubernetes.config.config_exception import ConfigException

        settings = client.Configuration()
        context = config.cluster.context or None
        chosen = os.environ.get("KUBECONFIG")
        try:
            try:
                # Named here, because the package reads KUBECONFIG once, when it is imported.
                file = chosen or DEFAULT_KUBECONFIG
                kube.load_kube_config(file, context, settings, persist_config=False)
            except ConfigException:
                # Who names a cluster and mistypes it must not be shown another.
                if context or chosen or "KUBERNETES_SERVICE_HOST" not in os.environ:
                    raise
                kube.load_incluster_config(client_configuration=settings)
        except (ConfigException, yaml.YAMLError) as error:
            # What a YAML error quotes of the file may be a token.
            said = str(error).rstrip(".") if isinstance(error, ConfigException) else "invalid YAML"
            raise SourceError(
                "not-configured",
                f"No Kubernetes cluster is configured by {chosen or DEFAULT_KUBECONFIG}: {said}.",
                f"aws eks update-kubeconfig --name {config.cluster.name} "
                f"--region {config.cluster.region}",
            ) from None
        settings.retries = False
        redactor.add(*(value.split()[-1] for value in settings.api_key.values()), settings.password)
        return cls(client.ApiClient(settings))

    def close(self) -> None:
        """Close its connections."""
        self._api.rest_client.pool_manager.clear()

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """One object, or one page. Raises SourceError naming the path and what came back."""
        try:
            answer = json.loads(self._read(path, query))
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise SourceError(
                "bad-answer",
                f"GET {path} of {self.host} gave no JSON object.",
                "Is it the API server that answers there, or a proxy?",
            )
        return answer

    def list(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Every item of a list, in pages of 500, with selectors as given."""
        items: list[dict[str, Any]] = []
        token = ""
        while True:
            page = self.get(path, limit=PAGE, **query, **({"continue": token} if token else {}))
            items += page.get("items") or []
            token = page.get("metadata", {}).get("continue", "")
            if not token:
                return items

    def text(self, path: str, **query: Any) -> str:
        """A text answer, such as a log."""
        return self._read(path, query).decode(errors="replace")

    def secret_values(self, path: str) -> dict[str, str]:
        """A Secret's decoded values, for use only: they are redacted wherever they would show."""
        data = self.get(path).get("data") or {}
        return {
            key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()
        }

    def _read(self, path: str, query: dict[str, Any]) -> bytes:
        return self.request("GET", f"{path}?{urlencode(query)}" if query else path)

    def request(self, method: str, path: str) -> bytes:
        """The body of a successful read. Raises SourceError for everything else."""
        if method != "GET":
            raise SourceError(
                "refused",
                f"{method} {path} is not a read, and nothing here may write.",
                "Changes go through a planned and approved step.",
            )
        import urllib3
        from kubernetes.client.exceptions import ApiException

        request = self._api.param_serialize(
            method, path, header_params={"Accept": "application/json, */*"},
            query_params=[], auth_settings=["BearerToken"],
        )  # fmt: skip
        try:
            response = self._api.call_api(*request, _request_timeout=TIMEOUT)
            body: bytes = response.read()
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise self._silence(path, error) from None
        if not 200 <= response.status < 300:
            raise self._refusal(path, response.status, body)
        return body

    def _silence(self, path: str, error: Exception) -> SourceError:
        from urllib3.exceptions import NewConnectionError, TimeoutError

        # A refused connection and an unknown name are, to urllib3, timeouts too.
        if isinstance(error, TimeoutError) and not isinstance(error, NewConnectionError):
            return SourceError(
                "timeout",
                f"{self.host} did not answer GET {path} in time.",
                "Is the API server overloaded, or the way to it closed?",
            )
        return SourceError(
            "unreachable",
            f"GET {path}: the API server {self.host} cannot be reached: "
            f"{getattr(error, 'reason', None) or error}.",
            "Open the runbook for an unreachable cluster.",
        )

    def _refusal(self, path: str, status: int, body: bytes) -> SourceError:
        try:
            said = json.loads(body).get("message") or body.decode(errors="replace")
        except (ValueError, AttributeError):
            said = body.decode(errors="replace")
        kind, next = _KINDS.get(status, ("bad-answer", "Look at the API server's health."))
        return SourceError(kind, f"GET {path} of {self.host} gave {status}: {said[:300]}", next)
