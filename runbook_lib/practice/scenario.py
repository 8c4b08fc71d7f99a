"""Scenarios: what can be broken, what must be found then, and how it is mended.

Each is a file `scenarios/<runbook>/<name>.yaml`; its id is `<runbook>/<name>`. The file is the
only place that knows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from runbook_lib.practice.observe import Observation, faults_of, look, refuse_bad_pattern
from runbook_lib.practice.platform import Platform, PracticeError
from runbook_lib.practice.steps import EFFECT_SECONDS, Step, refuse_impossible, take, wait_for

FOLDER = Path(__file__).with_name("scenarios")
HEALTHY = FOLDER / "healthy.yaml"
# The alert that a busy machine fires of itself goes within these: its rule looks at two minutes.
HEALTHY_SECONDS = 180.0

Kind = Literal["fault", "red herring", "compound"]
Outcome = Literal["healthy", "recovered", "cause found", "inconclusive"]
Say = Callable[[str], None]


class NoSuchScenario(PracticeError):
    """No scenario has that name, or several have."""


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Finds(Strict):
    """What the runbook's verdict must be: its outcome, and for a fault the cause.

    `cause` is the id of the check that must fail and be explained by nothing else; `about` a
    regular expression for what it is about; `symptoms` checks that fail because of it.
    """

    outcome: Outcome
    cause: str = ""
    about: str = ""
    symptoms: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _cause_with_outcome(self) -> Finds:
        if (self.outcome == "cause found") != bool(self.cause):
            raise ValueError("`cause` goes with the outcome `cause found`, and only with it")
        refuse_bad_pattern(self.about)
        return self


class Repair(Strict):
    """The fix: `by` is what an engineer types or does, `steps` the same for the platform."""

    by: str
    steps: tuple[Step, ...] = Field(min_length=1)


class Scenario(Strict):
    """One rehearsal. `runbook` and `name` come from the file's place."""

    runbook: str
    name: str
    title: str
    kind: Kind
    break_: tuple[Step, ...] = Field(alias="break", min_length=1)
    symptom: tuple[Observation, ...] = Field(min_length=1)
    finds: Finds
    never_blames: tuple[str, ...] = ()
    repair: Repair | None = None
    healed: tuple[Observation, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.runbook}/{self.name}"

    def __str__(self) -> str:
        return self.id

    @model_validator(mode="after")
    def _whole(self) -> Scenario:
        if self.kind == "red herring":
            if self.finds.outcome not in ("healthy", "recovered"):
                raise ValueError("a red herring's right answer is healthy or recovered")
            return self
        if self.repair is None or not self.healed:
            raise ValueError("a fault says which fix repairs it, and when it is healed")
        if not self.never_blames:
            raise ValueError("a fault says what must not be blamed")
        return self


def load(path: Path) -> Scenario:
    """Read one file. Raises PracticeError that names the file and the fault in it."""
    try:
        given = yaml.safe_load(path.read_text())
        if not isinstance(given, dict):
            raise ValueError("the file is no mapping")
        return Scenario.model_validate({"runbook": path.parent.name, "name": path.stem, **given})
    except ValidationError as error:
        raise PracticeError(f"{path.parent.name}/{path.name}: {faults_of(error)}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise PracticeError(f"{path.parent.name}/{path.name}: {error}") from None


@cache
def scenarios() -> tuple[Scenario, ...]:
    """All scenarios, by runbook and name."""
    return tuple(load(path) for path in sorted(FOLDER.glob("*/*.yaml")))


def find(name: str) -> Scenario:
    """The scenario of that id, or of that name where only one has it. Raises NoSuchScenario."""
    found = [one for one in scenarios() if name in (one.id, one.name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise NoSuchScenario(f"{name} is one of {', '.join(one.id for one in found)}: say which.")
    raise NoSuchScenario(f"There is no scenario {name!r}; `runbook practice list` shows them.")


@cache
def signs_of_health() -> tuple[Observation, ...]:
    """What every client sees when all is well."""
    return tuple(Observation.model_validate(one) for one in yaml.safe_load(HEALTHY.read_text()))


def ailments(platform: Platform) -> dict[str, str]:
    """The signs of health that are not seen now, and what is there instead."""
    sights = [(str(one), look(platform, one)) for one in signs_of_health()]
    return {name: sight.said for name, sight in sights if not sight.seen}


def wait_until_healthy(platform: Platform) -> None:
    """Raises PracticeError naming the first sign of health that does not come."""
    for sign in signs_of_health():
        wait_for(platform, sign, HEALTHY_SECONDS)


def heal(platform: Platform) -> None:
    """Put everything back and wait until all is well. Raises PracticeError."""
    platform.heal()
    wait_until_healthy(platform)


def break_platform(
    platform: Platform,
    scenario: Scenario,
    say: Say = lambda _: None,
    seconds: float = EFFECT_SECONDS,
) -> None:
    """Take the scenario's steps and wait until its symptom shows, so long for each of its signs.

    Raises PracticeError.
    """
    refuse_impossible(platform, scenario.break_)
    if scenario.id in platform.control("status")["broken"]:
        raise PracticeError(f"{scenario.id} is broken already; heal first.")
    platform.control("note", scenario=scenario.id)
    _take_all(platform, scenario.break_, say)
    _see_all(platform, scenario.symptom, say, seconds)


def repair(
    platform: Platform,
    scenario: Scenario,
    say: Say = lambda _: None,
    seconds: float = EFFECT_SECONDS,
) -> None:
    """Mend it as its runbook says and wait until it counts as healed, as `break_platform` does.

    Raises PracticeError.
    """
    if scenario.repair is None:
        raise PracticeError(f"{scenario.id} is a {scenario.kind}: there is nothing to repair.")
    _take_all(platform, scenario.repair.steps, say)
    _see_all(platform, scenario.healed, say, seconds)


def _take_all(platform: Platform, steps: tuple[Step, ...], say: Say) -> None:
    for step in steps:
        say(str(step))
        take(platform, step)


def _see_all(platform: Platform, signs: tuple[Observation, ...], say: Say, seconds: float) -> None:
    for sign in signs:
        wait_for(platform, sign, seconds)
        say(f"seen: {sign}")


def describe(scenario: Scenario) -> dict[str, Any]:
    """What a list shows of it."""
    return {"id": scenario.id, "kind": scenario.kind, "title": scenario.title}
