"""What docs/practice.md says of steps and clients is what there is, and it leads to every page."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import yaml
from practice.documented import DOCS, documented

from runbook_lib.practice import scenario
from runbook_lib.practice.lookers import LOOKERS
from runbook_lib.practice.scenario import Scenario
from runbook_lib.practice.steps import CALLS

PAGE = "practice.md"


def signature(name: str, function: Callable[..., Any]) -> str:
    """As the page writes it: without the platform or cluster, which nobody names."""
    _, *arguments = inspect.signature(function).parameters
    return f"{name}({', '.join(argument.rstrip('_') for argument in arguments)})"


def test_steps_are_documented() -> None:
    calls = {signature(name.removeprefix("kubernetes."), call) for name, call in CALLS.items()}
    assert documented(PAGE, "Steps") == calls


def test_clients_are_documented() -> None:
    assert documented(PAGE, "Clients") == {
        signature(name, looker.function) for name, looker in LOOKERS.items()
    }


def test_the_example_is_a_scenario() -> None:
    (text,) = re.findall(r"(?s)```yaml\n(.*?)```", (DOCS / PAGE).read_text())
    shown = Scenario.model_validate({"runbook": "rds", "name": "shown", **yaml.safe_load(text)})
    kept = scenario.find("rds-connection-exhaustion/leaking-client")
    assert (shown.finds, shown.repair) == (kept.finds, kept.repair)


def test_it_leads_to_every_page() -> None:
    text = (DOCS / PAGE).read_text()
    pages = {path.name for path in DOCS.glob("practice-*.md")}
    assert set(re.findall(r"\]\((practice-[\w-]+\.md)\)", text)) == pages
