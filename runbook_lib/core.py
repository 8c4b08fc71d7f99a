"""The two verbs: checks and actions, and judging and planning on what their probes answered.

A check is a name, one probe (or a few) and one judge, a pure function from the probes' data and
some limits to findings. An action is the same with a planner of steps. Nothing here does I/O.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from runbook_lib import display
from runbook_lib.config import Config
from runbook_lib.model import (
    Answer,
    Chart,
    Finding,
    Plan,
    Step,
    Table,
    unknown,
    warn,
)
from runbook_lib.sources.seam import Probe

TABLE_ROWS = 50


@dataclass(frozen=True)
class Check:
    """One question: its stable name, the probes it needs and the judge of their data.

    explains: names of the checks whose failures this one's failure causes. symptom: its failure
    says that something hurts, not why. rows(*data) gives the table's rows as dicts, odd first;
    chart(*data) gives a Chart or None.
    """

    name: str
    judge: Callable[..., Finding | Iterable[Finding]]
    probes: tuple[Probe, ...]
    explains: tuple[str, ...] = ()
    symptom: bool = False
    rows: Callable[..., list[dict[str, Any]]] | None = None
    chart: Callable[..., Chart | None] | None = None

    @property
    def __wrapped__(self) -> Callable[..., Finding | Iterable[Finding]]:
        """The judge, so that `??` in a notebook shows its source."""
        return self.judge

    @property
    def question(self) -> str:
        """What it states when all is well: the first line of the judge's docstring."""
        return (inspect.getdoc(self.judge) or self.name).splitlines()[0]


def check(
    name: str, *, probe: Probe | tuple[Probe, ...], **fields: Any
) -> Callable[[Callable[..., Finding | Iterable[Finding]]], Check]:
    """Make a check of a judge. Fields are those of `Check`."""
    probes = probe if isinstance(probe, tuple) else (probe,)
    return lambda judge: Check(name, judge, probes, **fields)


@dataclass(frozen=True)
class Action:
    """What would repair a failing check: a planner from the probes' data to steps.

    The planner is as pure as a judge; its risk is said before anything else. Nothing here can
    apply a plan: its commands are for a person to review.
    """

    name: str
    planner: Callable[..., Iterable[Step]]
    probes: tuple[Probe, ...]
    repairs: Check
    risk: str

    @property
    def __wrapped__(self) -> Callable[..., Iterable[Step]]:
        """The planner, so that `??` in a notebook shows its source."""
        return self.planner


def action(
    name: str, *, probe: Probe | tuple[Probe, ...], repairs: Check, risk: str
) -> Callable[[Callable[..., Iterable[Step]]], Action]:
    """Make an action of a planner. Fields are those of `Action`."""
    probes = probe if isinstance(probe, tuple) else (probe,)
    return lambda planner: Action(name, planner, probes, repairs, risk)


@dataclass(frozen=True)
class Planned:
    """A plan, which shows itself in a notebook. `.plan.steps` is a list."""

    plan: Plan

    def _repr_html_(self) -> str:
        return display.plan_html(self.plan)

    def __repr__(self) -> str:
        return display.plan_text(self.plan)


@dataclass(frozen=True)
class Result:
    """What checks found: shows itself in a notebook, and can be explored.

    findings: list of Finding. tables, charts: what is shown under them.
    """

    findings: list[Finding]
    tables: list[Table]
    charts: list[Chart]

    @property
    def table(self) -> Any:
        """The first table as a pandas DataFrame (columns as shown); empty if there is none."""
        import pandas as pd  # slow to import, and most runs never ask for it

        if not self.tables:
            return pd.DataFrame()
        return pd.DataFrame(self.tables[0].rows, columns=self.tables[0].columns)

    def _repr_html_(self) -> str:
        return display.result_html(self.findings, self.tables, self.charts)

    def __repr__(self) -> str:
        return display.result_text(self.findings)


def judge(
    one: Check, answers: list[Answer], config: Config, arguments: dict[str, Any] | None = None
) -> Result:
    """Judge recorded or fresh answers, one for each probe of the check, in their order.

    A failed answer makes the check UNKNOWN with its reason; so does a judge that breaks.
    """
    arguments = arguments or {}
    if missing := next((a for a in answers if a.error), None):
        return Result([_complete(one, _cannot_look(missing), missing)], [], [])
    data = [a.data for a in answers]
    given = _limits(config) | arguments | {"now": answers[0].sampled_at}
    try:
        found = _call(one.judge, data, given)
        findings = [found] if isinstance(found, Finding) else list(found)
    except Exception as error:  # noqa: BLE001  a judge's defect must not cost the other checks
        findings = [unknown(*_broke(one, "The check", error), hint=_REPORT)]
        return Result([_complete(one, f, answers[0]) for f in findings], [], [])
    if not findings:
        findings = [unknown(f"check/{one.name}", "The check said nothing about this evidence.")]
    try:
        tables = _tables(one, data, given)
        drawn = _call(one.chart, data, given) if one.chart else None
    except Exception as error:  # noqa: BLE001  what cannot be drawn must not cost what was found
        findings.append(warn(*_broke(one, "The table or chart of", error), hint=_REPORT))
        tables, drawn = [], None
    return Result(
        [_complete(one, f, answers[0]) for f in findings], tables, [drawn] if drawn else []
    )


def plan(
    one: Action, answers: list[Answer], config: Config, arguments: dict[str, Any] | None = None
) -> Plan:
    """Plan on recorded or fresh answers, one for each probe, in their order.

    Missing evidence gives a plan without steps that says why.
    """
    about = {"action": one.name, "repairs": one.repairs.name, "risk": one.risk}
    sampled = answers[0].sampled_at
    if missing := next((a.error for a in answers if a.error), None):
        return Plan(**about, blind=missing.message, sampled_at=sampled)
    given = _limits(config) | (arguments or {}) | {"now": sampled}
    steps = list(_call(one.planner, [a.data for a in answers], given))
    return Plan(**about, steps=steps, sampled_at=sampled)


_REPORT = "Report this defect with the evidence; look by hand with the command."


def _broke(one: Check, what: str, error: Exception) -> tuple[str, str]:
    said = f"{what} {one.name} broke on this evidence: {type(error).__name__}: {error}."
    return f"check/{one.name}", said


def _complete(one: Check, finding: Finding, answer: Answer) -> Finding:
    return finding.model_copy(
        update={
            "id": one.name,
            "symptom": one.symptom,
            "explains": one.explains,
            "sampled_at": finding.sampled_at or answer.sampled_at,
            "command": finding.command or answer.command,
        }
    )


def _cannot_look(answer: Answer) -> Finding:
    assert answer.error is not None
    about = answer.probe.split(".", 1)[0]
    return unknown(about, answer.error.message, hint=answer.error.next)


def _tables(one: Check, data: list[Any], given: dict[str, Any]) -> list[Table]:
    rows = _call(one.rows, data, given) if one.rows else []
    if not rows:
        return []
    columns = list(rows[0])
    kept = [[row.get(column) for column in columns] for row in rows[:TABLE_ROWS]]
    return [Table(title=one.name, columns=columns, rows=kept, left_out=len(rows) - len(kept))]


def _limits(config: Config) -> dict[str, Any]:
    return config.limits.model_dump()


def _call(function: Callable[..., Any], data: list[Any], given: dict[str, Any]) -> Any:
    """Call with the data in order, and by name whatever else it has a parameter for."""
    names = list(inspect.signature(function).parameters)[len(data) :]
    return function(*data, **{name: given[name] for name in names if name in given})


def takes(one: Check | Action) -> set[str]:
    """The names of the arguments that its judge or planner and its probes have."""
    probes = {name for probe in one.probes for name in probe.params()}
    # The first are the data; `now` is when they were sampled, for nobody to choose.
    limits = list(inspect.signature(one.__wrapped__).parameters)[len(one.probes) :]
    return (probes | set(limits)) - {"now"}
