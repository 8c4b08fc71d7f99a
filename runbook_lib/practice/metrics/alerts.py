"""All alerts: those of the rules, and those that a scenario says fire."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from runbook_lib.practice.metrics.rules import Alert, Group, Rule, all_rules
from runbook_lib.practice.metrics.samples import NAME, Key, Labels, Sample, key_of, milliseconds
from runbook_lib.practice.metrics.store import SeriesStore

INJECTED = "injected"
# These fire for as long as Prometheus has run, which is as long as the platform's pods.
ALWAYS = "vector(1)"
ALWAYS_AGE_SECONDS = 6 * 24 * 3600.0
ALERTS, FOR_STATE = "ALERTS", "ALERTS_FOR_STATE"


class Alerts:
    """The rules with their alerts, and the injected ones. May be used from any thread.

    An injected alert that a rule brings about too, with the same labels or more, is one alert:
    the rule's, active since the earlier of the two.
    """

    def __init__(self, store: SeriesStore, groups: list[Group]) -> None:
        self.rules = groups
        self._store = store
        self._lock = threading.Lock()
        self._injected: dict[Key, Alert] = {}
        self._put: dict[Key, list[Key]] = {}
        for rule in all_rules(groups):
            if rule.query == ALWAYS:
                rule.evaluate(store, time.time() - ALWAYS_AGE_SECONDS)

    def evaluate(self) -> list[tuple[Alert, float]]:
        """Evaluate all rules now. Returns the alerts that ended, with when they did."""
        ended: list[tuple[Alert, float]] = []
        for rule in all_rules(self.rules):
            began = time.time()
            ended += [(alert, began) for alert in rule.evaluate(self._store, began)]
            rule.evaluated_at, rule.seconds = began, time.time() - began
        self._merge()
        at = time.time()
        self._store.record(milliseconds(at), "rules", list(self._samples()), {})
        return ended

    def _merge(self) -> None:
        with self._lock:
            for injected in self._injected.values():
                for alert in self._same(injected):
                    alert.active_at = min(alert.active_at, injected.active_at)
                    alert.firing = True

    def _same(self, injected: Alert) -> Iterator[Alert]:
        """The rules' alerts that an injected one is."""
        for rule in all_rules(self.rules):
            if rule.name == injected.labels["alertname"]:
                for alert in rule.alerts.values():
                    if injected.labels.items() <= alert.labels.items():
                        yield alert

    def _samples(self) -> Iterator[Sample]:
        for rule in all_rules(self.rules):
            for alert in rule.alerts.values():
                state = "firing" if alert.firing else "pending"
                yield Sample(ALERTS, {**alert.labels, "alertstate": state}, 1)
                yield Sample(FOR_STATE, alert.labels, alert.active_at)

    # injected

    def inject(self, labels: Labels, annotations: Labels, active_at: float) -> None:
        """Let this alert fire since `active_at`; one with the same labels is renewed."""
        key = key_of(labels)
        begin = milliseconds(active_at)
        firing = {**labels, NAME: ALERTS, "alertstate": "firing"}
        with self._lock:
            self._injected[key] = Alert(dict(labels), annotations, active_at, 1.0, firing=True)
            self._put[key] = [
                self._store.put(firing, lambda moment: 1.0 if moment >= begin else None),
                self._store.put(
                    {**labels, NAME: FOR_STATE},
                    lambda moment: active_at if moment >= begin else None,
                ),
            ]
        self._merge()

    def resolve(self, name: str | None = None) -> list[Alert]:
        """End the injected alerts, or those of one name; returns them."""
        with self._lock:
            keys = [
                key
                for key, alert in self._injected.items()
                if name in (None, alert.labels["alertname"])
            ]
            for key in keys:
                self._store.take_out(self._put.pop(key))
            return [self._injected.pop(key) for key in keys]

    def injected(self) -> list[Alert]:
        """All that were injected."""
        with self._lock:
            return list(self._injected.values())

    # all

    def groups(self) -> list[Group]:
        """The rules' groups, and one of the injected alerts that no rule brings about."""
        made = [
            Rule(
                name=alert.labels["alertname"],
                query=f'practice_injected{{alertname="{alert.labels["alertname"]}"}} == 1',
                hold=0.0,
                labels={n: v for n, v in alert.labels.items() if n != "alertname"},
                annotations=alert.annotations,
                alerts={key_of(alert.labels): replace(alert)},
                evaluated_at=time.time(),
            )
            for alert in self.injected()
            if not any(self._same(alert))
        ]
        return [*self.rules, *([Group(INJECTED, made)] if made else [])]

    def all(self) -> list[tuple[Rule, Alert]]:
        """Every alert, pending or firing, with its rule."""
        return [
            (rule, alert) for rule in all_rules(self.groups()) for alert in rule.alerts.values()
        ]
