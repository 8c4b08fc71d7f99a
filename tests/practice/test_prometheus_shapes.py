"""The built-in ones answer in the shapes of the installed ones, key by key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from practice.hosted import Hosted
from practice.measured import Settable, Webhook

from runbook_lib.practice.metrics import real
from runbook_lib.practice.metrics.real_systems import RealAlertmanager, RealPrometheus
from runbook_lib.practice.metrics.scrape import Target
from runbook_lib.practice.metrics.systems import Alertmanager, Prometheus
from runbook_lib.practice.system import System, perform
from runbook_lib.practice.wait import until

pytestmark = pytest.mark.real
if not (real.installed(real.PROMETHEUS) and real.installed(real.ALERTMANAGER)):
    pytest.skip("Prometheus or Alertmanager is not installed", allow_module_level=True)

SECONDS = 20.0
# Told apart by nothing but their values.
FREE = {"labels", "annotations", "metric", "discoveredLabels"}
SILENCE = {
    "matchers": [{"name": "pod", "value": "web-.*", "isRegex": True, "isEqual": True}],
    "startsAt": "2026-01-01T00:00:00Z",
    "endsAt": "2126-01-01T00:00:00Z",
    "createdBy": "on-call",
    "comment": "known",
}
LABELS = {"namespace": "shop", "pod": 'api "1"'}


class Both:
    """A client for the built-in system and one for the installed one."""

    def __init__(self, ours: Any, theirs: Any) -> None:
        self.ours, self.theirs = (
            httpx.Client(base_url=system.url, trust_env=False, timeout=20)
            for system in (ours, theirs)
        )

    def request(self, method: str, path: str, **options: Any) -> tuple[Any, Any]:
        return (
            self.ours.request(method, path, **options),
            self.theirs.request(method, path, **options),
        )

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, System]]:
    folder, target = tmp_path_factory.mktemp("shapes"), Settable()
    target.values = {"up": [({"job": "kubelet"}, 1.0)], "hits_total": [({"zone": "a"}, 7.0)]}
    plain_told, told = Alertmanager(), RealAlertmanager(folder / "alertmanager")
    plain = Prometheus([Target(target, "settable:80")], plain_told, scrape_seconds=0.5)
    installed = RealPrometheus(
        [Target(target, "settable:80")], told, folder / "prometheus", scrape_seconds=0.5
    )
    systems: dict[str, System] = {
        "prometheus": plain,
        "installed": installed,
        "alertmanager": plain_told,
        "told": told,
    }
    with Hosted(plain) as hosted:
        for system in (plain_told, told, installed):
            hosted.run(system.start)
        arguments = {"name": "Slow", "severity": "info", "summary": "x", "labels": LABELS}
        for system in (plain, installed):
            hosted.run(lambda system=system: perform(system, "alert", arguments))
        systems["hosted"] = hosted  # type: ignore[assignment]
        yield systems
        for system in (installed, told, plain_told):
            hosted.run(system.stop)


@pytest.fixture(scope="module")
def prometheus(running: dict[str, System]) -> Iterator[Both]:
    both = Both(running["prometheus"], running["installed"])
    until(lambda: _targets(both), SECONDS, "the installed one has found its targets")
    yield both
    both.close()


def _targets(both: Both) -> bool:
    return len(both.theirs.get("/api/v1/targets").json()["data"]["activeTargets"]) == 2


@pytest.fixture(scope="module")
def alertmanager(running: dict[str, System]) -> Iterator[Both]:
    both = Both(running["alertmanager"], running["told"])
    yield both
    both.close()


def shape(answer: Any, name: str = "") -> Any:
    """Keys and types; of a list, the shapes in it."""
    if name in FREE and isinstance(answer, dict):
        return "text to text"
    if isinstance(answer, dict):
        return {key: shape(value, key) for key, value in sorted(answer.items())}
    if isinstance(answer, list):
        return sorted({repr(shape(one)) for one in answer})
    return "number" if isinstance(answer, int | float) else type(answer).__name__


@pytest.mark.parametrize(
    "path",
    [
        "query?query=up",
        "query?query=time()",
        'query?query="text"',
        "query?query=hits_total[1m]",
        "query_range?query=vector(1)&start=10&end=40&step=15",
        "alerts",
        "rules",
        "rules?type=record",
        "series?match[]=hits_total",
        "labels",
        "label/job/values",
        "label/nosuch/values",
        "targets",
    ],
)
def test_answers(prometheus: Both, path: str) -> None:
    ours, theirs = prometheus.request("GET", f"/api/v1/{path}")
    assert ours.status_code == theirs.status_code == 200
    assert shape(_without_extras(ours.json())) == shape(_without_extras(theirs.json()))


def _without_extras(answer: Any) -> Any:
    """Without what an installed one has no occasion to say, or only newer or older ones do."""
    if isinstance(answer, dict):
        extras = {"lastError", "revision"}
        return {k: _without_extras(v) for k, v in answer.items() if k not in extras}
    return [_without_extras(one) for one in answer] if isinstance(answer, list) else answer


@pytest.mark.parametrize(
    "path",
    [
        "query?query=rate(x)",
        "query?query=nosuch(x)",
        "query?query=x{",
        "query",
        "query?query=x&time=noon",
        "query?query=ALERTS+%2B+on()+ALERTS",
        "query_range?query=x&start=9&end=1&step=1",
        "query_range?query=x&start=1&end=9&step=0",
        "query_range?query=x&start=1&end=9&step=soon",
        "query_range?query=x&start=1&step=1",
        "query_range?query=x&start=0&end=20000&step=1",
        'query_range?query="text"&start=1&end=9&step=1',
        "series",
        "series?match[]=x[5m]",
        "rules?type=odd",
    ],
)
def test_refusals(prometheus: Both, path: str) -> None:
    ours, theirs = prometheus.request("GET", f"/api/v1/{path}")
    kinds = [(one.status_code, one.json()["errorType"]) for one in (ours, theirs)]
    assert kinds[0] == kinds[1], theirs.text
    assert shape(ours.json()) == shape(theirs.json())
    parameter = 'invalid parameter "'
    if parameter in theirs.json()["error"]:
        name = theirs.json()["error"].split('"')[1]
        assert f'{parameter}{name}"' in ours.json()["error"]


def test_plain_pages(prometheus: Both, alertmanager: Both) -> None:
    for both in (prometheus, alertmanager):
        for path in ("/-/healthy", "/-/ready"):
            ours, theirs = both.request("GET", path)
            assert ours.status_code == theirs.status_code == 200
            assert ours.text == theirs.text


def test_the_same_injected_alert(prometheus: Both) -> None:
    found = [
        next(one for one in answer.json()["data"]["alerts"] if one["labels"]["alertname"] == "Slow")
        for answer in prometheus.request("GET", "/api/v1/alerts")
    ]
    for name in ("labels", "annotations", "state", "value"):
        assert found[0][name] == found[1][name]


def _slow(both: Both) -> list[Any]:
    return [
        next((one for one in answer.json() if one["labels"]["alertname"] == "Slow"), None)
        for answer in both.request("GET", "/api/v2/alerts", params={"filter": 'alertname="Slow"'})
    ]


def test_alertmanagers_alerts(alertmanager: Both) -> None:
    until(lambda: all(_slow(alertmanager)), SECONDS, "both were told")
    ours, theirs = _slow(alertmanager)
    assert shape(ours) == shape(theirs)
    for name in ("labels", "annotations", "fingerprint", "status", "receivers"):
        assert ours[name] == theirs[name]
    for path in ("alerts/groups", "status", "receivers", "silences"):
        ours, theirs = alertmanager.request("GET", f"/api/v2/{path}")
        assert shape(ours.json()) == shape(theirs.json()), path


def test_what_a_webhook_is_told(
    running: dict[str, System], alertmanager: Both, tmp_path: Path
) -> None:
    hosted: Any = running["hosted"]
    with Webhook() as ours, Webhook() as theirs:
        for name, hook in (("alertmanager", ours), ("told", theirs)):
            receive = {"url": hook.url}
            hosted.run(
                lambda name=name, receive=receive: perform(running[name], "receiver", receive)
            )
        for hook in (ours, theirs):
            until(lambda hook=hook: hook.alerts("Slow"), SECONDS, "heard")
        bodies = [
            next(body for body in hook.heard if body["groupLabels"]["alertname"] == "Slow")
            for hook in (ours, theirs)
        ]
    assert shape(bodies[0]) == shape(bodies[1])
    free = {"alerts", "externalURL"}
    plain = [{k: v for k, v in body.items() if k not in free} for body in bodies]
    assert plain[0] == plain[1]
    for name in ("status", "labels", "annotations", "endsAt", "fingerprint"):
        assert bodies[0]["alerts"][0][name] == bodies[1]["alerts"][0][name]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "alerts?filter=?", None),
        ("POST", "alerts", [{"labels": {}}]),
        ("POST", "silences", {"comment": "nothing else"}),
        ("POST", "silences", {**SILENCE, "matchers": []}),
        ("POST", "silences", {**SILENCE, "endsAt": "2020-01-01T00:00:00Z"}),
        ("POST", "silences", {**SILENCE, "id": "1f2e3d4c-0000-4000-8000-000000000000"}),
        ("GET", "silence/1f2e3d4c-0000-4000-8000-000000000000", None),
        ("DELETE", "silence/1f2e3d4c-0000-4000-8000-000000000000", None),
    ],
)
def test_alertmanagers_refusals(alertmanager: Both, method: str, path: str, body: Any) -> None:
    ours, theirs = alertmanager.request(method, f"/api/v2/{path}", json=body)
    assert ours.status_code == theirs.status_code, theirs.text


def test_a_silence(alertmanager: Both) -> None:
    made = alertmanager.request("POST", "/api/v2/silences", json=SILENCE)
    assert [one.status_code for one in made] == [200, 200]
    ids = [one.json()["silenceID"] for one in made]
    clients = (alertmanager.ours, alertmanager.theirs)
    known = [c.get(f"/api/v2/silence/{id_}") for c, id_ in zip(clients, ids, strict=True)]
    assert shape(known[0].json()) == shape(known[1].json())
    assert known[0].json()["status"] == known[1].json()["status"]
    gone = [c.delete(f"/api/v2/silence/{id_}") for c, id_ in zip(clients, ids, strict=True)]
    assert [one.status_code for one in gone] == [200, 200]
