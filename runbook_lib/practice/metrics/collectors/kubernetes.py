"""kube-state-metrics over the practice cluster's store.

Source of names and labels: the documents of kube-state-metrics v2 (docs/metrics).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from runbook_lib.practice.metrics.samples import Sample
from runbook_lib.practice.objects.quantities import quantity
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store, seconds

_PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")
_REASONS = ("Evicted", "NodeLost")
_STATES = ("true", "false", "unknown")
_UNITS = {"cpu": "core", "memory": "byte", "ephemeral-storage": "byte", "pods": "integer"}


class KubeState:
    """The job kube-state-metrics."""

    job = "kube-state-metrics"

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterable[Sample]:
        """All objects' states. Stored objects are never altered, so any thread may ask."""
        for group, plural, describe in _KINDS:
            for obj in self._store.all(plural, group):
                yield from describe(obj)


def _states(name: str, labels: dict[str, str], status: str, label: str) -> Iterator[Sample]:
    """One series for each of true, false and unknown; that of the status is 1."""
    for state in _STATES:
        yield Sample(name, {**labels, label: state}, float(status.lower() == state))


def _amounts(name: str, labels: dict[str, str], amounts: Object) -> Iterator[Sample]:
    for resource, amount in amounts.items():
        if unit := _UNITS.get(resource):
            written = {"resource": resource.replace("-", "_"), "unit": unit}
            yield Sample(name, {**labels, **written}, quantity(amount))


def _namespaced(obj: Object) -> dict[str, str]:
    return {"namespace": obj["metadata"]["namespace"]}


def _pod(pod: Object) -> Iterator[Sample]:
    meta, status = pod["metadata"], pod.get("status") or {}
    labels = {**_namespaced(pod), "pod": meta["name"], "uid": meta["uid"]}
    node = dig(pod, "spec.nodeName", "")
    owner: Object = next(iter(meta.get("ownerReferences") or []), {})
    yield Sample(
        "kube_pod_info",
        {
            **labels,
            "node": node,
            "pod_ip": status.get("podIP", ""),
            "host_ip": status.get("hostIP", ""),
            "created_by_kind": owner.get("kind", ""),
            "created_by_name": owner.get("name", ""),
        },
        1,
    )
    yield Sample("kube_pod_created", labels, seconds(meta["creationTimestamp"]))
    for phase in _PHASES:
        here = float(status.get("phase") == phase)
        yield Sample("kube_pod_status_phase", {**labels, "phase": phase}, here)
    for reason in _REASONS:
        here = float(status.get("reason") == reason)
        yield Sample("kube_pod_status_reason", {**labels, "reason": reason}, here)
    for one in status.get("conditions") or []:
        if one["type"] == "Ready":
            yield from _states("kube_pod_status_ready", labels, one["status"], "condition")
        if one["type"] == "PodScheduled" and one["status"] == "False":
            yield Sample("kube_pod_status_unschedulable", labels, 1)
    for container in dig(pod, "spec.containers", []):
        here_labels = {**labels, "container": container["name"], "node": node}
        for kind in ("requests", "limits"):
            name = f"kube_pod_container_resource_{kind}"
            yield from _amounts(name, here_labels, dig(container, f"resources.{kind}", {}))
    for one in status.get("containerStatuses") or []:
        yield from _container({**labels, "container": one["name"]}, one)


def _container(labels: dict[str, str], status: Object) -> Iterator[Sample]:
    name = "kube_pod_container_status"
    yield Sample(f"{name}_restarts_total", labels, status.get("restartCount", 0))
    yield Sample(f"{name}_ready", labels, float(bool(status.get("ready"))))
    state = status.get("state") or {}
    for kind in ("running", "waiting", "terminated"):
        yield Sample(f"{name}_{kind}", labels, float(state.get(kind) is not None))
        reason = dig(state, f"{kind}.reason", "")
        if reason:
            yield Sample(f"{name}_{kind}_reason", {**labels, "reason": reason}, 1)
    last = dig(status, "lastState.terminated", {})
    if last.get("reason"):
        yield Sample(f"{name}_last_terminated_reason", {**labels, "reason": last["reason"]}, 1)
        yield Sample(f"{name}_last_terminated_exitcode", labels, last.get("exitCode", 0))


def _node(node: Object) -> Iterator[Sample]:
    labels = {"node": node["metadata"]["name"]}
    info = dig(node, "status.nodeInfo", {})
    yield Sample(
        "kube_node_info",
        {
            **labels,
            "kubelet_version": info.get("kubeletVersion", ""),
            "os_image": info.get("osImage", ""),
            "provider_id": dig(node, "spec.providerID", ""),
        },
        1,
    )
    for one in dig(node, "status.conditions", []):
        condition = {**labels, "condition": one["type"]}
        yield from _states("kube_node_status_condition", condition, one["status"], "status")
    cordoned = float(bool(dig(node, "spec.unschedulable", False)))
    yield Sample("kube_node_spec_unschedulable", labels, cordoned)
    for taint in dig(node, "spec.taints", []):
        taint_labels = {name: taint.get(name, "") for name in ("key", "value", "effect")}
        yield Sample("kube_node_spec_taint", {**labels, **taint_labels}, 1)
    for kind in ("allocatable", "capacity"):
        yield from _amounts(f"kube_node_status_{kind}", labels, dig(node, f"status.{kind}", {}))


def _numbers(label: str, fields: dict[str, str]) -> Callable[[Object], Iterator[Sample]]:
    """Series that are fields of the object, by name; a field that is missing is 0."""

    def describe(obj: Object) -> Iterator[Sample]:
        labels = {**_namespaced(obj), label: obj["metadata"]["name"]}
        for name, path in fields.items():
            yield Sample(name, labels, float(dig(obj, path, 0)))

    return describe


_hpa_numbers = _numbers(
    "horizontalpodautoscaler",
    {
        "kube_horizontalpodautoscaler_spec_max_replicas": "spec.maxReplicas",
        "kube_horizontalpodautoscaler_spec_min_replicas": "spec.minReplicas",
        "kube_horizontalpodautoscaler_status_current_replicas": "status.currentReplicas",
        "kube_horizontalpodautoscaler_status_desired_replicas": "status.desiredReplicas",
    },
)


def _hpa(hpa: Object) -> Iterator[Sample]:
    yield from _hpa_numbers(hpa)
    labels = {**_namespaced(hpa), "horizontalpodautoscaler": hpa["metadata"]["name"]}
    for one in dig(hpa, "status.conditions", []):
        name = "kube_horizontalpodautoscaler_status_condition"
        yield from _states(name, {**labels, "condition": one["type"]}, one["status"], "status")


_KINDS: tuple[tuple[str, str, Callable[[Object], Iterator[Sample]]], ...] = (
    ("", "pods", _pod),
    ("", "nodes", _node),
    (
        "apps",
        "deployments",
        _numbers(
            "deployment",
            {
                "kube_deployment_spec_replicas": "spec.replicas",
                "kube_deployment_status_replicas": "status.replicas",
                "kube_deployment_status_replicas_available": "status.availableReplicas",
                "kube_deployment_status_replicas_ready": "status.readyReplicas",
                "kube_deployment_status_replicas_unavailable": "status.unavailableReplicas",
                "kube_deployment_status_replicas_updated": "status.updatedReplicas",
                "kube_deployment_metadata_generation": "metadata.generation",
                "kube_deployment_status_observed_generation": "status.observedGeneration",
            },
        ),
    ),
    (
        "apps",
        "statefulsets",
        _numbers(
            "statefulset",
            {
                "kube_statefulset_replicas": "spec.replicas",
                "kube_statefulset_status_replicas": "status.replicas",
                "kube_statefulset_status_replicas_ready": "status.readyReplicas",
            },
        ),
    ),
    (
        "apps",
        "daemonsets",
        _numbers(
            "daemonset",
            {
                "kube_daemonset_status_desired_number_scheduled": "status.desiredNumberScheduled",
                "kube_daemonset_status_number_ready": "status.numberReady",
                "kube_daemonset_status_number_unavailable": "status.numberUnavailable",
            },
        ),
    ),
    ("autoscaling", "horizontalpodautoscalers", _hpa),
    (
        "policy",
        "poddisruptionbudgets",
        _numbers(
            "poddisruptionbudget",
            {
                "kube_poddisruptionbudget_status_current_healthy": "status.currentHealthy",
                "kube_poddisruptionbudget_status_desired_healthy": "status.desiredHealthy",
                "kube_poddisruptionbudget_status_expected_pods": "status.expectedPods",
                "kube_poddisruptionbudget_status_pod_disruptions_allowed": (
                    "status.disruptionsAllowed"
                ),
            },
        ),
    ),
    (
        "batch",
        "jobs",
        _numbers(
            "job_name",
            {
                "kube_job_status_active": "status.active",
                "kube_job_status_failed": "status.failed",
                "kube_job_status_succeeded": "status.succeeded",
            },
        ),
    ),
)
