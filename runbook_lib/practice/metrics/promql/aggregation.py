"""Aggregations: sum, avg, min, max, count, group, stddev, stdvar, quantile, topk, bottomk."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runbook_lib.practice.metrics.promql.values import (
    QueryError,
    Vector,
    least,
    mean,
    most,
    plain,
    quantile,
    total,
    variance,
)
from runbook_lib.practice.metrics.samples import NAME, Key, Labels, key_of

_OF: dict[str, Callable[[Sequence[float]], float]] = {
    "sum": total,
    "avg": mean,
    "min": least,
    "max": most,
    "count": lambda values: float(len(values)),
    "group": lambda _: 1.0,
    "stddev": lambda values: math.sqrt(variance(values)),
    "stdvar": variance,
}
AGGREGATIONS = (*_OF, "quantile", "topk", "bottomk", "count_values")


@dataclass(frozen=True)
class Grouping:
    """`by` the labels, or `without` them; without any: all in one group."""

    labels: tuple[str, ...] = ()
    without: bool = False

    def of(self, labels: Labels) -> Labels:
        if self.without:
            left_out = (NAME, *self.labels)
            return {n: v for n, v in labels.items() if n not in left_out}
        return {name: labels[name] for name in self.labels if labels.get(name)}


def aggregated(op: str, vector: Vector, grouping: Grouping, param: float | str | None) -> Vector:
    """The groups of a vector; `param` is k, the quantile, or count_values' label."""
    groups: dict[Key, tuple[Labels, Vector]] = {}
    for element in vector:
        labels = grouping.of(element[0])
        groups.setdefault(key_of(labels), (labels, []))[1].append(element)
    found: Vector = []
    for labels, members in groups.values():
        values = [value for _, value in members]
        if op in _OF:
            found.append((labels, _OF[op](values)))
        elif op == "quantile":
            found.append((labels, quantile(_number(param), values)))
        elif op == "count_values":
            texts = [plain(value) for value in values]
            label = str(param)
            found += [({**labels, label: text}, float(texts.count(text))) for text in set(texts)]
        else:
            found += _first(members, _number(param), greatest=op == "topk")
    return found


def _number(param: float | str | None) -> float:
    if not isinstance(param, int | float):
        raise QueryError("bad_data", f"expected type scalar in aggregation parameter, got {param}")
    return float(param)


def _first(members: Vector, k: float, *, greatest: bool) -> Vector:
    if k != k or math.isinf(k):
        raise QueryError("execution", f"Scalar value {plain(k)} overflows int64")
    sign = -1 if greatest else 1
    # A NaN comes last in either.
    ordered = sorted(members, key=lambda one: (one[1] != one[1], sign * one[1]))
    return ordered[: max(0, int(k))]
