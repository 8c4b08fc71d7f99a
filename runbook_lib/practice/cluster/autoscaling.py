"""The controller of HorizontalPodAutoscalers, for the resource metrics of pods."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runbook_lib.practice.cluster.events import Recorder
from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.cluster.owners import is_alive, is_ready
from runbook_lib.practice.cluster.podadmission import shown
from runbook_lib.practice.objects.quantities import quantity
from runbook_lib.practice.objects.selectors import dig, matches
from runbook_lib.practice.objects.store import Object, Store, stamp

_PERIOD, _STABILIZATION = 15.0, 300.0  # seconds, as in the controller manager
_TOLERANCE = 0.1
_IDLE = {"cpu": "12m", "memory": "96Mi"}
_UNAVAILABLE = (
    "unable to fetch metrics from resource metrics API: the server is currently unable to handle "
    "the request (get pods.metrics.k8s.io)"
)


class _NoMetrics(Exception):
    """Why the number of replicas cannot be computed, in the controller's words."""


@dataclass
class _Reading:
    ratio: float  # of use to target
    current: Object  # as status.currentMetrics has it
    what: str  # for the event


class Autoscalers:
    def __init__(
        self, store: Store, recorder: Recorder, kubelet: Kubelet, time_scale: float
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._kubelet = kubelet
        self._period = max(0.5, _PERIOD * time_scale)
        self._patience = _STABILIZATION * time_scale
        self._due = 0.0
        self._wanted: dict[str, list[tuple[float, int]]] = {}  # uid to past recommendations
        self._kind = store.catalogue.of("horizontalpodautoscalers", "autoscaling")

    def sync(self, now: float) -> float | None:
        """Look at each autoscaler once a period; the Unix time of the next look."""
        scalers = self._store.all("horizontalpodautoscalers", "autoscaling")
        if not scalers:
            self._due = 0.0
            return None
        if not self._due:  # what was restored is given a moment to come up
            self._due = now + min(1.0, self._period)
        if now >= self._due:
            for scaler in scalers:
                self._sync(scaler, now)
            self._due = now + self._period
        return self._due

    def _sync(self, scaler: Object, now: float) -> None:
        spec, target = scaler["spec"], self._target(scaler)
        if target is None:
            name = dig(spec, "scaleTargetRef.name")
            message = (
                f"the HPA controller was unable to get the target's current scale: {name} not found"
            )
            self._tell(scaler, "FailedGetScale", message)
            self._report(scaler, {"AbleToScale": ("False", "FailedGetScale", message)}, now)
            return
        current = dig(target, "spec.replicas", 1)
        conditions = {
            "AbleToScale": (
                "True",
                "ReadyForNewScale",
                "recommended size matches current size",
            )
        }
        if current == 0:
            disabled = "scaling is disabled since the replica count of the target is zero"
            conditions["ScalingActive"] = ("False", "ScalingDisabled", disabled)
            self._report(scaler, conditions, now, currentReplicas=0, desiredReplicas=0)
            return
        low, high = spec.get("minReplicas", 1), spec["maxReplicas"]
        if not low <= current <= high:
            size = min(high, max(low, current))
            way = "below Spec.MinReplicas" if current < low else "above Spec.MaxReplicas"
            message = f"New size: {size}; reason: Current number of replicas {way}"
            self._tell(scaler, "SuccessfulRescale", message, "Normal")
            self._resize(target, size)
            return
        try:
            readings = [self._read(metric, target) for metric in spec.get("metrics") or []]
        except _NoMetrics as problem:
            message = f"the HPA was unable to compute the replica count: {problem}"
            self._tell(scaler, "FailedGetResourceMetric", str(problem))
            invalid = f"invalid metrics (1 invalid out of 1), first error is: {problem}"
            self._tell(scaler, "FailedComputeMetricsReplicas", invalid)
            conditions["AbleToScale"] = (
                "True",
                "SucceededGetScale",
                "the HPA controller was able to get the target's current scale",
            )
            conditions["ScalingActive"] = ("False", "FailedGetResourceMetric", message)
            ready = dig(target, "status.replicas", 0)
            self._report(scaler, conditions, now, currentReplicas=ready, desiredReplicas=current)
            return
        self._rescale(scaler, target, current, readings, conditions, now)

    def _rescale(
        self,
        scaler: Object,
        target: Object,
        current: int,
        readings: list[_Reading],
        conditions: dict[str, tuple[str, str, str]],
        now: float,
    ) -> None:
        spec = scaler["spec"]
        most = max(readings, key=lambda reading: reading.ratio)
        within = abs(most.ratio - 1) <= _TOLERANCE
        wanted = current if within else math.ceil(current * most.ratio - 1e-9)
        past = self._wanted.setdefault(scaler["metadata"]["uid"], [])
        past[:] = [*((at, n) for at, n in past if now - at < self._patience), (now, wanted)]
        if wanted < current:
            wanted = min(current, max(number for _, number in past))
        low, high = spec.get("minReplicas", 1), spec["maxReplicas"]
        limited = (
            "False",
            "DesiredWithinRange",
            "the desired count is within the acceptable range",
        )
        if wanted > high:
            text = "the desired replica count is more than the maximum replica count"
            limited = ("True", "TooManyReplicas", text)
        elif wanted < low:
            text = "the desired replica count is less than the minimum replica count"
            limited = ("True", "TooFewReplicas", text)
        conditions["ScalingActive"] = (
            "True",
            "ValidMetricFound",
            f"the HPA was able to successfully calculate a replica count from {most.what}",
        )
        conditions["ScalingLimited"] = limited
        size = max(low, min(high, wanted))
        if size != current:
            way = "above" if size > current else "below"
            reason = f"{most.what} {way} target" if size > current else "All metrics below target"
            message = f"New size: {size}; reason: {reason}"
            self._tell(scaler, "SuccessfulRescale", message, "Normal")
            moved = f"the HPA controller was able to update the target scale to {size}"
            conditions["AbleToScale"] = ("True", "SucceededRescale", moved)
            self._resize(target, size)
        more = {"lastScaleTime": stamp(now)} if size != current else {}
        self._report(
            scaler,
            conditions,
            now,
            currentReplicas=dig(target, "status.replicas", 0),
            desiredReplicas=size,
            currentMetrics=[reading.current for reading in readings],
            **more,
        )

    def _resize(self, target: Object, size: int) -> None:
        kind = self._store.catalogue.for_object(target)
        self._store.edit(kind, target, lambda new: new["spec"].update(replicas=size))

    def _target(self, scaler: Object) -> Object | None:
        reference = scaler["spec"]["scaleTargetRef"]
        plural = {"Deployment": "deployments", "StatefulSet": "statefulsets"}.get(reference["kind"])
        namespace = scaler["metadata"]["namespace"]
        return self._store.find(plural, reference["name"], namespace, "apps") if plural else None

    def _read(self, metric: Object, target: Object) -> _Reading:
        """The use of one metric; only those of pods' and containers' resources are known."""
        source = metric.get("resource") or metric.get("containerResource")
        if source is None:
            raise _NoMetrics(f"metric type {metric['type']!r} is not simulated in practice")
        name, goal = source["name"], source["target"]
        metrics = self._store.find("deployments", "metrics-server", "kube-system", "apps")
        if not dig(metrics, "status.readyReplicas", 0):
            kind = "utilization" if "averageUtilization" in goal else "metric value"
            why = f"failed to get {name} {kind}: unable to get metrics for resource {name}: "
            raise _NoMetrics(why + _UNAVAILABLE)
        pods = [
            pod
            for pod in self._store.all("pods")
            if pod["metadata"]["namespace"] == target["metadata"]["namespace"]
            and matches(dig(target, "spec.selector", {}), pod["metadata"].get("labels") or {})
            and is_alive(pod)
            and is_ready(pod)
        ]
        if not pods:
            raise _NoMetrics(
                f"failed to get {name} utilization: did not receive metrics for targeted pods "
                "(pods might be unready)"
            )
        used, asked = 0.0, 0.0
        for pod in pods:
            for container in pod["spec"]["containers"]:
                if source.get("container", container["name"]) != container["name"]:
                    continue
                request = dig(container, "resources.requests", {}).get(name)
                if request is None and "averageUtilization" in goal:
                    raise _NoMetrics(
                        f"failed to get {name} utilization: missing request for {name} in "
                        f"container {container['name']} of Pod {pod['metadata']['name']}"
                    )
                asked += quantity(request or 0)
                used += self._kubelet.usage(pod, container["name"], name, _IDLE[name])
        average = shown(name, used / len(pods)) if name == "cpu" else str(int(used / len(pods)))
        current: Object = {"averageValue": average}
        what = f"{name} resource"
        if "averageUtilization" in goal:
            percent = 100 * used / asked
            current["averageUtilization"] = int(percent + 1e-6)  # 48m of 100m are 48%
            ratio = percent / goal["averageUtilization"]
            what += " utilization (percentage of request)"
        else:
            ratio = used / len(pods) / quantity(goal["averageValue"])
        field = "resource" if "resource" in metric else "containerResource"
        return _Reading(
            ratio, {"type": metric["type"], field: {"name": name, "current": current}}, what
        )

    def _tell(self, scaler: Object, reason: str, message: str, type_: str = "Warning") -> None:
        component = "horizontal-pod-autoscaler"
        self._recorder.record(scaler, type_, reason, message, component=component)

    def _report(
        self, scaler: Object, found: dict[str, tuple[str, str, str]], now: float, **counts: object
    ) -> None:
        old = {c["type"]: c for c in dig(scaler, "status.conditions", [])}
        conditions = []
        for type_, (status, reason, message) in found.items():
            before = old.get(type_, {})
            same = before.get("status") == status
            since = before["lastTransitionTime"] if same else stamp(now)
            conditions.append(
                {
                    "type": type_,
                    "status": status,
                    "reason": reason,
                    "message": message,
                    "lastTransitionTime": since,
                }
            )
        kept = {"lastScaleTime": t} if (t := dig(scaler, "status.lastScaleTime")) else {}
        status_ = {**kept, **counts, "conditions": conditions}
        self._store.edit(self._kind, scaler, lambda new: new.update(status=status_))
