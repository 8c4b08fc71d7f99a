"""Asking a probe as this process' environment would, and expecting data or a failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from runbook_lib import config
from runbook_lib.model import Answer, Failure
from runbook_lib.practice.platform import Platform
from runbook_lib.sources.clients import Sources
from runbook_lib.sources.redaction import from_environment
from runbook_lib.sources.seam import Live, Probe


def ask(probe: Probe, **params: Any) -> Answer:
    """What this process' environment makes of the probe."""
    settings, redactor = config.load(), from_environment()
    with closing(Sources(settings, redactor)) as sources:
        return Live(sources, settings, redactor).answer(probe, params)


def data(probe: Probe, **params: Any) -> Any:
    answer = ask(probe, **params)
    assert answer.error is None, answer.error
    assert answer.command
    return answer.data


def failure(probe: Probe, **params: Any) -> Failure:
    answer = ask(probe, **params)
    assert answer.error is not None, answer.data
    assert answer.data is None
    return answer.error


@contextmanager
def faulty(platform: Platform, *aws_rules: dict[str, Any], **kubernetes: Any) -> Iterator[None]:
    """AWS failing by these rules, or the Kubernetes API by this fault; healed at the end."""
    try:
        platform.do("aws", "faults", rules=list(aws_rules))
        platform.do("kubernetes", "fault", **kubernetes)
        yield
    finally:
        platform.do("aws", "faults", rules=[])
        platform.do("kubernetes", "fault")
