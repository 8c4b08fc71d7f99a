"""Asking many at once: a silent one costs the others nothing and is no answer."""

from __future__ import annotations

import threading

from runbook_lib.sources.seam import SourceError
from runbook_lib.sources.side_by_side import WORKERS, ask_each


def test_answers_keep_the_order_of_the_names() -> None:
    names = [f"node-{number}" for number in range(3 * WORKERS)]
    assert ask_each(names, str.upper, seconds=10) == {name: name.upper() for name in names}


def test_a_silent_one_is_a_timeout_and_the_others_answer() -> None:
    end = threading.Event()

    def ask(name: str) -> str:
        if name == "dead":
            end.wait(60)
        return "fine"

    try:
        found = ask_each(["a", "dead", "b"], ask, seconds=0.5)
    finally:
        end.set()
    assert (found["a"], found["b"]) == ("fine", "fine")
    assert isinstance(found["dead"], SourceError) and found["dead"].kind == "timeout"


def test_an_error_stands_in_the_place_of_its_answer() -> None:
    def ask(name: str) -> str:
        if name == "refused":
            raise SourceError("forbidden", "nodes/proxy is forbidden")
        return {"known": "fine"}[name]

    found = ask_each(["known", "refused", "odd"], ask, seconds=10)
    assert found["known"] == "fine"
    assert found["refused"].kind == "forbidden"
    assert found["odd"].kind == "bad-answer" and "KeyError" in str(found["odd"])


def test_nothing_asked_is_nothing_answered() -> None:
    assert ask_each([], str.upper, seconds=10) == {}
