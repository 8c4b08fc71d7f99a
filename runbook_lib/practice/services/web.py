"""The HTTP endpoints that the runbook asks: health of three services, and Prometheus' alerts."""

from __future__ import annotations

import asyncio
import datetime
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiohttp import web

# kube-prometheus fires these at all times; they are no incident.
ALWAYS_FIRING = (
    {
        "name": "Watchdog",
        "severity": "none",
        "summary": "An alert that should always be firing to certify that Alertmanager works.",
    },
    {
        "name": "InfoInhibitor",
        "severity": "none",
        "summary": "Info-level alert inhibition.",
    },
)
_MOST_BYTES = 64 * 2**20  # of a request: models are uploaded through MLflow
ALWAYS_AGE_SECONDS = 6 * 24 * 3600.0


@dataclass
class Behaviour:
    """How an endpoint answers: HTTP status, body, and seconds before it does."""

    status: int = 200
    body: str = '{"status": "ok"}'
    delay: float = 0.0


class Server(ABC):
    """One aiohttp application on a loopback port that it keeps when stopped and started."""

    def __init__(self) -> None:
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def listening(self) -> bool:
        return self._runner is not None

    @abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """What it answers."""

    async def start(self) -> None:
        from aiohttp import web

        if self._runner:
            return
        application = web.Application(client_max_size=_MOST_BYTES)
        application.add_routes(self.routes())
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self._runner = runner
        self.port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Refuse connections until started again."""
        if self._runner:
            runner, self._runner = self._runner, None
            await runner.cleanup()


class Health(Server):
    """`GET /health` of one service, with a settable behaviour."""

    def __init__(self, healthy: Behaviour) -> None:
        super().__init__()
        self._healthy = healthy
        self._behaviour = healthy

    def routes(self) -> list[web.RouteDef]:
        from aiohttp import web

        return [web.get("/health", self._answer)]

    def behave(self, **changes: Any) -> None:
        """Answer as the healthy service but for `changes`; none restores it."""
        self._behaviour = Behaviour(**{**vars(self._healthy), **changes})

    async def _answer(self, _: web.Request) -> web.Response:
        from aiohttp import web

        behaviour = self._behaviour
        await asyncio.sleep(behaviour.delay)
        content_type = "application/json" if behaviour.body.startswith("{") else "text/plain"
        return web.Response(status=behaviour.status, text=behaviour.body, content_type=content_type)


@dataclass
class Alert:
    """A firing alert: Prometheus' name and severity, since how many seconds, other labels."""

    name: str
    severity: str
    summary: str
    age_seconds: float = 300.0
    labels: dict[str, str] = field(default_factory=dict)

    def as_answer(self, now: datetime.datetime) -> dict[str, Any]:
        since = now - datetime.timedelta(seconds=self.age_seconds)
        return {
            "labels": {"alertname": self.name, "severity": self.severity, **self.labels},
            "annotations": {"summary": self.summary},
            "state": "firing",
            "activeAt": since.isoformat().replace("+00:00", "Z"),
            "value": "1e+00",
        }


class Prometheus(Server):
    """`GET /api/v1/alerts` in Prometheus' own shape."""

    def __init__(self) -> None:
        super().__init__()
        self._behaviour = Behaviour()
        self._alerts: list[dict[str, Any]] = []
        self.resolve()

    def routes(self) -> list[web.RouteDef]:
        from aiohttp import web

        return [web.get("/api/v1/alerts", self._answer)]

    def behave(self, **changes: Any) -> None:
        """Answer with another status, or later; none restores it."""
        self._behaviour = Behaviour(**changes)

    def fire(self, alerts: list[dict[str, Any]]) -> None:
        """Fire these too, each given by the fields of Alert; one that fires already is renewed."""
        now = datetime.datetime.now(datetime.UTC)
        # Dated once: an alert's activeAt does not move while it fires.
        for answer in [Alert(**one).as_answer(now) for one in alerts]:
            self._alerts = [one for one in self._alerts if one["labels"] != answer["labels"]]
            self._alerts.append(answer)

    def resolve(self) -> None:
        """Only the alerts that always fire are left."""
        self._alerts = []
        self.fire([{**one, "age_seconds": ALWAYS_AGE_SECONDS} for one in ALWAYS_FIRING])

    async def _answer(self, _: web.Request) -> web.Response:
        from aiohttp import web

        await asyncio.sleep(self._behaviour.delay)
        if self._behaviour.status != 200:
            return web.Response(status=self._behaviour.status, text=self._behaviour.body)
        return web.json_response({"status": "success", "data": {"alerts": self._alerts}})
