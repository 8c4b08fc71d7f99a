"""Every recorded case, judged by the real notebook: evidence in, verdict expected."""

from __future__ import annotations

import functools
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from notebook import NOTEBOOKS, ROOT, run_on, verdict

CASES = sorted((ROOT / "tests" / "cases").glob("*/*.yaml"))
LISTS = ("causes", "symptoms", "unknown", "warnings", "recovered")


@functools.cache
def judged(case: Path) -> list[dict[str, Any]]:
    """The journal of this case's run; each case is executed once for all tests."""
    parameters = yaml.safe_load(case.read_text()).get("parameters", {})
    with tempfile.TemporaryDirectory() as folder:
        return run_on(case, case.parent.name, Path(folder), parameters)


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_case(case: Path) -> None:
    """The verdict, and everything it names, is exactly what the case expects."""
    expected, found = yaml.safe_load(case.read_text())["expect"], verdict(judged(case))
    got = {name: sorted({f["id"] for f in found[name]}) for name in LISTS}
    want = {name: sorted(expected.get(name, [])) for name in LISTS}
    named = [f for name in LISTS for f in found[name]]
    lines = "\n".join(f"{f['status']} {f['id']}: {f['about']}: {f['summary']}" for f in named)
    assert (found["outcome"], got) == (expected["outcome"], want), lines
    said = " ".join(f["summary"] + f["about"] for f in named)
    for text in expected.get("says", []):
        assert text in said


@pytest.mark.parametrize("runbook", NOTEBOOKS)
def test_every_check_fails_passes_and_is_unknown(runbook: str) -> None:
    """Over a runbook's cases, each check is seen broken (fail or warn), fine and blind."""
    seen: dict[str, set[str]] = {}
    for case in CASES:
        for event in judged(case) if case.parent.name == runbook else []:
            if event["event"] == "check":
                statuses = {f["status"] for f in event["findings"]}
                seen.setdefault(event["check"], set()).update(statuses)
    assert seen, f"{runbook} has no cases"
    for name, statuses in seen.items():
        assert {"ok", "unknown"} <= statuses, f"{name} is only ever {statuses}"
        assert statuses & {"fail", "warn"}, f"{name} is never broken"


@pytest.mark.parametrize("runbook", NOTEBOOKS)
def test_nothing_recorded_is_inconclusive(runbook: str, tmp_path: Path) -> None:
    """A run that could look at nothing names every check as unknown and is never healthy."""
    empty = tmp_path / "empty.yaml"
    empty.write_text(f"sampled_at: {datetime.now(UTC).isoformat()}\nanswers: []\n")
    events = run_on(empty, runbook, tmp_path, {})
    found = verdict(events)
    assert found["outcome"] == "inconclusive"
    asked = {e["check"] for e in events if e["event"] == "check"}
    assert asked == {f["id"] for f in found["unknown"]}
