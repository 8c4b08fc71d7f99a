"""Series that a scenario puts in: given by their points or by a shape, as functions of time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

Curve = Callable[[int], float | None]  # the value at a moment (milliseconds)


def points(now: float, given: Sequence[Sequence[float]]) -> Curve:
    """Of (seconds ago, value) pairs, each of which holds until the next, and the last for good.

    Raises ValueError for none, and for what is no pair.
    """
    if not given or any(len(pair) != 2 for pair in given):
        raise ValueError("points are [seconds ago, value] pairs, at least one")
    known = sorted((round((now - ago) * 1000), float(value)) for ago, value in given)
    times = [time for time, _ in known]

    def at(moment: int) -> float | None:
        index = bisect_right(times, moment) - 1
        return known[index][1] if index >= 0 else None

    return at


def step(now: float, since: float, before: float, after: float) -> Curve:
    """`before` until `since` seconds ago, then `after`."""
    turn = (now - since) * 1000
    return lambda moment: after if moment >= turn else before


def ramp(now: float, since: float, before: float, after: float) -> Curve:
    """`before` until `since` seconds ago, then even to `after`, which is reached now and stays."""

    def at(moment: int) -> float:
        gone = moment / 1000 - (now - since)
        return before + (after - before) * min(1.0, max(0.0, gone / since if since else 1.0))

    return at


def rate(now: float, since: float, before: float, after: float) -> Curve:
    """A counter: it rises by `before` a second until `since` seconds ago, then by `after`."""
    begin, turn = now - 24 * 3600.0, now - since

    def at(moment: int) -> float:
        seconds = moment / 1000
        return before * max(0.0, min(seconds, turn) - begin) + after * max(0.0, seconds - turn)

    return at


SHAPES: dict[str, Callable[[float, float, float, float], Curve]] = {
    "step": step,
    "ramp": ramp,
    "rate": rate,
}
