"""What stands behind the critical services, on the practice platform's own systems."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from runbook_lib import config
from runbook_lib.checks.database import usable_slots
from runbook_lib.practice import scenario as scenarios
from runbook_lib.practice.platform import Platform
from runbook_lib.sources import services
from runbook_lib.sources.clients import Sources
from runbook_lib.sources.redaction import Redactor


@pytest.fixture
def sources(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Sources:
    """Sources of the practice platform, found as any run finds them."""
    for name, value in platform.env.items():
        monkeypatch.setenv(name, value)
    return Sources(config.load(), Redactor())


@pytest.fixture
def leaking(platform: Platform) -> Iterator[None]:
    platform.do("postgres", "leak", application="platform-api", until="refused")
    yield
    scenarios.heal(platform)


def test_each_critical_service_with_its_pods(sources: Sources) -> None:
    found = {one["name"]: one for one in services.critical.ask(sources)}
    assert list(found) == list(sources.config.services.critical)
    api = found["platform-api"]
    assert api["exists"] and api["selector"] == {"app": "platform-api"}
    assert len(api["ready"]) == 3 and not api["not_ready"]
    assert all(name.startswith("platform-api-") for name in api["ready"])


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [({}, True), ({"ready": None}, True), ({"ready": True}, True), ({"ready": False}, False)],
)
def test_an_endpoint_is_ready_unless_it_says_no(
    conditions: dict[str, bool | None], ready: bool
) -> None:
    """As the EndpointSlice API says: nil means ready."""
    labels = {"kubernetes.io/service-name": "mlflow"}
    one: dict[str, Any] = {"addresses": ["10.0.0.9"], "conditions": conditions}
    slices: list[dict[str, Any]] = [{"metadata": {"labels": labels}, "endpoints": [one]}] * 2
    slices.append({"metadata": {"labels": labels}, "endpoints": None})
    found = services.behind("mlflow", "mlops-platform", None, slices)
    assert (found["exists"], found["ready"]) == (False, ["10.0.0.9"] if ready else [])
    assert found["not_ready"] == ([] if ready else ["10.0.0.9"])


def test_a_database_with_room(sources: Sources) -> None:
    found = services.database.ask(sources)
    assert found["reached"] and found["version"]
    assert 0 < found["used"] < usable_slots(found)
    assert found["tried_from"] == socket.gethostname()


@pytest.mark.usefixtures("leaking")
def test_a_full_database_that_lets_only_us_in(sources: Sources) -> None:
    found = services.database.ask(sources)
    assert found["reached"]
    assert found["used"] >= usable_slots(found)
