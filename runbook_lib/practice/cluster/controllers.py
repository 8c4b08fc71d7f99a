"""All that stands in behind the API: controllers, scheduler, kubelets, in the order they work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from runbook_lib.practice.cluster.autoscaling import Autoscalers
from runbook_lib.practice.cluster.events import Recorder
from runbook_lib.practice.cluster.evictions import Evictions
from runbook_lib.practice.cluster.groups import NodeGroups
from runbook_lib.practice.cluster.jobs import Jobs
from runbook_lib.practice.cluster.kserve import InferenceServices
from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.cluster.loadbalancers import LoadBalancers
from runbook_lib.practice.cluster.nodes import Nodes
from runbook_lib.practice.cluster.podadmission import PodAdmission
from runbook_lib.practice.cluster.scheduler import Scheduler
from runbook_lib.practice.cluster.services import Services
from runbook_lib.practice.cluster.serving import check_replicas
from runbook_lib.practice.cluster.sets import DaemonSets, StatefulSets
from runbook_lib.practice.cluster.spaces import Spaces
from runbook_lib.practice.cluster.taints import TaintEvictions
from runbook_lib.practice.cluster.volumes import Volumes
from runbook_lib.practice.cluster.workloads import Deployments, ReplicaSets
from runbook_lib.practice.objects.store import Store

_LOG = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0
Work = Callable[[], float | None]  # the Unix time when it wants to work again


class Controllers:
    """The stand-ins of one cluster. Used from one event loop only, as the store is.

    `time_scale` shortens their waits (0.01: a back-off of 5 minutes lasts 3 s).
    """

    def __init__(self, store: Store, time_scale: float) -> None:
        self._recorder = Recorder(store)
        store.admit = PodAdmission(store)
        store.deny = check_replicas
        self.kubelet = Kubelet(store, self._recorder, time_scale)
        self._nodes = Nodes(store, self._recorder, time_scale)
        self._taints = TaintEvictions(store, self._recorder, time_scale)
        self._workloads = [
            controller(store, self._recorder)
            for controller in (Deployments, ReplicaSets, StatefulSets, DaemonSets)
        ]
        self._jobs = Jobs(store, self._recorder, time_scale)
        self._spaces = Spaces(store)
        self._evictions = Evictions(store, self.kubelet)
        self._autoscalers = Autoscalers(store, self._recorder, self.kubelet, time_scale)
        self._load_balancers = LoadBalancers(store, self._recorder)
        self.groups = NodeGroups(store, self._recorder, self.kubelet, time_scale)
        self._models = InferenceServices(store, self._recorder)
        self._scheduler = Scheduler(store, self._recorder)
        self._services = Services(store)
        self._volumes = Volumes(store, self._recorder)

    def reconcile(self, now: float, *, changed: bool) -> float | None:
        """Let all do what is due; the Unix time when something will be next.

        `changed`: whether any object changed since the last time.
        """
        works: list[Work] = [partial(self._jobs.sync, now)]
        if changed:
            works += [self._spaces.sync, partial(self._models.sync, now)]
            works += [partial(controller.sync, now) for controller in self._workloads]
            works += [partial(self._scheduler.sync, now), self._volumes.sync]
        looking = (self._nodes, self._taints, self.kubelet, self._autoscalers)
        works += [partial(one.sync, now) for one in looking]
        if changed:
            works.append(partial(self._evictions.sync, now))
            works += [self._services.sync, self._load_balancers.sync]
        works += [partial(self.groups.sync, now), partial(self._recorder.flush, now)]
        times = [_done(work, now) for work in works]
        return min((at for at in times if at is not None), default=None)

    def prune(self, now: float) -> None:
        """Forget old events, as the API server does."""
        self._recorder.prune(now)


def _done(work: Work, now: float) -> float | None:
    """What one of them says; it is asked again soon where it failed."""
    try:
        return work()
    except Exception:  # noqa: BLE001 - the seam: one bad object must not end the others' work
        _LOG.exception("a controller of the practice cluster failed")
        return now + _RETRY_SECONDS
