"""The built-in Prometheus over its socket: queries, rules, alerts, and what scenarios put in."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from practice.hosted import Hosted
from practice.measured import Settable

from runbook_lib.practice.metrics.samples import Sample
from runbook_lib.practice.metrics.scrape import Target
from runbook_lib.practice.metrics.systems import Prometheus
from runbook_lib.practice.wait import until

SECONDS = 10.0
CALM = {"up_since": [({}, 1.0)], "calm_total": [({"zone": "a"}, 40.0)]}
ALWAYS = {"Watchdog", "InfoInhibitor"}


class Hanging:
    """A target that answers when it may."""

    job = "hanging"

    def __init__(self, go_on: threading.Event) -> None:
        self._go_on = go_on

    def collect(self) -> list[Sample]:
        self._go_on.wait(SECONDS)
        return []


class Running:
    """A Prometheus with one target, scraped every 50 ms, and a client for it."""

    def __init__(self, hosted: Hosted, prometheus: Prometheus, target: Settable) -> None:
        self.hosted, self.prometheus, self.target = hosted, prometheus, target
        self.http = httpx.Client(base_url=prometheus.url, trust_env=False)

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self.http.get(f"/api/v1/{path}", params=parameters)
        assert answer.json()["status"] == "success", answer.text
        return answer.json()["data"]

    def values(self, query: str) -> dict[str, float]:
        """An instant query's values, by the label `zone`."""
        result = self.get("query", query=query)["result"]
        return {one["metric"].get("zone", ""): float(one["value"][1]) for one in result}

    def alerts(self) -> dict[str, Any]:
        """By name; without KubeletDown, for there is no kubelet here."""
        found = self.get("alerts")["alerts"]
        named = {one["labels"]["alertname"]: one for one in found}
        return {name: one for name, one in named.items() if name != "KubeletDown"}

    def until(self, condition: Any, what: str) -> None:
        until(condition, SECONDS, what)


@pytest.fixture(scope="module")
def _running() -> Iterator[Running]:
    target = Settable()
    target.values = dict(CALM)
    prometheus = Prometheus(
        [Target(target, "settable:80")], scrape_seconds=0.05, evaluation_seconds=0.05
    )
    with Hosted(prometheus) as hosted:
        running = Running(hosted, prometheus, target)
        yield running
        running.http.close()


@pytest.fixture
def running(_running: Running) -> Iterator[Running]:
    yield _running
    _running.hosted.do("start")
    _running.target.values = dict(CALM)
    _running.hosted.do("heal")


def _age(alert: dict[str, Any]) -> float:
    since = datetime.datetime.fromisoformat(alert["activeAt"].replace("Z", "+00:00"))
    return time.time() - since.timestamp()


def test_queries_in_prometheus_own_shapes(running: Running) -> None:
    running.target.values = {"queue": [({"zone": "a"}, 3.0), ({"zone": "b"}, 1e-7)]}
    running.until(lambda: running.values("queue") == {"a": 3.0, "b": 1e-7}, "queue scraped")
    vector = running.get("query", query='queue{zone="a"}')
    assert vector["resultType"] == "vector"
    labels = {"__name__": "queue", "zone": "a", "job": "settable", "instance": "settable:80"}
    assert vector["result"][0]["metric"] == labels
    assert vector["result"][0]["value"][1] == "3"
    at = "2026-03-01T12:00:00.5Z"
    assert running.get("query", query="time()", time=at) == {
        "resultType": "scalar",
        "result": [1772366400.5, "1772366400.5"],
    }
    assert running.get("query", query='"text"', time=7)["result"] == [7, "text"]
    form = {"query": "vector(2)", "start": "10", "end": "40", "step": "15s"}
    posted = running.http.post("/api/v1/query_range", data=form).json()["data"]
    assert posted == {
        "resultType": "matrix",
        "result": [{"metric": {}, "values": [[10, "2"], [25, "2"], [40, "2"]]}],
    }
    assert running.get("query_range", **form) == posted


@pytest.mark.parametrize(
    ("path", "parameters", "status", "kind", "text"),
    [
        ("query", {"query": "rate(x)"}, 400, "bad_data", "expected type matrix"),
        ("query", {"query": "nosuch(x)"}, 400, "bad_data", "unknown function with name 'nosuch'"),
        ("query", {"query": "mad_over_time(x[1m])"}, 422, "execution", "mad_over_time"),
        ("query", {"query": "limitk(1, x)"}, 422, "execution", "limitk"),
        ("query", {"query": "x", "time": "noon"}, 400, "bad_data", 'parameter "time"'),
        ("query", {}, 400, "bad_data", 'parameter "query"'),
        ("query_range", {"query": "x", "start": 9, "end": 1, "step": 1}, 400, "bad_data", "end"),
        ("query_range", {"query": "x", "start": 1, "end": 9, "step": 0}, 400, "bad_data", "step"),
        (
            "query_range",
            {"query": "x", "start": 0, "end": 20_000, "step": 1},
            400,
            "bad_data",
            "11,000 points",
        ),
        ("series", {}, 400, "bad_data", "match[]"),
        ("admin/tsdb/snapshot", {}, 404, "not_found", "not supported"),
    ],
)
def test_refusals_in_prometheus_own_shape(
    running: Running, path: str, parameters: dict[str, Any], status: int, kind: str, text: str
) -> None:
    answer = running.http.get(f"/api/v1/{path}", params=parameters)
    body = answer.json()
    assert (answer.status_code, body["status"], body["errorType"]) == (status, "error", kind)
    assert text in body["error"]


def test_labels_series_metadata_and_health(running: Running) -> None:
    running.target.values = {"requests_total": [({"zone": "a"}, 3.0)], "size": [({}, 1.0)]}
    running.until(lambda: running.values("size"), "size scraped")
    assert {"__name__", "job", "zone"} <= set(running.get("labels"))
    assert "requests_total" in running.get("label/__name__/values")
    assert running.get("label/zone/values", **{"match[]": "requests_total"}) == ["a"]
    (series,) = running.get("series", **{"match[]": '{__name__=~"requests_.*"}'})
    assert series["__name__"] == "requests_total"
    described = running.get("metadata", metric="requests_total")
    assert described["requests_total"][0]["type"] == "counter"
    assert running.get("status/buildinfo")["version"] == "2.42.0"
    assert running.http.get("/-/healthy").text == "Prometheus Server is Healthy.\n"
    assert running.http.get("/-/ready").status_code == 200
    assert running.http.get("/federate", params={"match[]": "up"}).status_code == 404


def test_a_target_that_is_down_is_never_stale_health(running: Running) -> None:
    running.target.values = {"queue": [({"zone": "a"}, 3.0)]}
    running.until(lambda: running.values("queue"), "queue scraped")
    running.target.values = None
    running.until(lambda: running.values('up{job="settable"}') == {"": 0.0}, "up is 0")
    assert running.values("queue") == {}
    (target,) = running.get("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == (
        "down",
        "ConnectionRefusedError: connection refused",
    )


def test_a_target_that_hangs_is_down_and_holds_up_no_other(running: Running) -> None:
    go_on = threading.Event()
    hanging = Target(Hanging(go_on), "hanging:80")
    running.prometheus.scraper.targets.append(hanging)
    try:
        running.until(lambda: hanging.error == "context deadline exceeded", "it is down")
        assert running.values('up{job="hanging"}') == {"": 0.0}
        assert running.values('up{job="settable"}') == {"": 1.0}
        go_on.set()
        running.until(lambda: running.values('up{job="hanging"}') == {"": 1.0}, "it is up again")
    finally:
        go_on.set()
        running.prometheus.scraper.targets.remove(hanging)


def test_history_is_calm_and_a_reset_counts(running: Running) -> None:
    now = time.time()
    before = running.get(
        "query_range", query="calm_total", start=now - 7200, end=now - 60, step=600
    )
    assert {value for _, value in before["result"][0]["values"]} == {"40"}
    running.target.values = {"hits_total": [({"zone": "a"}, 100.0)]}
    running.until(lambda: running.values("hits_total") == {"a": 100.0}, "100 scraped")
    running.target.values = {"hits_total": [({"zone": "a"}, 7.0)]}
    running.until(lambda: running.values("resets(hits_total[1m])") == {"a": 1.0}, "a reset")
    assert running.values("increase(hits_total[1m])")["a"] >= 7.0


def test_a_rule_is_pending_then_fires_then_is_gone(running: Running) -> None:
    rule = next(
        rule
        for group in running.prometheus.alerts.rules
        for rule in group.rules
        if rule.name == "KubeNodeNotReady"
    )
    hold, rule.hold = rule.hold, 1.0
    condition = {"node": "n1", "condition": "Ready", "status": "true"}
    try:
        running.target.values = {"kube_node_status_condition": [(condition, 0.0)]}
        running.until(lambda: "KubeNodeNotReady" in running.alerts(), "pending")
        first = running.alerts()["KubeNodeNotReady"]
        assert first["state"] == "pending"
        running.until(lambda: running.alerts()["KubeNodeNotReady"]["state"] == "firing", "firing")
        assert running.alerts()["KubeNodeNotReady"] == {**first, "state": "firing"}
        assert first["labels"] == {
            "alertname": "KubeNodeNotReady",
            "severity": "warning",
            "node": "n1",
        }
        assert first["annotations"]["summary"] == "n1 has been unready."
        assert first["value"] == "0e+00"
        firing = 'ALERTS{alertname="KubeNodeNotReady", alertstate="firing"}'
        running.until(lambda: running.values(firing) == {"": 1.0}, "ALERTS recorded")
        groups = {group["name"]: group for group in running.get("rules")["groups"]}
        shown = {one["name"]: one for one in groups["kubernetes-nodes"]["rules"]}
        assert shown["KubeNodeNotReady"]["state"] == "firing"
        assert shown["KubeNodeNotReady"]["health"] == "ok"
        assert shown["KubeNodePressure"]["state"] == "inactive"
        running.target.values = {"kube_node_status_condition": [(condition, 1.0)]}
        running.until(lambda: "KubeNodeNotReady" not in running.alerts(), "resolved")
    finally:
        rule.hold = hold


def test_what_always_fires_has_fired_for_days(running: Running) -> None:
    running.until(lambda: set(running.alerts()) == ALWAYS, "only what always fires")
    found = running.alerts()
    assert all(alert["state"] == "firing" for alert in found.values())
    assert all(_age(alert) > 5 * 86400 for alert in found.values())


def test_an_injected_alert_fires_since_its_age(running: Running) -> None:
    labels = {"node": "n1", "condition": "DiskPressure"}
    running.hosted.do(
        "alert",
        name="KubeNodePressure",
        severity="warning",
        summary="n1 has active condition DiskPressure.",
        age_seconds=900,
        labels=labels,
    )
    found = running.alerts()["KubeNodePressure"]
    assert found["state"] == "firing" and 899 < _age(found) < 930
    assert running.values('ALERTS{alertname="KubeNodePressure"} offset 10m') == {"": 1.0}
    assert running.values('ALERTS{alertname="KubeNodePressure"} offset 16m') == {}
    groups = {group["name"]: group for group in running.get("rules")["groups"]}
    assert [rule["name"] for rule in groups["injected"]["rules"]] == ["KubeNodePressure"]
    # The rule that says the same is the same alert, and keeps the age.
    condition = {**labels, "status": "true"}
    running.target.values = {"kube_node_status_condition": [(condition, 1.0)]}
    running.until(
        lambda: "injected" not in [group["name"] for group in running.get("rules")["groups"]],
        "one alert",
    )
    both = [one for one in running.get("alerts")["alerts"] if "node" in one["labels"]]
    assert len(both) == 1 and both[0]["state"] == "firing" and _age(both[0]) > 899
    running.target.values = {}
    running.hosted.do("resolve", name="KubeNodePressure")
    running.until(lambda: set(running.alerts()) == ALWAYS, "resolved")
    assert running.values('ALERTS{alertname="KubeNodePressure"} offset 10m') == {}


def test_a_series_that_was_put_in_raises_the_rules_alert(running: Running) -> None:
    for status, before, after in (("200", 5.0, 5.0), ("500", 0.0, 2.0)):
        running.hosted.do(
            "series",
            name="http_requests_total",
            labels={"app": "platform-api", "status": status},
            shape={"kind": "rate", "before": before, "after": after},
            since="20m",
        )
    errors = 'sum(rate(http_requests_total{status="500"}[5m] offset %ds))'
    assert running.values(errors % 1)[""] == pytest.approx(2.0, rel=0.02)
    assert running.values(errors % 1800)[""] == 0.0
    running.until(lambda: "HighErrorRate" in running.alerts(), "HighErrorRate")
    running.hosted.do("heal")
    running.until(lambda: set(running.alerts()) == ALWAYS, "healed")
    assert running.values("http_requests_total") == {}


def test_after_heal_no_rule_looks_back_at_what_was_broken(running: Running) -> None:
    waiting = {"namespace": "shop", "pod": "cart-1", "reason": "CrashLoopBackOff"}
    name = "kube_pod_container_status_waiting_reason"
    running.target.values = {name: [(waiting, 1.0)], "up_since": [({}, 1.0)]}
    running.until(lambda: "KubePodCrashLooping" in running.alerts(), "it is pending")
    running.target.values = dict(CALM)
    running.until(lambda: running.values(name) == {}, "the pod is gone")
    assert "KubePodCrashLooping" in running.alerts()
    running.hosted.do("heal")
    assert running.values(f"max_over_time({name}[5m])") == {}
    assert set(running.alerts()) == ALWAYS
    assert running.values("calm_total offset 1h") == {"a": 40.0}


def test_points_and_shapes_of_a_gauge(running: Running) -> None:
    running.hosted.do("series", name="depth", points=[[600, 1], [300, 8]], labels={"zone": "p"})
    shape = {"kind": "ramp", "before": 0, "after": 100}
    running.hosted.do("series", name="depth", shape=shape, since="10m", labels={"zone": "r"})
    now = running.values("depth")
    assert now["p"] == 8.0 and now["r"] == pytest.approx(100, abs=4)
    middle = running.values("depth offset 5m")
    assert middle["r"] == pytest.approx(50, abs=5)
    assert running.values("depth offset 7m")["p"] == 1.0
    assert "p" not in running.values("depth offset 11m")


@pytest.mark.parametrize(
    ("verb", "arguments", "text"),
    [
        ("series", {"name": "x"}, "either points or a shape"),
        ("series", {"name": "x", "points": []}, "pairs"),
        ("series", {"name": "", "points": [[0, 1]]}, "needs a name"),
        ("series", {"name": "x", "shape": {"kind": "saw", "before": 1, "after": 2}}, "ramp"),
        ("series", {"name": "x", "shape": {"kind": "step"}}, "before and after"),
        (
            "series",
            {"name": "x", "since": "soon", "shape": {"kind": "step", "before": 1, "after": 2}},
            "duration",
        ),
        ("alert", {"name": "", "severity": "x", "summary": ""}, "name"),
        ("alert", {"name": "A", "severity": "x", "summary": "", "labels": {"a-b": "c"}}, "label"),
        ("series", {"name": "x", "points": [[0, 1]], "labels": {"__name__": "y"}}, "label"),
        ("behave", {"status": 42}, "status"),
        ("nosuch", {}, "no verb"),
    ],
)
def test_what_cannot_be_asked(
    running: Running, verb: str, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        running.hosted.do(verb, **arguments)


def test_stopped_started_and_misbehaving(running: Running) -> None:
    running.hosted.do("behave", status=503)
    assert running.http.get("/api/v1/alerts").status_code == 503
    running.hosted.do("heal")
    url = running.prometheus.url
    running.hosted.do("stop")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/-/ready")
    running.hosted.do("start")
    assert running.prometheus.url == url
    assert set(running.alerts()) == ALWAYS
