"""How a container behaves: data on its pod, set by any client, read by the kubelet stand-in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from runbook_lib.practice.cluster.spans import span
from runbook_lib.practice.objects.quantities import quantity

PROGRAM = "practice.runbook/program"

TOOLS = ("sh", "env", "printenv", "echo", "cat", "getent", "nslookup", "nc", "curl")


@dataclass(frozen=True)
class Program:
    """The default is to start, become ready and stay so. docs/practice-cluster.md has a table.

    Spans are text such as "14m"; numbers are seconds.
    """

    # how it starts
    image_error: str = ""
    start_error: str = ""
    needs_env: tuple[str, ...] = ()
    needs_host: tuple[str, ...] = ()
    full_volume: str = ""
    unwritable: str = ""
    started_ago: str = ""
    # how it goes on
    log: tuple[str, ...] = ()
    not_ready: bool = False
    probe_message: str = "HTTP probe failed with statuscode: 503"
    usage: Mapping[str, str] = field(default_factory=dict)
    memory_fills_in: str = ""
    child_oom: bool = False
    # how it ends
    exit_code: int | None = None
    run_seconds: float = 1.0
    last_log: tuple[str, ...] = ()
    oom: bool = False
    node_oom: bool = False
    liveness_fails: bool = False
    stop_seconds: float = 0.0
    # what it serves and what can be run in it
    listens: tuple[int, ...] | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    answer_seconds: float = 0.0
    tools: tuple[str, ...] = TOOLS
    files: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


def programs(annotations: Mapping[str, str] | None) -> dict[str, Program]:
    """Container name to program; ValueError where the annotation cannot be read."""
    text = (annotations or {}).get(PROGRAM)
    if not text:
        return {}
    known = {f.name for f in fields(Program)}
    found = {}
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError(f"{PROGRAM} must map container names to behaviours")
    for container, behaviour in data.items():
        if unknown := set(behaviour) - known:
            raise ValueError(f"{PROGRAM}: {container}: unknown {', '.join(sorted(unknown))}")
        listed: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in behaviour.items()}
        try:
            found[container] = _checked(Program(**listed))
        except ValueError as problem:
            raise ValueError(f"{PROGRAM}: {container}: {problem}") from None
    return found


def _checked(program: Program) -> Program:
    """The program, whose values are of the types and forms that its fields say; else ValueError."""
    plain = Program()
    for one in fields(Program):
        value, like = getattr(program, one.name), getattr(plain, one.name)
        taken: Any = _TAKEN.get(one.name) or {float: (int, float), dict: dict}.get(
            type(like), type(like)
        )
        if not isinstance(value, taken) or (isinstance(value, bool) and not isinstance(like, bool)):
            raise ValueError(f"{one.name} cannot be {value!r}")
    for text in (program.started_ago, program.memory_fills_in):
        if text:
            span(text)
    for amount in program.usage.values():
        quantity(amount)
    for host in program.needs_host:
        if not re.fullmatch(r".+:\d+", host):
            raise ValueError(f"needs_host takes host:port, not {host!r}")
    for answer in program.answers.values():
        if not re.match(r"\d{3}( |$)", answer):
            raise ValueError(f'answers takes "200 body", not {answer!r}')
    return program


# What may be none.
_TAKEN: dict[str, Any] = {"exit_code": (int, type(None)), "listens": (tuple, type(None))}
