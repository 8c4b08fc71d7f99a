"""Requests counted as a Prometheus client library counts them: totals and histograms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from runbook_lib.practice.metrics.samples import Sample

# The default buckets of Prometheus' client libraries, in seconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass
class _Series:
    """One combination of labels: how many requests, how long in all, how many within a bucket."""

    count: int = 0
    seconds: float = 0.0
    within: list[int] = field(default_factory=lambda: [0] * len(BUCKETS))


class Counters:
    """http_requests_total and http_request_duration_seconds, by pod."""

    def __init__(self) -> None:
        self._series: dict[tuple[tuple[str, str], str, str, str, int], _Series] = {}

    def observe(
        self, pod: tuple[str, str], app: str, method: str, path: str, status: int, seconds: float
    ) -> None:
        """Count one answer of a pod, given by namespace and name."""
        series = self._series.setdefault((pod, app, method, path, status), _Series())
        series.count += 1
        series.seconds += seconds
        for number, limit in enumerate(BUCKETS):
            series.within[number] += seconds <= limit

    def forget(self, pod: tuple[str, str]) -> None:
        """A pod is gone, and its series with it."""
        for key in [key for key in self._series if key[0] == pod]:
            del self._series[key]

    def collect(self) -> Iterable[Sample]:
        """All samples; may be called from any thread."""
        for (where, app, method, path, status), series in list(self._series.items()):
            namespace, pod = where
            labels = {
                "app": app,
                "namespace": namespace,
                "pod": pod,
                "method": method,
                "path": path,
                "status": str(status),
            }
            name = "http_request_duration_seconds"
            yield Sample("http_requests_total", labels, series.count)
            for limit, number in zip(BUCKETS, series.within, strict=True):
                yield Sample(f"{name}_bucket", {**labels, "le": str(limit)}, number)
            yield Sample(f"{name}_bucket", {**labels, "le": "+Inf"}, series.count)
            yield Sample(f"{name}_sum", labels, series.seconds)
            yield Sample(f"{name}_count", labels, series.count)
