"""The seam: whatever happens below it becomes an answer, in time and redacted."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.config import Config
from runbook_lib.core import Check, Result
from runbook_lib.journal import Journal
from runbook_lib.model import Answer, fail, ok
from runbook_lib.runs import Run
from runbook_lib.sources.redaction import MASK, Redactor
from runbook_lib.sources.seam import (
    Answers,
    Live,
    Probe,
    Replay,
    SourceError,
    probe,
    read_recording,
)

SECRET = "hunter22-and-more"


def live(sources: Any = None) -> Live:
    return Live(sources, Config(), Redactor([SECRET]))


def made(
    ask: Any, command: Any = lambda config, **_: "look", seconds: float | None = None
) -> Probe:
    return Probe("house.read", ask, command, seconds)


def test_a_probe_that_never_answers_is_a_timeout_and_is_not_waited_for() -> None:
    never = threading.Event()
    try:
        answer = live().answer(made(lambda _: never.wait(), seconds=0.05), {})
    finally:
        never.set()
    assert answer.error is not None
    assert (answer.error.kind, answer.data) == ("timeout", None)
    assert answer.error.message == "house.read gave no answer within 0.05 s."
    assert answer.command == "look"


def test_the_configured_limit_holds_where_a_probe_has_none() -> None:
    never = threading.Event()
    config = Config(limits={"probe_seconds": 0.07})
    try:
        answer = Live(None, config, Redactor()).answer(made(lambda _: never.wait()), {})
    finally:
        never.set()
    assert answer.error and "0.07 s" in answer.error.message


@pytest.mark.parametrize(
    ("error", "kind", "message", "next"),
    [
        (SourceError("forbidden", "No.", "Ask."), "forbidden", "No.", "Ask."),
        (SourceError("throttled", "Slow."), "throttled", "Slow.", ""),
        (KeyError("x"), "defect", "house.read broke: KeyError: 'x'", "Report this defect."),
        (OSError("gone"), "defect", "house.read broke: OSError: gone", "Report this defect."),
    ],
)
def test_an_error_is_an_answer_with_its_kind(
    error: Exception, kind: str, message: str, next: str
) -> None:
    def ask(_: Any) -> None:
        raise error

    failure = live().answer(made(ask), {}).error
    assert failure is not None
    assert (failure.kind, failure.message, failure.next) == (kind, message, next)


def test_data_that_is_not_json_is_a_defect() -> None:
    round: list[Any] = []
    round.append(round)
    for data in ({("a", "b"): 1}, round):
        failure = live().answer(made(lambda _, data=data: data), {}).error
        assert failure is not None
        assert failure.kind == "defect"


def test_data_becomes_plain_and_writable() -> None:
    at = datetime(2026, 11, 20, tzinfo=UTC)
    answer = live().answer(made(lambda _: {"at": at, "pair": (1, 2), 3: "\ud800x"}), {})
    assert answer.data == {"at": str(at), "pair": [1, 2], "3": "?x"}
    assert Answer.model_validate_json(answer.model_dump_json()) == answer


def test_a_command_that_breaks_does_not_cost_the_answer() -> None:
    def broken(config: Config, **_: Any) -> str:
        raise LookupError("no such field")

    answer = live().answer(made(lambda _: 21, command=broken), {})
    assert (answer.data, answer.error) == (21, None)
    assert "LookupError" in answer.command


def test_no_part_of_an_answer_shows_a_secret() -> None:
    def ask(_: Any, room: str = "") -> Any:
        return {"deep": [{SECRET: f"key={SECRET}"}]}

    def refuse(_: Any, room: str = "") -> Any:
        raise SourceError("refused", f"{SECRET} is wrong", f"try {SECRET}")

    def break_(_: Any, room: str = "") -> Any:
        raise ValueError(SECRET)

    for way in (ask, refuse, break_):
        told = made(way, command=lambda config, room="": f"curl -u {room}")
        answer = live().answer(told, {"room": SECRET})
        assert SECRET not in answer.model_dump_json()
        assert answer.command == f"curl -u {MASK}"


def test_a_probe_is_named_after_its_module_and_says_what_it_takes() -> None:
    @probe(lambda config, **_: "look", seconds=3)
    def rooms(sources: Any, floor: int = 1) -> Any:
        """Every room."""

    assert (rooms.name, rooms.seconds, rooms.__doc__) == ("test_seam.rooms", 3, "Every room.")
    assert list(rooms.params()) == ["floor"]


# --- record and replay ---

READ = made(lambda house, room="hall": house[room])
WARM = Check(
    "warm", lambda at: ok("x", "Warm.") if at > 20 else fail("x", f"{at} degrees."), (READ,)
)


def run(folder: Path, answers: Answers) -> Run:
    folder.mkdir(exist_ok=True)
    return Run("house", folder, Journal(folder), answers, Config())


def questions(asking: Run, house: dict[str, Any]) -> list[Result]:
    """Three questions; the hall cools down between its two."""
    first = asking.check(WARM)
    house["hall"] = 9
    return [first, asking.check(WARM), asking.check(WARM, room="nowhere")]


def test_a_run_replayed_finds_the_same(tmp_path: Path) -> None:
    house = {"hall": 21}
    lived = questions(run(tmp_path / "live", live(house)), house)
    replayed = questions(run(tmp_path / "again", Replay(read_recording(tmp_path / "live"))), {})
    assert [r.findings for r in replayed] == [r.findings for r in lived]
    assert [f.status for r in lived for f in r.findings] == ["ok", "fail", "unknown"]


@pytest.mark.parametrize(("ask", "params"), [("house.heat", {}), ("house.read", {"room": "x"})])
def test_what_was_not_recorded_is_unknown(ask: str, params: dict[str, Any]) -> None:
    recorded = [Answer(probe="house.read", data=21, sampled_at=datetime.now(UTC))]
    answer = Replay(recorded).answer(Probe(ask, lambda _: 1, lambda config: ""), params)
    assert answer.error is not None
    assert (answer.error.kind, answer.data) == ("not-recorded", None)
    assert ask in answer.error.message


def test_a_case_file_may_say_once_when_all_was_sampled(tmp_path: Path) -> None:
    case = tmp_path / "case.yaml"
    case.write_text(
        "sampled_at: 2026-11-20T03:14:00Z\n"
        "answers:\n"
        "  - {probe: a, data: 1}\n"
        "  - {probe: b, data: 2, sampled_at: 2026-11-20T03:15:00Z}\n"
    )
    assert [a.sampled_at.minute for a in read_recording(case)] == [14, 15]


def test_what_a_killed_run_was_writing_is_not_read(tmp_path: Path) -> None:
    run(tmp_path, live({"hall": 21})).check(WARM)
    (tmp_path / "evidence" / ".9-house.read.json").write_text('{"probe": "hou')
    assert len(read_recording(tmp_path)) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("says: nothing", "no list of `answers`"),
        ("answers:", "no list of `answers`"),
        ("answers: [3]", "no list of `answers`"),
        ("[1, 2]", "no list of `answers`"),
        ("", "no list of `answers`"),
        ("answers: [{probe: a", "not valid YAML"),
        ("answers: [{probe: a, data: 1}]", "sampled_at"),
        ("sampled_at: soon\nanswers: [{probe: a}]", "sampled_at"),
        ("sampled_at: 2026-11-20T03:14:00Z\nanswers: [{prob: a}]", "prob"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, text: str, says: str) -> None:
    case = tmp_path / "case.yaml"
    case.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_recording(case)


def test_a_torn_piece_of_evidence_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "1-a.json").write_text('{"probe": "a", "da')
    with pytest.raises(ValueError, match=r"1-a\.json is no recorded answer: .*json"):
        read_recording(tmp_path)


def test_a_recording_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        read_recording(tmp_path / "absent")
    with pytest.raises(ValueError, match="holds no recorded answers"):
        read_recording(tmp_path)
