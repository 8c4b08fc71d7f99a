"""What the practice API does not serve is refused, exactly as docs/practice-kubernetes.md lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from practice.documented import DOCS, documented, offered

from runbook_lib.practice.kubernetes_system import KubernetesSystem

DOCUMENT = (DOCS / "practice-kubernetes.md").read_text()
ROW = re.compile(r"^\| `(\S+) (\S+)` \| (?:`(.+)`)? ?\| (\d+) \| `(.+)` \|$", re.MULTILINE)
ROWS = ROW.findall(DOCUMENT)


def test_every_row_is_read() -> None:
    section = DOCUMENT.split("## What is refused")[1].split("\n## ")[0]
    listed = [line for line in section.splitlines() if line.startswith("| `")]
    assert len(listed) == len(ROWS) > 25


def test_every_verb_is_documented(practice: Any) -> None:
    system = KubernetesSystem(practice.api, list)
    assert documented("practice-kubernetes.md") == offered(system.verbs())


@pytest.fixture(scope="module")
def pod(practice: Any) -> Iterator[str]:
    practice.deploy("refusing")
    account = {"metadata": {"name": "default"}}
    practice.raw("POST", "/api/v1/namespaces/shop/serviceaccounts", account)
    yield practice.until_ready("refusing")[0]["metadata"]["name"]
    practice.apps.delete_namespaced_deployment("refusing", "shop")


@pytest.mark.parametrize(("method", "path", "extra", "code", "said"), ROWS)
def test_it_is_refused_in_these_words(
    practice: Any, pod: str, method: str, path: str, extra: str, code: str, said: str
) -> None:
    header = re.match(r"([A-Z][\w-]+): (.+)", extra)
    headers = {header[1].replace("-", "_"): header[2]} if header else {}
    body = json.loads(extra) if extra and not header else {} if method != "GET" else None
    answered, status = practice.raw(method, path.replace("POD", pod), body, **headers)
    assert (answered, status["kind"], status["status"]) == (int(code), "Status", "Failure")
    assert said in status["message"]
