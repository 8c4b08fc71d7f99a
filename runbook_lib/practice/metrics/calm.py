"""How series behaved before the platform started: computed when asked for, never stored."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

from runbook_lib.practice.metrics.samples import Key

HISTORY_MS = 3 * 3600 * 1000
STEP_MS = 30_000
# How far a gauge swings around its present value, as a part of it; the others were flat.
_SWING = {
    "container_memory_working_set_bytes": 0.02,
    "node_memory_MemAvailable_bytes": 0.02,
    "redis_memory_used_bytes": 0.01,
}
_PERIODS = (3600.0, 660.0)  # seconds, of two waves


def history(
    key: Key, name: str, value: float, rate: float, start: int, begin: int, end: int
) -> tuple[Sequence[int], Sequence[float]]:
    """Times and values, in [begin, end] and in the three hours before `start` (milliseconds).

    `value` is the first one that was scraped, at `start`; `rate` is how a counter rose, a second.
    """
    first = max(begin, start - HISTORY_MS)
    first = -(-first // STEP_MS) * STEP_MS
    times = range(first, min(end, start - 1) + 1, STEP_MS)
    if rate:
        return times, [max(0.0, value - rate * (start - time) / 1000) for time in times]
    swing = _SWING.get(name, 0.0)
    if not swing:
        return times, [value] * len(times)
    # Every series has a wave of its own, which is at rest when the scrapes begin.
    phase = zlib.crc32(repr(key).encode()) % 1000
    return times, [
        value * (1 + swing * (_wave(time, phase) - _wave(start, phase)) / 2) for time in times
    ]


def _wave(time: int, phase: int) -> float:
    slow, quick = (math.sin(2 * math.pi * (time / 1000 + phase) / one) for one in _PERIODS)
    return slow * 0.7 + quick * 0.3
