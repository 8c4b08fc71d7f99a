"""Evaluates a query: its syntax tree becomes functions of the moment, which are then called.

The tree is promql-parser's. Every selector reads its samples once, for the whole query.
Source of the semantics: promql/engine.go of Prometheus 2.42.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from runbook_lib.practice.metrics.promql import functions, operators
from runbook_lib.practice.metrics.promql.aggregation import AGGREGATIONS, Grouping, aggregated
from runbook_lib.practice.metrics.promql.selectors import (
    Moment,
    matches,
    milliseconds,
    moment,
    newest,
    window,
    without_stale,
)
from runbook_lib.practice.metrics.promql.values import (
    LOOKBACK_MS,
    QueryError,
    Series,
    Storage,
    Vector,
    Window,
    distinct,
    unnamed,
)
from runbook_lib.practice.metrics.promql.windows import OVER
from runbook_lib.practice.metrics.samples import NAME, Key, Labels, key_of

if TYPE_CHECKING:
    import promql_parser

# A vector, a number or a string, of the moment in milliseconds.
At = Callable[[int], Any]
Windows = Callable[[int], list[Window]]
DEFAULT_STEP_MS = 60_000  # of a subquery that names none: the global evaluation interval
KEEPS_NAME = frozenset({"last_over_time"})


class Span(NamedTuple):
    """The first and the last moment at which an expression is evaluated (milliseconds)."""

    begin: int
    end: int


class Answer(NamedTuple):
    """Prometheus' resultType (vector, scalar, matrix, string) and the result.

    vector: elements; scalar: a number; string: a string; matrix: Series.
    """

    type: str
    result: Any


def parsed(query: str) -> promql_parser.Expr:
    """The syntax tree. Raises QueryError as Prometheus refuses a query."""
    import promql_parser

    try:
        tree: promql_parser.Expr = promql_parser.parse(query)
    except ValueError as error:
        text = f'invalid parameter "query": parse error: {error}'
        raise QueryError("bad_data", text) from None
    return tree


def instant(storage: Storage, query: str, at: int) -> Answer:
    """The answer to a query at one moment (Unix milliseconds). Raises QueryError."""
    import promql_parser

    tree = parsed(query)
    compiler = _Compiler(storage, Span(at, at))
    if isinstance(tree, promql_parser.MatrixSelector | promql_parser.SubqueryExpr):
        windows = compiler.windows(tree, Span(at, at))(at)
        return Answer("matrix", [Series(one.labels, one.times, one.values) for one in windows])
    result = compiler.value(tree, Span(at, at))(at)
    kind = {float: "scalar", str: "string"}.get(type(result), "vector")
    return Answer(kind, result)


def over_range(storage: Storage, query: str, start: int, end: int, step: int) -> Answer:
    """The answers at start, start + step … end, as series. Raises QueryError."""
    import promql_parser

    tree = parsed(query)
    for kind, name in (
        (promql_parser.StringLiteral, "string"),
        (promql_parser.MatrixSelector | promql_parser.SubqueryExpr, "range vector"),
    ):
        if isinstance(tree, kind):
            text = f'invalid expression type "{name}" for range query, must be Scalar or'
            raise QueryError("bad_data", f"{text} instant Vector")
    evaluate = _Compiler(storage, Span(start, end)).value(tree, Span(start, end))
    return Answer("matrix", _collected(evaluate, range(start, end + 1, step)))


def _collected(evaluate: At, moments: Iterable[int]) -> list[Series]:
    """The values at some moments as series, in the order of their labels."""
    found: dict[Key, tuple[Labels, list[int], list[float]]] = {}
    for at in moments:
        result = evaluate(at)
        for labels, value in [({}, result)] if isinstance(result, float) else result:
            series = found.setdefault(key_of(labels), (labels, [], []))
            series[1].append(at)
            series[2].append(value)
    return [Series(*found[key]) for key in sorted(found)]


class _Compiler:
    """Makes functions of the moment from syntax trees, for one query."""

    def __init__(self, storage: Storage, query: Span) -> None:
        self._storage = storage
        self._query = query  # for `@ start()` and `@ end()`

    def value(self, tree: Any, span: Span) -> At:
        """A vector, number or string of the moment; it will be asked within `span`."""
        kind = type(tree).__name__
        match kind:
            case "NumberLiteral":
                number = float(tree.val)
                return lambda _: number
            case "StringLiteral":
                text = str(tree.val)
                return lambda _: text
            case "ParenExpr":
                return self.value(tree.expr, span)
            case "UnaryExpr":
                return self._negated(self.value(tree.expr, span))
            case "VectorSelector":
                return self._newest(tree, span, timestamps=False)
            case "AggregateExpr":
                return self._aggregation(tree, span)
            case "BinaryExpr":
                return self._binary(tree, span)
            case "Call":
                return self._call(tree, span)
        raise QueryError("execution", f"{kind} is not supported here")

    # selectors

    def _read(self, tree: Any, look: Moment, back: int, span: Span) -> list[Series]:
        found = self._storage.select(matches(tree), look(span.begin) - back, look(span.end))
        return sorted(found, key=lambda series: key_of(series.labels))

    def _newest(self, tree: Any, span: Span, *, timestamps: bool) -> At:
        look = moment(tree.at, tree.offset, *self._query)
        known = self._read(tree, look, LOOKBACK_MS, span)

        def at(now: int) -> Vector:
            found = [(series.labels, newest(series, look(now))) for series in known]
            if timestamps:
                return [(unnamed(labels), one[0] / 1000) for labels, one in found if one]
            return [(labels, one[1]) for labels, one in found if one]

        return at

    def windows(self, tree: Any, span: Span) -> Windows:
        """The windows of a range selector or a subquery."""
        while type(tree).__name__ == "ParenExpr":
            tree = tree.expr
        if type(tree).__name__ == "SubqueryExpr":
            return self._subquery(tree, span)
        selector, length = tree.vector_selector, milliseconds(tree.range)
        look = moment(selector.at, selector.offset, *self._query)
        known = [without_stale(one) for one in self._read(selector, look, length, span)]
        return lambda now: [
            one for series in known if (one := window(series, look(now), length, now))
        ]

    def _subquery(self, tree: Any, span: Span) -> Windows:
        length, step = milliseconds(tree.range), milliseconds(tree.step) or DEFAULT_STEP_MS
        look = moment(tree.at, tree.offset, *self._query)
        inner = self.value(tree.expr, Span(look(span.begin) - length, look(span.end)))
        # Its moments are multiples of the step, whenever the query is asked.
        first = -(-(look(span.begin) - length) // step) * step
        known = _collected(inner, range(first, look(span.end) + 1, step))
        return lambda now: [
            one for series in known if (one := window(series, look(now), length, now))
        ]

    # operators

    def _negated(self, inner: At) -> At:
        def at(now: int) -> Any:
            value = inner(now)
            if isinstance(value, float):
                return -value
            return distinct([(unnamed(labels), -one) for labels, one in value])

        return at

    def _aggregation(self, tree: Any, span: Span) -> At:
        op = str(tree.op)
        if op not in AGGREGATIONS:
            raise QueryError("execution", f"the aggregation {op} is not supported")
        inner, grouping = self.value(tree.expr, span), _grouping(tree.modifier)
        param = self.value(tree.param, span) if tree.param is not None else lambda _: None
        return lambda now: aggregated(op, inner(now), grouping, param(now))

    def _binary(self, tree: Any, span: Span) -> At:
        op, modifier = str(tree.op), tree.modifier
        left, right = self.value(tree.lhs, span), self.value(tree.rhs, span)
        matching, as_bool = _matching(modifier), bool(modifier and modifier.return_bool)

        def at(now: int) -> Any:
            a, b = left(now), right(now)
            if op in operators.SET_OPERATORS:
                return operators.sets(op, a, b, matching)
            if isinstance(a, float) and isinstance(b, float):
                return operators.numbers(op, a, b)
            if isinstance(b, float):
                found = operators.with_number(op, a, b, swapped=False, as_bool=as_bool)
            elif isinstance(a, float):
                found = operators.with_number(op, b, a, swapped=True, as_bool=as_bool)
            else:
                found = operators.vectors(op, a, b, matching, as_bool=as_bool)
            return distinct(found)

        return at

    # functions

    def _call(self, tree: Any, span: Span) -> At:
        name, given = tree.func.name, list(tree.args)
        if name not in functions.SUPPORTED:
            raise QueryError("execution", f"the function {name} is not supported")
        if name in OVER:
            return self._over(name, given, span)
        if name in ("absent", "absent_over_time"):
            return self._absent(name, given[0], span)
        if name == "timestamp":
            return self._timestamp(given[0], span)
        arguments = [self.value(one, span) for one in given]
        if name in functions.EACH:
            return _each(functions.EACH[name], arguments)
        if name in functions.DATE:
            return _each(functions.DATE[name], arguments or [lambda now: [({}, now / 1000)]])
        of = _WHOLE[name]
        return lambda now: of(now, *[argument(now) for argument in arguments])

    def _over(self, name: str, given: list[Any], span: Span) -> At:
        of, keep = OVER[name], name in KEEPS_NAME
        ranges = ("MatrixSelector", "SubqueryExpr")
        # quantile_over_time's number stands before the range, predict_linear's after it.
        place = 1 if name == "quantile_over_time" else 0
        windows = self.windows(given[place], span)
        numbers = [
            self.value(one, span)
            for index, one in enumerate(given)
            if index != place and type(one).__name__ not in ranges
        ]

        def at(now: int) -> Vector:
            values = [number(now) for number in numbers]
            found = ((one.labels, of(one, *values)) for one in windows(now))
            return distinct(
                [
                    (labels if keep else unnamed(labels), value)
                    for labels, value in found
                    if value is not None
                ]
            )

        return at

    def _absent(self, name: str, tree: Any, span: Span) -> At:
        labels = _labels_of_absence(tree)
        inner = self.value(tree, span) if name == "absent" else self.windows(tree, span)
        return lambda now: [] if inner(now) else [(labels, 1.0)]

    def _timestamp(self, tree: Any, span: Span) -> At:
        while type(tree).__name__ == "ParenExpr":
            tree = tree.expr
        if type(tree).__name__ == "VectorSelector":
            return self._newest(tree, span, timestamps=True)
        inner = self.value(tree, span)
        return lambda now: distinct([(unnamed(one), now / 1000) for one, _ in inner(now)])


def _each(of: Callable[..., float], arguments: list[At]) -> At:
    vector, *numbers = arguments

    def at(now: int) -> Vector:
        values = [number(now) for number in numbers]
        found = [(unnamed(labels), float(of(value, *values))) for labels, value in vector(now)]
        return distinct(found)

    return at


_WHOLE: dict[str, Callable[..., Any]] = {
    "histogram_quantile": lambda _, q, vector: functions.histogram_quantile(q, vector),
    "label_join": lambda _, *given: distinct(functions.label_join(*given)),
    "label_replace": lambda _, *given: distinct(functions.label_replace(*given)),
    "pi": lambda _: 3.141592653589793,
    "scalar": lambda _, vector: functions.scalar(vector),
    "sort": lambda _, vector: functions.ordered(vector, falling=False),
    "sort_desc": lambda _, vector: functions.ordered(vector, falling=True),
    "time": lambda now: now / 1000,
    "vector": lambda _, number: [({}, number)],
}


def _labels_of_absence(tree: Any) -> Labels:
    """What the series that is missing must have been labelled with."""
    import promql_parser

    selector = tree.vector_selector if type(tree).__name__ == "MatrixSelector" else tree
    if type(selector).__name__ != "VectorSelector":
        return {}
    found: Labels = {}
    unsure: set[str] = set()
    for one in selector.matchers.matchers:
        if one.name == NAME:
            continue
        if one.op == promql_parser.MatchOp.Equal and one.name not in found:
            found[one.name] = one.value
        else:
            unsure.add(one.name)
    return {name: value for name, value in found.items() if name not in unsure and value}


def _grouping(modifier: promql_parser.AggModifier | None) -> Grouping:
    import promql_parser

    if modifier is None:
        return Grouping()
    without = modifier.type == promql_parser.AggModifierType.Without
    return Grouping(tuple(modifier.labels), without)


def _matching(modifier: promql_parser.BinModifier | None) -> operators.Matching:
    import promql_parser

    if modifier is None:
        return operators.Matching()
    if modifier.fill_values.lhs is not None or modifier.fill_values.rhs is not None:
        raise QueryError("bad_data", "fill values are not supported")
    cards = promql_parser.VectorMatchCardinality
    left, right = modifier.card == cards.ManyToOne, modifier.card == cards.OneToMany
    labels = modifier.matching
    return operators.Matching(
        on=labels is not None and labels.type == promql_parser.LabelModifierType.Include,
        labels=tuple(labels.labels) if labels else (),
        include=tuple(modifier.group_labels or ()),
        many="left" if left else "right" if right else "",
    )
