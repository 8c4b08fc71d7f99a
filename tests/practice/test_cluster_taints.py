"""NoExecute taints of a user, which evict the pods that do not tolerate them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from practice.shop import empty

from runbook_lib.practice.objects.store import seconds

TAINT = {"key": "dedicated", "value": "gpu", "effect": "NoExecute"}
SECONDS = 600  # three, by the clock of the tests' cluster
APPS = ("other", "web")


@pytest.fixture(autouse=True)
def clean(practice: Any) -> Iterator[None]:
    empty(practice)  # of what tests of other files have left in the cluster that all share
    yield
    empty(practice)


def tolerant(**more: Any) -> dict[str, Any]:
    return {"key": "dedicated", "operator": "Equal", "value": "gpu", "effect": "NoExecute", **more}


def deploy(practice: Any, app: str, *tolerations: dict[str, Any]) -> dict[str, Any]:
    """The app's only pod, on node-b."""
    host = {"kubernetes.io/hostname": "node-b"}
    practice.deploy(app, nodeSelector=host, tolerations=list(tolerations))
    pod: dict[str, Any] = practice.until_ready(app)[0]
    return pod


def evictions(practice: Any, app: str) -> list[tuple[str, str]]:
    """(message, component) of the taint-eviction controller's events about the app's pods."""
    items = practice.raw("GET", "/api/v1/events")[1]["items"]
    return [
        (e["message"], e["source"]["component"])
        for e in items
        if e["reason"] == "TaintManagerEviction" and e["involvedObject"]["name"].startswith(app)
    ]


def test_a_taint_evicts_who_does_not_tolerate_it(practice: Any) -> None:
    pod = deploy(practice, "web")
    kept = deploy(practice, "gpu", tolerant())
    patient = deploy(practice, "patient", tolerant(tolerationSeconds=36_000))
    practice.core.patch_node("node-b", {"spec": {"taints": [TAINT]}})
    name = pod["metadata"]["name"]
    marked = (f"Marking for deletion Pod shop/{name}", "taint-eviction-controller")
    about = lambda: [one for one in evictions(practice, "web") if name in one[0]]  # noqa: E731
    practice.until(about, "the eviction")
    assert about() == [marked], "once, and nothing else of this pod"
    names = lambda app: [p["metadata"]["name"] for p in practice.pods(app)]  # noqa: E731
    practice.until(lambda: names("web") and name not in names("web"), "another pod")
    assert names("gpu") == [kept["metadata"]["name"]]
    assert names("patient") == [patient["metadata"]["name"]]
    practice.core.patch_node("node-b", {"spec": {"taints": None}})
    told = f"Cancelling deletion of Pod shop/{patient['metadata']['name']}"
    practice.until(lambda: [m for m, _ in evictions(practice, "patient")] == [told], "a pardon")
    assert not evictions(practice, "gpu")


def test_a_pod_stays_as_long_as_it_tolerates_the_taint(practice: Any) -> None:
    deploy(practice, "other")
    deploy(practice, "web", tolerant(tolerationSeconds=SECONDS))
    practice.core.patch_node("node-b", {"spec": {"taints": [TAINT]}})
    practice.until(lambda: evictions(practice, "web"), "the eviction")
    at = [seconds(practice.events(a)["TaintManagerEviction"]["firstTimestamp"]) for a in APPS]
    assert at[1] - at[0] >= 2, "three seconds by the practice cluster's clock, less rounding"
