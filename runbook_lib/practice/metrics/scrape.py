"""Asks every target, as Prometheus scrapes, and keeps what the last scrape was like."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from runbook_lib.practice.metrics.samples import Collector, Labels, Sample, milliseconds
from runbook_lib.practice.metrics.store import SeriesStore
from runbook_lib.practice.wait import cancel, lasting

_LOG = logging.getLogger(__name__)
TIMEOUT_SECONDS = 2.0
SPARE = 4  # threads for targets that are added later


@dataclass
class Target:
    """One target and its last scrape. `instance` is the label that tells it from others."""

    collector: Collector
    instance: str
    scraped_at: float = 0.0
    seconds: float = 0.0
    error: str = ""
    up: bool = False
    pending: asyncio.Future[list[Sample]] | None = None  # a scrape that took too long

    @property
    def name(self) -> str:
        return f"{self.collector.job}/{self.instance}"

    @property
    def labels(self) -> Labels:
        return {"job": self.collector.job, "instance": self.instance}


class Scraper:
    """Scrapes its targets every few seconds into a store, side by side, in threads.

    A target that takes longer than TIMEOUT_SECONDS is down until it answers again.
    """

    def __init__(
        self, store: SeriesStore, targets: Sequence[Target], interval: float = 5.0
    ) -> None:
        self.targets = list(targets)
        self.interval = interval
        self._store = store
        self.after: Callable[[], Awaitable[None]] | None = None  # what follows every scrape
        self._task: asyncio.Task[None] | None = None
        self._threads: ThreadPoolExecutor | None = None

    async def start(self) -> None:
        """The first scrape is done when this returns."""
        if self._task is None:
            # Threads of its own: a target that hangs must not take those of the other systems.
            self._threads = ThreadPoolExecutor(len(self.targets) + SPARE, "scrape")
            await self.scrape()
            self._task = lasting(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            await cancel(task)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            for target in self.targets:
                target.pending = None

    async def _run(self) -> None:
        took = 0.0
        while True:
            await asyncio.sleep(max(0.0, self.interval - took))
            began = time.monotonic()
            await self.scrape()
            took = time.monotonic() - began

    async def scrape(self) -> None:
        """Every target once, now."""
        await asyncio.gather(*(self._scrape(target) for target in self.targets))
        if self.after is not None:
            await self.after()

    async def _scrape(self, target: Target) -> None:
        began = time.time()
        samples: list[Sample] = []
        try:
            samples = await self._collected(target)
            target.error = ""
        except TimeoutError:
            target.error = "context deadline exceeded"
        except OSError as error:
            target.error = f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001 - the seam: one bad target must not end all
            _LOG.warning("scraping %s failed", target.collector.job, exc_info=True)
            target.error = f"{type(error).__name__}: {error}"
        target.up = not target.error
        target.scraped_at, target.seconds = began, time.time() - began
        if not any(sample.name == "up" for sample in samples):
            samples.append(Sample("up", {}, float(target.up)))
        try:
            self._store.record(milliseconds(began), target.name, samples, target.labels)
        except ValueError as error:  # too many series
            target.error, target.up = str(error), False
            down = [Sample("up", {}, 0.0)]
            self._store.record(milliseconds(began), target.name, down, target.labels)

    async def _collected(self, target: Target) -> list[Sample]:
        """What the target says. Raises TimeoutError, and what the target raises."""
        if target.pending is None:
            loop = asyncio.get_running_loop()
            target.pending = loop.run_in_executor(
                self._threads, lambda: list(target.collector.collect())
            )
        # The thread cannot be ended: its answer, when it comes at last, counts for then.
        done, _ = await asyncio.wait([target.pending], timeout=TIMEOUT_SECONDS)
        if not done:
            raise TimeoutError
        answered, target.pending = target.pending, None
        return answered.result()
