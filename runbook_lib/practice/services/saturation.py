"""How a container that wants more CPU than its limit makes its clients wait."""

from __future__ import annotations

from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.objects.quantities import quantity
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object

_SECONDS = 1.0  # for each time that the limit is wanted once more
_MOST_SECONDS = 20.0


def held_seconds(kubelet: Kubelet, pod: Object, container: str) -> float:
    """How much longer an answer takes: the kernel holds the container, and requests queue up.

    A real queue grows for as long as more work comes in than is done; here it has a length that
    follows from how much more that is.
    """
    spec = next(one for one in pod["spec"]["containers"] if one["name"] == container)
    limit = dig(spec, "resources.limits.cpu")
    if not limit:
        return 0.0
    load = kubelet.cpu_wanted(pod, container) / quantity(limit)
    return min(_MOST_SECONDS, max(0.0, load - 1) * _SECONDS)
