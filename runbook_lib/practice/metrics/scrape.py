"""Asks every target in turn, as Prometheus scrapes, and keeps what the last scrape was like."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from runbook_lib.practice.metrics.samples import Collector, Labels, Sample, milliseconds
from runbook_lib.practice.metrics.store import SeriesStore

_LOG = logging.getLogger(__name__)


@dataclass
class Target:
    """One target and its last scrape. `instance` is the label that tells it from others."""

    collector: Collector
    instance: str
    scraped_at: float = 0.0
    seconds: float = 0.0
    error: str = ""
    up: bool = False

    @property
    def name(self) -> str:
        return f"{self.collector.job}/{self.instance}"

    @property
    def labels(self) -> Labels:
        return {"job": self.collector.job, "instance": self.instance}


class Scraper:
    """Scrapes its targets every few seconds into a store, in a thread."""

    def __init__(
        self, store: SeriesStore, targets: Sequence[Target], interval: float = 5.0
    ) -> None:
        self.targets = list(targets)
        self.interval = interval
        self._store = store
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """The first scrape is done when this returns."""
        if self._task is None:
            await asyncio.to_thread(self.scrape)
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.interval)
            await asyncio.to_thread(self.scrape)

    def scrape(self) -> None:
        """Every target once, now."""
        for target in self.targets:
            self._scrape(target)

    def _scrape(self, target: Target) -> None:
        began = time.time()
        samples: list[Sample] = []
        try:
            samples = list(target.collector.collect())
            target.error = ""
        except OSError as error:
            target.error = f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001 - the seam: one bad target must not end all
            _LOG.exception("scraping %s failed", target.collector.job)
            target.error = f"{type(error).__name__}: {error}"
        target.up = not target.error
        target.scraped_at, target.seconds = began, time.time() - began
        if not any(sample.name == "up" for sample in samples):
            samples.append(Sample("up", {}, float(target.up)))
        self._store.record(milliseconds(began), target.name, samples, target.labels)
