"""Knative Serving as KServe uses it: a Service, its Revisions, their Deployments and traffic."""

from __future__ import annotations

import json
from typing import Any

from runbook_lib.practice.cluster.objects import conditions, is_running, keep
from runbook_lib.practice.cluster.owners import is_ready, ready_since
from runbook_lib.practice.cluster.program import PROGRAM
from runbook_lib.practice.cluster.serving import NAME, revision
from runbook_lib.practice.objects.selectors import condition, dig
from runbook_lib.practice.objects.store import Object, Store, copy_of, stamp

_GROUP = "serving.knative.dev"
_MIN = "autoscaling.knative.dev/min-scale"
# How many pods the autoscaler wants of a revision beyond its minimum, since requests came.
SCALE = "practice.runbook/scale"
_HASH = "practice.runbook/template-hash"
_PROXY: Object = {
    "name": "queue-proxy",
    "image": "knative/queue:v1.18.1",
    "ports": [
        {"name": "queue-port", "containerPort": 8012, "protocol": "TCP"},
        {"name": "http-queueadm", "containerPort": 8022, "protocol": "TCP"},
    ],
    "resources": {"requests": {"cpu": "25m", "memory": "50Mi"}, "limits": {"memory": "200Mi"}},
    "readinessProbe": {"httpGet": {"path": "/", "port": 8012}, "periodSeconds": 10},
}
Status = tuple[str, str, str]  # (status, reason, message)


class Knative:
    def __init__(self, store: Store) -> None:
        self._store = store

    def sync(
        self, service: Object, runtime: Object | None, now: float, *, stopped: bool
    ) -> tuple[dict[str, Status], Object]:
        """Keep revisions and traffic as the InferenceService wants; (conditions, component)."""
        name = f"{service['metadata']['name']}-predictor"
        if stopped:
            self._stop(service, name)
            return {"PredictorReady": ("False", "Stopped", "")}, {}
        revisions = self._revisions(service, name)
        wanted = revision(service, runtime, _number(revisions[-1]) + 1 if revisions else 1)
        if not revisions or _hash(revisions[-1]) != _hash(wanted):
            if is_running(self._store, "knative-serving", "controller"):
                if not revisions:
                    created = service["metadata"]["creationTimestamp"]
                    wanted["metadata"]["creationTimestamp"] = created
                else:
                    wanted["metadata"]["creationTimestamp"] = stamp(now)
                    _begin_now(wanted, revisions)
                keep(self._store, service, wanted)
            revisions = self._revisions(service, name)
        if not revisions:
            return {"PredictorReady": ("Unknown", "", "")}, {}
        component = dig(service, "status.components.predictor", {})
        before = dig(component, "latestRolledoutRevision", "")
        states = {one["metadata"]["name"]: self._state(one) for one in revisions}
        latest = revisions[-1]["metadata"]["name"]
        ready = [n for n, state in states.items() if state[0] == "True"]
        newest = ready[-1] if ready else ""
        percent = service["spec"]["predictor"].get("canaryTrafficPercent")
        traffic = _traffic(newest, before if before in states else "", percent)
        for one in revisions:
            own = one["metadata"]["name"]
            serves = own in [latest, before, *(t["revisionName"] for t in traffic)]
            self._deploy(one, serves=serves)
            self._note(one, states[own], now)
        rolled = newest if newest and percent in (None, 100) else before or newest
        found: Object = {
            "latestCreatedRevision": latest,
            "latestReadyRevision": newest,
            "latestRolledoutRevision": rolled,
            "previousRolledoutRevision": before if before != newest else "",
            "traffic": traffic,
            "url": f"http://{name}-{service['metadata']['namespace']}.models.mlops-platform.com",
        }
        component = {key: value for key, value in found.items() if value}
        parts = self._parts(service, name, latest, states[latest])
        since = ready_since(self._pods(revisions[-1]), now) if parts["Ready"][0] == "True" else now
        self._service(service, name, component, parts, since)
        self._addresses(service, name, revisions)
        return {
            f"Predictor{k}" if k != "Ready" else "PredictorReady": v for k, v in parts.items()
        }, (component)

    def ingress(self, service: Object) -> Status:
        """Whether the gateway knows the route; what it knew it keeps."""
        if condition(service, "IngressReady") == "True" or self._gateway():
            return ("True", "", "")
        return ("Unknown", "IngressNotConfigured", "Ingress has not yet been reconciled.")

    def _gateway(self) -> bool:
        return is_running(self._store, "kourier-system", "3scale-kourier-gateway")

    def _revisions(self, service: Object, name: str) -> list[Object]:
        """The revisions, oldest first; those that were there before are taken over."""
        found = [
            one
            for one in self._store.all("revisions", _GROUP)
            if one["metadata"]["namespace"] == service["metadata"]["namespace"]
            and dig(one, "metadata.labels", {}).get(f"{_GROUP}/service") == name
        ]
        return sorted(found, key=_number)

    def _stop(self, service: Object, name: str) -> None:
        kind = self._store.catalogue.of("revisions", _GROUP)
        for one in self._revisions(service, name):
            self._store.remove(kind, one)
        known = self._store.find("services", name, service["metadata"]["namespace"], _GROUP)
        if known is not None:
            self._store.remove(self._store.catalogue.of("services", _GROUP), known)

    # one revision

    def _pods(self, one: Object) -> list[Object]:
        name = one["metadata"]["name"]
        return [
            pod
            for pod in self._store.all("pods")
            if (pod["metadata"].get("labels") or {}).get(f"{_GROUP}/revision") == name
            and pod["metadata"]["namespace"] == one["metadata"]["namespace"]
        ]

    def _state(self, one: Object) -> Status:
        """Ready of a revision: once true it stays so, as Knative has it."""
        if condition(one, "Ready") == "True":
            return ("True", "", "")
        pods = self._pods(one)
        if any(map(is_ready, pods)) or _minimum(one) == 0:
            return ("True", "", "")
        for pod in pods:
            for item in dig(pod, "status.conditions", []):
                if item["type"] == "PodScheduled" and item["status"] == "False":
                    return ("False", "Unschedulable", item["message"])
            for status in [
                *dig(pod, "status.initContainerStatuses", []),
                *dig(pod, "status.containerStatuses", []),
            ]:
                ended = dig(status, "state.terminated") or dig(status, "lastState.terminated")
                if ended and ended["exitCode"]:
                    text = ended.get("message") or ended["reason"]
                    code = f"ExitCode{ended['exitCode']}"
                    return ("False", code, f"Container failed with: {text}")
                waiting = dig(status, "state.waiting", {})
                if waiting.get("reason") in ("ImagePullBackOff", "ErrImagePull"):
                    return ("False", waiting["reason"], waiting.get("message", ""))
        return ("Unknown", "Deploying", "")

    def _deploy(self, one: Object, *, serves: bool) -> None:
        meta = one["metadata"]
        spec = copy_of(one["spec"])
        for field in ("containerConcurrency", "timeoutSeconds"):
            spec.pop(field, None)
        spec["containers"].append(copy_of(_PROXY))
        labels = {**meta["labels"], f"{_GROUP}/revision": meta["name"], "app": meta["name"]}
        keep(
            self._store,
            one,
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {
                    "name": f"{meta['name']}-deployment",
                    "namespace": meta["namespace"],
                    "labels": labels,
                },
                "spec": {
                    "replicas": max(_minimum(one), _scale(one)) if serves else 0,
                    "selector": {"matchLabels": {f"{_GROUP}/revision": meta["name"]}},
                    "template": {
                        "metadata": {"labels": labels, "annotations": meta["annotations"]},
                        "spec": spec,
                    },
                },
            },
        )

    def _note(self, one: Object, state: Status, now: float) -> None:
        healthy = state if state[1] != "Unschedulable" else ("Unknown", "Deploying", "")
        room = state if state[1] == "Unschedulable" else ("True", "", "")
        active: Status = ("True", "", "")
        if _minimum(one) == 0:
            active = ("False", "NoTraffic", "The target is not receiving traffic.")
        found = {
            "Active": active,
            "ContainerHealthy": healthy,
            "ResourcesAvailable": room,
            "Ready": state,
        }
        pods = self._pods(one)
        at = ready_since(pods, now) if state[0] == "True" else now
        status = {
            "conditions": conditions(one, found, stamp(at)),
            "actualReplicas": sum(map(is_ready, pods)),
            "desiredReplicas": _minimum(one),
            "observedGeneration": one["metadata"].get("generation", 1),
        }
        kind = self._store.catalogue.of("revisions", _GROUP)
        self._store.edit(kind, one, lambda new: new.update(status=status))

    # the service

    def _parts(self, service: Object, name: str, latest: str, state: Status) -> dict[str, Status]:
        configured = state
        if state[0] == "False":
            text = f'Revision "{latest}" failed with message: {state[2]}.'
            configured = ("False", "RevisionFailed", text)
        known = self._store.find("services", name, service["metadata"]["namespace"], _GROUP)
        routed: Status = ("True", "", "")
        if condition(known, "RoutesReady") != "True":
            if state[0] != "True":
                routed = (state[0], "RevisionMissing", f'Configuration "{name}" is not ready.')
            elif not self._gateway():
                text = "Ingress has not yet been reconciled."
                routed = ("Unknown", "IngressNotConfigured", text)
        ready = next((p for p in (configured, routed) if p[0] != "True"), ("True", "", ""))
        return {"ConfigurationReady": configured, "RouteReady": routed, "Ready": ready}

    def _service(
        self,
        service: Object,
        name: str,
        component: Object,
        parts: dict[str, Status],
        now: float,
    ) -> None:
        meta = service["metadata"]
        traffic = [
            {"percent": t["percent"], "latestRevision": t["latestRevision"]}
            | ({} if t["latestRevision"] else {"revisionName": t["revisionName"], "tag": "prev"})
            for t in component.get("traffic") or []
        ]
        wanted: Any = {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "Service",
            "metadata": {
                "name": name,
                "namespace": meta["namespace"],
                "labels": {NAME: meta["name"]},
            },
            "spec": {"traffic": traffic},
        }
        kept = keep(self._store, service, wanted)
        found = {
            "ConfigurationsReady": parts["ConfigurationReady"],
            "RoutesReady": parts["RouteReady"],
            "Ready": parts["Ready"],
        }
        status: Object = {
            "conditions": conditions(kept, found, stamp(now)),
            "latestCreatedRevisionName": component.get("latestCreatedRevision"),
            "latestReadyRevisionName": component.get("latestReadyRevision"),
            "traffic": component.get("traffic", []),
            "url": component["url"],
            "observedGeneration": kept["metadata"].get("generation", 1),
        }
        status = {key: value for key, value in status.items() if value is not None}
        kind = self._store.catalogue.of("services", _GROUP)
        self._store.edit(kind, kept, lambda new: new.update(status=status))

    def _addresses(self, service: Object, name: str, revisions: list[Object]) -> None:
        """The Services of the cluster: a name for the gateway, and one for each revision."""
        namespace = service["metadata"]["namespace"]
        labels = {NAME: service["metadata"]["name"]}
        gateway = "kourier-internal.kourier-system.svc.cluster.local"
        keep(
            self._store,
            service,
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "spec": {
                    "type": "ExternalName",
                    "externalName": gateway,
                    "ports": [{"name": "http2", "port": 80, "protocol": "TCP", "targetPort": 80}],
                },
            },
        )
        for one in revisions:
            own = one["metadata"]["name"]
            port = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8012}
            keep(
                self._store,
                one,
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {"name": own, "namespace": namespace, "labels": labels},
                    "spec": {"selector": {f"{_GROUP}/revision": own}, "ports": [port]},
                },
            )


def _number(one: Object) -> int:
    return int(one["metadata"]["name"].rsplit("-", 1)[1])


def _hash(one: Object) -> str:
    return str(dig(one, "metadata.annotations", {}).get(_HASH, ""))


def _minimum(one: Object) -> int:
    return int(dig(one, "metadata.annotations", {}).get(_MIN, "1"))


def _scale(one: Object) -> int:
    return int(dig(one, "metadata.annotations", {}).get(SCALE, "0"))


def _begin_now(wanted: Object, before: list[Object]) -> None:
    """A revision has no past of its own, unless its program is new and says so."""
    annotations = wanted["metadata"]["annotations"]
    text = annotations.get(PROGRAM)
    if not text or text not in [
        dig(one, "metadata.annotations", {}).get(PROGRAM) for one in before
    ]:
        return
    behaviours = json.loads(text)
    for one in behaviours.values():
        one.pop("started_ago", None)
    annotations[PROGRAM] = json.dumps(behaviours)


def _traffic(newest: str, rolled_out: str, percent: int | None) -> list[Object]:
    """How requests are shared among revisions."""
    if not newest:
        return []
    first: Object = {"latestRevision": True, "revisionName": newest, "percent": 100}
    if percent is None or percent == 100 or not rolled_out or rolled_out == newest:
        return [first]
    rest = {"latestRevision": False, "revisionName": rolled_out, "percent": 100 - percent}
    return [{**first, "percent": percent}, {**rest, "tag": "prev"}]
