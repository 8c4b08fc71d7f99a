"""What containers would use if nothing limited them."""

from __future__ import annotations

from collections.abc import Callable

from runbook_lib.practice.cluster.program import Program
from runbook_lib.practice.objects.quantities import quantity
from runbook_lib.practice.objects.selectors import condition
from runbook_lib.practice.objects.store import Object, Store


def cpu_wanted(
    store: Store, program: Callable[[Object, str], Program], pod: Object, container: str, idle: str
) -> float:
    """The cores that a container wants: its own, or its share of a load.

    A load that one replica is told of (`cpu_shared`) is that of all ready ones together.
    """
    owner = pod["metadata"].get("ownerReferences")
    others = [pod]
    if owner:
        children = store.children({"metadata": owner[0]}, "pods")
        others = [one for one in children if condition(one, "Ready") == "True"]
    shared = [
        quantity(usage["cpu_shared"])
        for one in (pod, *others)
        if "cpu_shared" in (usage := program(one, container).usage)
    ]
    if shared:
        return max(shared) / max(1, len(others))
    return quantity(program(pod, container).usage.get("cpu", idle))
