"""What an addition is: the part of one service that moto lacks and the runbook needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runbook_lib.practice.aws.front import Handler
from runbook_lib.practice.aws.lean import ACCOUNT, REGION
from runbook_lib.practice.aws.wire import Document

# ask("ec2", "DescribeInstances", {…}): a call inside the process, past the faults.
Ask = Callable[[str, str, Document], Document]
Verb = Callable[..., Any]


class Addition:
    """Wraps moto's answers or answers itself; what it remembers is gone after `reset`."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.reset()

    def reset(self) -> None:
        """Forget what verbs and calls have brought about."""

    def handlers(self) -> Mapping[str, Handler]:
        """By "service.Operation"."""
        return {}

    def verbs(self) -> Mapping[str, Verb]:
        """What a scenario can do to it; as `System.verbs`."""
        return {}


def backend(service: str) -> Any:
    """moto's own state of a service in the account: for what no call can bring about."""
    from moto.backends import get_backend

    of_account = get_backend(service)[ACCOUNT]  # type: ignore[call-overload]
    return of_account[REGION if REGION in of_account else "aws"]


def one_of(what: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises ValueError for a value that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{what} is one of {', '.join(choices)}, not {value!r}")
