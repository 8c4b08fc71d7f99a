"""Selectors: which series, which moments, which windows."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from runbook_lib.practice.metrics.promql.values import (
    LOOKBACK_MS,
    Match,
    QueryError,
    Series,
    Window,
)
from runbook_lib.practice.metrics.samples import NAME, is_stale

if TYPE_CHECKING:
    import promql_parser

Moment = Callable[[int], int]  # when a selector looks, of when it is evaluated (milliseconds)


def milliseconds(span: timedelta | None) -> int:
    return round(span / timedelta(milliseconds=1)) if span else 0


def matches(selector: promql_parser.VectorSelector) -> list[Match]:
    """The matchers of a selector, with that of its name."""
    from promql_parser import MatchOp

    if selector.matchers.or_matchers:
        raise QueryError("bad_data", "'or' between matchers is not supported")
    found = [Match(NAME, selector.name.__eq__, selector.name)] if selector.name else []
    for one in selector.matchers.matchers:
        if one.op == MatchOp.Equal:
            found.append(Match(one.name, one.value.__eq__, one.value))
        elif one.op == MatchOp.NotEqual:
            found.append(Match(one.name, one.value.__ne__))
        else:
            found.append(Match(one.name, _expression(one.value, wanted=one.op == MatchOp.Re)))
    return found


def _expression(text: str, *, wanted: bool) -> Callable[[str], bool]:
    """Whether a whole value is of the expression, or is not."""
    try:
        expression = re.compile(text)
    except re.error as error:
        # What RE2 has and Python has not.
        reason = f"the expression {text!r} is not supported: {error}"
        raise QueryError("bad_data", reason) from None
    return lambda value: (expression.fullmatch(value) is not None) == wanted


def moment(
    at: promql_parser.AtModifier | None, offset: timedelta | None, start: int, end: int
) -> Moment:
    """What `@` and `offset` make of the moment of evaluation."""
    from promql_parser import AtModifierType

    back = milliseconds(offset)
    if at is None:
        return lambda now: now - back
    fixed = start if at.type == AtModifierType.Start else end
    if at.at is not None:
        fixed = round(at.at.timestamp() * 1000)
    return lambda now: fixed - back


def newest(series: Series, at: int) -> tuple[int, float] | None:
    """The sample that counts at a moment: of the last 5 minutes, and not after its end."""
    index = bisect_right(series.times, at) - 1
    if index < 0 or series.times[index] < at - LOOKBACK_MS or is_stale(series.values[index]):
        return None
    return series.times[index], series.values[index]


def window(series: Series, at: int, span: int, now: int) -> Window | None:
    """The samples in [at - span, at], the bounds included; None where there are none."""
    first = bisect_left(series.times, at - span)
    last = bisect_right(series.times, at)
    if first == last:
        return None
    return Window(
        series.labels, series.times[first:last], series.values[first:last], at - span, at, now
    )


def without_stale(series: Series) -> Series:
    """Ranges do not see the markers of a series' end."""
    if not any(is_stale(value) for value in series.values):
        return series
    pairs = zip(series.times, series.values, strict=True)
    kept = [(time, value) for time, value in pairs if not is_stale(value)]
    return Series(series.labels, [time for time, _ in kept], [value for _, value in kept])
