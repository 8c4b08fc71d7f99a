"""The built-in Alertmanager: its API, its silences, and what webhooks are told when."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import httpx
import pytest
from practice.hosted import Hosted
from practice.measured import Webhook

from runbook_lib.practice.metrics.alertmanager import Notice
from runbook_lib.practice.metrics.alertmanager_api import deliver
from runbook_lib.practice.metrics.scrape import Target
from runbook_lib.practice.metrics.systems import Alertmanager, Prometheus
from runbook_lib.practice.system import perform
from runbook_lib.practice.wait import until

SECONDS = 10.0
CRASH = {"alertname": "KubePodCrashLooping", "severity": "warning", "namespace": "shop"}


class Running:
    """Prometheus and Alertmanager in one loop, and a client for the latter."""

    def __init__(self, hosted: Hosted, prometheus: Prometheus, alertmanager: Alertmanager) -> None:
        self.hosted, self.prometheus, self.alertmanager = hosted, prometheus, alertmanager
        self.http = httpx.Client(base_url=alertmanager.url, trust_env=False)

    def receiver(self, url: str) -> None:
        self.hosted.run(lambda: perform(self.alertmanager, "receiver", {"url": url}))

    def fire(self, pod: str, age_seconds: float = 600.0) -> None:
        self.hosted.do(
            "alert",
            name=CRASH["alertname"],
            severity="warning",
            summary=f"Pod shop/{pod} is in waiting state.",
            age_seconds=age_seconds,
            labels={"namespace": "shop", "pod": pod},
        )

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self.http.get(f"/api/v2/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def crashing(self, **parameters: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(
            "alerts", filter='alertname="KubePodCrashLooping"', **parameters
        )
        return found


@pytest.fixture(scope="module")
def _running() -> Iterator[Running]:
    alertmanager = Alertmanager()
    targets: list[Target] = []
    prometheus = Prometheus(targets, alertmanager, scrape_seconds=0.2, evaluation_seconds=0.05)
    with Hosted(prometheus) as hosted:
        hosted.run(alertmanager.start)
        running = Running(hosted, prometheus, alertmanager)
        yield running
        running.http.close()
        hosted.run(alertmanager.stop)


@pytest.fixture
def running(_running: Running) -> Iterator[Running]:
    yield _running
    _running.hosted.do("heal")
    _running.hosted.run(_running.alertmanager.heal)


def _wait(condition: Any, what: str) -> None:
    until(condition, SECONDS, what)


def test_a_webhook_hears_of_the_beginning_and_the_end(running: Running) -> None:
    with Webhook() as hook:
        running.receiver(hook.url)
        running.fire("api-1")
        running.fire("api-2")
        _wait(lambda: len(hook.alerts("KubePodCrashLooping")) >= 2, "both heard")
        body = hook.heard[-1]
        assert (body["version"], body["status"], body["truncatedAlerts"]) == ("4", "firing", 0)
        assert body["receiver"] == "webhook" and body["externalURL"] == running.alertmanager.url
        group = '{}:{alertname="KubePodCrashLooping", namespace="shop"}'
        assert body["groupKey"] == group
        assert body["groupLabels"] == {"alertname": "KubePodCrashLooping", "namespace": "shop"}
        assert body["commonLabels"] == CRASH
        first = body["alerts"][0]
        assert (first["status"], first["endsAt"]) == ("firing", "0001-01-01T00:00:00Z")
        started = datetime.datetime.fromisoformat(first["startsAt"].replace("Z", "+00:00"))
        assert 599 < time.time() - started.timestamp() < 630
        assert first["annotations"] == {"summary": "Pod shop/api-1 is in waiting state."}
        running.hosted.do("resolve")
        _wait(lambda: hook.heard[-1]["status"] == "resolved", "resolved heard")
        ended = hook.heard[-1]["alerts"]
        assert {alert["status"] for alert in ended} == {"resolved"} and len(ended) == 2
        assert not hook.alerts("Watchdog")
        assert not [body for body in hook.heard if body["groupKey"] != group]


def test_only_5xx_is_tried_again_at_once(running: Running) -> None:
    with Webhook(500, 503) as hook:
        running.receiver(hook.url)
        running.fire("api-1")
        _wait(lambda: hook.heard, "heard after two failures")
        assert hook.answered == [500, 503, 200]


def test_a_receiver_that_refuses_is_not_asked_again(running: Running) -> None:
    told: list[str] = []

    async def once(url: str) -> None:
        body = {"groupKey": "{}:{}"}
        async with aiohttp.ClientSession() as session:
            await deliver(session, Notice(url, body, lambda: told.append(url)))

    with Webhook(429, 400) as hook:
        running.hosted.run(lambda: once(hook.url))
        running.hosted.run(lambda: once(hook.url))
        assert hook.answered == [429, 400] and not told
        # It was not told, so the next interval of the group tries anew.
        running.hosted.run(lambda: once(hook.url))
        assert told == [hook.url]


def test_alerts_and_groups(running: Running) -> None:
    running.fire("api-1")
    (alert,) = running.crashing()
    assert alert["labels"] == {**CRASH, "pod": "api-1"}
    assert alert["status"] == {"state": "active", "silencedBy": [], "inhibitedBy": []}
    assert alert["receivers"] == [{"name": "null"}]
    groups = {group["labels"]["alertname"]: group for group in running.get("alerts/groups")}
    (grouped,) = groups["KubePodCrashLooping"]["alerts"]
    assert grouped["fingerprint"] == alert["fingerprint"]
    assert "Watchdog" in groups
    assert running.get("alerts", filter='pod=~"web.*"') == []
    assert running.http.get("/api/v2/alerts", params={"filter": "?"}).status_code == 400
    assert running.http.get("/-/ready").status_code == 200


def test_alerts_that_others_post(running: Running) -> None:
    posted = [{"labels": {"alertname": "Hand", "empty": ""}, "annotations": {"summary": "x"}}]
    assert running.http.post("/api/v2/alerts", json=posted).status_code == 200
    (alert,) = running.get("alerts", filter="alertname=Hand")
    assert alert["labels"] == {"alertname": "Hand"}
    posted[0]["endsAt"] = "2026-01-01T00:00:00.123456789Z"  # type: ignore[assignment]
    running.http.post("/api/v2/alerts", json=posted)
    assert running.get("alerts", filter="alertname=Hand") == []
    assert running.http.post("/api/v2/alerts", json=[{"labels": {}}]).status_code == 400


def _silence(**changes: Any) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    return {
        "matchers": [{"name": "pod", "value": "api-.*", "isRegex": True, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + datetime.timedelta(hours=1)).isoformat(),
        "createdBy": "on-call",
        "comment": "known",
        **changes,
    }


def test_a_silenced_alert_is_kept_from_receivers(running: Running) -> None:
    with Webhook() as hook:
        running.receiver(hook.url)
        answer = running.http.post("/api/v2/silences", json=_silence())
        silence = answer.json()["silenceID"]
        running.fire("api-1")
        running.fire("web-1")
        _wait(lambda: hook.alerts("KubePodCrashLooping"), "the other is heard")
        heard = {one["labels"]["pod"] for one in hook.alerts("KubePodCrashLooping")}
        assert heard == {"web-1"}
        (silenced,) = running.crashing(active="false")
        assert silenced["status"]["state"] == "suppressed"
        assert silenced["status"]["silencedBy"] == [silence]
        (known,) = running.get("silences")
        assert (known["status"]["state"], known["comment"]) == ("active", "known")
        assert running.http.delete(f"/api/v2/silence/{silence}").status_code == 200
        assert running.get(f"silence/{silence}")["status"]["state"] == "expired"
        _wait(
            lambda: "api-1" in {one["labels"]["pod"] for one in hook.alerts(CRASH["alertname"])},
            "heard once it is no longer silenced",
        )


def test_silences_that_are_refused(running: Running) -> None:
    for status, bad in (
        (422, _silence(matchers=[])),
        (400, _silence(endsAt="2020-01-01T00:00:00Z")),
        (422, {"comment": "nothing else"}),
    ):
        assert running.http.post("/api/v2/silences", json=bad).status_code == status
    unknown = running.http.post("/api/v2/silences", json=_silence(id="unknown"))
    assert unknown.status_code == 404
    assert running.http.get("/api/v2/silence/unknown").status_code == 404
    assert running.http.delete("/api/v2/silence/unknown").status_code == 500


def test_status_shows_the_configuration(running: Running) -> None:
    running.receiver("http://127.0.0.1:9/hook")
    status = running.get("status")
    assert "http://127.0.0.1:9/hook" in status["config"]["original"]
    assert status["versionInfo"]["version"] == "0.25.0"
    with pytest.raises(ValueError, match="begins with http"):
        running.receiver("ftp://x")


def test_misbehaving_and_healed(running: Running) -> None:
    running.hosted.run(lambda: running.alertmanager.behave(status=500))
    assert running.http.get("/api/v2/alerts").status_code == 500
    running.hosted.run(running.alertmanager.heal)
    assert running.http.get("/api/v2/alerts").status_code == 200
