"""A run's report as plain data: what `report.json` holds."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import Any

from pydantic import Field

from runbook_lib.display import by_urgency, span
from runbook_lib.model import Chart, Failure, Finding, Plain, Plan, Status, Table, Verdict

SCHEMA_VERSION = 1


class Asked(Plain):
    """One check as it was asked. superseded: the same was asked again later, of the same thing."""

    check: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    question: str = ""
    time: datetime
    findings: list[Finding] = Field(default_factory=list)
    tables: list[Table] = Field(default_factory=list)
    charts: list[Chart] = Field(default_factory=list)
    superseded: bool = False


class Cell(Plain):
    """A code cell. number: counted from 1. state: done, raised, died or never (not reached)."""

    number: int
    heading: str = ""
    state: str = "died"
    seconds: float | None = None
    error: str = ""


class Probed(Plain):
    """One probe's attempt. seconds: how long it took. evidence: its file in the run's folder."""

    probe: str
    params: dict[str, Any] = Field(default_factory=dict)
    seconds: float = 0.0
    evidence: str = ""
    command: str = ""
    sampled_at: datetime | None = None
    error: Failure | None = None


class Moment(Plain):
    """A line of the timeline."""

    time: datetime
    text: str
    status: Status | None = None


class Report(Plain):
    """A run, told from its journal; `report.json` is this, dumped.

    ended: None where no end is recorded; last_seen: the last readable event. cells: every code
    cell, where the journal tells of cells. unreadable: journal lines that could not be read.
    """

    schema_version: int = SCHEMA_VERSION
    run: str
    runbook: str = ""
    title: str = ""
    severity: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    mode: str = ""
    host: str = ""
    versions: dict[str, Any] = Field(default_factory=dict)
    started: datetime | None = None
    ended: datetime | None = None
    last_seen: datetime | None = None
    seconds: float | None = None
    ending: str = ""
    exit_code: int = 20
    reason: str = ""
    verdict: Verdict
    checks: list[Asked] = Field(default_factory=list)
    cells: list[Cell] = Field(default_factory=list)
    probes: list[Probed] = Field(default_factory=list)
    plans: list[Plan] = Field(default_factory=list)
    timeline: list[Moment] = Field(default_factory=list)
    unreadable: list[int] = Field(default_factory=list)

    @property
    def findings(self) -> list[Finding]:
        """The latest findings of every check, most urgent first."""
        return by_urgency(f for one in self.checks if not one.superseded for f in one.findings)

    @property
    def stopped(self) -> Cell | None:
        """The cell that was started and did not end well."""
        return next((c for c in self.cells if c.state in ("died", "raised")), None)

    @property
    def never_reached(self) -> list[Cell]:
        """The code cells that were not started."""
        return [c for c in self.cells if c.state == "never"]

    def fate(self, cell: Cell) -> str:
        """What became of a cell, in words."""
        if cell.state == "never":
            return "Never reached"
        if cell.state == "done":
            took = f", {span(cell.seconds)}" if cell.seconds is not None else ""
            return f"Code, cell {cell.number}{took}"
        return {
            "kernel-died": "The kernel died in this cell",
            "time-limit": "The time limit struck in this cell",
            "terminated": "The run was terminated in this cell",
            "raised": "This cell raised an error",
        }.get(self.ending, "This cell did not finish")

    @property
    def again(self) -> str:
        """The command that runs this runbook once more with the same parameters."""
        given = [f"-p {shlex.quote(f'{k}={v}')}" for k, v in self.parameters.items()]
        return " ".join(["runbook run", shlex.quote(self.runbook), *given])
