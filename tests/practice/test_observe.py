"""Whether something is seen: each kind of expectation, held or not, and what never comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from practice.scenarios import written

from runbook_lib.practice import scenario as scenarios
from runbook_lib.practice.observe import Observation, look
from runbook_lib.practice.platform import Platform, PracticeError
from runbook_lib.practice.steps import Step, take, wait_for

SHORT_SECONDS = 0.2
ONE = {"run": "SELECT 1, 'two'"}
ABSENT: dict[str, Any] = {"sql": {"run": "SELECT 1", "find": "[0][0]", "is": 2}}


def looked(platform: Platform, client: str, **asked: Any) -> tuple[bool, str]:
    sight = look(platform, Observation.model_validate({client: asked}))
    return sight.seen, sight.said


@pytest.mark.parametrize(
    ("find", "expectation", "held", "wrong", "said"),
    [
        ("[0][0]", "is", 1, 2, "1"),
        ("[0][0]", "is_not", 2, 1, "1"),
        ("[0][0]", "above", 0, 1, "1"),
        ("[0][0]", "below", 2, 1, "1"),
        ("[0]", "contains", "two", "three", '[1, "two"]'),
        ("[0][1]", "contains", "w", "v", "two"),
        ("[0][1]", "contains", "w", 1, "two"),  # a number is in no text
        ("[0][1]", "matches", "^t.o$", "^to", "two"),
        ("[0][1]", "is_not", None, "two", "two"),
        ("[9]", "is", None, 1, "null"),
    ],
)
def test_an_expectation_holds_or_says_what_was_there(
    platform: Platform, find: str, expectation: str, held: Any, wrong: Any, said: str
) -> None:
    asked = {**ONE, "find": find}
    assert looked(platform, "sql", **asked, **{expectation: held}) == (True, said)
    assert looked(platform, "sql", **asked, **{expectation: wrong}) == (False, said)


def test_what_is_not_there_is_neither_above_nor_below(platform: Platform) -> None:
    for expectation in ("above", "below"):
        asked = {**ONE, "find": "[9]", expectation: 0}
        assert looked(platform, "sql", **asked) == (False, "null")


def test_all_expectations_must_hold(platform: Platform) -> None:
    asked = {**ONE, "find": "[0][0]", "above": 0}
    assert looked(platform, "sql", **asked, below=2)[0]
    assert not looked(platform, "sql", **asked, below=1)[0]


def test_an_error_must_come_and_in_these_words(platform: Platform) -> None:
    fails = {"run": "SELECT 1 FROM nothing"}
    seen, said = looked(platform, "sql", **fails, error="does not exist")
    assert seen and said.startswith('failed: UndefinedTable: relation "nothing"')
    assert looked(platform, "sql", **fails, error="permission denied") == (False, said)
    assert looked(platform, "sql", **fails) == (False, said)  # none was expected
    assert looked(platform, "sql", **ONE, error="anything") == (False, 'no error, but [[1, "two"]]')
    assert looked(platform, "sql", **ONE) == (True, '[[1, "two"]]')


def test_a_path_that_does_not_fit_the_answer_is_not_seen(platform: Platform) -> None:
    seen, said = looked(platform, "sql", **ONE, find="length([0][0])", above=0)
    assert not seen
    assert "length()" in said and said.endswith('in [[1, "two"]]')


def test_what_never_comes_is_waited_for_and_told(platform: Platform) -> None:
    one = Observation.model_validate(ABSENT)
    with pytest.raises(PracticeError, match=r"not within 0 s: sql run=SELECT 1.*there was: 1$"):
        wait_for(platform, one, SHORT_SECONDS)


def test_a_step_waits_until_it_is_seen(platform: Platform) -> None:
    take(platform, Step.model_validate({"wait": {"sql": {**ABSENT["sql"], "is": 1}}}))


def test_a_scenario_is_not_broken_while_its_symptom_stays_away(
    platform: Platform, tmp_path: Path
) -> None:
    there = {"sql": {"run": "SELECT 1"}}
    changes = {"break": [{"wait": there}], "symptom": [there, ABSENT]}
    broken = scenarios.load(written(tmp_path, **changes))
    try:
        with pytest.raises(PracticeError, match=r"not within 0 s.*there was: 1"):
            scenarios.break_platform(platform, broken, seconds=SHORT_SECONDS)
    finally:
        platform.heal()


def test_a_scenario_is_not_repaired_while_healed_stays_away(
    platform: Platform, tmp_path: Path
) -> None:
    there = {"sql": {"run": "SELECT 1"}}
    mended = {"by": "nothing", "steps": [{"wait": there}]}
    broken = scenarios.load(written(tmp_path, repair=mended, healed=[there, ABSENT]))
    with pytest.raises(PracticeError, match=r"not within 0 s.*there was: 1"):
        scenarios.repair(platform, broken, seconds=SHORT_SECONDS)
