"""Alerting rules: the file, and what becomes of each alert: pending, firing, resolved.

Source: rules/alerting.go of Prometheus 2.42.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runbook_lib.practice.metrics.promql.engine import instant
from runbook_lib.practice.metrics.promql.values import QueryError, Storage, plain
from runbook_lib.practice.metrics.samples import NAME, Key, Labels, key_of

FILE = Path(__file__).with_name("rules.yaml")
_TEMPLATE = re.compile(r"\{\{\s*(?:\$labels\.(\w+)|\$value)\s*(?:\|\s*(\w+)\s*)?\}\}")
_SPAN = re.compile(r"(\d+)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# Of the functions that templates know.
_PIPES: dict[str, Callable[[float], str]] = {
    "": plain,
    "humanizePercentage": lambda value: f"{value * 100:.4g}%",
    "humanize": lambda value: f"{value:.4g}",
}


@dataclass
class Alert:
    """An alert that is pending or firing. Times are Unix seconds."""

    labels: Labels
    annotations: Labels
    active_at: float
    value: float
    firing: bool = False


@dataclass
class Rule:
    """One alerting rule, with its alerts and how its last evaluation went."""

    name: str
    query: str
    hold: float  # seconds for which the query must hold before the alert fires
    labels: Labels
    annotations: Labels
    alerts: dict[Key, Alert] = field(default_factory=dict)
    error: str = ""
    evaluated_at: float = 0.0
    seconds: float = 0.0

    @property
    def state(self) -> str:
        if any(alert.firing for alert in self.alerts.values()):
            return "firing"
        return "pending" if self.alerts else "inactive"

    def evaluate(self, storage: Storage, now: float) -> list[Alert]:
        """Ask the query; returns the alerts that were firing and are no more."""
        try:
            answer = instant(storage, self.query, round(now * 1000))
        except QueryError as error:
            self.error = str(error)
            return []
        self.error = ""
        before, alerts = dict(self.alerts), dict[Key, Alert]()
        for labels, value in answer.result:
            alert = self._alert(labels, value, now)
            key = key_of(alert.labels)
            if known := before.pop(key, None):
                alert.active_at, alert.firing = known.active_at, known.firing
            alert.firing = alert.firing or now - alert.active_at >= self.hold
            alerts[key] = alert
        self.alerts = alerts  # at once, for others read it meanwhile
        return [alert for alert in before.values() if alert.firing]

    def _alert(self, found: Labels, value: float, now: float) -> Alert:
        rest = {name: text for name, text in found.items() if name != NAME}
        labels = {**rest, **expanded(self.labels, rest, value), "alertname": self.name}
        return Alert(labels, expanded(self.annotations, rest, value), now, value)


@dataclass
class Group:
    """Rules that are evaluated one after another."""

    name: str
    rules: list[Rule]


def expanded(texts: Labels, labels: Labels, value: float) -> Labels:
    """Labels or annotations with their templates filled in."""

    def fill(found: re.Match[str]) -> str:
        name, pipe = found[1], found[2] or ""
        return labels.get(name, "") if name else _PIPES[pipe](value)

    return {name: _TEMPLATE.sub(fill, text) for name, text in texts.items()}


def seconds(text: str) -> float:
    """Of a Prometheus duration, such as 1h30m. Raises ValueError for anything else."""
    parts = _SPAN.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"not a valid duration string: {text!r}")
    return float(sum(int(number) * _SECONDS[unit] for number, unit in parts))


def loaded(path: Path = FILE) -> list[Group]:
    """The groups of a rule file. Raises ValueError for what the evaluator does not know."""
    import yaml

    document = yaml.safe_load(path.read_text())
    return [
        Group(group["name"], [_rule(rule) for rule in group["rules"]])
        for group in document["groups"]
    ]


def _rule(given: dict[str, Any]) -> Rule:
    unknown = set(given) - {"alert", "expr", "for", "labels", "annotations"}
    if unknown:
        raise ValueError(f"rule {given.get('alert')}: {', '.join(sorted(unknown))} is not known")
    texts = {**given.get("labels", {}), **given.get("annotations", {})}
    for text in texts.values():
        found = list(_TEMPLATE.finditer(text))
        if text.count("{{") != len(found) or any((one[2] or "") not in _PIPES for one in found):
            raise ValueError(f"rule {given['alert']}: the template {text!r} is not known")
    return Rule(
        given["alert"],
        given["expr"],
        seconds(given.get("for", "0s")),
        given.get("labels", {}),
        given.get("annotations", {}),
    )


def all_rules(groups: Iterable[Group]) -> list[Rule]:
    return [rule for group in groups for rule in group.rules]
