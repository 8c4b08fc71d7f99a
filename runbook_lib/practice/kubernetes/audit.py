"""The audit log: one line of JSON for each request that was answered; no bodies, no tokens.

Source: Event of audit.k8s.io/v1, level Metadata, stage ResponseComplete.
"""

from __future__ import annotations

import json
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from aiohttp import web

from runbook_lib.practice.kubernetes.calls import Call

_LARGEST_BYTES = 64 * 2**20  # then the log begins anew, and the former one is kept beside it


class Audit:
    """Appends to a file that only its owner can read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def begin(self, request: web.Request) -> dict[str, Any]:
        """The record of a request, to be filled in while it is answered."""
        return {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Metadata",
            "auditID": str(uuid.uuid4()),
            "stage": "ResponseComplete",
            "requestURI": request.path_qs,
            "verb": request.method.lower(),
            "user": {},
            "sourceIPs": [request.remote or ""],
            "userAgent": request.headers.get("User-Agent", ""),
            "requestReceivedTimestamp": _now(),
        }

    def end(self, record: dict[str, Any], code: int) -> None:
        """Write the record of a request that was answered."""
        told = record.get("responseStatus", {})
        record["responseStatus"] = {"metadata": {}, **told, "code": code}
        record["stageTimestamp"] = _now()
        file = self._open()
        file.write(json.dumps(record, separators=(",", ":")) + "\n")
        file.flush()
        if file.tell() > _LARGEST_BYTES:
            self.close()
            self.path.replace(self.path.with_suffix(".old.jsonl"))

    def _open(self) -> TextIO:
        if self._file is None:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = os.fdopen(handle, "a")
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def note_call(record: dict[str, Any], call: Call) -> None:
    found = {
        "resource": call.kind.plural,
        "namespace": call.namespace,
        "name": call.name,
        "apiGroup": call.kind.group,
        "apiVersion": call.kind.version,
        "subresource": call.subresource,
    }
    record["verb"] = call.verb
    record["objectRef"] = {name: value for name, value in found.items() if value}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
