"""The platform's series, in memory: what was scraped, calm history, and what was put in.

Bounded: fine samples for five minutes, one in 90 s for three hours, at most MAX_SERIES.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from runbook_lib.practice.metrics import calm
from runbook_lib.practice.metrics.promql.values import Match, Series
from runbook_lib.practice.metrics.samples import (
    NAME,
    STALE,
    Key,
    Labels,
    Sample,
    is_stale,
    key_of,
)

RETENTION_MS = calm.HISTORY_MS
FINE_MS = 300_000
COARSE_MS = 90_000
BLOCK = 54  # samples; an array of them stays small enough for the allocator of small things
MAX_SAMPLES = 216  # of one series, before the old ones are thinned
MAX_SERIES = 2400
GRID_MS = 15_000  # the samples of a series that was put in


@dataclass
class _Scraped:
    """A series with its samples; `start` is where its calm history ends."""

    labels: Labels
    key: Key
    rate: float
    start: int | None
    # Small blocks: great ones that grow by turns would leave holes in the memory.
    blocks: list[tuple[array[int], array[float]]] = field(default_factory=list)
    first: float = 0.0
    raw: float = 0.0
    base: float = 0.0  # what a counter had counted before the platform started

    def add(self, at: int, value: float) -> None:
        if not self.blocks:
            self.first = value
        if len(self.blocks) * BLOCK >= MAX_SAMPLES and self._full:
            self._thin(at)
        if self._full:
            self.blocks.append((array("q"), array("d")))
        self.blocks[-1][0].append(at)
        self.blocks[-1][1].append(value)

    @property
    def _full(self) -> bool:
        """Whether the last block takes no more."""
        return not self.blocks or len(self.blocks[-1][0]) >= BLOCK

    def samples(self) -> Iterator[tuple[int, float]]:
        for times, values in self.blocks:
            yield from zip(times, values, strict=True)

    @property
    def newest(self) -> tuple[int, float]:
        times, values = self.blocks[-1]
        return times[-1], values[-1]

    def _thin(self, now: int) -> None:
        """Of the old samples keep few, and every marker of an end."""
        old, last = list(self.samples()), 0
        self.blocks = []
        for at, value in old:
            fine = at > now - FINE_MS or is_stale(value)
            if at > now - RETENTION_MS and (fine or at - last >= COARSE_MS):
                self.add(at, value)
                last = at

    def between(self, begin: int, end: int) -> Series:
        times: list[int] = []
        values: list[float] = []
        if self.start is not None and begin < self.start:
            before = calm.history(
                self.key, self.labels[NAME], self.first, self.rate, self.start, begin, end
            )
            times, values = list(before[0]), list(before[1])
        for at, value in self.samples():
            if begin <= at <= end:
                times.append(at)
                values.append(value)
        return Series(self.labels, times, values)


@dataclass(frozen=True)
class _Put:
    """A series that was put in: a function of the moment, until it is taken out."""

    labels: Labels
    of: Callable[[int], float | None]

    def between(self, begin: int, end: int) -> Series:
        end = min(end, round(time.time() * 1000))
        begin = max(begin, end - RETENTION_MS)
        grid = range(-(-begin // GRID_MS) * GRID_MS, end + 1, GRID_MS)
        found = [(at, value) for at in grid if (value := self.of(at)) is not None]
        return Series(self.labels, [at for at, _ in found], [value for _, value in found])


class SeriesStore:
    """All series. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[Key, _Scraped] = {}
        self._names: dict[str, set[Key]] = {}
        self._put: dict[Key, _Put] = {}
        self._alive: dict[str, set[Key]] = {}  # of each target, what its last scrape gave

    def record(self, at: int, target: str, samples: Iterable[Sample], extra: Labels) -> None:
        """A scrape of a target at a moment (milliseconds), with the labels of its job.

        What the scrape before had and this one has not is marked as ended. The target's first
        scrape gives its series their calm history. Raises ValueError for too many series.
        """
        made = {}
        for sample in samples:
            labels = {**extra, **sample.labels, NAME: sample.name}
            made[key_of(labels)] = sample
        with self._lock:
            self._make_room(made.keys() - self._series.keys())
            begins = target not in self._alive
            for key, sample in made.items():
                self._add(at, key, sample, begins=begins)
            for key in self._alive.get(target, set()) - made.keys():
                if key in self._series:
                    self._series[key].add(at, STALE)
            self._alive[target] = set(made)

    def _add(self, at: int, key: Key, sample: Sample, *, begins: bool) -> None:
        series = self._series.get(key)
        if series is None:
            series = _Scraped(dict(key), key, sample.rate, at if begins else None)
            if begins and sample.rate:
                before = sample.rate * calm.HISTORY_MS / 1000
                series.base = max(0.0, 2 * before - sample.value)
            self._series[key] = series
            self._names.setdefault(sample.name, set()).add(key)
        elif series.base and sample.value < series.raw:
            series.base = 0.0  # the counter was reset
        series.raw = sample.value
        series.add(at, sample.value + series.base)

    def _make_room(self, new: set[Key]) -> None:
        """Forget series that have ended, the oldest first. Raises ValueError where none has."""
        excess = len(self._series) + len(new) - MAX_SERIES
        if excess <= 0:
            return
        ended = [key for key, series in self._series.items() if is_stale(series.newest[1])]
        ended.sort(key=lambda key: self._series[key].newest[0])
        for key in ended[: max(excess, len(ended) // 2)]:
            self._names[self._series[key].labels[NAME]].discard(key)
            del self._series[key]
        # A single one, the target's `up`, is always taken.
        if len(self._series) + len(new) > MAX_SERIES and len(new) > 1:
            raise ValueError(f"sample limit exceeded: more than {MAX_SERIES} series")

    # what a scenario puts in

    def put(self, labels: Labels, of: Callable[[int], float | None]) -> Key:
        """A series given by a function of the moment (milliseconds); it hides the scraped one.

        None of the function is no sample. Returns what `take_out` takes. Raises ValueError for
        labels without a name.
        """
        if not labels.get(NAME):
            raise ValueError("a series needs a name")
        key = key_of(labels)
        with self._lock:
            self._put[key] = _Put(dict(key), of)
        return key

    def take_out(self, keys: Iterable[Key]) -> None:
        """Of these series, only what is scraped is left."""
        with self._lock:
            for key in keys:
                self._put.pop(key, None)

    def forget(self) -> None:
        """Nothing was ever scraped: each target's next scrape gives it a calm history anew."""
        with self._lock:
            self._series.clear()
            self._names.clear()
            self._alive.clear()

    # reading

    def select(self, matches: list[Match], begin: int, end: int) -> list[Series]:
        """The series that match and have samples in [begin, end] (milliseconds)."""
        with self._lock:
            found = [
                series.between(begin, end)
                for series in self._candidates(matches)
                if all(test(series.labels.get(label, "")) for label, test, _ in matches)
            ]
        return [series for series in found if series.times]

    def each(self, begin: int, end: int) -> Iterator[Series]:
        """All series with samples in the span, one at a time: together they are large."""
        with self._lock:
            known: list[_Scraped | _Put] = [*self._candidates([])]
        for series in known:
            with self._lock:
                found = series.between(begin, end)
            if found.times:
                yield found

    def ended(self, since: int) -> list[Series]:
        """The markers of the series that have ended since a moment (milliseconds)."""
        with self._lock:
            newest = [(series.labels, *series.newest) for series in self._series.values()]
        return [
            Series(labels, [at], [value])
            for labels, at, value in newest
            if at >= since and is_stale(value)
        ]

    def _candidates(self, matches: list[Match]) -> Iterator[_Scraped | _Put]:
        """What is worth testing: the series of the name, where one is asked for."""
        name = next((one.equal for one in matches if one.label == NAME and one.equal), None)
        keys = self._series.keys() if name is None else self._names.get(name, set())
        yield from (self._series[key] for key in keys if key not in self._put)
        yield from self._put.values()

    def labels(self, matches: list[Match], begin: int, end: int) -> list[Labels]:
        """The labels of the series that have samples in the span."""
        return [series.labels for series in self.select(matches, begin, end)]

    def now(self, target: str) -> list[tuple[Labels, float]]:
        """What the target's last scrape gave, without what was put over it."""
        with self._lock:
            return [
                (self._series[key].labels, self._series[key].newest[1])
                for key in self._alive.get(target, ())
                if key not in self._put
            ]

    def put_now(self, at: int) -> list[tuple[Labels, float]]:
        """The series that were put in, at a moment (milliseconds)."""
        with self._lock:
            found = [(series.labels, series.of(at)) for series in self._put.values()]
        return [(labels, value) for labels, value in found if value is not None]
