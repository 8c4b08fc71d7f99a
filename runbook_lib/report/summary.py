"""From the journal of a run to its report as plain data: what was seen, what died, what was missed.

Only a run whose journal says `completed`, with a verdict, may look healthy, recovered or explained.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runbook_lib import journal
from runbook_lib.display import by_urgency, utc
from runbook_lib.model import Outcome, Plain, Plan, Status, Verdict, reach_verdict
from runbook_lib.report.notebook import headings
from runbook_lib.report.record import Asked, Cell, Moment, Probed, Report

_ENDINGS = {
    "raised": (20, "The notebook raised an error"),
    "kernel-died": (21, "The kernel died"),
    "time-limit": (22, "The time limit ended the run"),
    "terminated": (23, "The run was terminated"),
    "completed": (20, "The run ended without a sound verdict"),
    "": (23, "The record stops"),
}
_NO_END = "its supervisor died, or it is still running"
_OUTCOMES = {
    Outcome.HEALTHY: 0,
    Outcome.RECOVERED: 0,
    Outcome.CAUSE_FOUND: 10,
    Outcome.INCONCLUSIVE: 11,
}


def summarise(folder: Path) -> Report:
    """Read a run's journal. Raises FileNotFoundError where there is none."""
    events = journal.read(folder)
    found = _Reading()
    for number, event in enumerate(events, start=1):
        try:
            found.take(event)
        except (ValidationError, TypeError, ValueError, KeyError, AttributeError):
            # A line that is not of the vocabulary is as lost as one cut off: named, never skipped.
            found.unreadable.append(number)
    return found.report(folder.name, headings(folder / "notebook.ipynb"))


def exit_code(report: Report) -> int:
    """What a shell is told: the outcome of a completed run, else how the run ended."""
    return _exit_code(report.verdict.outcome, report.ending)


def _exit_code(outcome: Outcome, ending: str) -> int:
    return _OUTCOMES.get(outcome, _ENDINGS.get(ending, (20, ""))[0])


class _Reading:
    """What the events read so far say."""

    def __init__(self) -> None:
        self.head: dict[str, Any] = {}
        self.times: list[datetime] = []
        self.started: datetime | None = None
        self.ended: datetime | None = None
        self.decided: datetime | None = None
        self.end: dict[str, Any] = {}
        self.asked: list[Asked] = []
        self.cells: list[Cell] = []
        self.cells_total = 0
        self.probes: list[Probed] = []
        self.plans: list[Plan] = []
        self.unreadable: list[int] = []

    def take(self, event: dict[str, Any]) -> None:
        """Read one event. Raises ValueError, TypeError or the like for what is not one."""
        name = event["event"]
        if name == "unreadable":
            raise ValueError("cut off")
        time = datetime.fromisoformat(event["time"])
        fields = {k: v for k, v in event.items() if k not in ("time", "event")}
        match name:
            case "run-started":
                self._start(fields, time)
            case "cells":
                self.cells_total = int(fields["total"])
            case "cell-started":
                number = len(self.cells) + 1
                self.cells.append(Cell(number=number, heading=fields.get("heading") or ""))
            case "cell-finished":
                self._cell(state="done", seconds=fields.get("seconds"))
            case "cell-failed":
                self._cell(state="raised", error=str(fields.get("error") or ""))
            case "probe":
                self.probes.append(Probed(**_known(Probed, fields)))
            case "check":
                self.asked.append(Asked(**_known(Asked, fields), time=time))
            case "plan":
                self.plans.append(Plan.model_validate(fields["plan"]))
            case "verdict":
                Verdict.model_validate(fields["verdict"])
                self.decided = time
            case "run-ended":
                self.end, self.ended = fields, time
        self.times.append(time)

    def _start(self, fields: dict[str, Any], time: datetime) -> None:
        # The supervisor and the kernel may both say that the run started; the first counts.
        self.started = self.started or time
        names = ("runbook", "title", "severity", "parameters", "mode", "host", "versions")
        given = {k: fields[k] for k in names if fields.get(k)}
        Report(run="", verdict=reach_verdict([]), **given)  # refuses odd types before they count
        self.head = given | self.head

    def _cell(self, **fields: Any) -> None:
        if not self.cells:
            raise ValueError("a cell ended that never started")
        cell = self.cells[-1]
        if cell.state == "died":
            self.cells[-1] = Cell.model_validate(cell.model_dump() | fields)

    def _blame(self, ending: str) -> None:
        """A cell that failed because its kernel was taken away died; it raised nothing."""
        for index, cell in enumerate(self.cells):
            if cell.state == "raised" and ending in ("kernel-died", "time-limit", "terminated"):
                self.cells[index] = cell.model_copy(update={"state": "died"})

    def report(self, run: str, titles: list[str]) -> Report:
        """Everything read, weighed. titles: the headings of the notebook's code cells."""
        checks = list(_latest(self.asked))
        ending = str(self.end.get("ending") or "")
        self._blame(ending)
        last = max(self.times, default=None)
        seconds = (last - self.started).total_seconds() if last and self.started else None
        report = Report(
            run=run,
            **self.head,
            started=self.started,
            ended=self.ended,
            last_seen=last,
            seconds=seconds,
            ending=ending,
            reason=str(self.end.get("reason") or ""),
            verdict=reach_verdict(f for one in checks if not one.superseded for f in one.findings),
            checks=checks,
            cells=_all_cells(self.cells, self.cells_total, titles),
            probes=self.probes,
            plans=self.plans,
            unreadable=self.unreadable,
        )
        verdict = _truth(report, decided=self.decided is not None)
        moment = self.decided or last
        if moment:
            verdict = verdict.model_copy(update={"decided_at": moment})
        return report.model_copy(
            update={
                "verdict": verdict,
                "exit_code": _exit_code(verdict.outcome, ending),
                "timeline": _timeline(report, verdict),
            }
        )


def _known(noun: type[Plain], fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that this noun has: an event may gain others without costing us the finding."""
    return {k: v for k, v in fields.items() if k in noun.model_fields and v is not None}


def _all_cells(started: list[Cell], total: int, titles: list[str]) -> list[Cell]:
    """The cells that started, those that never did, each under its heading where one is known."""
    if not started and not total:
        return []
    count = max(len(started), total, len(titles))
    titles = titles + [""] * (count - len(titles))
    never = [Cell(number=n, state="never") for n in range(len(started) + 1, count + 1)]
    return [
        cell.model_copy(update={"heading": cell.heading or titles[cell.number - 1]})
        for cell in started + never
    ]


def _latest(asked: list[Asked]) -> Iterator[Asked]:
    """Mark what a later asking supersedes, and what was broken before and is OK now."""
    last = {_same(one): index for index, one in enumerate(asked)}
    failed: set[str] = set()
    for index, one in enumerate(asked):
        findings = one.findings
        if _same(one) in failed:
            findings = [
                f.model_copy(update={"recovered": True}) if f.status is Status.OK else f
                for f in findings
            ]
        if any(f.status is Status.FAIL for f in findings):
            failed.add(_same(one))
        superseded = index < last[_same(one)]
        yield one.model_copy(update={"findings": findings, "superseded": superseded})


def _same(asked: Asked) -> str:
    """What makes two askings one question: the check, and what it was asked about."""
    return asked.check + json.dumps(asked.arguments, sort_keys=True, default=str)


def _truth(report: Report, decided: bool) -> Verdict:
    """The verdict that this run is entitled to."""
    verdict = report.verdict
    if report.ending != "completed" or not decided or report.stopped:
        sentence = f"{_how_it_ended(report)} {_found_before(report)}"
        return verdict.model_copy(update={"outcome": Outcome.RUNBOOK_FAILED, "sentence": sentence})
    if report.unreadable and verdict.outcome in (Outcome.HEALTHY, Outcome.RECOVERED):
        sentence = (
            f"What could be read looks {verdict.outcome}, but {_lines(report.unreadable)} of the "
            "journal could not be read, and may have said otherwise."
        )
        return verdict.model_copy(update={"outcome": Outcome.INCONCLUSIVE, "sentence": sentence})
    return verdict


def _how_it_ended(report: Report) -> str:
    unheard = f"The run ended as “{report.ending}”"
    _, what = _ENDINGS.get(report.ending, (20, unheard))
    cell = report.stopped
    reason = report.reason or (cell.error[:300] if cell else "")
    reason = reason or ("" if report.ending else _NO_END)
    why = f": {reason.rstrip('.')}" if reason else ""
    total = f" of {len(report.cells)}"
    if cell:
        heading = f", “{cell.heading}”" if cell.heading else ""
        return f"{what} at cell {cell.number}{total}{heading}{why}."
    if not report.cells:
        return f"{what}{why}."
    started = len(report.cells) - len(report.never_reached)
    return f"{what} after cell {started}{total}{why}." if started else f"{what} before cell 1{why}."


def _found_before(report: Report) -> str:
    """The most urgent finding in its words, the others by their number."""
    if not report.findings:
        return "Nothing had been found before that."
    first, *rest = report.findings
    if first.status is Status.OK:
        return f"Before that, {len(report.findings)} OK; the rest is not known."
    count = Counter(f.status.upper() for f in rest)
    more = ", ".join(f"{n} {status}" for status, n in count.items())
    return f"Found before that: {first.summary}" + (f" (and {more})" if more else "")


def _lines(numbers: list[int]) -> str:
    return f"line{'s' if numbers[1:] else ''} {', '.join(map(str, numbers))}"


def _timeline(report: Report, verdict: Verdict) -> list[Moment]:
    """What happened when, by the evidence's times and the journal's, oldest first."""
    moments = [*_begun(report.checks), *_said(report)]
    if report.started:
        moments.append(Moment(time=report.started, text="The run started."))
    if report.last_seen:
        text = f"The run ended: {verdict.outcome}."
        if not report.ended:
            text = "Last sign of life; no end is recorded."
        moments.append(Moment(time=report.ended or report.last_seen, text=text))
    return sorted(moments, key=lambda m: utc(m.time))


def _begun(checks: Iterable[Asked]) -> list[Moment]:
    found = {
        (f.since, f.about): Moment(
            time=f.since, text=f"Began, by the evidence: {f.about}", status=f.status
        )
        for one in checks
        for f in one.findings
        if f.since
    }
    return list(found.values())


def _said(report: Report) -> Iterator[Moment]:
    told = {f.summary for one in report.checks for f in one.findings}
    for probe in report.probes:
        if probe.error and probe.sampled_at and probe.error.message not in told:
            text = f"Could not ask {probe.probe}: {probe.error.message}"
            yield Moment(time=probe.sampled_at, text=text, status=Status.UNKNOWN)
    for one in report.checks:
        urgent = by_urgency(one.findings)
        if not urgent:
            continue
        same = sum(f.status is urgent[0].status for f in urgent) - 1
        more = f" (and {same} more {urgent[0].status.upper()})" if same else ""
        text = f"{one.check}: {urgent[0].summary}{more}"
        yield Moment(time=one.time, text=text, status=urgent[0].status)
