"""Targets whose samples a test sets, and webhooks that keep what they are told."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from runbook_lib.practice.metrics.samples import Sample


def listed(path: Path, heading: str) -> set[str]:
    """Every name in code marks under a heading of a document."""
    section = re.split(rf"(?m)^## {heading}$", path.read_text())[1].split("\n## ")[0]
    return set(re.findall(r"`(\w+)`", section))


class Settable:
    """A target: `values` by name and labels as {name: [(labels, value)]}; None is down."""

    job = "settable"

    def __init__(self) -> None:
        self.values: dict[str, list[tuple[dict[str, str], float]]] | None = {}

    def collect(self) -> Iterable[Sample]:
        if self.values is None:
            raise ConnectionRefusedError("connection refused")
        return [Sample(n, labels, v) for n, found in self.values.items() for labels, v in found]


class Webhook:
    """Keeps the JSON bodies that are POSTed to it; answers with the next of `statuses`, or 200."""

    def __init__(self, *statuses: int) -> None:
        self.heard: list[dict[str, Any]] = []
        self.answered: list[int] = []
        hook, left = self, list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = left.pop(0) if left else 200
                hook.answered.append(status)
                if status == 200:
                    hook.heard.append(body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/alerts"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Webhook:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def alerts(self, name: str) -> list[dict[str, Any]]:
        """What was heard of one alert, in order."""
        found = [alert for body in self.heard for alert in body["alerts"]]
        return [alert for alert in found if alert["labels"]["alertname"] == name]
