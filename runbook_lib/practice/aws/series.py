"""A metric's values over time: a calm shape, what a scenario made of it, and what was measured.

CloudWatch keeps publishing while nobody watches. So a series is a function of time, sampled each
minute when it is asked for, and no list of points that grows old.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

# (age in seconds, value)
History = list[tuple[float, float]]
MINUTE = 60.0
RETAINED_SECONDS = 15 * 86400.0  # how long CloudWatch keeps one-minute points
WAVE_SECONDS = 700.0


@dataclass
class Series:
    """One metric with its dimensions.

    `tail` is how the values within one minute lie around the minute's own, for what has
    percentiles: (0.5, 1.0, 2.0) is three requests, of half, the same and double the time.
    """

    namespace: str
    name: str
    dimensions: dict[str, str]
    unit: str
    middle: float = 0.0
    swing: float = 0.0
    whole: bool = False
    assumed: bool = True  # whether it has a calm shape at all
    tail: tuple[float, ...] = (1.0,)
    # From `since` until `reached` the values go in a straight line to `level`, and stay there.
    since: float | None = None
    reached: float = 0.0
    level: float = 0.0
    # Replaces the shape; after the last one it holds, or ends.
    points: list[tuple[float, float]] = field(default_factory=list)
    hold: bool = True
    # What was really measured: from the first of them on there is nothing else.
    reported: list[tuple[float, float]] = field(default_factory=list)
    # By minute what the platform's own parts measure, as long as nothing bends the metric.
    measured: dict[float, float] = field(default_factory=dict)

    def calm(self, moment: float) -> float:
        value = self.middle + self.swing * math.sin(moment / WAVE_SECONDS)
        return float(round(value)) if self.whole else value

    def forget(self) -> None:
        """Back to the calm shape, and to what is measured."""
        self.since = None
        self.points, self.reported, self.hold = [], [], True

    def report(self, points: list[tuple[float, float]]) -> None:
        for point in points:
            bisect.insort(self.reported, point)

    def measure(self, now: float, value: float) -> None:
        """One sample a minute; that of the minute that runs is as of the last look."""
        self.measured[now // MINUTE * MINUTE] = value

    def _real(self) -> list[tuple[float, float]]:
        """What is no assumption, oldest first."""
        if self.points or self.since is not None:
            return self.reported
        return sorted([*self.measured.items(), *self.reported])

    def samples(self, start: float, end: float, now: float) -> Iterator[tuple[float, float]]:
        """(moment, value) of each minute from `start` to before `end`, oldest first."""
        end = min(end, now + 1)
        real = self._real()
        first_real = real[0][0] if real else math.inf
        if self.points:
            yield from (p for p in self.points if start <= p[0] < min(end, first_real))
            start = max(start, self.points[-1][0] + MINUTE)
        moment = math.ceil(max(start, now - RETAINED_SECONDS) / MINUTE) * MINUTE
        while moment < end and moment < first_real and (self.hold or not self.points):
            value = self._at(moment)
            if value is not None:
                yield from ((moment, value * factor) for factor in self.tail)
            moment += MINUTE
        yield from (p for p in real if start <= p[0] < end)

    def _at(self, moment: float) -> float | None:
        if self.points:
            return self.points[-1][1]
        if self.since is None or moment < self.since:
            return self.calm(moment) if self.assumed else None
        if moment >= self.reached or not self.assumed:
            return self.level
        done = (moment - self.since) / (self.reached - self.since)
        value = self.calm(self.since) * (1 - done) + self.level * done
        return float(round(value)) if self.whole else value


def statistic(values: list[float], name: str) -> float:
    """One statistic of CloudWatch: its five names, or a percentile such as p99 or p99.9."""
    simple = {
        "SampleCount": lambda: float(len(values)),
        "Sum": lambda: math.fsum(values),
        "Average": lambda: math.fsum(values) / len(values),
        "Minimum": lambda: min(values),
        "Maximum": lambda: max(values),
    }
    if name in simple:
        return simple[name]()
    ordered = sorted(values)
    rank = math.ceil(float(name[1:]) / 100 * len(ordered))
    return ordered[max(rank, 1) - 1]
