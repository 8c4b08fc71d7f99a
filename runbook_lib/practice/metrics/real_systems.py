"""An installed Prometheus and Alertmanager as systems of the platform.

They keep what the built-in ones keep: the store and the injected alerts are the truth. A real
Prometheus takes no past into what it holds, so whatever changes the past starts it anew, filled
from the store; alerts keep their age by ALERTS_FOR_STATE, from which Prometheus restores it.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from runbook_lib.practice.metrics import real, remote_write
from runbook_lib.practice.metrics.alertmanager_api import configuration
from runbook_lib.practice.metrics.alerts import FOR_STATE
from runbook_lib.practice.metrics.faces import Behaviour, Front
from runbook_lib.practice.metrics.promql.values import Series, formatted
from runbook_lib.practice.metrics.rules import FILE, Alert
from runbook_lib.practice.metrics.samples import NAME, Key, Labels, key_of, milliseconds
from runbook_lib.practice.metrics.scrape import Scraper, Target
from runbook_lib.practice.metrics.store import RETENTION_MS, SeriesStore
from runbook_lib.practice.metrics.systems import Alertmanager, Prometheus
from runbook_lib.practice.services.web import Server
from runbook_lib.practice.wait import until

if TYPE_CHECKING:
    from aiohttp import web

# The environment variable that decides which ones the platform has.
CHOICE = "RUNBOOK_PRACTICE_PROMETHEUS"
_RULES_INTERVAL, _SOON = "2s", "300ms"
_SEEN_SECONDS = 15.0
_FIRST_SCRAPE_MS = 15_000  # by then every target was found and scraped
_RECENT = 40  # samples that are all written
_AGE_SLACK = 2.0  # seconds; Prometheus keeps whole ones


class Exposition(Server):
    """`/metrics/N` of each target, for Prometheus to scrape."""

    def __init__(self, store: SeriesStore, scraper: Scraper) -> None:
        super().__init__()
        self._store = store
        self._scraper = scraper

    def routes(self) -> list[web.RouteDef]:
        from aiohttp import web

        return [
            web.get("/metrics/put", self._put),
            web.get(r"/metrics/{number:\d+}", self._target),
        ]

    async def _target(self, request: web.Request) -> web.Response:
        from aiohttp import web

        target = self._scraper.targets[int(request.match_info["number"])]
        if not target.up:
            return web.Response(status=503, text=target.error)
        # `up` of the target itself is for Prometheus to say.
        own = {**target.labels, NAME: "up"}
        known = self._store.now(target.name)
        return web.Response(text=exposed([one for one in known if one[0] != own]))

    async def _put(self, _: web.Request) -> web.Response:
        from aiohttp import web

        known = self._store.put_now(milliseconds(time.time()))
        # Those of the rules are for Prometheus to say.
        return web.Response(text=exposed([o for o in known if not o[0][NAME].startswith("ALERTS")]))


def exposed(series: list[tuple[Labels, float]]) -> str:
    """The text format of an exposition."""
    return "".join(
        labels[NAME]
        + "{"
        + ",".join(f'{n}="{_escaped(v)}"' for n, v in labels.items() if n != NAME)
        + f"}} {formatted(value)}\n"
        for labels, value in series
    )


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class RealAlertmanager(Alertmanager):
    """Debian's Alertmanager, or another that is installed."""

    def __init__(self, folder: Path, remove: Sequence[Path] = ()) -> None:
        self._program = real.Program(real.ALERTMANAGER, folder, remove)
        self._receivers: list[str] = []
        self._front = Front()
        self.face = self._front

    @property
    def program_url(self) -> str:
        """Where Prometheus finds it; known before it is started."""
        return self._program.url

    async def start(self) -> None:
        if self.running:
            return
        await asyncio.to_thread(self._run)
        self._front.behind = self._program.url
        await self.face.start()

    def _run(self) -> None:
        self._configure()
        folder = self._program.folder
        self._program.start(
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            "--cluster.listen-address=",
            f"--web.external-url={self._program.url}",
        )

    def _configure(self) -> None:
        self._program.folder.mkdir(parents=True, exist_ok=True)
        file = self._program.folder / "alertmanager.yml"
        file.write_text(configuration(self._receivers))

    async def stop(self) -> None:
        await self.face.stop()
        await asyncio.to_thread(self._program.stop)

    async def heal(self) -> None:
        self.face.behaviour = Behaviour()
        self._receivers.clear()
        await asyncio.to_thread(self._restart_empty)

    def _restart_empty(self) -> None:
        self._program.stop()
        shutil.rmtree(self._program.folder / "data", ignore_errors=True)
        self._run()

    async def listen(self, url: str) -> None:
        if url not in self._receivers:
            self._receivers.append(url)
        await asyncio.to_thread(self._reload)

    def _reload(self) -> None:
        self._configure()
        if self._program.running:
            httpx.post(
                f"{self._program.url}/-/reload", timeout=10.0, trust_env=False
            ).raise_for_status()


class RealPrometheus(Prometheus):
    """Debian's Prometheus, or another that is installed."""

    def __init__(
        self,
        targets: Sequence[Target],
        alertmanager: RealAlertmanager | None,
        folder: Path,
        remove: Sequence[Path] = (),
        *,
        scrape_seconds: float = 5.0,
    ) -> None:
        super().__init__(targets, None, scrape_seconds=scrape_seconds)
        self._front = Front()
        self.face = self._front
        self._folder = folder
        self._program = real.Program(real.PROMETHEUS, folder, remove)
        self._exposition = Exposition(self.store, self.scraper)
        self._told = alertmanager
        self._changing = asyncio.Lock()
        self._filled = 0  # when its past was written (milliseconds)
        self.scraper.after = self._tell_ended

    async def start(self) -> None:
        if self.running:
            return
        await self.scraper.start()
        await self._exposition.start()
        await self.apply([])
        await self.face.start()

    async def stop(self) -> None:
        await self.face.stop()
        await asyncio.to_thread(self._program.stop)
        await self._exposition.stop()
        await self.scraper.stop()

    async def apply(self, ended: list[Alert], *, changed: bool = True) -> None:
        """Start anew with the past of the store."""
        if changed:
            async with self._changing:
                await asyncio.to_thread(self._rebuild)
                self._front.behind = self._program.url

    def _rebuild(self) -> None:
        ages = self._ages()
        self._program.stop()
        shutil.rmtree(self._folder / "data", ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write("prometheus.yml", {"global": {"evaluation_interval": "1m"}})
        self._program.start(*real.prometheus_options(self._folder))
        self._fill(ages)
        self._program.stop()
        self._configure()
        self._program.start(*real.prometheus_options(self._folder))
        until(lambda: self._seen(ages), _SEEN_SECONDS, "the alerts of Prometheus")

    def _ages(self) -> dict[Key, float]:
        """Since when each alert is active that must keep its age."""
        found = {
            key_of(alert.labels): alert.active_at
            for _, alert in self.alerts.all()
            if alert.labels["alertname"] in ("Watchdog", "InfoInhibitor")
        }
        found |= self._active()
        return found | {key_of(one.labels): one.active_at for one in self.alerts.injected()}

    def _active(self) -> dict[Key, float]:
        """What Prometheus itself says now; nothing while it does not run."""
        if not self._program.running:
            return {}
        answer = httpx.get(
            f"{self._program.url}/api/v1/alerts", timeout=10.0, trust_env=False
        ).json()
        return {key_of(one["labels"]): _moment(one["activeAt"]) for one in answer["data"]["alerts"]}

    def _fill(self, ages: dict[Key, float]) -> None:
        """Write the store's past, and the ages of the alerts."""
        now = milliseconds(time.time())
        past = (
            _thinned(one)
            for one in self.store.each(now - RETENTION_MS, now)
            if one.labels[NAME] != FOR_STATE
        )
        states = (
            Series({**dict(key), NAME: FOR_STATE}, [now], [active_at])
            for key, active_at in ages.items()
        )
        answer = self._post(chain(past, states))
        if answer.status_code != 204:
            raise real.RealError(f"Prometheus does not take the past: {answer.text}")
        self._filled = now

    def _post(self, series: Iterable[Series]) -> httpx.Response:
        """Write samples. Prometheus takes a series' only in their order."""
        return httpx.post(
            f"{self._program.url}/api/v1/write",
            content=remote_write.body(series),
            headers=remote_write.HEADERS,
            timeout=30.0,
            trust_env=False,
        )

    async def _tell_ended(self) -> None:
        """What ended before Prometheus scraped it for the first time, it cannot know as ended."""
        if self._changing.locked() or not self.running:
            return  # it is being filled, after which there is nothing newer to write
        fresh = milliseconds(time.time()) - self._filled < _FIRST_SCRAPE_MS
        if fresh and (ended := self.store.ended(self._filled)):
            async with self._changing:
                # One that it has marked by itself meanwhile is refused, which is as well.
                with contextlib.suppress(httpx.TransportError):
                    await asyncio.to_thread(self._post, ended)

    def _seen(self, ages: dict[Key, float]) -> bool:
        """Whether all that must fire does, since when it should."""
        active = self._active()
        must = [key_of(alert.labels) for alert in self.alerts.injected()]
        must += [key for key in ages if ("alertname", "Watchdog") in key]
        return all(key in active and active[key] <= ages[key] + _AGE_SLACK for key in must)

    # its files

    def _write(self, name: str, document: Any) -> None:
        import yaml

        (self._folder / name).write_text(yaml.safe_dump(document, sort_keys=False))

    def _configure(self) -> None:
        import yaml

        rules = yaml.safe_load(FILE.read_text())
        for group in rules["groups"]:
            # What always fires is waited for at each start.
            group["interval"] = _RULES_INTERVAL if group["name"] != "general.rules" else _SOON
        self._write("rules.yml", rules)
        injected = [_rule(alert) for alert in self.alerts.injected()]
        group = {"name": "injected", "interval": _SOON, "rules": injected}
        self._write("injected.yml", {"groups": [group] if injected else []})
        document: dict[str, Any] = {
            "global": {
                "scrape_interval": f"{milliseconds(self.scraper.interval)}ms",
                "scrape_timeout": f"{milliseconds(self.scraper.interval)}ms",
                "evaluation_interval": "1m",
            },
            "rule_files": ["rules.yml", "injected.yml"],
            "scrape_configs": [
                self._scrape(f"target-{number}", str(number), target.labels)
                for number, target in enumerate(self.scraper.targets)
            ],
        }
        put = self._scrape("put", "put", {"job": "put", "instance": "put"})
        document["scrape_configs"].append(put)
        if self._told is not None:
            address = self._told.program_url.removeprefix("http://")
            told = {"static_configs": [{"targets": [address]}]}
            document["alerting"] = {"alertmanagers": [told]}
        self._write("prometheus.yml", document)

    def _scrape(self, name: str, path: str, labels: Labels) -> Any:
        address = self._exposition.url.removeprefix("http://")
        return {
            "job_name": name,
            "metrics_path": f"/metrics/{path}",
            "honor_labels": True,
            "static_configs": [{"targets": [address], "labels": labels}],
        }


def _thinned(series: Series) -> Series:
    """Every second of the older samples: half the work of each start."""
    recent = max(0, len(series.times) - _RECENT)
    return Series(
        series.labels,
        [*series.times[:recent:2], *series.times[recent:]],
        [*series.values[:recent:2], *series.values[recent:]],
    )


def _rule(alert: Alert) -> Any:
    labels = {name: value for name, value in alert.labels.items() if name != "alertname"}
    return {
        "alert": alert.labels["alertname"],
        "expr": "vector(1)",
        "labels": labels,
        "annotations": alert.annotations,
    }


def _moment(text: str) -> float:
    """Of Go's RFC 3339, which has up to nine digits."""
    whole, _, rest = text.removesuffix("Z").partition(".")
    seconds = datetime.fromisoformat(f"{whole}+00:00").timestamp()
    return seconds + (float(f"0.{rest}") if rest else 0.0)


def systems(
    targets: Sequence[Target],
    folder: Path,
    remove: Sequence[Path] = (),
    *,
    choice: str | None = None,
) -> tuple[Prometheus, Alertmanager]:
    """The platform's two systems, with `folder` for what real ones write.

    `choice` is `real`, `builtin`, or None: real where both are installed. Raises RealError where
    real ones are wanted and missing, ValueError for another choice.
    """
    if choice not in (None, "real", "builtin"):
        raise ValueError(f"{CHOICE} is real or builtin; got {choice!r}")
    missing = [
        names[0] for names in (real.PROMETHEUS, real.ALERTMANAGER) if not real.installed(names)
    ]
    if choice == "real" and missing:
        raise real.RealError(f"not installed: {', '.join(missing)}")
    if choice == "builtin" or missing:
        alertmanager = Alertmanager()
        return Prometheus(targets, alertmanager), alertmanager
    told = RealAlertmanager(folder / "alertmanager", remove)
    return RealPrometheus(targets, told, folder / "prometheus", remove), told
