"""Requests to the practice Kubernetes API that fail on purpose, whatever they ask."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from runbook_lib.practice.objects.errors import ApiError

_KNOWN = {"status", "delay", "match", "methods"}
_REASONS = {
    401: ("Unauthorized", "Unauthorized"),
    403: ("Forbidden", "forbidden: the practice platform refuses this request"),
    429: ("TooManyRequests", "the server has received too many requests, please try again later"),
    500: ("InternalError", "Internal error occurred: the practice platform fails this request"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: ("Timeout", "the server was unable to return a response in the time allotted"),
}


class Faults:
    """Asked before each request is looked at."""

    def __init__(self) -> None:
        self._fault: dict[str, Any] | None = None

    def set(self, fault: dict[str, Any] | None) -> None:
        """Fail requests until called with None; ValueError for an unknown field.

        `status` (an HTTP code; without it the request is only delayed), `delay` (seconds),
        `match` (beginning of the path; all paths without it), `methods` (all without it).
        """
        if fault is not None and set(fault) - _KNOWN:
            raise ValueError(f"a fault takes {', '.join(sorted(_KNOWN))}; got {sorted(fault)}")
        self._fault = fault

    async def __call__(self, request: web.Request) -> None:
        """Return late, or raise the ApiError that the fault is."""
        fault = self._fault
        if fault is None or not request.path.startswith(fault.get("match", "/")):
            return
        if request.method not in fault.get("methods", [request.method]):
            return
        await asyncio.sleep(fault.get("delay", 0))
        if code := fault.get("status"):
            reason, message = _REASONS.get(code, ("", f"the practice platform answers {code}"))
            raise ApiError(code, reason, message, {"retryAfterSeconds": 1} if code == 429 else None)
