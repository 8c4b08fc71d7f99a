"""Which images the nodes can pull, and what is said where they cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runbook_lib.practice.cluster.images import Registry

OWN = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
OTHERS = "999999999999.dkr.ecr.us-east-1.amazonaws.com"
REGISTRY = Registry(OWN, frozenset({"platform-api:1.8.2"}))


@pytest.mark.parametrize(
    "image",
    [
        f"{OWN}/platform-api:1.8.2",
        f"{OWN}/platform-api@sha256:0123",
        "nginx",
        "library/nginx:1.29",
        "kserve/storage-initializer:v0.15.2",
        "registry.k8s.io/pause:3.10",
    ],
)
def test_given(image: str) -> None:
    assert REGISTRY.refuses(image) == ""


def test_without_an_account_every_ecr_gives() -> None:
    assert Registry().refuses(f"{OWN}/platform-api:1.8.3") == ""


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (f"{OWN}/platform-api:1.8.3", f"{OWN}/platform-api:1.8.3: not found"),
        (
            f"{OTHERS}/api:1",
            "unexpected status from HEAD request to "
            f"https://{OTHERS}/v2/api/manifests/1: 403 Forbidden",
        ),
        (
            "registry.example:5000/team/api",
            'failed to do request: Head "https://registry.example:5000/v2/team/api/manifests/latest"'
            ": dial tcp: lookup registry.example: no such host",
        ),
    ],
)
def test_refused(image: str, why: str) -> None:
    assert REGISTRY.refuses(image) == f'failed to resolve reference "{image}": {why}'


@pytest.fixture
def clean(practice: Any) -> Iterator[None]:
    yield
    practice.raw("DELETE", "/apis/apps/v1/namespaces/shop/deployments/far")


@pytest.mark.usefixtures("clean")
def test_a_pod_waits_for_it_and_its_event_says_why(practice: Any) -> None:
    practice.deploy("far", container={"image": "registry.example/far:1"})
    practice.container("far", waiting="ImagePullBackOff")
    events = practice.raw("GET", "/api/v1/namespaces/shop/events")[1]["items"]
    said = [e["message"] for e in events if e["involvedObject"]["name"].startswith("far")]
    assert any("no such host" in message for message in said)
