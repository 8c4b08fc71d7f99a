"""Fixtures that many tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from runbook_lib.practice.platform import Platform

# Where a Prometheus is installed, only the tests marked `real` start it.
os.environ.setdefault("RUNBOOK_PRACTICE_PROMETHEUS", "builtin")


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """A healthy practice platform; a test that breaks it heals it."""
    before = dict(os.environ)
    with Platform.start() as running:
        assert dict(os.environ) == before, "a platform leaves its parent's environment alone"
        yield running
        assert running.control("status")["troubles"] == [], "it has failed inside"


@pytest.fixture
def connected(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The practice platform, and this process' environment pointing at it and nothing else."""
    for name in ("RUNBOOK_REPLAY", "RUNBOOK_RUN_FOLDER", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in platform.env.items():
        monkeypatch.setenv(name, value)
    return platform
