"""The built-in Alertmanager: what it knows, and when it tells its receivers.

Source: api/v2, dispatch, notify and silence of Alertmanager 0.25. Left out: inhibition, routes
below the root, receivers that are no webhooks, clusters.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from runbook_lib.practice.metrics.samples import Key, Labels, key_of

GROUP_BY = ("alertname", "namespace")
GROUP_WAIT, GROUP_INTERVAL, REPEAT_INTERVAL = 0.5, 1.0, 60.0  # seconds; production has minutes
KEPT_SECONDS = 300.0  # of a resolved alert
# kube-prometheus gives these to a receiver that does nothing.
UNROUTED = ("Watchdog", "InfoInhibitor")
_MATCHER = re.compile(r'^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"?(.*?)"?\s*$')


class Matcher(NamedTuple):
    """One condition of a silence or a filter."""

    name: str
    value: str
    regex: bool
    equal: bool

    def takes(self, labels: Labels) -> bool:
        value = labels.get(self.name, "")
        found = bool(re.fullmatch(self.value, value)) if self.regex else value == self.value
        return found == self.equal


@dataclass
class Held:
    """An alert as Alertmanager holds it. Times are Unix seconds."""

    labels: Labels
    annotations: Labels
    starts_at: float
    ends_at: float
    updated_at: float
    generator: str = ""

    @property
    def fingerprint(self) -> str:
        """FNV-1a of the labels, as prometheus/common has it."""
        found = 0xCBF29CE484222325
        for name, value in sorted(self.labels.items()):
            for byte in (*name.encode(), 255, *value.encode(), 255):
                found = ((found ^ byte) * 0x100000001B3) & (2**64 - 1)
        return f"{found:016x}"

    def resolved(self, now: float) -> bool:
        return self.ends_at <= now


@dataclass
class Silence:
    """Alerts that no receiver is told of."""

    id: str
    matchers: list[Matcher]
    starts_at: float
    ends_at: float
    updated_at: float
    created_by: str
    comment: str

    def state(self, now: float) -> str:
        if now < self.starts_at:
            return "pending"
        return "active" if now < self.ends_at else "expired"


@dataclass
class Group:
    """Alerts with the same grouping labels, and what each receiver was last told of them."""

    labels: Labels
    due: float  # when it is looked at next
    alerts: dict[Key, Held] = field(default_factory=dict)
    told: dict[str, tuple[float, frozenset[Key]]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        inner = ", ".join(f'{n}="{v}"' for n, v in sorted(self.labels.items()))
        return "{}:{" + inner + "}"


class Notice(NamedTuple):
    """What a receiver must be told now. `sent` is called when it was."""

    url: str
    body: dict[str, Any]
    sent: Callable[[], None]

    @property
    def key(self) -> tuple[str, str]:
        return self.url, self.body["groupKey"]


class Manager:
    """Alerts, silences and receivers. Used from one event loop only."""

    def __init__(self, external_url: Callable[[], str]) -> None:
        self.receivers: list[str] = []  # webhook URLs
        self.silences: dict[str, Silence] = {}
        self._groups: dict[Key, Group] = {}
        self._url = external_url

    # alerts

    def receive(self, alerts: list[Held]) -> None:
        """Take alerts as Prometheus sends them; one that ended has its end in the past."""
        now = time.time()
        for alert in alerts:
            labels = {name: alert.labels[name] for name in GROUP_BY if name in alert.labels}
            group = self._groups.setdefault(key_of(labels), Group(labels, now + GROUP_WAIT))
            known = group.alerts.get(key_of(alert.labels))
            if known and not known.resolved(now):
                alert.starts_at = min(alert.starts_at, known.starts_at)
            if known is None and alert.resolved(now):
                continue  # never heard of it
            group.alerts[key_of(alert.labels)] = alert

    def groups(self) -> list[Group]:
        """The groups that hold an alert that is not over."""
        now = time.time()
        return [
            group
            for group in self._groups.values()
            if any(not alert.resolved(now) for alert in group.alerts.values())
        ]

    def alerts(self) -> list[Held]:
        """The alerts that are not over."""
        now = time.time()
        return [
            alert
            for group in self._groups.values()
            for alert in group.alerts.values()
            if not alert.resolved(now)
        ]

    def silenced_by(self, alert: Held) -> list[str]:
        now = time.time()
        return [
            silence.id
            for silence in self.silences.values()
            if silence.state(now) == "active"
            and all(matcher.takes(alert.labels) for matcher in silence.matchers)
        ]

    def add_receiver(self, url: str) -> None:
        """Tell this webhook too, of what is firing first."""
        if url not in self.receivers:
            self.receivers.append(url)
        for group in self._groups.values():
            group.due = min(group.due, time.time())

    def reset(self) -> None:
        """No alert, silence or receiver is left."""
        self.receivers.clear()
        self.silences.clear()
        self._groups.clear()

    # silences

    def silence(self, given: Silence) -> str:
        """Add it, or replace the one with its id; returns the id. KeyError for an unknown id."""
        if given.id and given.id not in self.silences:
            raise KeyError(given.id)
        given.id = given.id or str(uuid.uuid4())
        self.silences[given.id] = given
        return given.id

    def expire(self, id_: str) -> None:
        """End a silence. KeyError where there is none."""
        self.silences[id_].ends_at = self.silences[id_].updated_at = time.time()

    # notifications

    def due(self) -> list[Notice]:
        """What receivers must be told now."""
        now, notices = time.time(), []
        for key, group in list(self._groups.items()):
            if group.due > now:
                continue
            group.due = now + GROUP_INTERVAL
            for url in self.receivers:
                if notice := self._notice(group, url, now):
                    notices.append(notice)
            self._forget(group, now)
            if not group.alerts:
                del self._groups[key]
        return notices

    def _notice(self, group: Group, url: str, now: float) -> Notice | None:
        told_at, told = group.told.get(url, (0.0, frozenset()))
        heard = {
            key: alert
            for key, alert in group.alerts.items()
            if alert.labels.get("alertname") not in UNROUTED and not self.silenced_by(alert)
        }
        firing = frozenset(key for key, alert in heard.items() if not alert.resolved(now))
        over = [key for key in told - firing if key in heard]
        repeat = bool(firing) and now - told_at >= REPEAT_INTERVAL
        if not (firing - told or over or repeat):
            return None
        chosen = [alert for key, alert in heard.items() if key in firing or key in over]

        def sent() -> None:
            group.told[url] = (time.time(), firing)

        return Notice(url, self._message(group, chosen, now), sent)

    def _forget(self, group: Group, now: float) -> None:
        told = {key for _, keys in group.told.values() for key in keys}
        for key, alert in list(group.alerts.items()):
            untold = key in told and self.receivers
            if alert.resolved(now) and (not untold or now - alert.ends_at > KEPT_SECONDS):
                del group.alerts[key]

    def _message(self, group: Group, alerts: list[Held], now: float) -> dict[str, Any]:
        """The webhook's JSON, version 4."""
        firing = any(not alert.resolved(now) for alert in alerts)
        return {
            "version": "4",
            "groupKey": group.key,
            "truncatedAlerts": 0,
            "status": "firing" if firing else "resolved",
            "receiver": "webhook",
            "groupLabels": group.labels,
            "commonLabels": _common([alert.labels for alert in alerts]),
            "commonAnnotations": _common([alert.annotations for alert in alerts]),
            "externalURL": self._url(),
            "alerts": [
                {
                    "status": "resolved" if alert.resolved(now) else "firing",
                    "labels": alert.labels,
                    "annotations": alert.annotations,
                    "startsAt": stamp(alert.starts_at),
                    # As Alertmanager: no end is known of what fires.
                    "endsAt": stamp(alert.ends_at if alert.resolved(now) else 0.0),
                    "generatorURL": alert.generator,
                    "fingerprint": alert.fingerprint,
                }
                for alert in alerts
            ],
        }


def _common(given: list[Labels]) -> Labels:
    shared = set.intersection(*(set(one.items()) for one in given))
    return dict(sorted(shared))


def stamp(at: float) -> str:
    """RFC 3339 with milliseconds; 0 is Go's zero time."""
    from datetime import UTC, datetime

    if not at:
        return "0001-01-01T00:00:00Z"
    moment = datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def matcher(text: str) -> Matcher:
    """Of a filter such as severity="critical". Raises ValueError for what is none."""
    found = _MATCHER.match(text)
    if not found:
        raise ValueError(f"bad matcher format: {text}")
    name, sign, value = found.groups()
    return Matcher(name, value, regex="~" in sign, equal=not sign.startswith("!"))
