"""Every scenario: healthy, broken, seen through ordinary clients, repaired, healed, healthy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from notebook import NOTEBOOKS, all_checks, run_live, verdict

from runbook_lib.practice import scenario as scenarios
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


def played() -> list[object]:
    slow = pytest.mark.slow
    return [pytest.param(one, id=one.id, marks=() if one.id in EVERYDAY else slow) for one in ALL]


@pytest.fixture
def healthy(platform: Platform) -> Iterator[Platform]:
    """The platform, as in health before and after."""
    scenarios.wait_until_healthy(platform)
    yield platform
    scenarios.heal(platform)


@pytest.mark.parametrize("scenario", played())
def test_it_breaks_shows_and_heals(healthy: Platform, scenario: Scenario) -> None:
    """What it breaks is seen, its repair mends it, and heal leaves nothing of it behind."""
    scenarios.break_platform(healthy, scenario)
    assert healthy.control("status")["broken"] == [scenario.id]
    if scenario.repair:
        scenarios.repair(healthy, scenario)
    scenarios.heal(healthy)
    assert healthy.control("status")["broken"] == []
    assert not scenarios.ailments(healthy)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    [pytest.param(one, id=one.id) for one in ALL if one.runbook in NOTEBOOKS],
)
def test_its_runbook_finds_what_it_says(
    healthy: Platform,
    scenario: Scenario,
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the runbook exists as a notebook, it names this cause, and blames nothing else."""
    for name, value in healthy.env.items():
        monkeypatch.setenv(name, value)
    scenarios.break_platform(healthy, scenario)
    found = verdict(run_live(scenario.runbook, tmp_path))
    wanted = scenario.finds
    assert found["outcome"] == wanted.outcome, found["sentence"]
    causes = {(one["id"], one["about"]) for one in found["causes"]}
    assert not {name for name, _ in causes} & set(scenario.never_blames)
    if wanted.cause:
        matching = [about for name, about in causes if name == wanted.cause]
        assert any(wanted.about in about for about in matching), causes


def test_every_section_of_the_runbook_has_a_fault_and_a_red_herring() -> None:
    kinds = {(one.runbook, one.kind) for one in ALL}
    assert {runbook for runbook, kind in kinds if kind == "fault"} == RUNBOOKS
    herrings = {runbook for runbook, kind in kinds if kind == "red herring"}
    assert herrings == {*RUNBOOKS, "health-check"}
    assert len([one for one in ALL if one.kind == "compound"]) >= 5


@pytest.mark.parametrize("scenario", ALL, ids=lambda one: one.id)
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
