"""The built-in Prometheus' HTTP API, /api/v1.

Source: https://prometheus.io/docs/prometheus/latest/querying/api/ and web/api/v1 of 2.42.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.metrics.alerts import Alerts
from runbook_lib.practice.metrics.faces import Face
from runbook_lib.practice.metrics.promql.engine import Answer, instant, over_range, parsed
from runbook_lib.practice.metrics.promql.selectors import matches
from runbook_lib.practice.metrics.promql.values import QueryError, Series, exponent, formatted
from runbook_lib.practice.metrics.rules import Alert, Group, Rule, seconds
from runbook_lib.practice.metrics.samples import NAME, Labels, milliseconds
from runbook_lib.practice.metrics.scrape import Scraper
from runbook_lib.practice.metrics.store import SeriesStore

if TYPE_CHECKING:
    from aiohttp import web

VERSION = "2.42.0"
MOST_POINTS = 11_000
_STATUS = {"bad_data": 400, "execution": 422, "not_found": 404, "unavailable": 503}
_COUNTERS = ("_total", "_count", "_sum", "_bucket")
Parameters = dict[str, list[str]]
Answerer = Callable[[Parameters], Any]  # the `data` of an answer, of a request's parameters


class PrometheusApi(Face):
    """Answers as a Prometheus that holds the store's series and the rules' alerts."""

    def __init__(self, store: SeriesStore, alerts: Alerts, scraper: Scraper) -> None:
        super().__init__()
        self._store = store
        self._alerts = alerts
        self._scraper = scraper
        self._began = time.time()

    def routes(self) -> list[web.RouteDef]:
        from aiohttp import web

        plain: dict[str, str] = {
            "/-/healthy": "Prometheus Server is Healthy.\n",
            "/-/ready": "Prometheus Server is Ready.\n",
        }
        both: dict[str, Answerer] = {
            "query": self._query,
            "query_range": self._query_range,
            "series": self._series,
            "labels": self._labels,
        }
        get: dict[str, Answerer] = {
            **both,
            "alerts": lambda _: {"alerts": [_alert(one) for _, one in self._alerts.all()]},
            "rules": self._rules,
            "targets": self._targets,
            "metadata": self._metadata,
            "status/buildinfo": lambda _: {"version": VERSION, "revision": "practice"},
        }
        return [
            *(web.get(path, self._text(text)) for path, text in plain.items()),
            *(web.get(f"/api/v1/{path}", self._json(answer)) for path, answer in get.items()),
            *(web.post(f"/api/v1/{path}", self._json(answer)) for path, answer in both.items()),
            web.get("/api/v1/label/{name}/values", self._json(self._values)),
            web.get("/federate", self._refused),
            web.route("*", "/api/v1/{rest:.*}", self._refused),
        ]

    def _text(self, text: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        from aiohttp import web

        async def answer(_: web.Request) -> web.Response:
            broken = await self.misbehaving()
            return broken or web.Response(text=text)

        return answer

    def _json(self, answerer: Answerer) -> Callable[[web.Request], Awaitable[web.Response]]:
        from aiohttp import web

        async def answer(request: web.Request) -> web.Response:
            if broken := await self.misbehaving():
                return broken
            form = await request.post()
            given: Parameters = {"name": [request.match_info.get("name", "")]}
            for name, value in [*request.query.items(), *form.items()]:
                given.setdefault(name, []).append(str(value))
            try:
                # In a thread: a long query must not hold up the platform.
                data = await asyncio.to_thread(answerer, given)
            except QueryError as error:
                return _error(error.kind, str(error))
            return web.json_response({"status": "success", "data": data})

        return answer

    async def _refused(self, request: web.Request) -> web.Response:
        return _error("not_found", f"{request.path} is not supported by the practice platform")

    # queries

    def _query(self, given: Parameters) -> Any:
        at = _moment(given, "time", time.time())
        return _data(instant(self._store, _one(given, "query"), at), at)

    def _query_range(self, given: Parameters) -> Any:
        start, end = _moment(given, "start"), _moment(given, "end")
        step = _step(_one(given, "step"))
        if end < start:
            text = 'invalid parameter "end": end timestamp must not be before start time'
            raise QueryError("bad_data", text)
        if (end - start) / step > MOST_POINTS:
            raise QueryError(
                "bad_data",
                "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the"
                " query resolution (?step=XX)",
            )
        return _data(over_range(self._store, _one(given, "query"), start, end, step), end)

    def _found(self, given: Parameters, *, needed: bool) -> list[Labels]:
        """The labels of the series that any `match[]` selects; without one, of all."""
        selectors = given.get("match[]", [])
        if needed and not selectors:
            raise QueryError("bad_data", "no match[] parameter provided")
        now = time.time()
        begin, end = _moment(given, "start", 0.0), _moment(given, "end", now)
        found: dict[int, Labels] = {}
        for chosen in [_selector(one) for one in selectors] or [[]]:
            for labels in self._store.labels(chosen, begin, end):
                found[id(labels)] = labels
        return list(found.values())

    def _series(self, given: Parameters) -> Any:
        return self._found(given, needed=True)

    def _labels(self, given: Parameters) -> Any:
        return sorted({name for labels in self._found(given, needed=False) for name in labels})

    def _values(self, given: Parameters) -> Any:
        name = given["name"][0]
        found = self._found(given, needed=False)
        return sorted({labels[name] for labels in found if name in labels})

    def _metadata(self, given: Parameters) -> Any:
        """What the names tell; our targets write no help texts."""
        now = milliseconds(time.time())
        names = {labels[NAME] for labels in self._store.labels([], now - 300_000, now)}
        wanted = given.get("metric", [""])[0]
        return {
            name: [{"type": _type(name), "help": "", "unit": ""}]
            for name in sorted(names)
            if wanted in ("", name)
        }

    # state

    def _rules(self, given: Parameters) -> Any:
        kind = given.get("type", [""])[0]
        if kind not in ("", "alert", "record"):
            text = f'invalid parameter "type": not supported value "{kind}"'
            raise QueryError("bad_data", text)
        shown = [_group(group, self._scraper.interval) for group in self._alerts.groups()]
        # There are no recording rules.
        return {"groups": [{**one, "rules": []} for one in shown] if kind == "record" else shown}

    def _targets(self, given: Parameters) -> Any:
        state = given.get("state", ["any"])[0].lower()
        active = [
            {
                "discoveredLabels": target.labels,
                "labels": target.labels,
                "scrapePool": target.labels["job"],
                "scrapeUrl": f"practice://{target.instance}/metrics",
                "globalUrl": f"practice://{target.instance}/metrics",
                "lastError": target.error,
                "lastScrape": written(target.scraped_at),
                "lastScrapeDuration": target.seconds,
                "health": "up" if target.up else "down",
                "scrapeInterval": f"{self._scraper.interval:g}s",
                "scrapeTimeout": f"{self._scraper.interval:g}s",
            }
            for target in self._scraper.targets
        ]
        return {"activeTargets": active if state != "dropped" else [], "droppedTargets": []}


def _error(kind: str, message: str) -> web.Response:
    from aiohttp import web

    body = {"status": "error", "errorType": kind, "error": message}
    return web.json_response(body, status=_STATUS[kind])


def _one(given: Parameters, name: str) -> str:
    return given.get(name, [""])[0]


def _moment(given: Parameters, name: str, otherwise: float | None = None) -> int:
    """A time parameter, a Unix time or RFC 3339, in milliseconds."""
    text = _one(given, name)
    if not text and otherwise is not None:
        return milliseconds(otherwise)
    try:
        return milliseconds(float(text))
    except (ValueError, OverflowError):
        pass
    try:
        return milliseconds(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())
    except ValueError:
        reason = f'cannot parse "{text}" to a valid timestamp'
        raise QueryError("bad_data", f'invalid parameter "{name}": {reason}') from None


def _step(text: str) -> int:
    try:
        step = float(text)
    except ValueError:
        try:
            step = seconds(text)
        except ValueError:
            reason = f'cannot parse "{text}" to a valid duration'
            raise QueryError("bad_data", f'invalid parameter "step": {reason}') from None
    if not 0.001 <= step < math.inf:
        reason = "zero or negative query resolution step widths are not accepted. Try a positive"
        raise QueryError("bad_data", f'invalid parameter "step": {reason} integer')
    return milliseconds(step)


def _selector(text: str) -> Any:
    import promql_parser

    tree = parsed(text)
    if not isinstance(tree, promql_parser.VectorSelector):
        raise QueryError("bad_data", f'invalid parameter "match[]": {text} is no selector')
    return matches(tree)


def _data(answer: Answer, at: int) -> Any:
    result: Any = answer.result
    if answer.type == "scalar":
        result = [at / 1000, formatted(result)]
    elif answer.type == "string":
        result = [at / 1000, result]
    elif answer.type == "vector":
        result = [
            {"metric": labels, "value": [at / 1000, formatted(value)]} for labels, value in result
        ]
    else:
        result = [_matrix(series) for series in result]
    return {"resultType": answer.type, "result": result}


def _matrix(series: Series) -> Any:
    pairs = zip(series.times, series.values, strict=True)
    return {
        "metric": series.labels,
        "values": [[time / 1000, formatted(value)] for time, value in pairs],
    }


def written(at: float) -> str:
    """A Unix time as Go writes it."""
    if not at:
        return "0001-01-01T00:00:00Z"
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _type(name: str) -> str:
    if name.endswith("_bucket"):
        return "histogram"
    return "counter" if name.endswith(_COUNTERS) else "gauge"


def _alert(alert: Alert) -> Any:
    return {
        "labels": alert.labels,
        "annotations": alert.annotations,
        "state": "firing" if alert.firing else "pending",
        "activeAt": written(alert.active_at),
        "value": exponent(alert.value),
    }


def _rule(rule: Rule) -> Any:
    return {
        "state": rule.state,
        "name": rule.name,
        "query": rule.query,
        "duration": rule.hold,
        "keepFiringFor": 0,
        "labels": rule.labels,
        "annotations": rule.annotations,
        "alerts": [_alert(alert) for alert in rule.alerts.values()],
        "health": "err" if rule.error else "ok" if rule.evaluated_at else "unknown",
        **({"lastError": rule.error} if rule.error else {}),
        "evaluationTime": rule.seconds,
        "lastEvaluation": written(rule.evaluated_at),
        "type": "alerting",
    }


def _group(group: Group, interval: float) -> Any:
    return {
        "name": group.name,
        "file": f"/etc/prometheus/rules/{group.name}.yaml",
        "rules": [_rule(rule) for rule in group.rules],
        "interval": interval,
        "limit": 0,
        "evaluationTime": sum(rule.seconds for rule in group.rules),
        "lastEvaluation": written(max((rule.evaluated_at for rule in group.rules), default=0.0)),
    }
