"""The report for people: one HTML page, and Markdown to paste into a postmortem."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from runbook_lib import display
from runbook_lib.model import Status
from runbook_lib.report.notebook import pieces
from runbook_lib.report.record import Cell, Report

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def html(report: Report, folder: Path) -> str:
    """The page: verdict first, findings, timeline, what was missed, then the notebook."""
    return page(
        "report.html.j2",
        report=report,
        verdict=Markup(display.verdict_html(report.verdict)),
        findings=Markup(display.result_html(report.findings)),
        cells=pieces(folder / "notebook.ipynb", report),
        unseen=unseen(report),
        unread=unread(report),
        result=lambda *given: Markup(display.result_html(*given)),
    )


def page(template: str, **given: Any) -> str:
    """Render one of the HTML templates with the one style in it."""
    css = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    style = Markup(f"{display.style()}<style>{css}</style>")
    made = display.environment().get_template(template)
    return made.render(style=style, safe_html=Markup, **given)


def unseen(report: Report) -> list[tuple[str, str]]:
    """What could not be looked at, each with the reason, each once."""
    findings = [(f.about, f.summary) for f in report.findings if f.status is Status.UNKNOWN]
    probes = [(p.probe, p.error.message) for p in report.probes if p.error]
    said = {reason for _, reason in findings}
    return findings + [p for p in dict.fromkeys(probes) if p[1] not in said]


def unread(report: Report) -> list[str]:
    """Which cells of the notebook and lines of the journal are missing."""
    found = [_missing(cell, report) for cell in report.cells if cell.state != "done"]
    found += [f"Line {n} of the journal could not be read." for n in report.unreadable]
    return found


def _missing(cell: Cell, report: Report) -> str:
    where = f"Cell {cell.number} of {len(report.cells)}"
    heading = f", “{cell.heading}”" if cell.heading else ""
    error = f" ({cell.error[:300]})" if cell.error else ""
    return f"{where}{heading}: {report.fate(cell).lower()}{error}."


def markdown(report: Report) -> str:
    """The report as Markdown in which nothing from outside is markup."""
    given = {"unseen": unseen(report), "unread": unread(report)}
    text = _plain_templates().get_template("report.md.j2").render(report=report, **given)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def escaped(value: object) -> str:
    """One line of text that Markdown and HTML both take literally."""
    if isinstance(value, Markup):
        return value
    text = " ".join(display.plain(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~#!])", r"\\\1", text)


def fenced(text: str) -> Markup:
    """A code block whose fence is longer than any in the text."""
    text = display.plain(text)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Markup(f"{fence}\n{text}\n{fence}")


@cache
def _plain_templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,  # this is Markdown: `finalize` escapes for it
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(display.environment().filters | {"fenced": fenced})
    return made
