"""Every recorded case, judged by the real notebook: evidence in, verdict expected."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from notebook import NOTEBOOKS, ROOT, run_on, verdict

CASES = sorted((ROOT / "tests" / "cases").glob("*/*.yaml"))
LISTS = ("causes", "symptoms", "unknown", "warnings", "recovered")


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_case(case: Path, tmp_path: Path) -> None:
    """The verdict, and everything it names, is exactly what the case expects."""
    written = yaml.safe_load(case.read_text())
    events = run_on(case, case.parent.name, tmp_path, written.get("parameters", {}))
    found, expected = verdict(events), written["expect"]
    got = {name: sorted({f["id"] for f in found[name]}) for name in LISTS}
    want = {name: sorted(expected.get(name, [])) for name in LISTS}
    assert (found["outcome"], got) == (expected["outcome"], want), _summaries(found)
    said = " ".join(f["summary"] + f["about"] for name in LISTS for f in found[name])
    for text in expected.get("says", []):
        assert text in said


def _summaries(found: dict) -> str:
    return "\n".join(
        f"{f['status']:8}{f['id']}: {f['about']}: {f['summary']}"
        for name in LISTS
        for f in found[name]
    )


@pytest.mark.parametrize("runbook", NOTEBOOKS)
def test_every_check_fails_passes_and_is_unknown(runbook: str, tmp_path: Path) -> None:
    """Over a runbook's cases, each check is seen broken, fine and blind."""
    seen: dict[str, set[str]] = {}
    for number, case in enumerate(c for c in CASES if c.parent.name == runbook):
        folder = tmp_path / str(number)
        folder.mkdir()
        written = yaml.safe_load(case.read_text())
        for event in run_on(case, runbook, folder, written.get("parameters", {})):
            if event["event"] == "check":
                seen.setdefault(event["check"], set()).update(
                    f["status"] for f in event["findings"]
                )
    assert seen, f"{runbook} has no cases"
    lacking = {
        name: wanted
        for name, statuses in seen.items()
        if (
            wanted := {"ok", "unknown", "broken"}
            - statuses
            - ({"broken"} if statuses & {"fail", "warn"} else set())
        )
    }
    assert not lacking


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
