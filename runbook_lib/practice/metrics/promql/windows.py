"""Functions over ranges: rate and its relatives, …_over_time, regressions.

Source: promql/functions.go of Prometheus 2.42.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from runbook_lib.practice.metrics.promql.values import (
    Window,
    least,
    mean,
    most,
    quantile,
    total,
    variance,
)

# Of one window with the scalar arguments; None is no answer for that series.
Over = Callable[..., float | None]


def _extrapolated(window: Window, *, counter: bool, per_second: bool) -> float | None:
    """The change over the whole range, extended to its bounds where samples come near them."""
    times, values = window.times, window.values
    if len(times) < 2:
        return None
    result = values[-1] - values[0]
    if counter:
        result += total(before for before, after in pairwise(values) if after < before)
    to_start = (times[0] - window.begin) / 1000
    to_end = (window.end - times[-1]) / 1000
    sampled = (times[-1] - times[0]) / 1000
    average = sampled / (len(times) - 1)
    if counter and result > 0 and values[0] >= 0:
        # A counter is not extended to below zero.
        to_start = min(to_start, sampled * (values[0] / result))
    threshold = average * 1.1
    extended = sampled
    extended += to_start if to_start < threshold else average / 2
    extended += to_end if to_end < threshold else average / 2
    factor = extended / sampled
    if per_second:
        factor /= (window.end - window.begin) / 1000
    return result * factor


def _last_two(window: Window, *, counter: bool) -> float | None:
    """irate (`counter`) and idelta: from the last two samples alone."""
    if len(window.times) < 2:
        return None
    before, after = window.values[-2:]
    seconds = (window.times[-1] - window.times[-2]) / 1000
    if not seconds:
        return None
    if not counter:
        return after - before
    return (after if after < before else after - before) / seconds


def _regression(window: Window, since: int) -> tuple[float, float]:
    """Slope per second, and the value at `since`, of the line through the samples."""
    values = window.values
    if all(value == values[0] for value in values):
        return (math.nan, math.nan) if math.isinf(values[0]) else (0.0, values[0])
    seconds = [(time - since) / 1000 for time in window.times]
    number = len(values)
    x, y = total(seconds), total(values)
    xy = total(a * b for a, b in zip(seconds, values, strict=True))
    xx = total(a * a for a in seconds)
    slope = (xy - x * y / number) / (xx - x * x / number)
    return slope, y / number - slope * x / number


def _deriv(window: Window) -> float | None:
    return _regression(window, window.times[0])[0] if len(window.times) > 1 else None


def _predict_linear(window: Window, ahead: float) -> float | None:
    if len(window.times) < 2:
        return None
    slope, here = _regression(window, window.now)
    return slope * ahead + here


def _changes(window: Window) -> float:
    return float(sum(a != b and (a == a or b == b) for a, b in pairwise(window.values)))


def _resets(window: Window) -> float:
    return float(sum(b < a for a, b in pairwise(window.values)))


def _over(of: Callable[[Sequence[float]], float]) -> Over:
    return lambda window: of(window.values)


# Arguments before the range are given first, those after it last.
OVER: dict[str, Over] = {
    "rate": partial(_extrapolated, counter=True, per_second=True),
    "increase": partial(_extrapolated, counter=True, per_second=False),
    "delta": partial(_extrapolated, counter=False, per_second=False),
    "irate": partial(_last_two, counter=True),
    "idelta": partial(_last_two, counter=False),
    "deriv": _deriv,
    "predict_linear": _predict_linear,
    "changes": _changes,
    "resets": _resets,
    "avg_over_time": _over(mean),
    "sum_over_time": _over(total),
    "min_over_time": _over(least),
    "max_over_time": _over(most),
    "count_over_time": _over(lambda values: float(len(values))),
    "last_over_time": _over(lambda values: values[-1]),
    "present_over_time": _over(lambda _: 1.0),
    "stddev_over_time": _over(lambda values: math.sqrt(variance(values))),
    "stdvar_over_time": _over(variance),
    "quantile_over_time": lambda window, q: quantile(q, window.values),
}
