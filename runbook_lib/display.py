"""How findings look: pure functions from the model's nouns to HTML fragments and plain text.

A notebook's outputs and the report use the same fragments and the same style. Whatever comes from
outside (a log line, an object's name) is inert text: every template escapes what it is given.
A status is always a word, a colour and a shape. Times are UTC.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.model import Chart, Finding, Outcome, Plan, Status, Table, Verdict

if TYPE_CHECKING:
    from jinja2 import Environment, Template

    from runbook_lib.config import Config

HERE = Path(__file__).parent
_PICTURES = ("image/svg+xml", "image/png")
_URGENCY = (Status.FAIL, Status.UNKNOWN, Status.WARN, Status.OK)
_KIND = {
    Outcome.HEALTHY: "ok",
    Outcome.RECOVERED: "ok",
    Outcome.CAUSE_FOUND: "fail",
    Outcome.INCONCLUSIVE: "unknown",
    Outcome.RUNBOOK_FAILED: "broken",
}
# Colour codes, cursor movements, window titles, and other control characters but tab and newline.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]?")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def result_html(
    findings: Sequence[Finding], tables: Sequence[Table] = (), charts: Sequence[Chart] = ()
) -> str:
    """The findings, most urgent first, then the tables and the charts."""
    findings = by_urgency(findings)
    symptoms = [f for f in findings if is_symptom(f, findings)]
    return _part("result", findings=findings, symptoms=symptoms, tables=tables, charts=charts)


def verdict_html(verdict: Verdict) -> str:
    """The verdict in large, what is hit, since when, and the next action."""
    return _part("verdict", verdict=verdict, first=first_finding(verdict), hit=what_is_hit(verdict))


def plan_html(plan: Plan) -> str:
    """What an action would do: its risk first, then each step with its command."""
    return _part("plan", plan=plan)


def plan_text(plan: Plan) -> str:
    """A plan for a terminal."""
    lines = [f"{plan.action} (plan only; risk: {plan.risk})"]
    lines += [f"  {plain(step.summary)}: {plain(step.command)}" for step in plan.steps]
    return "\n".join(lines if plan.steps else [*lines, f"  {plan_empty(plan)}"])


def plan_empty(plan: Plan) -> str:
    """Why a plan has no steps."""
    return f"Nothing could be planned: {plan.blind}" if plan.blind else "There is nothing to do."


def banner_html(runbook: str, config: Config, run: str) -> str:
    """One line on top of a run: which runbook looks at which cluster, and the run's name."""
    where = f"{config.cluster.name} ({config.cluster.region})"
    return _part("banner", runbook=runbook, where=where, run=run)


def style() -> str:
    """The one style sheet as a <style> element; all of it is scoped under the class `rb`."""
    return f"<style>{(HERE / 'display.css').read_text(encoding='utf-8')}</style>"


def result_text(findings: Iterable[Finding]) -> str:
    """The findings as plain lines for a terminal, most urgent first."""
    return "\n".join(_finding_text(f) for f in by_urgency(findings)) or "No findings."


def _finding_text(finding: Finding) -> str:
    lines = [f"{finding.status.upper():8}{plain(finding.about)}: {plain(finding.summary)}"]
    if when := times(finding):
        lines.append(when)
    if finding.hint:
        lines.append(f"next: {plain(finding.hint)}")
    if finding.command:
        lines.append(f"$ {plain(finding.command)}")
    compact = finding.status is Status.OK and not finding.recovered
    return lines[0] if compact else "\n        ".join(lines)


def by_urgency(findings: Iterable[Finding]) -> list[Finding]:
    """FAIL (causes before symptoms), UNKNOWN, WARN, OK; otherwise in the order given."""
    findings = list(findings)
    return sorted(findings, key=lambda f: (_URGENCY.index(f.status), is_symptom(f, findings)))


def is_symptom(finding: Finding, among: Iterable[Finding]) -> bool:
    """Whether a failure only hurts, by its nature or because another failure explains it."""
    explained = any(finding.id in f.explains for f in among if f.status is Status.FAIL)
    return finding.status is Status.FAIL and (finding.symptom or explained)


def first_finding(verdict: Verdict) -> Finding | None:
    """The finding to act on first, or None when there is nothing to do."""
    order = (verdict.causes, verdict.symptoms, verdict.unknown, verdict.recovered)
    return next((found[0] for found in order if found), None)


def what_is_hit(verdict: Verdict) -> str:
    """The things that the deciding findings are about, causes before symptoms."""
    found = verdict.causes + verdict.symptoms or verdict.unknown or verdict.recovered
    things = list(dict.fromkeys(f.about for f in found))
    return ", ".join(things[:3]) + (f" and {len(things) - 3} more" if things[3:] else "")


def kind(outcome: Outcome) -> str:
    """The style's word for an outcome: ok, fail, unknown or broken."""
    return _KIND[outcome]


def plain(text: object) -> str:
    """Text without terminal escapes and control characters."""
    return _CONTROLS.sub("", _ESCAPES.sub("", str(text)))


def clock(time: datetime, beside: datetime | None = None, seconds: bool = False) -> str:
    """`2025-11-22 14:02 UTC`; without the date where it is that of `beside`."""
    time = utc(time)
    day = "" if beside and utc(beside).date() == time.date() else "%Y-%m-%d "
    return time.strftime(f"{day}%H:%M{':%S' if seconds else ''} UTC")


def utc(time: datetime) -> datetime:
    """The same moment in UTC; a time without a zone is taken to be UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def span(seconds: float) -> str:
    """`0.4 s`, `42 s`, `14 min`, `3 h 5 min`, `2 days 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days {hours % 24} h"


def since(finding: Finding) -> str:
    """`13:48 UTC, 14 min before we looked`, or nothing where the evidence does not tell."""
    if not finding.since:
        return ""
    begun = clock(finding.since, beside=finding.sampled_at)
    if not finding.sampled_at:
        return begun
    age = (utc(finding.sampled_at) - utc(finding.since)).total_seconds()
    return f"{begun}, {span(age)} before we looked" if age > 0 else begun


def times(finding: Finding) -> str:
    """When it began and when we looked, in one line."""
    sampled = f"sampled {clock(finding.sampled_at, seconds=True)}" if finding.sampled_at else ""
    began = f"since {since(finding)}" if finding.since else ""
    return "; ".join(part for part in (began, sampled) if part)


def cell(value: object) -> str:
    """A table's cell or a piece of evidence as text."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if 0 < abs(value) < 1 else f"{value:.2f}".rstrip("0").rstrip(".")
    if isinstance(value, dict | list | tuple):
        short = json.dumps(value, ensure_ascii=False, default=str)
        long = json.dumps(value, ensure_ascii=False, default=str, indent=1)
        return plain(short if len(short) < 60 else long)
    return plain(value)


def is_number(value: object) -> bool:
    """Whether a table's cell stands better on the right."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_picture(chart: Chart) -> bool:
    """Whether a chart is of a kind that an <img> shows without running anything."""
    return chart.media in _PICTURES and re.fullmatch(r"[A-Za-z0-9+/=\s]+", chart.data) is not None


@cache
def environment() -> Environment:
    """Templates with everything escaped, for this file's fragments and the report's pages."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader([HERE, HERE / "report" / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    helpers = (plan_empty, plain, clock, span, since, times, cell, is_number, is_picture, kind)
    made.filters.update({helper.__name__: helper for helper in helpers})
    return made


def _part(name: str, **given: Any) -> str:
    """Render one macro of the display template."""
    template: Template = environment().get_template("display.html.j2")
    return str(getattr(template.module, name)(**given))
