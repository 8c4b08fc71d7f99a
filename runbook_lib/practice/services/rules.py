"""How an application is told to misbehave: rules that a verb sets or that a pod carries.

A pod's rules stand in its annotation `practice.runbook/serving`, a JSON list; so one revision or
one replica may behave otherwise, and a rollout mends it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from runbook_lib.practice.objects.store import Object

SERVING = "practice.runbook/serving"


@dataclass(frozen=True)
class Rule:
    """What happens to requests whose path begins so.

    `delay` seconds pass first. Then the application answers with `status` and `body`, or raises
    `exception` with `message` (500 and a traceback in the log), or, with neither, goes on.
    """

    path: str = "/"
    status: int | None = None
    body: str = ""
    delay: float = 0.0
    exception: str = ""
    message: str = ""

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError(f"a path begins with /: {self.path!r}")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"no status of an answer: {self.status}")
        if not 0 <= self.delay <= 600:
            raise ValueError(f"a delay is between 0 and 600 seconds: {self.delay}")


class Raised(Exception):
    """An exception in an application's own code: its class, its message and where it was."""

    def __init__(self, name: str, message: str, frames: tuple[tuple[str, int, str], ...]) -> None:
        super().__init__(message)
        self.name = name
        self.message = message
        self.frames = frames

    @property
    def traceback(self) -> tuple[str, ...]:
        """As Python prints it, without source lines."""
        places = [f'  File "{file}", line {line}, in {name}' for file, line, name in self.frames]
        last = f"{self.name}: {self.message}" if self.message else self.name
        return ("Traceback (most recent call last):", *places, *last.splitlines())


def rules_of(pod: Object) -> list[Rule]:
    """The rules that a pod carries. Raises ValueError for an annotation that cannot be read."""
    text = (pod["metadata"].get("annotations") or {}).get(SERVING)
    if not text:
        return []
    listed = json.loads(text)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ValueError(f"{SERVING} must be a list of rules")
    return [rule(one) for one in listed]


def rule(given: dict[str, Any]) -> Rule:
    """A rule from JSON. Raises ValueError for a field that does not exist."""
    if unknown := set(given) - {one.name for one in fields(Rule)}:
        raise ValueError(f"a rule has no {', '.join(sorted(unknown))}")
    return Rule(**given)
