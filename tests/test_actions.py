"""Actions plan on evidence, say their risk, and change nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runbook_lib import journal
from runbook_lib.actions import database
from runbook_lib.config import Config
from runbook_lib.core import Planned, plan
from runbook_lib.journal import Journal
from runbook_lib.model import Answer, Failure
from runbook_lib.runs import Run
from runbook_lib.sources.seam import Replay

NOW = datetime(2026, 11, 20, 3, 14, tzinfo=UTC)


def session(pid: int, application: str, state: str, seconds: float) -> dict[str, Any]:
    return {
        "pid": pid, "application": application, "state": state, "state_seconds": seconds,
        "connected_seconds": seconds + 60, "role": "platform_api", "client": "10.0.1.31",
    }  # fmt: skip


def planned(answer: dict[str, Any], **arguments: Any) -> Any:
    asked = Answer(probe="postgres.sessions", sampled_at=NOW, **answer)
    return plan(database.end_idle_sessions, [asked], Config(), arguments)


HELD = {
    "data": {
        "sessions": [
            session(1, "platform-api", "idle", 3000),
            session(2, "platform-api", "idle", 60),
            session(3, "platform-api", "active", 3000),
            session(4, "mlflow", "idle", 3000),
        ]
    }
}


def test_only_what_was_asked_for_is_planned() -> None:
    """Long idle sessions of the one application, by pid, guarded by the state seen."""
    made = planned(HELD, application="platform-api")
    assert [step.about for step in made.steps] == ["session/1"]
    assert "pid = 1 AND state = 'idle'" in made.steps[0].command
    assert made.repairs == "rds-connection-leak"
    assert "loses its session" in made.risk


def test_nothing_is_planned_for_everybody() -> None:
    """Without an application there is nothing to do, and the plan says so."""
    made = planned(HELD)
    assert made.steps == []
    assert "There is nothing to do." in repr(Planned(made))
    assert "Risk" in Planned(made)._repr_html_()


def test_a_run_plans_on_its_own_evidence_and_journals_it(tmp_path: Path) -> None:
    """The plan is about the sessions that the findings showed; an unknown argument is refused."""
    asked = Answer(probe="postgres.sessions", sampled_at=NOW, **HELD)
    run = Run("x", tmp_path, Journal(tmp_path), Replay([asked]), Config())
    made = run.act(database.end_idle_sessions, application="platform-api").plan
    assert [step.about for step in made.steps] == ["session/1"]
    assert [e["plan"] for e in journal.read(tmp_path) if e["event"] == "plan"] == [
        made.model_dump(mode="json")
    ]
    with pytest.raises(TypeError, match="takes the argument aplication"):
        run.act(database.end_idle_sessions, aplication="platform-api")


def test_missing_evidence_plans_nothing_and_says_why() -> None:
    """A database that cannot be asked gives a blind plan, never an empty one."""
    lost = {"error": Failure(kind="unreachable", message="connection refused by db:5432")}
    made = planned(lost, application="platform-api")
    assert made.steps == []
    assert "Nothing could be planned: connection refused by db:5432" in repr(Planned(made))
