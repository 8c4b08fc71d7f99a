"""Checks and runs: who is asked, how often, with what, and what becomes of the answers."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runbook_lib import core, journal, runs
from runbook_lib.config import Config
from runbook_lib.core import Check, check, judge
from runbook_lib.journal import Journal
from runbook_lib.model import Answer, Failure, Finding, Outcome, Status, fail, ok
from runbook_lib.runs import Run
from runbook_lib.sources.redaction import Redactor
from runbook_lib.sources.seam import Live, Probe

NOW = datetime(2026, 11, 20, 3, 14, tzinfo=UTC)


class Thermometer:
    """A system to ask: remembers how it was asked, and answers with the readings it was given."""

    def __init__(self, *readings: Any) -> None:
        self.asked: list[str] = []
        self.readings = list(readings)

    def read(self, room: str) -> Any:
        self.asked.append(room)
        reading = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
        if isinstance(reading, Exception):
            raise reading
        return reading


def _ask(thermometer: Thermometer, room: str = "hall") -> Any:
    return thermometer.read(room)


READ = Probe("house.read", _ask, lambda config, room="hall": f"cat /{room}/temperature")


def _warm(reading: float, warm_at: float = 20) -> Finding:
    """It is warm.

    Below that, pipes freeze.
    """
    return ok("house", "Warm.") if reading >= warm_at else fail("house", f"{reading} degrees.")


WARM = Check("warm", _warm, (READ,), explains=("comfort",))
COMFORT = Check("comfort", lambda reading: ok("house", "Fine."), (READ,), symptom=True)
Start = Callable[[Any], Run]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def make(system: Any) -> Run:
        config = Config()
        return Run("house", tmp_path, Journal(tmp_path), Live(system, config, Redactor()), config)

    return make


def test_the_same_check_asks_again_and_another_shares_the_answer(start: Start) -> None:
    house = Thermometer(21)
    run = start(house)
    run.check(WARM)
    run.check(COMFORT)
    assert len(house.asked) == 1
    run.check(WARM)
    assert len(house.asked) == 2
    run.check(COMFORT)  # it has not judged the second answer
    assert len(house.asked) == 2
    run.check(WARM, COMFORT)
    assert len(house.asked) == 3


def test_an_answer_is_shared_for_a_while_only(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SHARED_SECONDS", -1)
    house = Thermometer(21)
    run = start(house)
    run.check(WARM)
    run.check(COMFORT)
    assert len(house.asked) == 2


def test_another_argument_is_another_question(start: Start) -> None:
    house = Thermometer(10, 25)
    run = start(house)
    run.check(WARM, room="cellar")
    run.check(WARM, room="hall")
    assert house.asked == ["cellar", "hall"]
    # The cellar's failure stands; the hall's health supersedes and recovers nothing.
    assert [(f.status, f.recovered) for f in run.findings] == [("fail", False), ("ok", False)]


def test_what_failed_and_is_ok_when_asked_again_has_recovered(start: Start) -> None:
    run = start(Thermometer(10, 25))
    assert run.check(WARM).findings[0].status is Status.FAIL
    assert run.check(WARM).findings[0].recovered
    assert run.verdict().verdict.outcome is Outcome.RECOVERED


def test_arguments_reach_probe_and_judge_by_their_names(start: Start) -> None:
    house = Thermometer(21)
    found = start(house).check(WARM, COMFORT, room="attic", warm_at=22).findings
    assert house.asked == ["attic"]
    assert [f.status for f in found] == ["fail", "ok"]
    assert found[0].command == "cat /attic/temperature"


@pytest.mark.parametrize("name", ["rooom", "reading", "now", "thermometer"])
def test_an_argument_that_nobody_takes_is_refused_before_anything_is_asked(
    start: Start, name: str
) -> None:
    house = Thermometer(21)
    with pytest.raises(TypeError, match=f"warm.*{name}"):
        start(house).check(WARM, **{name: "x"})
    assert house.asked == []


def test_limits_of_the_configuration_fill_arguments_of_their_name() -> None:
    full = Check("full", lambda used, disk_percent=50: fail("disk", f"{disk_percent:g}"), (READ,))
    config = Config(limits={"disk_percent": 71})
    answer = Answer(probe="house.read", data=80, sampled_at=NOW)
    assert judge(full, [answer], config).findings[0].summary == "71"
    assert judge(full, [answer], config, {"disk_percent": 9}).findings[0].summary == "9"


def test_a_judge_may_ask_when_its_evidence_was_sampled() -> None:
    aged = Check("aged", lambda at, now: ok("x", str(now - datetime.fromisoformat(at))), (READ,))
    answer = Answer(probe="p", data=(NOW - timedelta(minutes=3)).isoformat(), sampled_at=NOW)
    assert judge(aged, [answer], Config()).findings[0].summary == "0:03:00"


def _breaks(reading: Any) -> Any:
    return {}[reading]


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (_breaks, "broke on this evidence: KeyError: 21"),
        (lambda reading: [], "said nothing about this evidence"),
        (lambda reading: None, "broke on this evidence: TypeError"),
    ],
)
def test_a_defective_judge_is_unknown_and_costs_the_others_nothing(
    start: Start, broken: Any, says: str
) -> None:
    run = start(Thermometer(21))
    one, other = run.check(Check("broken", broken, (READ,)), WARM).findings
    assert (one.id, one.status, one.about) == ("broken", "unknown", "check/broken")
    assert says in one.summary
    assert other.status is Status.OK
    assert run.verdict().verdict.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("part", ["rows", "chart"])
def test_what_cannot_be_drawn_does_not_cost_what_was_found(start: Start, part: str) -> None:
    cold, broken = (
        start(Thermometer(10)).check(Check("c", _warm, (READ,), **{part: _breaks})).findings
    )
    assert (cold.status, broken.status) == ("fail", "warn")
    assert "KeyError: 10" in broken.summary


def test_any_probe_without_an_answer_makes_its_check_unknown_with_the_reason() -> None:
    both = Check("both", lambda a, b: ok("x", "Fine."), (READ, READ))
    refused = Failure(kind="forbidden", message="The hall is locked.", next="Fetch the key.")
    answers = [
        Answer(probe="house.read", data=21, sampled_at=NOW),
        Answer(probe="house.read", error=refused, sampled_at=NOW, command="cat"),
    ]
    (found,) = judge(both, answers, Config()).findings
    assert (found.status, found.about) == ("unknown", "house")
    assert (found.summary, found.hint, found.command) == (refused.message, refused.next, "cat")


def test_findings_carry_what_their_check_is(start: Start) -> None:
    (found,) = start(Thermometer(10)).check(WARM).findings
    assert (found.id, found.explains, found.symptom) == ("warm", ("comfort",), False)
    assert found.sampled_at is not None


def test_probes_of_one_check_are_asked_side_by_side(start: Start) -> None:
    meeting = threading.Barrier(3, timeout=5)

    def arrive(_: Any) -> str:
        meeting.wait()
        return "met"

    probes = [Probe(f"house.{n}", arrive, lambda config: "") for n in "abc"]
    checks = [
        Check("two", lambda a, b: ok("x", f"{a}, {b}"), tuple(probes[:2])),
        Check("one", lambda a: ok("x", a), (probes[2],)),
    ]
    assert [f.summary for f in start(None).check(*checks).findings] == ["met, met", "met"]


def test_the_table_is_a_data_frame_with_the_first_rows(start: Start) -> None:
    rows = [{"room": f"r{n}", "degrees": n} for n in range(core.TABLE_ROWS + 7)]
    with_rows = Check("rows", _warm, (READ,), rows=lambda reading: rows)
    result = start(Thermometer(21)).check(with_rows)
    assert (list(result.table.columns), len(result.table)) == (["room", "degrees"], core.TABLE_ROWS)
    assert (result.tables[0].left_out, result.tables[0].title) == (7, "rows")
    assert start(Thermometer(21)).check(WARM).table.empty


def test_a_check_shows_its_judge_and_states_what_is_well() -> None:
    made = check("warm", probe=READ)(_warm)
    assert inspect.unwrap(made) is _warm  # type: ignore[arg-type]
    assert (made.question, COMFORT.question) == ("It is warm.", "comfort")


def test_results_and_conclusions_show_themselves(start: Start) -> None:
    run = start(Thermometer(10))
    result, conclusion = run.check(WARM), run.verdict()
    assert "10 degrees." in result._repr_html_()
    assert "10 degrees." in repr(result)
    assert "10 degrees." in conclusion._repr_html_()
    assert repr(conclusion) == "cause found: 10 degrees."
    assert "house" in run._repr_html_()


def test_everything_is_journalled_and_the_evidence_kept(start: Start, tmp_path: Path) -> None:
    run = start(Thermometer(10))
    run.check(WARM, room="attic")
    run.verdict()
    probe, asked, verdict = journal.read(tmp_path)
    assert (probe["event"], probe["probe"], probe["params"]) == (
        "probe", "house.read", {"room": "attic"},
    )  # fmt: skip
    kept = Answer.model_validate_json((tmp_path / probe["evidence"]).read_text())
    assert (kept.data, kept.params) == (10, {"room": "attic"})
    assert (asked["event"], asked["check"], asked["arguments"], asked["question"]) == (
        "check", "warm", {"room": "attic"}, "It is warm.",
    )  # fmt: skip
    assert [Finding.model_validate(f) for f in asked["findings"]] == run.findings
    assert verdict["verdict"]["outcome"] == "cause found"


def test_evidence_that_cannot_be_kept_is_said_and_not_passed_over(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "evidence").write_text("a file where a folder belongs")
    with pytest.raises(FileExistsError):
        start(Thermometer(21)).check(WARM)


def test_a_line_cut_off_by_a_crash_costs_neither_its_neighbours(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    first.append("before", text="ä\u2028\r\n")
    with first.path.open("ab") as file:
        file.write(b'{"event": "half')
    Journal(tmp_path).append("after")
    events = journal.read(tmp_path)
    assert [e["event"] for e in events] == ["before", "unreadable", "after"]
    assert (events[0]["text"], events[1]["line"]) == ("ä\u2028\r\n", 2)


def test_lines_of_many_writers_never_mix(tmp_path: Path) -> None:
    def write(name: str) -> None:
        for _ in range(20):
            Journal(tmp_path).append(name, text=name * 5000)

    writers = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    events = journal.read(tmp_path)
    assert len(events) == 80
    assert all(e["text"] == e["event"] * 5000 for e in events)


def test_the_journal_is_redacted(tmp_path: Path) -> None:
    Journal(tmp_path, Redactor(["hunter22"]).clean).append("x", said={"deep": ["hunter22"]})
    assert "hunter22" not in (tmp_path / journal.NAME).read_text()
