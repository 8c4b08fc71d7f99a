"""Every scenario: healthy, broken, seen through ordinary clients, repaired, healed, healthy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from notebook import NOTEBOOKS, all_checks, run_live, verdict

from runbook_lib.practice import scenario as scenarios
from runbook_lib.practice.observe import Observation, look
from runbook_lib.practice.platform import Platform
from runbook_lib.practice.scenario import Scenario
from runbook_lib.practice.steps import refuse_impossible

# The runbook's 21 issues and 3 error messages.
RUNBOOKS = {
    "eks-cluster-unreachable", "nodes-not-ready", "autoscaler-not-scaling",
    "mlflow-ui-not-loading", "mlflow-cannot-log", "mlflow-high-latency",
    "feast-retrieval-slow", "feast-features-not-found",
    "inferenceservice-not-ready", "model-prediction-errors", "model-serving-latency",
    "api-500-errors", "api-authentication-failures",
    "services-not-reachable", "pod-to-pod-failures",
    "rds-connection-exhaustion", "rds-high-cpu",
    "high-api-latency", "oom-kills",
    "iam-permission-denied", "tls-certificate-errors",
    "imagepullbackoff", "crashloopbackoff", "insufficient-resources",
}  # fmt: skip
# One of each kind, and those that the demonstration shows, are played every day.
EVERYDAY = {
    "rds-connection-exhaustion/leaking-client",
    "nodes-not-ready/full-disk",
    "crashloopbackoff/missing-secret-key",
}
ALL = scenarios.scenarios()


@pytest.fixture
def healthy(platform: Platform) -> Iterator[Platform]:
    """The platform, as in health before and after."""
    scenarios.wait_until_healthy(platform)
    yield platform
    scenarios.heal(platform)


def play(platform: Platform, scenario: Scenario) -> None:
    """Break, see and repair, and that each step of it says something.

    In health its symptom does not show, and while it is broken it does not count as healed.
    """
    assert not all_seen(platform, scenario.symptom), "in health it looks the same"
    scenarios.break_platform(platform, scenario)
    assert platform.control("status")["broken"] == [scenario.id]
    if scenario.repair:
        assert not all_seen(platform, scenario.healed), "broken it counts as healed"
        scenarios.repair(platform, scenario)


def all_seen(platform: Platform, signs: Iterable[Observation]) -> bool:
    """Whether all are seen now; none is looked at after the first that is not."""
    return all(look(platform, one).seen for one in signs)


def heal(platform: Platform) -> None:
    scenarios.heal(platform)
    assert platform.control("status")["broken"] == []
    assert not scenarios.ailments(platform)


@pytest.mark.parametrize("scenario", [one for one in ALL if one.id in EVERYDAY], ids=str)
def test_it_breaks_shows_and_heals(healthy: Platform, scenario: Scenario) -> None:
    """What it breaks is seen, its repair mends it, and heal leaves nothing of it behind."""
    play(healthy, scenario)
    heal(healthy)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ALL, ids=str)
def test_its_repair_alone_makes_all_well(healthy: Platform, scenario: Scenario) -> None:
    """As above; and of its repair too nothing is left, once alerts have had time to go.

    Where nothing is to be repaired, all is well while it is there.
    """
    play(healthy, scenario)
    scenarios.wait_until_healthy(healthy)
    assert all_seen(healthy, scenario.healed)
    heal(healthy)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [one for one in ALL if one.runbook in NOTEBOOKS], ids=str)
def test_its_runbook_finds_what_it_says(
    healthy: Platform,
    scenario: Scenario,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the runbook exists as a notebook, it names this cause, and no other."""
    for name, value in healthy.env.items():
        monkeypatch.setenv(name, value)
    scenarios.break_platform(healthy, scenario)
    found = verdict(run_live(scenario.runbook, tmp_path))
    wanted = scenario.finds
    assert found["outcome"] == wanted.outcome, found["sentence"]
    causes = {(one["id"], one["about"]) for one in found["causes"]}
    assert {name for name, _ in causes} == ({wanted.cause} - {""}), causes
    assert all(re.search(wanted.about, about) for _, about in causes), causes
    failed = {one["id"] for one in found["symptoms"]}
    assert failed >= set(wanted.symptoms), failed
    assert not failed & set(scenario.never_blames)


def test_every_section_of_the_runbook_has_a_fault_and_a_red_herring() -> None:
    kinds = {(one.runbook, one.kind) for one in ALL}
    assert {runbook for runbook, kind in kinds if kind == "fault"} == RUNBOOKS
    herrings = {runbook for runbook, kind in kinds if kind == "red herring"}
    assert herrings == {*RUNBOOKS, "health-check"}
    assert len([one for one in ALL if one.kind == "compound"]) >= 5


@pytest.mark.parametrize("scenario", ALL, ids=str)
def test_every_step_is_a_verb_of_its_system(platform: Platform, scenario: Scenario) -> None:
    """Names and arguments, checked against what the running systems take."""
    refuse_impossible(platform, scenario.break_)
    refuse_impossible(platform, scenario.repair.steps if scenario.repair else ())


def test_causes_of_runbooks_that_exist_are_their_checks() -> None:
    checks = {one.name for one in all_checks().values()}
    for one in ALL:
        if one.runbook in NOTEBOOKS:
            named = {one.finds.cause, *one.finds.symptoms, *one.never_blames} - {""}
            assert named <= checks, f"{one.id}: {named - checks}"
