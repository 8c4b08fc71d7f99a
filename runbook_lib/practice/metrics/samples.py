"""Samples, who collects them, and the marker of a series that has ended."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

NAME = "__name__"
Labels = dict[str, str]
Key = tuple[tuple[str, str], ...]  # all labels with the metric's name, sorted

_STALE_BITS = struct.pack("<Q", 0x7FF0000000000002)
# Prometheus' own NaN for "this series has ended here" (model/value/value.go).
STALE: float = struct.unpack("<d", _STALE_BITS)[0]


def is_stale(value: float) -> bool:
    """Whether a sample is the marker of an ended series; an ordinary NaN is not."""
    return value != value and struct.pack("<d", value) == _STALE_BITS


def milliseconds(at: float) -> int:
    """Of a Unix time; the form in which Prometheus keeps moments."""
    return round(at * 1000)


def key_of(labels: Mapping[str, str]) -> Key:
    """The identity of a series. An empty label is no label."""
    return tuple(sorted((name, value) for name, value in labels.items() if value))


@dataclass(frozen=True)
class Sample:
    """One value of one series, as a scrape gives it; the time is the scrape's.

    `rate` is how a counter rose, a second, before the platform started: its history.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    value: float = 0.0
    rate: float = 0.0


class Collector(Protocol):
    """A target: it says what it measures now.

    `collect` is called every few seconds in a thread and gives all series of the target. What it
    leaves out has ended. OSError (and what is derived from it, such as TimeoutError) means that
    the target is down: its `up` is 0 then and it has no series.
    """

    @property
    def job(self) -> str:
        """The scrape job, Prometheus' label `job`."""

    def collect(self) -> Iterable[Sample]:
        """The samples of this moment. Raises OSError where the target cannot be scraped."""
