"""Asking the same of many things at once, within one time limit."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from runbook_lib.sources.seam import SourceError

WORKERS = 16


def ask_each(names: Sequence[str], ask: Callable[[str], Any], seconds: float) -> dict[str, Any]:
    """{name: answer, or the SourceError that stood in its way}, in the order of the names.

    What has not answered when the time is up is a timeout, and costs the others nothing: one
    dead kubelet must not hide a hundred live ones.
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    for name in names:
        waiting.put(name)

    def work() -> None:
        while True:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((name, ask(name)))
            except SourceError as error:
                done.put((name, error))
            except Exception as error:  # noqa: BLE001  one odd answer must not cost the others
                said = f"{type(error).__name__}: {error}"
                done.put((name, SourceError("bad-answer", f"Asking {name} broke: {said}")))

    for _ in range(min(WORKERS, len(names))):
        threading.Thread(target=work, daemon=True).start()
    late = SourceError("timeout", f"There was no answer within {seconds:g} s.")
    answers: dict[str, Any] = dict.fromkeys(names, late)
    deadline = time.monotonic() + seconds
    for _ in names:
        try:
            name, answer = done.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        answers[name] = answer
    return answers
