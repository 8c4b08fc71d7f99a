"""The nouns of a run: answers, findings, tables, charts and verdicts, as plain data.

Nothing here imports anything else of this package, does I/O, or knows how it is displayed.
Every noun goes into the journal as JSON and comes back equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Status(StrEnum):
    """What a check found. UNKNOWN means that we could not look; it is never OK."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """How a run ended, in the words of its report."""

    HEALTHY = "healthy"
    CAUSE_FOUND = "cause found"
    RECOVERED = "recovered"
    INCONCLUSIVE = "inconclusive"
    RUNBOOK_FAILED = "runbook failed"


class Plain(BaseModel):
    """Immutable plain data that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Failure(Plain):
    """Why a probe has no answer.

    kind: timeout, unreachable, unauthenticated, forbidden, missing, throttled, refused,
        not-configured, not-recorded, bad-answer or defect.
    message: what was asked, of whom, what came back; next: what to do about it.
    """

    kind: str
    message: str
    next: str = ""


class Answer(Plain):
    """What one probe brought home: its data, or the failure that kept it from looking.

    seconds: how long it took. command: what an engineer would type to see the same thing.
    """

    probe: str
    params: dict[str, Any] = {}
    data: Any = None
    error: Failure | None = None
    sampled_at: datetime
    seconds: float = 0.0
    command: str = ""


class Finding(Plain):
    """One statement about one thing, with what it rests on.

    id: the check's name, which names the cause. about: "node/ip-10-0-1-7", "application/mlflow".
    hint: what to do next. since: when it began, where the evidence tells. recovered: it was
    broken and is not now. symptom: it says that something hurts, not why. explains: ids of the
    checks whose failures this one causes. own: no other check can explain it. runbook: the one
    to open next.
    """

    id: str = ""
    status: Status
    about: str
    summary: str
    hint: str = ""
    evidence: dict[str, Any] = {}
    since: datetime | None = None
    sampled_at: datetime | None = None
    command: str = ""
    recovered: bool = False
    symptom: bool = False
    explains: tuple[str, ...] = ()
    own: bool = False
    runbook: str = ""


def ok(about: str, summary: str, **fields: Any) -> Finding:
    """This thing is as it should be."""
    return Finding(status=Status.OK, about=about, summary=summary, **fields)


def warn(about: str, summary: str, **fields: Any) -> Finding:
    """This thing deserves a look, yet breaks nothing now."""
    return Finding(status=Status.WARN, about=about, summary=summary, **fields)


def fail(about: str, summary: str, **fields: Any) -> Finding:
    """This thing is broken now."""
    return Finding(status=Status.FAIL, about=about, summary=summary, **fields)


def unknown(about: str, summary: str, **fields: Any) -> Finding:
    """We could not look at this thing; the summary says why."""
    return Finding(status=Status.UNKNOWN, about=about, summary=summary, **fields)


class Table(Plain):
    """Rows to show under a check's findings, odd rows first; left_out counts those not kept."""

    title: str = ""
    columns: list[str]
    rows: list[list[Any]]
    left_out: int = 0


class Chart(Plain):
    """A finished picture. media: image/svg+xml or image/png; data: base64; alt: its words."""

    media: str
    data: str
    alt: str
    title: str = ""


class Step(Plain):
    """One change that a plan would make: what it touches, in words, and the command for it."""

    about: str
    summary: str
    command: str


class Plan(Plain):
    """What an action would do now. Nothing of it has been done.

    repairs: the check that must turn OK afterwards. risk: what it costs. blind: why nothing could
    be planned, where the evidence is missing.
    """

    action: str
    repairs: str
    risk: str
    steps: list[Step] = []
    blind: str = ""
    sampled_at: datetime | None = None


class Verdict(Plain):
    """What the findings of a run come to.

    causes: failing findings that no other failing finding explains. symptoms: those that
    another explains, or that only say that it hurts. unknown: what could not be looked at.
    """

    outcome: Outcome
    sentence: str
    causes: list[Finding] = []
    symptoms: list[Finding] = []
    warnings: list[Finding] = []
    unknown: list[Finding] = []
    recovered: list[Finding] = []
    decided_at: datetime = Field(default_factory=lambda: datetime.now(UTC))


def reach_verdict(findings: Iterable[Finding]) -> Verdict:
    """Weigh the latest findings of each check against one another.

    A failing finding is a cause unless another failing check explains it, or it is a symptom
    by nature; one that is `own` stays a cause whatever else fails. Symptoms without a cause, or
    anything UNKNOWN where nothing fails, are inconclusive. No finding at all is inconclusive
    too: nothing was looked at.
    """
    findings = list(findings)
    by = {s: [f for f in findings if f.status is s] for s in Status}
    failing = by[Status.FAIL]
    causes = [
        f
        for f in failing
        if not f.symptom and (f.own or not any(_explains(other, f) for other in failing))
    ]
    recovered = [f for f in findings if f.recovered and f.status is Status.OK]
    outcome, sentence = _outcome(findings, failing, causes, by[Status.UNKNOWN], recovered)
    return Verdict(
        outcome=outcome,
        sentence=sentence,
        causes=causes,
        symptoms=[f for f in failing if f not in causes],
        warnings=by[Status.WARN],
        unknown=by[Status.UNKNOWN],
        recovered=recovered,
    )


def _explains(one: Finding, other: Finding) -> bool:
    """Whether one failing finding causes another. A node's fault explains no other node's, nor a
    pod's another pod's: of two things of one kind, the names must be the same."""
    kind, _, name = one.about.partition("/")
    of_kind, _, of_name = other.about.partition("/")
    return other.id in one.explains and (kind != of_kind or name == of_name)


def _outcome(
    findings: list[Finding],
    failing: list[Finding],
    causes: list[Finding],
    blind: list[Finding],
    recovered: list[Finding],
) -> tuple[Outcome, str]:
    if causes:
        return Outcome.CAUSE_FOUND, _sentence(causes)
    if failing:
        return Outcome.INCONCLUSIVE, f"{_sentence(failing)} No cause that this runbook knows fits."
    if blind:
        return Outcome.INCONCLUSIVE, f"Could not look: {_sentence(blind)}"
    if not findings:
        return Outcome.INCONCLUSIVE, "No check ran, so nothing is known."
    if recovered:
        return Outcome.RECOVERED, _sentence(recovered)
    if warned := [f for f in findings if f.status is Status.WARN]:
        return Outcome.HEALTHY, f"Nothing is broken; worth a look: {_sentence(warned)}"
    return Outcome.HEALTHY, "Every check looked, and nothing is broken."


def _sentence(findings: list[Finding]) -> str:
    first, others = findings[0].summary.rstrip("."), len(findings) - 1
    return f"{first}; and {others} more." if others else f"{first}."
