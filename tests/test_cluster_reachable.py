"""An API server that answers /readyz with 500 is not ready; every other error is no answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from runbook_lib import config
from runbook_lib.checks import health
from runbook_lib.core import judge
from runbook_lib.model import Answer, Status
from runbook_lib.sources import kubernetes
from runbook_lib.sources.clients import Sources
from runbook_lib.sources.redaction import from_environment
from runbook_lib.sources.seam import Live

# As kube-apiserver words it.
NOT_READY = """[+]ping ok
[+]log ok
[-]etcd failed: reason withheld
[+]informer-sync ok
readyz check failed
"""


@contextmanager
def api_server(status: int, body: str) -> Iterator[str]:
    """A server on loopback that has a version, and answers /readyz like this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            version = self.path == "/version"
            said = (json.dumps({"gitVersion": "v1.32.9"}) if version else body).encode()
            self.send_response(200 if version else status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


def reached(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """What the probe makes of the API server at this address."""
    file = folder / "kubeconfig"
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "clusters": [{"name": "here", "cluster": {"server": url}}],
                "users": [{"name": "me", "user": {"token": "made-for-a-test"}}],
                "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            }
        )
    )
    for name in ("RUNBOOK_REPLAY", "RUNBOOK_RUN_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(file))
    settings, redactor = config.load(), from_environment()
    with closing(Sources(settings, redactor)) as sources:
        return Live(sources, settings, redactor).answer(kubernetes.reachable, {})


@pytest.mark.parametrize(
    ("status", "body", "found", "said"),
    [
        (200, "ok", Status.OK, "is ready (version v1.32.9)"),
        (500, NOT_READY, Status.FAIL, "is not ready: [-]etcd failed: reason withheld"),
        (
            500,
            NOT_READY.replace("[-]etcd", "[+]x ok\n" * 90 + "[-]etcd"),
            Status.FAIL,
            "is not ready",
        ),
        (500, "", Status.FAIL, "is not ready: /readyz gave status 500"),
        (403, "forbidden", Status.UNKNOWN, "gave 403"),
        (503, NOT_READY, Status.UNKNOWN, "gave 503"),
        (403, "the proxy gave 500: no", Status.UNKNOWN, "gave 403"),
        (502, "the proxy gave 500: no", Status.UNKNOWN, "gave 502"),
    ],
)
def test_only_a_500_of_readyz_is_an_answer(
    status: int, body: str, found: Status, said: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with api_server(status, body) as url:
        answer = reached(url, tmp_path, monkeypatch)
    (finding,) = judge(health.cluster_reachable, [answer], config.load()).findings
    assert finding.status is found, finding.summary
    assert said in finding.summary
