"""Functions of vectors and scalars, and which functions there are at all.

Source: promql/functions.go and promql/quantile.go of Prometheus 2.42.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import groupby

from runbook_lib.practice.metrics.promql.values import QueryError, Vector, unnamed
from runbook_lib.practice.metrics.promql.windows import OVER
from runbook_lib.practice.metrics.samples import Labels, key_of

_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_REFERENCE = re.compile(r"\$(?:(\w+)|\{(\w+)\}|(\$))", re.ASCII)


def _logarithm(of: Callable[[float], float]) -> Callable[[float], float]:
    def safe(value: float) -> float:
        if value == 0:
            return -math.inf
        return of(value) if value > 0 else math.nan

    return safe


def _log2(value: float) -> float:
    # As Go has it: near 1 it is less exact than C's.
    part, power = math.frexp(value)
    if math.isinf(value) or part == 0.5:
        return value if math.isinf(value) else power - 1.0
    return power + math.log(part) * (1 / math.log(2))


def _round(value: float, to: float = 1.0) -> float:
    # Half is rounded up. Dividing by the inverse is more exact than multiplying.
    inverse = 1.0 / to
    return math.floor(value * inverse + 0.5) / inverse if math.isfinite(value) else value


def _whole(of: Callable[[float], int]) -> Callable[[float], float]:
    return lambda value: float(of(value)) if math.isfinite(value) else value


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _clamp(value: float, low: float, high: float) -> float:
    return value if value != value else max(low, min(high, value))


# Each value by itself, with the scalar arguments; the metric's name goes.
EACH: dict[str, Callable[..., float]] = {
    "abs": abs,
    "ceil": _whole(math.ceil),
    "floor": _whole(math.floor),
    "round": _round,
    "exp": _exp,
    "ln": _logarithm(math.log),
    "log2": _logarithm(_log2),
    "log10": _logarithm(math.log10),
    "sqrt": lambda value: math.sqrt(value) if value >= 0 else math.nan,
    "sgn": lambda value: float((value > 0) - (value < 0)) if value == value else value,
    "clamp": _clamp,
    "clamp_min": lambda value, low: _clamp(value, low, math.inf),
    "clamp_max": lambda value, high: _clamp(value, -math.inf, high),
}


def _date(part: Callable[[datetime], int]) -> Callable[[float], float]:
    return lambda value: float(part(datetime.fromtimestamp(int(value), UTC)))


# Parts of a Unix time in UTC, of now where nothing is given.
DATE: dict[str, Callable[[float], float]] = {
    "minute": _date(lambda at: at.minute),
    "hour": _date(lambda at: at.hour),
    "day_of_week": _date(lambda at: (at.weekday() + 1) % 7),
    "day_of_month": _date(lambda at: at.day),
    "month": _date(lambda at: at.month),
    "year": _date(lambda at: at.year),
    "days_in_month": _date(lambda at: calendar.monthrange(at.year, at.month)[1]),
}


def scalar(vector: Vector) -> float:
    """The only element's value, else NaN."""
    return vector[0][1] if len(vector) == 1 else math.nan


def ordered(vector: Vector, *, falling: bool) -> Vector:
    """sort and sort_desc; a NaN comes last."""
    sign = -1 if falling else 1
    return sorted(vector, key=lambda one: (one[1] != one[1], sign * one[1]))


def label_replace(vector: Vector, to: str, template: str, source: str, regex: str) -> Vector:
    """Set a label from the parts of another that the expression finds."""
    _valid(to, "label_replace")
    try:
        pattern = re.compile(regex)
    except re.error:
        text = f'invalid regular expression in label_replace(): "{regex}"'
        raise QueryError("execution", text) from None

    def change(labels: Labels) -> Labels:
        found = pattern.fullmatch(labels.get(source, ""))
        return _with(labels, to, _expanded(template, found)) if found else labels

    return [(change(labels), value) for labels, value in vector]


def _expanded(template: str, found: re.Match[str]) -> str:
    """Go's Regexp.Expand: what was not found is empty."""

    def part(reference: re.Match[str]) -> str:
        if reference[3]:
            return "$"
        name = reference[1] or reference[2]
        if name.isdigit():
            return (found[int(name)] or "") if int(name) <= found.re.groups else ""
        return found.groupdict().get(name) or ""

    return _REFERENCE.sub(part, template)


def label_join(vector: Vector, to: str, separator: str, *sources: str) -> Vector:
    """Set a label to others' values, joined."""
    _valid(to, "label_join")
    return [
        (_with(labels, to, separator.join(labels.get(name, "") for name in sources)), value)
        for labels, value in vector
    ]


def _valid(label: str, function: str) -> None:
    if not _LABEL_NAME.fullmatch(label):
        text = f"invalid destination label name in {function}(): {label}"
        raise QueryError("execution", text)


def _with(labels: Labels, name: str, value: str) -> Labels:
    rest = {n: v for n, v in labels.items() if n != name}
    return {**rest, name: value} if value else rest


def histogram_quantile(q: float, vector: Vector) -> Vector:
    """The quantile of each histogram, linear within its bucket."""
    histograms: dict[object, tuple[Labels, list[tuple[float, float]]]] = {}
    for labels, value in vector:
        try:
            bound = float(labels["le"])
        except (KeyError, ValueError):
            continue  # no bucket
        rest = {n: v for n, v in unnamed(labels).items() if n != "le"}
        histograms.setdefault(key_of(rest), (rest, []))[1].append((bound, value))
    return [(labels, _bucket_quantile(q, found)) for labels, found in histograms.values()]


def _bucket_quantile(q: float, found: list[tuple[float, float]]) -> float:
    if q != q:
        return math.nan
    if not 0 <= q <= 1:
        return math.inf if q > 1 else -math.inf
    found.sort(key=lambda bucket: bucket[0])
    # Buckets with the same bound, written in two ways, are one.
    buckets = [
        (bound, sum(count for _, count in same))
        for bound, same in groupby(found, key=lambda bucket: bucket[0])
    ]
    if buckets[-1][0] != math.inf or len(buckets) < 2:
        return math.nan
    counts: list[float] = []
    for _, count in buckets:
        # Scrapes and rates may leave them unsteady by a little.
        counts.append(max(count, counts[-1]) if counts else count)
    if not counts[-1] or counts[-1] != counts[-1]:
        return math.nan
    rank = q * counts[-1]
    here = next((i for i, count in enumerate(counts[:-1]) if count >= rank), len(counts) - 1)
    if here == len(counts) - 1:
        return buckets[-2][0]
    end = buckets[here][0]
    if here == 0 and end <= 0:
        return end
    begin, below = (buckets[here - 1][0], counts[here - 1]) if here else (0.0, 0.0)
    inside = counts[here] - below
    return begin + (end - begin) * _share(rank - below, inside)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


SUPPORTED = frozenset(
    {
        *OVER,
        *EACH,
        *DATE,
        "absent",
        "absent_over_time",
        "histogram_quantile",
        "label_join",
        "label_replace",
        "pi",
        "scalar",
        "sort",
        "sort_desc",
        "time",
        "timestamp",
        "vector",
    }
)
