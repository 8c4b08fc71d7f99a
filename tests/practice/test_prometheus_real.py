"""The installed Prometheus and Alertmanager as systems of the platform, over their sockets."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from practice.hosted import Hosted
from practice.measured import Settable, Webhook

from runbook_lib.practice.metrics import real
from runbook_lib.practice.metrics.real_systems import (
    RealAlertmanager,
    RealPrometheus,
    systems,
)
from runbook_lib.practice.metrics.scrape import Target
from runbook_lib.practice.metrics.systems import Alertmanager, Prometheus
from runbook_lib.practice.system import perform
from runbook_lib.practice.wait import until

pytestmark = pytest.mark.real
if not (real.installed(real.PROMETHEUS) and real.installed(real.ALERTMANAGER)):
    pytest.skip("Prometheus or Alertmanager is not installed", allow_module_level=True)

SECONDS = 20.0
ALWAYS = {"Watchdog", "InfoInhibitor"}
UP = {"up": [({"job": "kubelet", "instance": "n1"}, 1.0)]}


class Running:
    def __init__(self, hosted: Hosted, told: RealAlertmanager, target: Settable) -> None:
        self.hosted, self.told, self.target = hosted, told, target
        self.prometheus = hosted.system
        assert isinstance(self.prometheus, RealPrometheus)
        self.http = httpx.Client(base_url=self.prometheus.url, trust_env=False, timeout=20)

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self.http.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, query: str, **parameters: Any) -> dict[str, float]:
        result = self.get("query", query=query, **parameters)["result"]
        return {one["metric"].get("zone", ""): float(one["value"][1]) for one in result}

    def alerts(self) -> dict[str, Any]:
        return {one["labels"]["alertname"]: one for one in self.get("alerts")["alerts"]}


@pytest.fixture(scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder, target = tmp_path_factory.mktemp("metrics"), Settable()
    target.values = {**UP, "depth": [({"zone": "a"}, 7.0)]}
    told = RealAlertmanager(folder / "alertmanager")
    prometheus = RealPrometheus(
        [Target(target, "settable:80")], told, folder / "prometheus", scrape_seconds=0.5
    )
    with Hosted(prometheus) as hosted:
        hosted.run(told.start)
        running = Running(hosted, told, target)
        yield running
        running.http.close()
        hosted.run(told.stop)


@pytest.fixture
def running(_running: Running) -> Iterator[Running]:
    yield _running
    _running.target.values = {**UP}
    _running.hosted.do("heal")


def _wait(condition: Any, what: str) -> None:
    until(condition, SECONDS, what)


def _age(alert: dict[str, Any]) -> float:
    whole = alert["activeAt"].removesuffix("Z").partition(".")[0]
    return time.time() - datetime.datetime.fromisoformat(f"{whole}+00:00").timestamp()


def test_it_is_a_real_one_that_scrapes_the_targets_and_has_their_past(running: Running) -> None:
    assert running.get("status/buildinfo")["goVersion"].startswith("go")
    _wait(lambda: running.values("depth") == {"a": 7.0}, "scraped")
    hour = time.time() - 3600
    assert running.values("depth", time=hour) == {"a": 7.0}
    # Prometheus looks for its targets every 5 s.
    _wait(lambda: running.get("targets")["activeTargets"], "targets found")
    labels = [one["labels"] for one in running.get("targets")["activeTargets"]]
    assert {"job": "settable", "instance": "settable:80"} in labels
    running.target.values = None
    _wait(lambda: running.values('up{job="settable"}') == {"": 0.0}, "down")
    _wait(lambda: running.values("depth") == {}, "no stale health")


def test_a_system_that_breaks_before_the_first_scrape_is_no_stale_health(running: Running) -> None:
    running.target.values = {**UP, "depth": [({"zone": "a"}, 7.0)]}
    _wait(lambda: running.values("depth") == {"a": 7.0}, "scraped")
    # Started anew, it knows the series from its past, and has found no target yet.
    running.hosted.do("alert", name="Slow", severity="info", summary="x")
    running.target.values = None
    assert running.get("targets")["activeTargets"] == []
    _wait(lambda: running.values("depth") == {}, "no stale health")


def test_what_always_fires_has_fired_for_days(running: Running) -> None:
    found = running.alerts()
    assert set(found) >= ALWAYS
    assert all(_age(found[name]) > 5 * 86400 for name in ALWAYS)


def test_an_injected_alert_has_its_age_and_a_webhook_hears_of_it(running: Running) -> None:
    with Webhook() as hook:
        running.hosted.run(lambda: perform(running.told, "receiver", {"url": hook.url}))
        labels = {"namespace": "shop", "pod": "api-1"}
        running.hosted.do(
            "alert",
            name="KubePodCrashLooping",
            severity="warning",
            summary="Pod shop/api-1 is in waiting state.",
            age_seconds=900,
            labels=labels,
        )
        found = running.alerts()
        assert 898 < _age(found["KubePodCrashLooping"]) < 930
        assert _age(found["Watchdog"]) > 5 * 86400
        _wait(lambda: hook.alerts("KubePodCrashLooping"), "heard")
        group = '{}:{alertname="KubePodCrashLooping", namespace="shop"}'
        assert hook.heard[0]["groupKey"] == group
        shown = httpx.get(f"{running.told.url}/api/v2/alerts").json()
        (alert,) = (one for one in shown if one["labels"]["alertname"] == "KubePodCrashLooping")
        assert alert["labels"] == {
            "alertname": "KubePodCrashLooping",
            "severity": "warning",
            **labels,
        }
        running.hosted.do("resolve")
        assert set(running.alerts()) == ALWAYS
    running.hosted.run(running.told.heal)


def test_a_series_that_was_put_in_raises_the_rules_alert_until_heal(running: Running) -> None:
    for status, before, after in (("200", 5.0, 5.0), ("500", 0.0, 2.0)):
        running.hosted.do(
            "series",
            name="http_requests_total",
            labels={"app": "platform-api", "status": status, "job": "put", "instance": "put"},
            shape={"kind": "rate", "before": before, "after": after},
            since="20m",
        )
    errors = 'sum(rate(http_requests_total{status="500"}[5m]))'
    now = time.time()
    assert running.values(errors, time=now - 300)[""] == pytest.approx(2.0, rel=0.02)
    assert running.values(errors, time=now - 1800)[""] == 0.0
    _wait(lambda: "HighErrorRate" in running.alerts(), "HighErrorRate")
    running.hosted.do("heal")
    assert running.values("http_requests_total", time=now - 300) == {}


def test_misbehaving_stopped_and_started(running: Running) -> None:
    running.hosted.do("behave", status=503)
    assert running.http.get("/api/v1/alerts").status_code == 503
    running.hosted.do("behave")
    running.hosted.do("stop")
    with pytest.raises(httpx.ConnectError):
        running.http.get("/-/ready")
    running.hosted.do("start")
    assert running.http.get("/-/ready").status_code == 200
    assert set(running.alerts()) >= ALWAYS


def test_which_ones_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = systems([], tmp_path)
    assert [type(one) for one in chosen] == [RealPrometheus, RealAlertmanager]
    plain = systems([], tmp_path, choice="builtin")
    assert [type(one) for one in plain] == [Prometheus, Alertmanager]
    assert chosen[0].verbs().keys() == plain[0].verbs().keys()
    assert chosen[1].verbs().keys() == plain[1].verbs().keys()
    with pytest.raises(ValueError, match="is real or builtin"):
        systems([], tmp_path, choice="thanos")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert type(systems([], tmp_path)[0]) is Prometheus
    with pytest.raises(real.RealError, match="not installed: prometheus, alertmanager"):
        systems([], tmp_path, choice="real")
