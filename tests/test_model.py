"""How findings are weighed into a verdict."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from runbook_lib.model import Finding, Outcome, Status, fail, ok, reach_verdict, unknown, warn

GOOD = ok("node/a", "Ready.", id="ready")
CAUSE = fail("node/a", "Its disk is full.", id="disk", explains=("ready", "pods"))
EXPLAINED = fail("node/a", "Not ready.", id="ready")
SYMPTOM = fail("pods", "Pods wait.", id="pods", symptom=True)
BLIND = unknown("aws", "AWS refused.", id="rds")
WARNING = warn("node/b", "Nearly full.", id="disk")
BACK = ok("node/a", "Ready again.", id="ready", recovered=True)


@pytest.mark.parametrize(
    ("findings", "outcome", "causes"),
    [
        ([], Outcome.INCONCLUSIVE, []),
        ([GOOD], Outcome.HEALTHY, []),
        ([GOOD, WARNING], Outcome.HEALTHY, []),
        ([GOOD, BACK], Outcome.RECOVERED, []),
        ([GOOD, BLIND], Outcome.INCONCLUSIVE, []),
        ([BACK, BLIND], Outcome.INCONCLUSIVE, []),
        ([SYMPTOM], Outcome.INCONCLUSIVE, []),
        ([SYMPTOM, BACK], Outcome.INCONCLUSIVE, []),
        ([EXPLAINED], Outcome.CAUSE_FOUND, ["ready"]),
        ([EXPLAINED, CAUSE], Outcome.CAUSE_FOUND, ["disk"]),
        ([SYMPTOM, CAUSE], Outcome.CAUSE_FOUND, ["disk"]),
        (
            [EXPLAINED.model_copy(update={"own": True}), CAUSE],
            Outcome.CAUSE_FOUND,
            ["ready", "disk"],
        ),
        ([CAUSE, BLIND, BACK], Outcome.CAUSE_FOUND, ["disk"]),
        # A check that fails is needed to explain one: a warning of the same name explains nothing.
        (
            [EXPLAINED, CAUSE.model_copy(update={"status": Status.WARN})],
            Outcome.CAUSE_FOUND,
            ["ready"],
        ),
        ([fail("x", "A.", id="a"), fail("y", "B.", id="b")], Outcome.CAUSE_FOUND, ["a", "b"]),
    ],
)
def test_outcome_and_causes(findings: list[Finding], outcome: Outcome, causes: list[str]) -> None:
    verdict = reach_verdict(findings)
    assert (verdict.outcome, [f.id for f in verdict.causes]) == (outcome, causes)


def test_every_finding_but_the_plainly_good_is_in_the_verdict_once() -> None:
    verdict = reach_verdict(iter([GOOD, CAUSE, EXPLAINED, SYMPTOM, BLIND, WARNING, BACK]))
    lists = (verdict.causes, verdict.symptoms, verdict.warnings, verdict.unknown, verdict.recovered)
    assert lists == ([CAUSE], [EXPLAINED, SYMPTOM], [WARNING], [BLIND], [BACK])


@pytest.mark.parametrize(
    ("findings", "says"),
    [
        ([CAUSE, fail("node/b", "Its disk, too.", id="disk")], "Its disk is full; and 1 more."),
        ([SYMPTOM], "Pods wait. No cause that this runbook knows fits."),
        ([BLIND], "Could not look: AWS refused."),
        ([], "No check ran, so nothing is known."),
        ([GOOD], "Every check looked, and nothing is broken."),
    ],
)
def test_the_sentence_names_the_first_and_counts_the_rest(
    findings: list[Finding], says: str
) -> None:
    assert reach_verdict(findings).sentence == says


def test_a_finding_comes_back_equal_from_json() -> None:
    since = datetime(2026, 11, 20, 3, 14, tzinfo=UTC)
    finding = fail("node/a", "Full.", id="disk", since=since, evidence={"used": 0.96}, command="df")
    assert Finding.model_validate_json(finding.model_dump_json()) == finding


def test_a_finding_is_immutable_and_refuses_fields_it_does_not_know() -> None:
    with pytest.raises(ValidationError):
        GOOD.summary = "Broken."
    with pytest.raises(ValidationError, match="colour"):
        ok("node/a", "Ready.", colour="green")
