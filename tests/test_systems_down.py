"""One system down: what it served is UNKNOWN, the rest is judged, and nobody calls it healthy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from notebook import NOTEBOOKS, all_checks, run_live, verdict

from runbook_lib.practice import scenario as scenarios
from runbook_lib.practice.platform import Platform

Event = dict[str, Any]
CHECKS = {one.name: one for one in all_checks().values()}


@dataclass(frozen=True)
class Down:
    """How to break a system, and the probes that cannot answer without it.

    told: probes for which not being let in is an answer, and so a failing finding.
    """

    name: str
    do: Callable[[Platform], Any]
    blinds: str
    told: str = "nothing"


def system(name: str, do: str) -> Callable[[Platform], Any]:
    return lambda platform: platform.do(name, do)


def aws(**rule: Any) -> Callable[[Platform], Any]:
    return lambda platform: platform.do("aws", "faults", rules=[rule])


EVENTS = r"workloads\.pod_events"  # it answers with the namespaces that it could not read
KUBERNETES = r"kubernetes\..*|workloads\.(?!pod_events).*|pools\..*|nodes\..*|services\.critical"
AWS = r"aws\..*|nodes\.(instances|subnets|egress)"
WELL = Down("nothing", lambda platform: None, "nothing")
DOWN = [
    WELL,
    Down(
        "postgres killed", system("postgres", "kill"), r"postgres\.sessions", r"services\.database"
    ),
    Down("kubernetes stopped", system("kubernetes", "stop"), KUBERNETES, EVENTS),
    Down(
        "kubernetes forbids",
        lambda p: p.do("kubernetes", "fault", status=403),
        KUBERNETES,
        EVENTS,
    ),
    Down("aws stopped", system("aws", "stop"), AWS),
    Down("aws forbids", aws(kind="denied"), AWS),
    Down("aws too slow", aws(kind="delay", seconds=15), AWS),
    Down("prometheus stopped", system("prometheus", "stop"), r"prometheus\..*"),
    Down("nothing any more", lambda platform: None, "nothing"),
]


@pytest.fixture(scope="module", params=DOWN, ids=lambda down: down.name)
def state(
    request: pytest.FixtureRequest, platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Down, dict[str, list[Event]]]]:
    """A system that is down, and the journal of every notebook run meanwhile."""
    down: Down = request.param
    with pytest.MonkeyPatch.context() as patch:
        for name, value in platform.env.items():
            patch.setenv(name, value)
        if "slow" in down.name:
            patch.setenv("RUNBOOK_LIMITS__PROBE_SECONDS", "3")
        down.do(platform)
        try:
            yield down, {name: run_live(name, tmp_path_factory.mktemp("run")) for name in NOTEBOOKS}
        finally:
            scenarios.heal(platform)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_a_system_served_is_unknown_and_the_rest_is_judged(
    state: tuple[Down, dict[str, list[Event]]], name: str
) -> None:
    down, runs = state
    events = runs[name]
    probes = {e["probe"]: e.get("error") for e in events if e["event"] == "probe"}
    silent = {probe for probe, error in probes.items() if error}
    assert silent == {probe for probe in probes if re.fullmatch(down.blinds, probe)}
    told = {probe for probe in probes if re.fullmatch(down.told, probe)}
    for event in events:
        if event["event"] == "check":
            needs = {probe.name for probe in CHECKS[event["check"]].probes}
            blind = {f["status"] == "unknown" for f in event["findings"]}
            assert blind == {bool(needs & silent)} or needs & told, event["check"]
    found = verdict(events)
    if silent:
        assert found["outcome"] in ("inconclusive", "cause found")
        assert found["unknown"]
    elif not told:
        assert (found["outcome"], found["warnings"]) == ("healthy", []), found["sentence"]


def test_every_reason_names_what_to_do(state: tuple[Down, dict[str, list[Event]]]) -> None:
    _, runs = state
    for events in runs.values():
        for event in events:
            if event["event"] == "probe" and (error := event.get("error")):
                assert error["kind"] not in ("defect", "not-recorded"), error
                assert error["next"], error


def test_no_probe_takes_longer_than_its_limit(
    state: tuple[Down, dict[str, list[Event]]],
) -> None:
    """A hang would be the limit of the slowest client, or none; limits are 12 s at most."""
    _, runs = state
    taken = [e["seconds"] for events in runs.values() for e in events if e["event"] == "probe"]
    assert max(taken) < 15


def test_a_database_that_lets_nobody_in_is_a_cause_and_not_blindness(
    state: tuple[Down, dict[str, list[Event]]],
) -> None:
    down, runs = state
    causes = {f["id"] for f in verdict(runs["health-check"])["causes"]}
    assert ("database-unreachable" in causes) == ("postgres" in down.name)


def test_no_secret_is_in_any_journal(
    state: tuple[Down, dict[str, list[Event]]], platform: Platform
) -> None:
    _, runs = state
    told = repr(runs)
    assert not [secret for secret in platform.secrets if secret in told]
