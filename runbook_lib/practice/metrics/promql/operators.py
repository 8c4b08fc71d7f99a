"""Binary operators: of two numbers, of vectors with numbers, and of vectors that match.

Source: promql/engine.go of Prometheus 2.42 (VectorBinop, VectorAnd, resultMetric).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

from runbook_lib.practice.metrics.promql.values import QueryError, Vector, unnamed
from runbook_lib.practice.metrics.samples import NAME, Key, Labels, key_of

SET_OPERATORS = ("and", "or", "unless")


def _divide(a: float, b: float) -> float:
    if b:
        return a / b
    if not a or a != a or b != b:
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def _modulo(a: float, b: float) -> float:
    return math.nan if math.isinf(a) or not b else math.fmod(a, b)


def _power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and b % 2 == 1 else math.inf
    except ValueError:  # of zero with a negative exponent, or of a negative with a broken one
        return math.nan if a else math.inf


ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "%": _modulo,
    "^": _power,
    "atan2": math.atan2,
}
COMPARISON: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


@dataclass(frozen=True)
class Matching:
    """How elements of two vectors find each other."""

    on: bool = False
    labels: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    many: str = ""  # the side that may have several: left, right, both (set operators) or none

    def signature(self, labels: Labels) -> Key:
        if self.on:
            return key_of({name: labels.get(name, "") for name in self.labels})
        return key_of({n: v for n, v in labels.items() if n != NAME and n not in self.labels})


def numbers(op: str, a: float, b: float) -> float:
    """Of two scalars; a comparison gives 1 or 0."""
    return ARITHMETIC[op](a, b) if op in ARITHMETIC else float(COMPARISON[op](a, b))


def with_number(op: str, vector: Vector, number: float, *, swapped: bool, as_bool: bool) -> Vector:
    """Of a vector and a scalar; `swapped` where the scalar stands on the left."""
    found: Vector = []
    for labels, value in vector:
        a, b = (number, value) if swapped else (value, number)
        if op in ARITHMETIC:
            found.append((unnamed(labels), ARITHMETIC[op](a, b)))
        elif as_bool:
            found.append((unnamed(labels), float(COMPARISON[op](a, b))))
        elif COMPARISON[op](a, b):
            found.append((labels, value))
    return found


def sets(op: str, left: Vector, right: Vector, matching: Matching) -> Vector:
    """and, or, unless."""
    if op == "or":
        known = {matching.signature(labels) for labels, _ in left}
        return left + [one for one in right if matching.signature(one[0]) not in known]
    known = {matching.signature(labels) for labels, _ in right}
    return [one for one in left if (matching.signature(one[0]) in known) == (op == "and")]


def vectors(op: str, left: Vector, right: Vector, matching: Matching, *, as_bool: bool) -> Vector:
    """Arithmetic and comparison of matching elements. Raises QueryError for ambiguous matches."""
    swapped = matching.many == "right"
    many, one = (right, left) if swapped else (left, right)
    partners = _unique(one, matching, "left" if swapped else "right")
    found: Vector = []
    seen: dict[Key, set[Key]] = {}
    for labels, value in many:
        signature = matching.signature(labels)
        if signature not in partners:
            continue
        other_labels, other = partners[signature]
        a, b = (other, value) if swapped else (value, other)
        if op in ARITHMETIC:
            result = ARITHMETIC[op](a, b)
        elif as_bool:
            result = float(COMPARISON[op](a, b))
        elif COMPARISON[op](a, b):
            result = a
        else:
            continue
        made = _result_labels(labels, other_labels, matching, keep=op in COMPARISON)
        made = unnamed(made) if as_bool else made
        _refuse_twice(seen, signature, key_of(made), matching)
        found.append((made, result))
    return found


def _unique(one: Vector, matching: Matching, side: str) -> dict[Key, tuple[Labels, float]]:
    """The elements of the side on which there may be one of each, by signature."""
    partners: dict[Key, tuple[Labels, float]] = {}
    for labels, value in one:
        signature = matching.signature(labels)
        if signature in partners:
            pair = f"[{shown(labels)}, {shown(partners[signature][0])}]"
            raise QueryError(
                "execution",
                f"found duplicate series for the match group {shown(dict(signature))} on the {side}"
                f" hand-side of the operation: {pair};many-to-many matching not allowed:"
                " matching labels must be unique on one side",
            )
        partners[signature] = (labels, value)
    return partners


def _result_labels(labels: Labels, other: Labels, matching: Matching, *, keep: bool) -> Labels:
    made = dict(labels) if keep else unnamed(labels)
    if not matching.many:
        made = {n: v for n, v in made.items() if (n in matching.labels) == matching.on}
    for name in matching.include:
        made.pop(name, None)
        if other.get(name):
            made[name] = other[name]
    return made


def _refuse_twice(seen: dict[Key, set[Key]], signature: Key, made: Key, matching: Matching) -> None:
    known = seen.setdefault(signature, set())
    if known and not matching.many:
        text = "multiple matches for labels: many-to-one matching must be explicit"
        raise QueryError("execution", f"{text} (group_left/group_right)")
    if made in known:
        text = "multiple matches for labels: grouping labels must ensure unique matches"
        raise QueryError("execution", text)
    known.add(made)


def shown(labels: Labels) -> str:
    """Labels as Prometheus writes them: name{a="b"}."""
    inner = ", ".join(f'{n}="{v}"' for n, v in sorted(labels.items()) if n != NAME)
    return labels.get(NAME, "") + "{" + inner + "}"
