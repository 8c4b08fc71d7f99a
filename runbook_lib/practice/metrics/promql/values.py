"""What the evaluator works with: vectors, windows, and where the samples come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

from runbook_lib.practice.metrics.samples import NAME, Key, Labels, key_of

Vector = list[tuple[Labels, float]]
LOOKBACK_MS = 300_000


class QueryError(Exception):
    """A query that is refused. `kind` is Prometheus' errorType, bad_data or execution."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Match(NamedTuple):
    """One matcher of a selector; `equal` is what the label must be, where it must equal one."""

    label: str
    test: Callable[[str], bool]
    equal: str | None = None


class Series(NamedTuple):
    """A series' samples in a span: Unix milliseconds, rising, and values with stale markers."""

    labels: Labels
    times: Sequence[int]
    values: Sequence[float]


class Window(NamedTuple):
    """A series' samples in a range, without stale markers. All times in milliseconds.

    `begin` and `end` are the range's bounds, `now` the moment of evaluation.
    """

    labels: Labels
    times: Sequence[int]
    values: Sequence[float]
    begin: int
    end: int
    now: int


class Storage(Protocol):
    """Where samples come from."""

    def select(self, matches: list[Match], begin: int, end: int) -> list[Series]:
        """The series that match, with their samples in [begin, end] (milliseconds)."""


def unnamed(labels: Labels) -> Labels:
    """The labels without the metric's name."""
    return {name: value for name, value in labels.items() if name != NAME}


def distinct(vector: Vector) -> Vector:
    """The vector. Raises QueryError where two of its elements have the same labels."""
    seen: set[Key] = set()
    for labels, _ in vector:
        key = key_of(labels)
        if key in seen:
            text = "vector cannot contain metrics with the same labelset"
            raise QueryError("execution", text)
        seen.add(key)
    return vector


def total(values: Iterable[float]) -> float:
    """The sum; exact where all are finite."""
    known = list(values)
    return math.fsum(known) if all(map(math.isfinite, known)) else sum(known)


def mean(values: Sequence[float]) -> float:
    return total(values) / len(values)


def variance(values: Sequence[float]) -> float:
    """The population's."""
    # Seen from one of them, so that great numbers which differ by little lose nothing.
    shifted = [value - values[0] for value in values]
    middle = mean(shifted)
    return total((value - middle) ** 2 for value in shifted) / len(values)


def least(values: Iterable[float]) -> float:
    """The smallest that is a number; NaN where none is."""
    return min((value for value in values if value == value), default=math.nan)


def most(values: Iterable[float]) -> float:
    """The greatest that is a number; NaN where none is."""
    return max((value for value in values if value == value), default=math.nan)


def quantile(q: float, values: Iterable[float]) -> float:
    """Interpolated between the two nearest; infinite for a `q` outside of [0, 1]."""
    # A NaN sorts first, as Prometheus has it.
    known = sorted(values, key=lambda value: (value == value, value))
    if not known or q != q:
        return math.nan
    if not 0 <= q <= 1:
        return math.inf if q > 1 else -math.inf
    rank = q * (len(known) - 1)
    below = math.floor(rank)
    above = min(len(known) - 1, below + 1)
    weight = rank - below
    return known[below] * (1 - weight) + known[above] * weight


def formatted(value: float) -> str:
    """A number as Prometheus' JSON has it: no exponent between 1e-6 and 1e21."""
    if math.isfinite(value) and value and not 1e-6 <= abs(value) < 1e21:
        return exponent(value)
    return plain(value)


def plain(value: float) -> str:
    """A number without an exponent, as it stands in labels."""
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def exponent(value: float) -> str:
    """A number with an exponent of at least two digits, as Go writes it: 1e+00."""
    if not math.isfinite(value):
        return plain(value)
    # As many digits as it takes to read the same number again.
    sign, figures, scale = Decimal(repr(value)).normalize().as_tuple()
    text = "".join(map(str, figures))
    raised = int(scale) + len(text) - 1
    body = text[0] + ("." + text[1:] if len(text) > 1 else "")
    return f"{'-' if sign else ''}{body}e{'-' if raised < 0 else '+'}{abs(raised):02d}"
