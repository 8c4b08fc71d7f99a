"""Prometheus and Alertmanager as systems of the platform, built in."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runbook_lib.practice.metrics import shapes
from runbook_lib.practice.metrics.alertmanager import Held
from runbook_lib.practice.metrics.alertmanager_api import AlertmanagerApi
from runbook_lib.practice.metrics.alerts import Alerts
from runbook_lib.practice.metrics.api import PrometheusApi
from runbook_lib.practice.metrics.faces import Behaviour, Face
from runbook_lib.practice.metrics.rules import Alert, loaded, seconds
from runbook_lib.practice.metrics.samples import NAME, Key
from runbook_lib.practice.metrics.scrape import Scraper, Target
from runbook_lib.practice.metrics.store import SeriesStore
from runbook_lib.practice.system import System
from runbook_lib.practice.wait import cancel, lasting

_LOG = logging.getLogger(__name__)
EVALUATION_SECONDS = 2.0
# An alert of which Prometheus says no more is over after so many evaluations.
_RESOLVED_AFTER = 4
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Alertmanager(System):
    """The built-in Alertmanager."""

    face: Face

    def __init__(self) -> None:
        self._api = AlertmanagerApi()
        self.face = self._api

    @property
    def url(self) -> str:
        return self.face.url

    @property
    def running(self) -> bool:
        return self.face.listening

    async def start(self) -> None:
        await self.face.start()

    async def stop(self) -> None:
        await self.face.stop()

    async def heal(self) -> None:
        """No silence and no receiver, and the alerts that Prometheus sends next."""
        self._api.manager.reset()
        self.face.behaviour = Behaviour()

    def verbs(self) -> Mapping[str, Callable[..., Any]]:
        return {"receiver": self.receiver, "behave": self.behave}

    def environment(self) -> dict[str, str]:
        return {"ALERTMANAGER_URL": self.url}

    async def receiver(self, url: str) -> None:
        """Tell this webhook of every alert, from what is firing on. ValueError for no URL."""
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"a webhook's URL begins with http:// or https://; got {url!r}")
        await self.listen(url)

    async def listen(self, url: str) -> None:
        """Add a webhook whose URL is known to be one."""
        self._api.manager.add_receiver(url)

    async def behave(self, status: int = 200, delay: float = 0.0) -> None:
        """Answer everything with this status, after so many seconds."""
        self.face.behaviour = Behaviour(status, delay)

    def receive(self, alerts: list[Held]) -> None:
        """What Prometheus sends; lost while this is stopped."""
        if self.running:
            self._api.manager.receive(alerts)


class Prometheus(System):
    """The built-in Prometheus: scrapes its targets, evaluates its rules, answers queries."""

    def __init__(
        self,
        targets: Sequence[Target],
        alertmanager: Alertmanager | None = None,
        *,
        scrape_seconds: float = 5.0,
        evaluation_seconds: float = EVALUATION_SECONDS,
    ) -> None:
        self.store = SeriesStore()
        self.scraper = Scraper(self.store, targets, scrape_seconds)
        self.alerts = Alerts(self.store, loaded())
        self.face: Face = PrometheusApi(self.store, self.alerts, self.scraper)
        self._alertmanager = alertmanager
        self._evaluation = evaluation_seconds
        self._task: asyncio.Task[None] | None = None
        self._put: list[Key] = []
        self._evaluating = asyncio.Lock()

    @property
    def url(self) -> str:
        return self.face.url

    @property
    def running(self) -> bool:
        return self.face.listening

    async def start(self) -> None:
        """When this returns, all targets are scraped and all rules evaluated once."""
        if self.running:
            return
        await self.scraper.start()
        await self.evaluate()
        await self.face.start()
        self._task = lasting(self._run())

    async def stop(self) -> None:
        """No scrapes and no rules either: a gap, as a real one leaves it."""
        if self._task is not None:
            task, self._task = self._task, None
            await cancel(task)
        await self.scraper.stop()
        await self.face.stop()

    async def heal(self) -> None:
        """As after the start: nothing injected, and a calm past, computed from a scrape of now.

        What was scraped while things were broken would let rules with a window fire on.
        """
        self.face.behaviour = Behaviour()
        self.store.take_out(self._put)
        self._put.clear()
        ended = self.alerts.resolve()
        self.store.forget()
        if self.running:
            await self.scraper.scrape()
            await self.apply(ended)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._evaluation)
            try:
                await self.evaluate()
            except Exception:  # noqa: BLE001 - the seam: one bad evaluation must not end all
                _LOG.exception("evaluating the rules failed")

    async def evaluate(self) -> None:
        """Evaluate all rules now, and tell Alertmanager."""
        async with self._evaluating:
            ended = await asyncio.to_thread(self.alerts.evaluate)
        self._tell([alert for _, alert in self.alerts.all() if alert.firing], ended)

    async def apply(self, ended: list[Alert], *, changed: bool = True) -> None:
        """Let a verb's effect be seen at once. `ended` are injected alerts that fire no more."""
        now = time.time()
        self._tell([], [(alert, now) for alert in ended])
        await self.evaluate()

    def _tell(self, firing: list[Alert], ended: list[tuple[Alert, float]]) -> None:
        if self._alertmanager is None:
            return
        now = time.time()
        over = now + _RESOLVED_AFTER * max(self._evaluation, 1.0)
        self._alertmanager.receive(
            [self._held(alert, over, now) for alert in firing]
            + [self._held(alert, end, now) for alert, end in ended]
        )

    def _held(self, alert: Alert, end: float, now: float) -> Held:
        generator = f"{self.url}/graph?g0.expr={alert.labels['alertname']}&g0.tab=1"
        return Held(
            dict(alert.labels), dict(alert.annotations), alert.active_at, end, now, generator
        )

    # verbs

    def verbs(self) -> Mapping[str, Callable[..., Any]]:
        return {
            "alert": self.alert,
            "resolve": self.resolve,
            "series": self.series,
            "behave": self.behave,
        }

    def environment(self) -> dict[str, str]:
        return {"PROMETHEUS_URL": self.url}

    def settings(self) -> dict[str, dict[str, Any]]:
        return {"endpoints": {"prometheus": self.url}}

    async def alert(
        self,
        name: str,
        severity: str,
        summary: str,
        age_seconds: float = 300.0,
        labels: dict[str, str] | None = None,
    ) -> None:
        """Fire this alert, since so many seconds. The same labels again: it is renewed."""
        if not name or age_seconds < 0:
            raise ValueError("an alert has a name, and an age of 0 seconds or more")
        _refuse_labels(labels)
        now = time.time()
        known = {"alertname": name, "severity": severity, **(labels or {})}
        await asyncio.to_thread(self.alerts.inject, known, {"summary": summary}, now - age_seconds)
        if self.running:
            await self.apply([])

    async def resolve(self, name: str | None = None) -> None:
        """End the alerts that were injected, or those of one name."""
        ended = self.alerts.resolve(name)
        if self.running:
            await self.apply(ended, changed=bool(ended))

    async def series(
        self,
        name: str,
        labels: dict[str, str] | None = None,
        points: list[list[float]] | None = None,
        shape: dict[str, Any] | None = None,
        since: str = "30m",
    ) -> None:
        """Put a series in, past and future, until heal; it hides the scraped one of its labels.

        Either `points`, [seconds ago, value] pairs of which the last holds on; or a `shape`,
        {"kind", "before", "after"}: `step` and `ramp` of a gauge, `rate` of a counter that rises
        by so much a second; the change began `since` ago. ValueError for anything else.
        """
        if (points is None) == (shape is None):
            raise ValueError("a series takes either points or a shape")
        _refuse_labels(labels)
        now = time.time()
        if points is not None:
            curve = shapes.points(now, points)
        else:
            curve = _shaped(now, seconds(since), dict(shape or {}))
        self._put.append(self.store.put({**(labels or {}), NAME: name}, curve))
        if self.running:
            await self.apply([])

    async def behave(self, status: int = 200, delay: float = 0.0) -> None:
        """Answer everything with this status, after so many seconds."""
        self.face.behaviour = Behaviour(status, delay)


def _refuse_labels(labels: dict[str, str] | None) -> None:
    """Raises ValueError for what is no label, or is one that Prometheus sets."""
    for name, value in (labels or {}).items():
        taken = name in (NAME, "alertname")
        if taken or not _LABEL.fullmatch(name) or not isinstance(value, str):
            raise ValueError(f"not a label that can be set: {name}={value!r}")


def _shaped(now: float, since: float, shape: dict[str, Any]) -> shapes.Curve:
    kind = shape.pop("kind", None)
    if kind not in shapes.SHAPES or set(shape) != {"before", "after"}:
        kinds = ", ".join(sorted(shapes.SHAPES))
        raise ValueError(f"a shape has kind ({kinds}), before and after")
    return shapes.SHAPES[kind](now, since, float(shape["before"]), float(shape["after"]))
