"""The one seam between this product and the outside.

A probe is a function that does the I/O and returns plain data. `Live` asks the systems, `Replay`
serves what an earlier run recorded; both give an Answer and never raise. Here, and nowhere else,
sit the time limit, the turning of an error into a reason, and redaction.
"""

from __future__ import annotations

import inspect
import json
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from runbook_lib.config import Config
from runbook_lib.model import Answer, Failure
from runbook_lib.sources.redaction import Redactor


class SourceError(Exception):
    """A system did not give what was asked.

    kind is one of those in `model.Failure`; the message names what was asked, of whom and what
    came back; next says what to do. Every source turns its client's exceptions into this one.
    """

    def __init__(self, kind: str, message: str, next: str = "") -> None:
        super().__init__(message)
        self.kind, self.next = kind, next


@dataclass(frozen=True)
class Probe:
    """One question to one system.

    name: stable, as it stands in recordings ("postgres.sessions"). ask(sources, **params) does
    the I/O. command(config, **params) is what an engineer would type to see the same thing.
    seconds: its time limit, or None for the configured one.
    """

    name: str
    ask: Callable[..., Any]
    command: Callable[..., str]
    seconds: float | None = None

    def params(self) -> dict[str, inspect.Parameter]:
        """The parameters it takes beside the sources."""
        return dict(list(inspect.signature(self.ask).parameters.items())[1:])


def probe(
    command: Callable[..., str], seconds: float | None = None
) -> Callable[[Callable[..., Any]], Probe]:
    """Make a probe of a function in `sources/`; its name is the module's and the function's."""

    def make(ask: Callable[..., Any]) -> Probe:
        name = f"{ask.__module__.rsplit('.', 1)[-1]}.{ask.__name__}"
        made = Probe(name, ask, command, seconds)
        object.__setattr__(made, "__doc__", ask.__doc__)
        return made

    return make


class Answers(Protocol):
    """Whatever gives the answer of a probe: the live systems, or a recording of them."""

    def answer(self, probe: Probe, params: dict[str, Any]) -> Answer:
        """Ask once. Never raises; what went wrong is in the answer's error."""
        ...


class Live:
    """Asks the real systems, each probe within its time limit."""

    def __init__(self, sources: Any, config: Config, redactor: Redactor) -> None:
        self._sources, self._config, self._redactor = sources, config, redactor

    def answer(self, probe: Probe, params: dict[str, Any]) -> Answer:
        """See `Answers`. The data is redacted and holds JSON types only."""
        limit = probe.seconds or self._config.limits.probe_seconds
        began, sampled_at = time.monotonic(), datetime.now(UTC)
        data, error = _within(limit, probe, lambda: _plain(probe.ask(self._sources, **params)))
        return Answer(
            probe=probe.name,
            params=self._redactor.clean(params),
            data=self._redactor.clean(data),
            error=error and Failure(**self._redactor.clean(error.model_dump())),
            sampled_at=sampled_at,
            seconds=round(time.monotonic() - began, 3),
            command=self._redactor.text(_command(probe, self._config, params)),
        )


class Replay:
    """Serves recorded answers, in the order they were given; the last one again and again.

    A probe that the recording lacks is UNKNOWN, as a system that could not be reached.
    """

    def __init__(self, answers: list[Answer]) -> None:
        self._recorded: dict[str, list[Answer]] = {}
        self._lock = threading.Lock()
        for answer in answers:
            self._recorded.setdefault(_key(answer.probe, answer.params), []).append(answer)

    def answer(self, probe: Probe, params: dict[str, Any]) -> Answer:
        """See `Answers`."""
        with self._lock:
            found = self._recorded.get(_key(probe.name, params), [])
            if found:
                return found.pop(0) if len(found) > 1 else found[0]
        return Answer(
            probe=probe.name,
            params=params,
            sampled_at=datetime.now(UTC),
            error=Failure(
                kind="not-recorded",
                message=f"The recording has no {probe.name} for {params or 'its defaults'}.",
                next="Run against the live systems, or record again.",
            ),
        )


def read_recording(path: Path) -> list[Answer]:
    """The answers kept in a run's folder (`evidence/*.json`) or in a case file (YAML).

    A case may leave out `sampled_at` of an answer: then it is the case's `sampled_at`.
    Raises OSError if it cannot be read, ValueError if what is there is no recording.
    """
    if path.is_dir():
        # A dot begins the name of what a killed run was still writing.
        files = sorted((path / "evidence").glob("[!.]*.json"))
        if not files:
            raise ValueError("it holds no recorded answers (evidence/*.json).")
        return [_recorded(file.name, file.read_text()) for file in files]
    import yaml  # only case files need it

    try:
        case = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if hasattr(error, "problem_mark") else ""
        raise ValueError(f"it is not valid YAML{line}.") from None
    answers = case.get("answers") if isinstance(case, dict) else None
    if not isinstance(answers, list) or not all(isinstance(one, dict) for one in answers):
        raise ValueError("it has no list of `answers`.")
    common = {"sampled_at": case["sampled_at"]} if "sampled_at" in case else {}
    return [
        _recorded(f"answer {number}", common | answer)
        for number, answer in enumerate(answers, start=1)
    ]


def _recorded(what: str, given: str | dict[str, Any]) -> Answer:
    try:
        if isinstance(given, str):
            return Answer.model_validate_json(given)
        return Answer.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        raise ValueError(
            f"{what} is no recorded answer: {where}: {first['msg'].lower()}."
        ) from None


def _key(name: str, params: dict[str, Any]) -> str:
    return name + json.dumps(params, sort_keys=True, default=str)


def _plain(data: Any) -> Any:
    """The data as JSON types only, every text writable: JSON lets lone surrogates pass."""
    text = json.dumps(data, default=str, ensure_ascii=False)
    return json.loads(text.encode(errors="replace"))


def _command(probe: Probe, config: Config, params: dict[str, Any]) -> str:
    try:
        return probe.command(config, **params)
    except Exception as error:  # noqa: BLE001  a hint that breaks must not cost the answer
        return f"# no command: that of {probe.name} broke ({type(error).__name__}: {error})"


def _within(seconds: float, probe: Probe, ask: Callable[[], Any]) -> tuple[Any, Failure | None]:
    """Run `ask` in a thread that nobody waits for once its time is up."""
    box: queue.SimpleQueue[tuple[Any, Failure | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            box.put((ask(), None))
        except SourceError as error:
            box.put((None, Failure(kind=error.kind, message=str(error), next=error.next)))
        except Exception as error:  # noqa: BLE001  the seam: every error becomes UNKNOWN
            message = f"{probe.name} broke: {type(error).__name__}: {error}"
            box.put((None, Failure(kind="defect", message=message, next="Report this defect.")))

    threading.Thread(target=run, name=probe.name, daemon=True).start()
    try:
        return box.get(timeout=seconds)
    except queue.Empty:
        message = f"{probe.name} gave no answer within {seconds:g} s."
        return None, Failure(kind="timeout", message=message, next="Is the system overloaded?")
