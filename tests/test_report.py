"""What a report may say, from journals of runs that ended well, ended badly, or never ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.journal import Journal
from runbook_lib.model import Finding, Outcome, fail, ok, reach_verdict, unknown, warn
from runbook_lib.report import Report, exit_code, summarise, write
from runbook_lib.report.files import write_whole

NOW = datetime(2026, 11, 22, 2, 58, 3, tzinfo=UTC)
GOOD = ok("node/a", "Ready.", id="nodes")
BAD = fail("node/a", "The disk is full.", id="nodes", since=NOW - timedelta(hours=1))
BLIND = unknown("aws/rds", "AWS refused: AccessDenied.", id="rds")
Event = dict[str, Any]


def asked(check: str, *findings: Finding) -> Event:
    dumped = [f.model_dump(mode="json") for f in findings]
    return {"event": "check", "check": check, "question": f"{check}?", "findings": dumped}


def decided(*findings: Finding) -> Event:
    return {"event": "verdict", "verdict": reach_verdict(findings).model_dump(mode="json")}


def ended(ending: str, reason: str = "") -> Event:
    return {"event": "run-ended", "ending": ending, "reason": reason}


STARTED: Event = {
    "event": "run-started",
    "runbook": "nodes-not-ready",
    "title": "Nodes not ready",
    "severity": "P1",
    "parameters": {"node": "a b"},
    "mode": "headless",
    "pid": 7,
}
CELLS: Event = {"event": "cells", "total": 4}
FIRST: list[Event] = [
    {"event": "cell-started", "index": 2, "heading": "Start"},
    {"event": "cell-finished", "index": 2, "heading": "Start", "seconds": 0.5},
    {"event": "cell-started", "index": 5, "heading": "Are the disks full?"},
]
Runs = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path) -> Runs:
    def make(*events: Event, name: str = "20261122T025803Z-nodes-1") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        journal = Journal(folder)
        for event in events:
            journal.append(**event)
        return folder

    return make


@pytest.mark.parametrize(
    ("findings", "outcome", "code"),
    [
        ([GOOD], Outcome.HEALTHY, 0),
        ([GOOD, BAD], Outcome.CAUSE_FOUND, 10),
        ([GOOD, BLIND], Outcome.INCONCLUSIVE, 11),
        ([], Outcome.INCONCLUSIVE, 11),
    ],
)
def test_a_completed_run_says_what_it_found(
    run: Runs, findings: list[Finding], outcome: Outcome, code: int
) -> None:
    checks = [asked(f.id, f) for f in findings[-1:]]
    report = summarise(run(STARTED, *checks, decided(*findings), ended("completed")))
    assert report.verdict.outcome is outcome
    assert exit_code(report) == report.exit_code == code


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        ([ended("raised", "NameError: x")], 20, "The notebook raised an error"),
        ([ended("kernel-died", "signal 9")], 21, "The kernel died"),
        ([ended("time-limit")], 22, "The time limit ended the run"),
        ([ended("terminated")], 23, "The run was terminated"),
        ([ended("vanished")], 20, "The run ended as “vanished”"),
        ([], 23, "The record stops"),
        ([ended("completed")], 20, "The run ended without a sound verdict"),
        ([decided(GOOD)], 23, "The record stops"),
        ([decided(GOOD), ended("kernel-died")], 21, "The kernel died"),
    ],
)
@pytest.mark.parametrize("finding", [GOOD, BAD])
def test_a_run_that_did_not_complete_with_a_verdict_never_looks_well(
    run: Runs, finding: Finding, end: list[Event], code: int, words: str
) -> None:
    report = summarise(run(STARTED, CELLS, *FIRST, asked("nodes", finding), *end))
    assert report.verdict.outcome is Outcome.RUNBOOK_FAILED
    assert exit_code(report) == code
    assert report.verdict.sentence.startswith(f"{words} at cell 2 of 4, “Are the disks full?”")


def test_what_was_found_before_the_death_is_kept_and_said(run: Runs) -> None:
    folder = run(STARTED, CELLS, *FIRST, asked("nodes", BAD), ended("kernel-died", "signal 9"))
    report = summarise(folder)
    assert report.verdict.sentence == (
        "The kernel died at cell 2 of 4, “Are the disks full?”: signal 9. "
        "Found before that: The disk is full."
    )
    assert [f.about for f in report.verdict.causes] == ["node/a"]
    assert report.findings == [BAD]
    assert [(c.number, c.state) for c in report.cells] == [
        (1, "done"),
        (2, "died"),
        (3, "never"),
        (4, "never"),
    ]


def test_cells_never_reached_have_the_notebooks_headings(run: Runs) -> None:
    folder = run(STARTED, *FIRST[:2], ended("terminated"))
    cells = [
        {"cell_type": "markdown", "source": "note", "metadata": {"tags": ["x"]}},
        {"cell_type": "code", "source": ["a\n", "b"]},
        {"cell_type": "markdown", "source": ["# Title\n", "## Why?"]},
        {"cell_type": "code", "source": "c"},
        {"cell_type": "code", "source": "d"},
    ]
    (folder / "notebook.ipynb").write_text(json.dumps({"cells": cells}))
    report = summarise(folder)
    assert [c.heading for c in report.cells] == ["Start", "Why?", "Why?"]
    assert report.verdict.sentence.startswith("The run was terminated after cell 1 of 3.")


def test_a_cell_that_lost_its_kernel_died_and_raised_nothing(run: Runs) -> None:
    failed = {"event": "cell-failed", "index": 5, "error": "DeadKernelError: Kernel died"}
    for ending, state in (("kernel-died", "died"), ("raised", "raised")):
        report = summarise(run(STARTED, *FIRST, failed, ended(ending), name=ending))
        assert report.cells[-1].state == state
        assert report.cells[-1].error == "DeadKernelError: Kernel died"


def test_a_cell_that_did_not_finish_spoils_a_completed_run(run: Runs) -> None:
    events = [STARTED, CELLS, *FIRST, asked("nodes", GOOD), decided(GOOD), ended("completed")]
    report = summarise(run(*events))
    assert report.verdict.outcome is Outcome.RUNBOOK_FAILED
    assert exit_code(report) == 20


def test_a_check_asked_again_supersedes_its_earlier_findings(run: Runs) -> None:
    again = GOOD.model_copy(update={"summary": "Ready again."})
    report = summarise(
        run(STARTED, asked("nodes", BAD), asked("nodes", again), decided(GOOD), ended("completed"))
    )
    assert report.verdict.outcome is Outcome.RECOVERED
    assert report.verdict.sentence == "Ready again."
    assert [(f.summary, f.recovered) for f in report.findings] == [("Ready again.", True)]
    assert [one.superseded for one in report.checks] == [True, False]
    assert exit_code(report) == 0


def test_what_broke_again_is_not_recovered(run: Runs) -> None:
    checks = [asked("nodes", f) for f in (BAD, GOOD, BAD)]
    report = summarise(run(STARTED, *checks, decided(BAD), ended("completed")))
    assert report.verdict.outcome is Outcome.CAUSE_FOUND


def test_the_findings_decide_and_not_the_verdict_that_was_journalled(run: Runs) -> None:
    report = summarise(run(STARTED, asked("nodes", BAD), decided(GOOD), ended("completed")))
    assert report.verdict.outcome is Outcome.CAUSE_FOUND


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "check", "check": "no',
        "5",
        '"text"',
        "{}",
        '{"event": "check", "time": "2026-11-22T02:58:03+00:00", "check": "x", "findings": [{}]}',
        '{"event": "check", "time": "soon", "check": "x"}',
        '{"event": "cell-finished", "time": "2026-11-22T02:58:03+00:00"}',
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_spoils_health(run: Runs, line: str) -> None:
    folder = run(STARTED, asked("nodes", GOOD))
    with (folder / "journal.jsonl").open("a") as handle:
        handle.write(line + "\n")
    journal = Journal(folder)
    journal.append(**decided(GOOD))
    journal.append(**ended("completed"))
    report = write(folder)
    assert report.unreadable == [3]
    assert report.verdict.outcome is Outcome.INCONCLUSIVE
    assert exit_code(report) == 11
    assert "Line 3 of the journal could not be read" in (folder / "report.html").read_text()


def test_an_empty_journal_is_a_failed_run(run: Runs) -> None:
    folder = run()
    (folder / "journal.jsonl").write_text("")
    report = write(folder)
    assert report.verdict.outcome is Outcome.RUNBOOK_FAILED
    assert "Nothing had been found" in report.verdict.sentence


def test_a_folder_without_journal_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write(tmp_path)


def test_report_json_reads_back_equal_and_is_versioned(run: Runs) -> None:
    folder = run(STARTED, asked("nodes", BAD, warn("b", "Hm.")), decided(BAD), ended("completed"))
    report = write(folder)
    text = (folder / "report.json").read_text()
    assert Report.model_validate_json(text) == report
    assert json.loads(text)["schema_version"] == 1
    assert json.loads(text)["verdict"]["outcome"] == "cause found"


def test_writing_twice_gives_the_same_bytes(run: Runs) -> None:
    folder = run(STARTED, CELLS, *FIRST, asked("nodes", BAD))
    write(folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    write(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert sorted(before) == ["journal.jsonl", "report.html", "report.json", "report.md"]


def test_the_timeline_begins_where_the_evidence_does(run: Runs) -> None:
    report = summarise(run(STARTED, asked("nodes", BAD), decided(BAD), ended("completed")))
    assert [m.text for m in report.timeline] == [
        "Began, by the evidence: node/a",
        "The run started.",
        "nodes: The disk is full.",
        "The run ended: cause found.",
    ]


def test_a_run_can_be_started_again_from_its_report(run: Runs) -> None:
    assert summarise(run(STARTED)).again == "runbook run nodes-not-ready -p 'node=a b'"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    write_whole(target, "old")
    with pytest.raises(TypeError):
        write_whole(target, None)  # type: ignore[arg-type]
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    write_whole(target, "new \ud800")
    assert target.read_text() == "new ?"
