"""Fixtures that many tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runbook_lib.practice.platform import Platform


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """A healthy practice platform; a test that breaks it heals it."""
    with Platform.start() as running:
        yield running
