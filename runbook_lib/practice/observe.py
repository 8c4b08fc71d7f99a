"""What an ordinary client sees of a platform, and whether it is what a scenario says.

An observation names a client (`kubernetes`, `exec`, `logs`, `sql`, `redis`, `http`, `aws`,
`promql`, `alerts`, `tls`, `dns`), what it asks, `find` (JMESPath into the answer; the whole answer
without it) and what is expected:
`is`, `is_not`, `above`, `below`, `contains`, `matches` (a regular expression), or `error` (the
client must fail, in words that match). Without any of them it is enough that the client succeeds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from runbook_lib.practice.lookers import LOOKERS, CouldNotLook

if TYPE_CHECKING:
    from runbook_lib.practice.platform import Platform

SHOWN_CHARACTERS = 300


class Sight(NamedTuple):
    """Whether it was seen, and in one line what was there."""

    seen: bool
    said: str


class Observation(BaseModel):
    """One look and what it must show; read from a mapping `{client: {ask…, expect…}}`."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    client: str
    ask: dict[str, Any]
    find: str = ""
    is_: Any = Field(None, alias="is")
    is_not: Any = None
    above: float | None = None
    below: float | None = None
    contains: Any = None
    matches: str | None = None
    error: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_mapping(cls, given: Any) -> Any:
        """`{sql: {run: …, is: 1}}`, as a scenario writes it."""
        if not isinstance(given, dict) or len(given) != 1:
            raise ValueError("an observation is one client and what it asks")
        [(client, asked)] = given.items()
        if client not in LOOKERS:
            raise ValueError(f"no client {client!r}; there are {', '.join(LOOKERS)}")
        expectations = {"find", *EXPECTATIONS, "error"}
        ask = {key: value for key, value in asked.items() if key not in expectations}
        LOOKERS[client].refuse_unknown(ask)
        rest = {key: value for key, value in asked.items() if key in expectations}
        return {"client": client, "ask": ask, **rest}

    def __str__(self) -> str:
        """The client, what it asks and what of the answer it looks at: two signs have two names."""
        looks = {**self.ask, "find": self.find} if self.find else self.ask
        return " ".join((self.client, *(f"{key}={_short(value)}" for key, value in looks.items())))


EXPECTATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "is": lambda value, wanted: bool(value == wanted),
    "is_not": lambda value, wanted: bool(value != wanted),
    "above": lambda value, wanted: isinstance(value, int | float) and value > wanted,
    "below": lambda value, wanted: isinstance(value, int | float) and value < wanted,
    "contains": lambda value, wanted: wanted in value if isinstance(value, str | list) else False,
    "matches": lambda value, wanted: bool(re.search(wanted, _text(value))),
}


def look(platform: Platform, observation: Observation) -> Sight:
    """Look once. A client that fails where no error is expected has not seen it."""
    try:
        answer = LOOKERS[observation.client].look(platform, **observation.ask)
    except CouldNotLook as failure:
        said = str(failure)
        wanted = observation.error
        return Sight(wanted is not None and bool(re.search(wanted, said)), f"failed: {said}")
    value = _found(observation.find, answer)
    if observation.error is not None:
        return Sight(False, f"no error, but {_short(value)}")
    given = observation.model_dump(by_alias=True, exclude_unset=True)
    tests = {name: given[name] for name in EXPECTATIONS if name in given}
    seen = all(EXPECTATIONS[name](value, wanted) for name, wanted in tests.items())
    return Sight(seen, _short(value))


def _found(path: str, answer: Any) -> Any:
    if not path:
        return answer
    # Only scenarios need it.
    import jmespath

    return jmespath.search(path, answer)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
