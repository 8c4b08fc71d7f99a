"""CloudWatch: metrics that keep coming, with percentiles.

Sources: CloudWatch API reference, GetMetricStatistics, GetMetricData, ListMetrics, PutMetricData.
"""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from runbook_lib.practice.aws.additions import Addition, Ask, Verb
from runbook_lib.practice.aws.front import Handler
from runbook_lib.practice.aws.series import Series, statistic
from runbook_lib.practice.aws.wire import AwsError, Call, Document

STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
PERCENTILE = re.compile(r"p(100|\d{1,2}(\.\d{1,10})?)")
MOST_POINTS = 1440
Key = tuple[str, str, frozenset[tuple[str, str]]]
# What is so at this moment; None where nobody can tell, which leaves no sample.
Source = Callable[[], float | None]


class Metrics(Addition):
    """`metric` bends a series; PutMetricData adds to it; `measure` lets it follow a real part."""

    def __init__(self, ask: Ask) -> None:
        self._sources: dict[Key, Source] = {}
        super().__init__(ask)

    def reset(self) -> None:
        self._series: dict[Key, Series] = {}

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "cloudwatch.GetMetricStatistics": self._get_metric_statistics,
            "cloudwatch.GetMetricData": self._get_metric_data,
            "cloudwatch.ListMetrics": self._list_metrics,
            "cloudwatch.PutMetricData": self._put_metric_data,
        }

    def verbs(self) -> Mapping[str, Verb]:
        return {"metric": self.metric}

    def add(self, series: Series) -> None:
        """A metric that the account has from now on."""
        self._series[_key(series.namespace, series.name, series.dimensions)] = series

    def find(self, namespace: str, name: str, dimensions: dict[str, str]) -> Series | None:
        return self._series.get(_key(namespace, name, dimensions))

    def measure(
        self, namespace: str, name: str, dimensions: dict[str, str], source: Source
    ) -> None:
        """Let a metric be what `source` says from its first sample on, unless a verb bends it."""
        self._sources[_key(namespace, name, dimensions)] = source

    def sample(self) -> None:
        """Take a sample of all that is measured: to be called each minute. Blocks."""
        for key in self._sources:
            self._look(key)

    def _look(self, key: Key) -> None:
        series, source = self._series.get(key), self._sources.get(key)
        if series and source and (value := source()) is not None:
            series.measure(time.time(), value)

    def metric(
        self,
        namespace: str,
        name: str,
        dimensions: dict[str, str],
        level: float | None = None,
        since: float = 0.0,
        ramp: float = 0.0,
        points: list[list[float]] | None = None,
        hold: bool = True,
        unit: str = "None",
    ) -> None:
        """Bend a metric (all dimensions must be given, as CloudWatch wants them).

        `level`: from `since` seconds ago it is that, reached in a straight line over `ramp`
        seconds. `points`: [[age in seconds, value], …] instead of all its history; after the last
        it holds that value, or (`hold` false) nothing comes any more. Neither: calm again, or as
        it is measured. A metric that the account does not have comes into being, with `unit`.
        """
        if level is not None and points is not None:
            raise ValueError("a metric takes level or points, not both")
        series = self.find(namespace, name, dimensions)
        if series is None:
            if level is None and points is None:
                raise ValueError(f"there is no metric {namespace} {name} {dimensions}")
            series = Series(namespace, name, dict(dimensions), unit, assumed=False)
            self.add(series)
        series.forget()
        now = time.time()
        if level is not None:
            series.since, series.level = now - since, level
            series.reached = series.since + ramp
        if points is not None:
            series.points = sorted((now - age, value) for age, value in points)
            series.hold = hold

    def _get_metric_statistics(self, call: Call) -> Document:
        given = call.parameters
        names = given.get("Statistics", [])
        percentiles = given.get("ExtendedStatistics", [])
        if bool(names) == bool(percentiles):
            raise AwsError(
                "InvalidParameterCombination",
                "Must specify either Statistics or ExtendedStatistics",
            )
        for name in percentiles:
            if not PERCENTILE.fullmatch(name):
                raise AwsError("InvalidParameterValue", f"The value {name} for parameter "
                               "ExtendedStatistics is not supported.")  # fmt: skip
        period = given["Period"]
        start, end = _moments(given, period)
        asked = (end - start) / period
        if asked > MOST_POINTS:
            raise AwsError(
                "InvalidParameterCombination",
                f"You have requested up to {int(asked):,} datapoints, which exceeds the limit of "
                f"{MOST_POINTS:,}. You may reduce the datapoints requested by increasing Period, "
                "or decreasing the time range.",
            )
        series = self._asked(given)
        points = []
        for moment, values in _periods(series, start, end, period):
            point: Document = {"Timestamp": _utc(moment), "Unit": series.unit if series else ""}
            point |= {name: statistic(values, name) for name in names}
            if percentiles:
                point["ExtendedStatistics"] = {
                    name: statistic(values, name) for name in percentiles
                }
            points.append(point)
        return {"Label": given["MetricName"], "Datapoints": points}

    def _get_metric_data(self, call: Call) -> Document:
        given = call.parameters
        newest_first = given.get("ScanBy", "TimestampDescending") == "TimestampDescending"
        results = []
        for query in given["MetricDataQueries"]:
            if "Expression" in query or "MetricStat" not in query:
                raise AwsError(
                    "ValidationError",
                    "The practice platform evaluates no metric math: ask for MetricStat.",
                )
            asked = query["MetricStat"]
            name = asked["Stat"]
            if name not in STATISTICS and not PERCENTILE.fullmatch(name):
                raise AwsError("ValidationError", f"Invalid statistic {name}")
            start, end = _moments(given, asked["Period"])
            metric = asked["Metric"]
            found = list(_periods(self._asked(metric), start, end, asked["Period"]))
            found.sort(reverse=newest_first)
            if query.get("ReturnData", True):
                results.append(
                    {
                        "Id": query["Id"],
                        "Label": query.get("Label", metric["MetricName"]),
                        "Timestamps": [_utc(moment) for moment, _ in found],
                        "Values": [statistic(values, name) for _, values in found],
                        "StatusCode": "Complete",
                    }
                )
        return {"MetricDataResults": results, "Messages": []}

    def _list_metrics(self, call: Call) -> Document:
        given = call.parameters
        wanted = {one["Name"]: one.get("Value") for one in given.get("Dimensions", [])}
        return {
            "Metrics": [
                {
                    "Namespace": one.namespace,
                    "MetricName": one.name,
                    "Dimensions": [{"Name": k, "Value": v} for k, v in one.dimensions.items()],
                }
                for one in self._series.values()
                if given.get("Namespace") in (None, one.namespace)
                and given.get("MetricName") in (None, one.name)
                and all(
                    name in one.dimensions and value in (None, one.dimensions[name])
                    for name, value in wanted.items()
                )
            ]
        }

    def _put_metric_data(self, call: Call) -> Document:
        given = call.parameters
        namespace = given["Namespace"]
        if namespace.startswith("AWS/"):
            # Real AWS refuses it; here the platform itself reports what it measures.
            raise AwsError(
                "InvalidParameterValue",
                "The value AWS/ for parameter Namespace is invalid.",
            )
        for datum in given.get("MetricData", []):
            if "StatisticValues" in datum:
                raise AwsError(
                    "InvalidParameterValue",
                    "The practice platform takes Value or Values, no StatisticValues.",
                )
            moment = _seconds(datum["Timestamp"]) if "Timestamp" in datum else time.time()
            values = datum.get("Values") or [datum["Value"]]
            dimensions = {one["Name"]: one["Value"] for one in datum.get("Dimensions", [])}
            self.report(
                namespace,
                datum["MetricName"],
                dimensions,
                [(moment, float(value)) for value in values],
                datum.get("Unit", "None"),
            )
        return {}

    def report(
        self,
        namespace: str,
        name: str,
        dimensions: dict[str, str],
        points: list[tuple[float, float]],
        unit: str = "None",
    ) -> None:
        """What was really measured: [(moment, value)]."""
        series = self.find(namespace, name, dimensions)
        if series is None:
            series = Series(namespace, name, dimensions, unit, assumed=False)
            self.add(series)
        series.report(points)

    def _asked(self, metric: Document) -> Series | None:
        dimensions = {one["Name"]: one["Value"] for one in metric.get("Dimensions", [])}
        key = _key(metric["Namespace"], metric["MetricName"], dimensions)
        self._look(key)  # its newest sample is as of now
        return self._series.get(key)


def _key(namespace: str, name: str, dimensions: dict[str, str]) -> Key:
    return namespace, name, frozenset(dimensions.items())


def _periods(
    series: Series | None, start: float, end: float, period: int
) -> list[tuple[float, list[float]]]:
    """(begin, values) of each period that has any, oldest first."""
    if series is None:
        return []
    found: dict[float, list[float]] = {}
    begin = start // period * period
    for moment, value in series.samples(begin, end, time.time()):
        found.setdefault(moment // period * period, []).append(value)
    return sorted(found.items())


def _moments(given: Document, period: int) -> tuple[float, float]:
    if period not in (1, 5, 10, 20, 30) and period % 60:
        raise AwsError(
            "InvalidParameterValue",
            "The parameter Period must be a value in the set [ 1, 5, 10, 20, 30 ], or a multiple "
            "of 60.",
        )
    start, end = _seconds(given["StartTime"]), _seconds(given["EndTime"])
    if start >= end:
        raise AwsError(
            "InvalidParameterValue",
            "The parameter StartTime must be less than the parameter EndTime.",
        )
    return start, end


def _seconds(moment: Any) -> float:
    """Seconds since the epoch of a moment as moto's parsers give it (naive UTC)."""
    stamped: datetime.datetime = moment
    if stamped.tzinfo is None:
        stamped = stamped.replace(tzinfo=datetime.UTC)
    return stamped.timestamp()


def _utc(moment: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC)
