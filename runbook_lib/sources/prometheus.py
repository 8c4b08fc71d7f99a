"""What the runbooks ask of Prometheus over its HTTP API.

Source: the Prometheus HTTP API's answer format ({status, data, errorType, error}).
"""

from __future__ import annotations

from typing import Any

from runbook_lib.sources.clients import Sources
from runbook_lib.sources.http import why, without_query
from runbook_lib.sources.seam import SourceError, probe

_REFUSALS = {401: "unauthenticated", 403: "forbidden", 404: "missing", 429: "throttled"}
_IS_IT = "Is it Prometheus that listens there, and is it ready (/-/ready)?"
_FORWARD = (
    "Outside the cluster: kubectl port-forward -n {namespace} svc/{service} 9090, and set "
    "RUNBOOK_ENDPOINTS__PROMETHEUS=http://localhost:9090."
)


@probe(lambda config, **_: f"curl -s {config.endpoints.prometheus.rstrip('/')}/api/v1/alerts")
def alerts(sources: Sources) -> list[dict[str, Any]]:
    """Every active alert: [{name, severity, state (firing or pending), since (RFC 3339), labels,
    summary, runbook_url}]. Raises SourceError. Health check, point 7.
    """
    found = get(sources, "/api/v1/alerts")
    if "alerts" not in found:
        raise SourceError("bad-answer", "Prometheus answers, but with no alerts field.", _IS_IT)
    return [_alert(one) for one in found["alerts"]]


def get(sources: Sources, path: str, **query: str) -> Any:
    """The `data` of an answer of the configured Prometheus.

    Raises SourceError: unreachable, timeout, unauthenticated, forbidden, missing, throttled, or
    bad-answer with what Prometheus said.
    """
    import httpx

    base = sources.config.endpoints.prometheus.rstrip("/")
    asked = f"GET {path} of {without_query(base)}"
    try:
        response = sources.http.get(base + path, params=query or None)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        kind, reason = why(error)
        raise SourceError(
            "timeout" if kind == "timeout" else "unreachable", f"{asked}: {reason}.", _next(sources)
        ) from None
    try:
        answer = response.json()
        if answer["status"] == "success":
            return answer["data"]
        said = f"{answer.get('errorType', '')}: {answer.get('error', '')}"
    except (ValueError, KeyError, TypeError, AttributeError):
        said = " ".join(response.text.split()) or "nothing"
    kind = _REFUSALS.get(response.status_code, "bad-answer")
    raise SourceError(kind, f"{asked} gave {response.status_code}: {said[:200]}", _IS_IT)


def _alert(one: dict[str, Any]) -> dict[str, Any]:
    labels, annotations = one.get("labels", {}), one.get("annotations", {})
    return {
        "name": labels.get("alertname", ""),
        "severity": labels.get("severity", ""),
        "state": one["state"],
        "since": one["activeAt"],
        "labels": {k: v for k, v in labels.items() if k not in ("alertname", "severity")},
        "summary": annotations.get("summary") or annotations.get("description", ""),
        "runbook_url": annotations.get("runbook_url", ""),
    }


def _next(sources: Sources) -> str:
    """How to reach a Prometheus that only the cluster's network knows: SERVICE.NAMESPACE."""
    import httpx

    service, _, namespace = httpx.URL(sources.config.endpoints.prometheus).host.partition(".")
    if not namespace or service.isdigit():
        return _IS_IT
    return _FORWARD.format(service=service, namespace=namespace.split(".")[0])
