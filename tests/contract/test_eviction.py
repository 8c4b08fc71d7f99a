"""Disruption budgets, and evictions that honour them.

The pods have no node; the statements say by hand that they are ready, as a kubelet would.
"""

from __future__ import annotations

from typing import Any

import pytest
from contract.cluster import Space, refused
from contract.objects import budget, pod

from runbook_lib.practice.wait import until

SECONDS = 60.0
pytestmark = pytest.mark.needs_controllers


def ready_pod(space: Space, name: str, app: str) -> None:
    space.pods.create(pod(name, labels={"app": app}))
    conditions = [{"type": "Ready", "status": "True"}]
    status = {"phase": "Running", "conditions": conditions}
    space.pods.patch(name, {"status": status}, "strategic", "status")


def until_counted(space: Space, name: str, **wanted: int) -> None:
    def counted() -> bool:
        status = space.budgets.read(name).get("status", {})
        return all(status.get(field) == number for field, number in wanted.items())

    until(counted, SECONDS, f"the budget counts {wanted}")


def evict(space: Space, name: str, **options: Any) -> dict:
    body: dict = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    if options:
        body["deleteOptions"] = options
    return space.pods.post(name, "eviction", body)


def test_a_budget_counts_the_ready_pods_that_it_selects(space: Space, name: str) -> None:
    space.budgets.create(budget(name, minAvailable=1))
    for number in range(2):
        ready_pod(space, f"{name}-{number}", name)
    space.pods.create(pod(f"{name}-unready", labels={"app": name}))
    until_counted(
        space, name, expectedPods=3, currentHealthy=2, desiredHealthy=1, disruptionsAllowed=1
    )


def test_an_eviction_that_the_budget_allows_removes_the_pod(space: Space, name: str) -> None:
    space.budgets.create(budget(name, minAvailable=1))
    for number in range(2):
        ready_pod(space, f"{name}-{number}", name)
    until_counted(space, name, disruptionsAllowed=1)
    assert evict(space, f"{name}-0")["status"] == "Success"
    until(lambda: not space.pods.has(f"{name}-0"), SECONDS, "the pod goes")
    until_counted(space, name, disruptionsAllowed=0)


def test_an_eviction_that_the_budget_forbids_is_too_many_requests(space: Space, name: str) -> None:
    space.budgets.create(budget(name, minAvailable=1))
    ready_pod(space, name, name)
    until_counted(space, name, currentHealthy=1, disruptionsAllowed=0)
    with refused(429, "TooManyRequests") as status:
        evict(space, name)
    (cause,) = status["details"]["causes"]
    assert cause["reason"] == "DisruptionBudget"
    assert f"The disruption budget {name} needs 1 healthy pods and has 1" in cause["message"]
    assert space.pods.has(name)


def test_a_dry_eviction_evicts_nothing(space: Space, name: str) -> None:
    space.budgets.create(budget(name, minAvailable=0))
    ready_pod(space, name, name)
    until_counted(space, name, disruptionsAllowed=1)
    evict(space, name, dryRun=["All"])
    assert space.pods.has(name)
    assert space.budgets.read(name)["status"]["disruptionsAllowed"] == 1


def test_a_pod_that_never_ran_is_evicted_whatever_the_budget_says(space: Space, name: str) -> None:
    space.budgets.create(budget(name, minAvailable=1))
    space.pods.create(pod(name, labels={"app": name}))
    until_counted(space, name, expectedPods=1, disruptionsAllowed=0)
    evict(space, name)
    until(lambda: not space.pods.has(name), SECONDS, "the pod goes")


def test_a_pod_with_two_budgets_is_not_evicted(space: Space, name: str) -> None:
    ready_pod(space, name, name)
    for number in range(2):
        more = budget(f"{name}-{number}", minAvailable=0)
        more["spec"]["selector"] = {"matchLabels": {"app": name}}
        space.budgets.create(more)
    with refused(500) as status:
        evict(space, name)
    assert not status
    assert space.pods.has(name)


def test_evicting_no_pod_is_not_found(space: Space, name: str) -> None:
    with refused(404, "NotFound"):
        evict(space, name)


def test_a_budget_has_either_a_minimum_or_a_maximum(space: Space, name: str) -> None:
    with refused(422, "Invalid"):
        space.budgets.create(budget(name, minAvailable=1, maxUnavailable=1))
