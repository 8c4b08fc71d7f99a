"""The evaluator answers as an installed Prometheus does, from the same samples."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from runbook_lib.practice.metrics import real, remote_write
from runbook_lib.practice.metrics.promql.engine import Answer, instant, over_range
from runbook_lib.practice.metrics.promql.values import QueryError, Series
from runbook_lib.practice.metrics.rules import all_rules, loaded
from runbook_lib.practice.metrics.samples import STALE, Sample, is_stale, key_of, milliseconds
from runbook_lib.practice.metrics.store import SeriesStore

pytestmark = pytest.mark.real
if not real.installed(real.PROMETHEUS):
    pytest.skip("no Prometheus is installed", allow_module_level=True)

BEGAN = 1_790_000_000  # seconds; its minutes are not whole
LASTED = 3600
END = BEGAN + LASTED
BOUNDS = ("0.05", "0.1", "0.3", "1", "+Inf")
# (query, seconds before the end); what the platform's rules and runbooks ask comes on top.
SELECTORS = [
    "http_requests_total",
    'http_requests_total{app="platform-api",status=~"5.."}',
    'http_requests_total{app!="platform-api",status!~"2..|4.."}',
    '{__name__=~"redis_.*"}',
    'http_requests_total{version=""}',
    "redis_memory_used_bytes offset 7m",
    "redis_memory_used_bytes offset -2m",
    f"redis_memory_used_bytes @ {END - 1000}",
    f"redis_memory_used_bytes @ {END - 1000}.5 offset 1m",
    "redis_memory_used_bytes @ start()",
    "redis_memory_used_bytes @ end() offset 90s",
    "redis_memory_used_bytes[2m]",
    "ended",
    "ended[20m]",
    "gappy",
    "odd",
]
RANGES = (
    [
        f"{function}({metric}[{span}])"
        for function in (
            "rate",
            "increase",
            "irate",
            "delta",
            "idelta",
            "deriv",
            "changes",
            "resets",
        )
        for metric, span in (("http_requests_total", "5m"), ("gappy", "10m"), ("ended", "15m"))
    ]
    + [
        f"{function}_over_time({metric}[7m])"
        for function in (
            *("avg", "sum", "min", "max", "count", "last", "present", "stddev", "stdvar"),
            *("absent",),
        )
        for metric in ("redis_memory_used_bytes", "odd", "ended")
    ]
    + [
        "quantile_over_time(0.9, redis_memory_used_bytes[10m])",
        "quantile_over_time(1.5, redis_memory_used_bytes[10m])",
        "predict_linear(redis_memory_used_bytes[15m], 3600)",
        "predict_linear(redis_memory_used_bytes[15m] offset 5m, 3600)",
        "rate(http_requests_total[5m] offset 3m)",
        f"rate(http_requests_total[5m] @ {END - 600})",
        "rate(http_requests_total[20s])",
        "max_over_time(rate(http_requests_total[2m])[10m:1m])",
        "avg_over_time(redis_memory_used_bytes[10m:])",
        "sum_over_time(sum(ended)[10m:37s] offset 2m)",
    ]
)
AGGREGATIONS = [
    f"{op}(rate(http_requests_total[5m]))"
    for op in ("sum", "avg", "min", "max", "count", "group", "stddev", "stdvar")
] + [
    "sum by (app) (rate(http_requests_total[5m]))",
    "sum by (app, nothing) (http_requests_total)",
    "sum without (status, path) (http_requests_total)",
    "quantile by (app) (0.75, http_requests_total)",
    "topk(2, http_requests_total)",
    "bottomk by (app) (1, http_requests_total)",
    "topk(3, odd)",
    'count_values("value", floor(odd))',
    "max(odd)",
    "sum(odd)",
]
OPERATORS = [
    f"redis_memory_used_bytes {op} 100" for op in ("+", "-", "*", "/", "%", "^", ">", "<=", "!=")
] + [
    "100 / redis_memory_used_bytes",
    "redis_memory_used_bytes > bool 100",
    "1 < bool 2",
    "7 % 4 ^ 2 - 1 / 0",
    "-redis_memory_used_bytes",
    "redis_memory_used_bytes / redis_memory_max_bytes",
    "redis_memory_used_bytes > redis_memory_max_bytes / 5",
    "http_requests_total / on (app) group_left sum by (app) (http_requests_total)",
    "http_requests_total * on (app) group_left (version) app_info",
    "app_info * on (app) group_right (version) http_requests_total",
    "sum by (app) (http_requests_total) > ignoring (version) app_info",
    "sum by (app) (http_requests_total) == bool on (app) app_info",
    'http_requests_total and on (app) app_info{version="2"}',
    'http_requests_total unless on (app) app_info{version="2"}',
    "app_info or on (app) http_requests_total",
    "redis_memory_used_bytes and on () vector(1)",
    "odd == odd",
]
FUNCTIONS = [
    f"{function}(odd)"
    for function in ("abs", "ceil", "floor", "round", "exp", "ln", "log2", "log10", "sqrt", "sgn")
] + [
    "round(redis_memory_used_bytes, 0.1)",
    "clamp(odd, -1, 2)",
    "clamp_min(odd, 1)",
    "clamp_max(odd, 1)",
    "time()",
    "timestamp(redis_memory_used_bytes)",
    "timestamp(redis_memory_used_bytes * 1)",
    "timestamp(redis_memory_used_bytes offset 5m)",
    "scalar(redis_memory_used_bytes)",
    "scalar(odd)",
    "vector(7)",
    "pi()",
    "sort(odd)",
    "sort_desc(odd)",
    "absent(redis_memory_used_bytes)",
    'absent(missing{app="a", status=~"b"})',
    'absent(sum(missing{app="a"}))',
    'label_replace(http_requests_total, "short", "$1-${2}", "app", "(.)[^-]*-?(.*)")',
    'label_replace(http_requests_total, "path", "", "app", ".*")',
    'label_join(http_requests_total, "both", "/", "app", "status")',
    *(f"{part}()" for part in ("minute", "hour", "day_of_week", "day_of_month", "month", "year")),
    "days_in_month(vector(1709210000))",
    *(
        f"histogram_quantile({q}, sum by (le, app) (rate(latency_seconds_bucket[5m])))"
        for q in (0, 0.5, 0.95, 0.99, 1, 2)
    ),
    "histogram_quantile(0.5, latency_seconds_bucket)",
    "rate(latency_seconds_sum[5m]) / rate(latency_seconds_count[5m])",
]
RULES = [rule.query for rule in all_rules(loaded()) if rule.query != "vector(1)"]
QUERIES = [*RULES, *SELECTORS, *RANGES, *AGGREGATIONS, *OPERATORS, *FUNCTIONS]
REFUSED = [
    "rate(http_requests_total)",
    "nosuch(http_requests_total)",
    "http_requests_total{",
    "sum(",
    "http_requests_total + on (app) app_info",
    "http_requests_total * on (app) http_requests_total",
    'label_replace(http_requests_total, "app", "same", "app", ".*") * 1 '
    'or label_replace(odd, "0bad", "x", "app", ".*")',
    'label_replace(http_requests_total, "status", "", "app", ".*")',
    '{__name__=~"redis_memory_.*"} * 1 + {__name__=~"redis_memory_.*"}',
    'rate({__name__=~"redis_memory_.*"}[5m])',
    '""[5m]',
]


def _samples(step: int, chance: random.Random, counts: dict[Any, float]) -> Iterator[Sample]:
    """What one scrape gives: counters that reset, a gap, an end, odd numbers, histograms."""
    for app, status in itertools.product(("platform-api", "mlflow"), ("200", "404", "500")):
        counter = counts[(app, status)] = counts.get((app, status), 0.0) + chance.randrange(9)
        if app == "mlflow" and step % 97 == 0:
            counter = counts[(app, status)] = 0.0
        labels = {"app": app, "status": status, "path": "/v1"}
        yield Sample("http_requests_total", labels, counter)
    yield Sample("app_info", {"app": "platform-api", "version": "2"}, 1)
    yield Sample("app_info", {"app": "mlflow", "version": "3.17"}, 1)
    yield Sample("redis_memory_used_bytes", {}, 100 + 60 * math.sin(step / 20) + step / 7)
    yield Sample("redis_memory_max_bytes", {}, 512)
    counts["gappy"] = counts.get("gappy", 0.0) + 1.5
    if step % 60 < 35:
        yield Sample("gappy", {"zone": "a"}, counts["gappy"])
    if step < 150 or step > 205:
        yield Sample("ended", {"zone": "b"}, step * 2.0)
    for number, value in enumerate((0.0, -2.5, 2.5, math.nan, math.inf, 1e-9, 3e22)):
        yield Sample("odd", {"number": str(number)}, value if step % 5 else value + 1)
    for app, base in (("feast", 0.4), ("kserve", 1.4)):
        seen = counts.setdefault((app, "le"), 0.0)
        counts[(app, "le")] = seen = seen + 4 + step % 3
        for number, bound in enumerate(BOUNDS):
            share = min(1.0, (number + 1) / (len(BOUNDS) * base))
            part = seen if bound == "+Inf" else math.floor(seen * share)
            yield Sample("latency_seconds_bucket", {"app": app, "le": bound}, part)
        yield Sample("latency_seconds_sum", {"app": app}, seen * base / 10)
        yield Sample("latency_seconds_count", {"app": app}, seen)


def _incident(step: int) -> Iterator[Sample]:
    """What the rules look at, so that nearly every one of them has an answer at the end."""
    late = step > 150
    pod = {"namespace": "shop", "pod": "api-1", "container": "api"}
    node, place = {"node": "n1"}, {"namespace": "shop", "pod": "api-1"}
    root = {"instance": "10.0.0.1:9100", **node, "mountpoint": "/", "fstype": "xfs"}
    hpa = {"namespace": "shop", "horizontalpodautoscaler": "api"}
    for name, labels, value in (
        ("up", {"job": "kubelet", "instance": "n1"}, not late),
        ("kube_pod_info", {**place, **node, "uid": "u"}, 1),
        ("kube_pod_status_phase", {**place, "phase": "Pending"}, late),
        ("kube_pod_status_phase", {**place, "phase": "Running"}, 1),
        ("kube_pod_status_reason", {**place, "reason": "Evicted"}, late),
        ("kube_deployment_spec_replicas", {"namespace": "shop", "deployment": "api"}, 2),
        (
            "kube_deployment_status_replicas_available",
            {"namespace": "shop", "deployment": "api"},
            1,
        ),
        ("kube_statefulset_replicas", {"namespace": "shop", "statefulset": "redis"}, 2),
        (
            "kube_statefulset_status_replicas_ready",
            {"namespace": "shop", "statefulset": "redis"},
            1,
        ),
        ("kube_horizontalpodautoscaler_status_current_replicas", hpa, 5),
        ("kube_horizontalpodautoscaler_spec_max_replicas", hpa, 5),
        ("container_cpu_cfs_periods_total", pod, step * 150),
        ("container_cpu_cfs_throttled_periods_total", pod, step * 70),
        (
            "kube_node_status_condition",
            {**node, "condition": "Ready", "status": "true"},
            step % 7 > 3,
        ),
        (
            "kube_node_status_condition",
            {**node, "condition": "DiskPressure", "status": "true"},
            late,
        ),
        (
            "kube_node_spec_taint",
            {**node, "key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"},
            1,
        ),
        ("kube_node_status_capacity", {**node, "resource": "pods"}, 1),
        ("node_filesystem_avail_bytes", root, 9e9 - 36e6 * step),
        ("node_filesystem_size_bytes", root, 80e9),
        ("node_filesystem_files", root, 1e6),
        ("node_filesystem_files_free", root, 1e4),
        ("node_memory_MemAvailable_bytes", node, 1e9),
        ("node_memory_MemTotal_bytes", node, 16e9),
        ("pg_up", {"instance": "rds"}, 0),
        ("pg_stat_activity_count", {"instance": "rds", "state": "idle"}, 20 + step / 12),
        ("pg_stat_activity_max_tx_duration", {"instance": "rds", "state": "active"}, step * 9),
        ("pg_stat_database_numbackends", {"instance": "rds", "datname": "mlflow"}, 39),
        ("pg_stat_database_deadlocks", {"instance": "rds", "datname": "mlflow"}, step * 2),
        ("pg_settings_max_connections", {"instance": "rds"}, 40),
        ("redis_up", {"instance": "r"}, 0),
        ("redis_evicted_keys_total", {"instance": "r"}, step * 3),
    ):
        yield Sample(name, labels, float(value))
    if late:
        waiting = "kube_pod_container_status_waiting_reason"
        yield Sample(waiting, {**pod, "reason": "CrashLoopBackOff"}, 1)
    for name, labels in (
        ("http_request_duration_seconds_bucket", {"app": "platform-api"}),
        ("http_request_duration_seconds_bucket", {"app": "feast-feature-server"}),
        ("http_request_duration_seconds_bucket", {"app": "churn-model", "namespace": "models"}),
    ):
        for bound, share in (("0.1", 1), ("0.5", 2), ("2.5", 5), ("500", 6), ("+Inf", 6)):
            yield Sample(name, {**labels, "le": bound}, step * share)


@pytest.fixture(scope="module")
def store() -> SeriesStore:
    filled, chance, counts = SeriesStore(), random.Random(7), dict[Any, float]()
    for step in range(LASTED // 15 + 1):
        # Scrapes are never quite on time.
        at = milliseconds(BEGAN + step * 15) + (chance.randrange(-400, 400) if step % 4 else 0)
        filled.record(at, "test", list(_samples(step, chance, counts)), {"job": "test"})
        filled.record(at, "incident", list(_incident(step)), {"job": "incident"})
    return filled


@pytest.fixture(scope="module")
def prometheus(
    store: SeriesStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A real one that holds what the store holds."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text("global: {evaluation_interval: 1m}\n")
    program = real.Program(real.PROMETHEUS, folder)
    program.start(*real.prometheus_options(folder))
    try:
        with httpx.Client(base_url=program.url, timeout=20.0) as client:
            fill(client, store.select([], 0, milliseconds(END)))
            yield client
    finally:
        program.stop()


def fill(client: httpx.Client, known: list[Series]) -> None:
    body = remote_write.body(known)
    answer = client.post("/api/v1/write", content=body, headers=remote_write.HEADERS)
    assert answer.status_code == 204, answer.text


def _ask(client: httpx.Client, path: str, **parameters: Any) -> Any:
    return client.post(f"/api/v1/{path}", data=parameters).json()


def _plain(answer: Answer) -> Any:
    """An answer of ours as {labels: [(time, value)]}, or a number."""
    if answer.type in ("scalar", "string"):
        return answer.result
    if answer.type == "vector":
        return {key_of(labels): [(None, value)] for labels, value in answer.result}
    return {key_of(s.labels): list(zip(s.times, s.values, strict=True)) for s in answer.result}


def _theirs(data: Any) -> Any:
    kind, result = data["resultType"], data["result"]
    if kind == "scalar":
        return float(result[1])
    if kind == "string":
        return result[1]
    if kind == "vector":
        return {key_of(one["metric"]): [(None, float(one["value"][1]))] for one in result}
    return {
        key_of(one["metric"]): [(milliseconds(at), float(value)) for at, value in one["values"]]
        for one in result
    }


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float):
        return (ours != ours and theirs != theirs) or math.isclose(ours, theirs, rel_tol=1e-9)
    if not isinstance(ours, dict):
        return bool(ours == theirs)
    return ours.keys() == theirs.keys() and all(
        len(ours[key]) == len(theirs[key])
        and all(
            a[0] == b[0] and _same(a[1], b[1]) for a, b in zip(ours[key], theirs[key], strict=True)
        )
        for key in ours
    )


MOMENTS = (END, END - 1, END - 300, END - 1275, BEGAN + 45)


@pytest.mark.parametrize("query", QUERIES)
def test_the_same_answers(store: SeriesStore, prometheus: httpx.Client, query: str) -> None:
    for at in MOMENTS:
        theirs = _ask(prometheus, "query", query=query, time=at)
        assert theirs["status"] == "success", theirs
        ours = instant(store, query, milliseconds(at))
        assert ours.type == theirs["data"]["resultType"]
        assert _same(_plain(ours), _theirs(theirs["data"])), (at, ours, theirs)
        if query.startswith("sort"):
            order = [key_of(one["metric"]) for one in theirs["data"]["result"]]
            assert [key_of(labels) for labels, _ in ours.result] == order
    span = {"start": END - 1800, "end": END, "step": 61}
    theirs = _ask(prometheus, "query_range", query=query, **span)
    bounds = [milliseconds(value) for value in span.values()]
    if theirs["status"] == "error":
        with pytest.raises(QueryError, match="invalid expression type"):
            over_range(store, query, *bounds)
    else:
        ours = over_range(store, query, *bounds)
        assert _same(_plain(ours), _theirs(theirs["data"])), (ours, theirs)


@pytest.mark.parametrize("query", REFUSED)
def test_the_same_refusals(store: SeriesStore, prometheus: httpx.Client, query: str) -> None:
    theirs = _ask(prometheus, "query", query=query, time=END)
    with pytest.raises(QueryError) as caught:
        instant(store, query, milliseconds(END))
    assert caught.value.kind == theirs["errorType"], theirs


def test_enough_is_compared(store: SeriesStore) -> None:
    answered = [query for query in RULES if instant(store, query, milliseconds(END)).result]
    assert len(answered) >= len(RULES) - 2, set(RULES) - set(answered)
    ended = [one for one in store.select([], 0, milliseconds(END)) if one.labels["job"] == "test"]
    assert any(is_stale(value) for one in ended for value in one.values) and STALE != STALE
    print(f"{len(set(QUERIES))} queries compared at {len(MOMENTS)} moments and over a range")
    assert len(set(QUERIES)) >= 60
