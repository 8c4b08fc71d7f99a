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

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

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
        if not isinstance(asked, dict):
            raise ValueError(f"{client}: what it asks is a mapping")
        expectations = {"find", *EXPECTATIONS, "error"}
        ask = {key: value for key, value in asked.items() if key not in expectations}
        LOOKERS[client].refuse_unknown(ask)
        rest = {key: value for key, value in asked.items() if key in expectations}
        if "error" in rest and len(rest) > 1:
            raise ValueError("`error` stands alone: there is no answer to find anything in")
        return {"client": client, "ask": ask, **rest}

    @field_validator("find")
    @classmethod
    def _is_jmespath(cls, path: str) -> str:
        _refuse_bad_path(path)
        return path

    @field_validator("matches", "error")
    @classmethod
    def _is_regular(cls, pattern: str | None) -> str | None:
        refuse_bad_pattern(pattern or "")
        return pattern

    def __str__(self) -> str:
        """The client, what it asks and what of the answer it looks at: two signs have two names."""
        looks = {**self.ask, "find": self.find} if self.find else self.ask
        return " ".join((self.client, *(f"{key}={_short(value)}" for key, value in looks.items())))


EXPECTATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "is": lambda value, wanted: bool(value == wanted),
    "is_not": lambda value, wanted: bool(value != wanted),
    "above": lambda value, wanted: isinstance(value, int | float) and value > wanted,
    "below": lambda value, wanted: isinstance(value, int | float) and value < wanted,
    "contains": lambda value, wanted: _contains(value, wanted),
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
    if observation.error is not None:
        return Sight(False, f"no error, but {_short(answer)}")
    value, unfit = _found(observation.find, answer)
    if unfit:
        return Sight(False, f"{unfit} in {_short(answer)}")
    given = observation.model_dump(by_alias=True, exclude_unset=True)
    tests = {name: given[name] for name in EXPECTATIONS if name in given}
    seen = all(EXPECTATIONS[name](value, wanted) for name, wanted in tests.items())
    return Sight(seen, _short(value))


def faults_of(error: ValidationError) -> str:
    """What pydantic refused, in one line."""
    found = [(".".join(map(str, one["loc"])) or "the whole", one["msg"]) for one in error.errors()]
    return "; ".join(f"{where}: {said.removeprefix('Value error, ')}" for where, said in found)


def refuse_bad_pattern(pattern: str) -> None:
    """ValueError where it is no regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None


def _refuse_bad_path(path: str) -> None:
    """ValueError where it is no JMESPath, or calls a function that there is not."""
    from jmespath import compile, exceptions

    if not path:
        return
    try:
        tree = compile(path).parsed
    except exceptions.JMESPathError as error:
        said = str(error).splitlines()[0].rstrip(":")
        raise ValueError(f"{path!r} is no JMESPath: {said}") from None
    _refuse_bad_calls(tree)


def _refuse_bad_calls(tree: dict[str, Any]) -> None:
    from jmespath.functions import Functions

    if tree["type"] == "function_expression":
        name, given = tree["value"], len(tree["children"])
        if name not in Functions.FUNCTION_TABLE:
            raise ValueError(f"JMESPath has no function {name}()")
        wanted = Functions.FUNCTION_TABLE[name]["signature"]
        more = bool(wanted) and wanted[-1].get("variadic", False)
        if given < len(wanted) or (given > len(wanted) and not more):
            raise ValueError(f"JMESPath's {name}() takes {len(wanted)} arguments, not {given}")
    for child in tree["children"]:
        if isinstance(child, dict):  # of slices: numbers
            _refuse_bad_calls(child)


def _found(path: str, answer: Any) -> tuple[Any, str]:
    """What stands there, or why the path does not fit the answer: the length of a number."""
    if not path:
        return answer, ""
    # Only scenarios need it.
    from jmespath import exceptions, search

    try:
        return search(path, answer), ""
    except exceptions.JMESPathError as error:
        return None, str(error).splitlines()[0]


def _contains(value: Any, wanted: Any) -> bool:
    if isinstance(value, str):
        return isinstance(wanted, str) and wanted in value
    return isinstance(value, list) and wanted in value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
