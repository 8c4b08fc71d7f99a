"""The stand-in for KServe's controller: InferenceServices and what serves them.

Standard mode is here; what differs in Knative mode is in `knative`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from runbook_lib.practice.cluster.events import Recorder
from runbook_lib.practice.cluster.knative import Knative
from runbook_lib.practice.cluster.objects import conditions, drop, is_running, keep
from runbook_lib.practice.cluster.owners import ready_since
from runbook_lib.practice.cluster.serving import (
    GROUP,
    NAME,
    STOP,
    NoRuntimeError,
    annotation,
    is_knative,
    runtime_of,
    template,
)
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store, copy_of, stamp

Found = dict[str, tuple[str, str, str]]  # condition to (status, reason, message)


@dataclass
class Outcome:
    """What became of the predictor: its conditions, and what the status says beside them."""

    conditions: Found
    component: Object = field(default_factory=dict)
    ready: bool = False


class InferenceServices:
    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store = store
        self._recorder = recorder
        self._knative = Knative(store)
        self._told: dict[str, str] = {}

    def sync(self, now: float) -> None:
        services = self._store.all("inferenceservices", GROUP)
        if services and is_running(self._store, "kserve", "kserve-controller-manager"):
            for service in services:
                self._sync(service, now)

    def _setting(self, key: str, name: str, default: str) -> str:
        """A setting of ConfigMap inferenceservice-config."""
        found = self._store.find("configmaps", "inferenceservice-config", "kserve")
        return str(json.loads(dig(found, f"data.{key}", "{}")).get(name, default))

    def _sync(self, service: Object, now: float) -> None:
        default = self._setting("deploy", "defaultDeploymentMode", "Standard")
        knative = is_knative(service, default)
        stopped = annotation(service, STOP) == "true"
        try:
            runtime = runtime_of(self._store, service)
        except NoRuntimeError as problem:
            self._refuse(service, problem)
            return
        self._told.pop(service["metadata"]["uid"], None)
        if knative:
            outcome = Outcome(*self._knative.sync(service, runtime, now, stopped=stopped))
            outcome.ready = outcome.conditions["PredictorReady"][0] == "True"
        else:
            outcome = self._standard(service, runtime, stopped=stopped)
        found = outcome.conditions
        found["IngressReady"] = self._ingress(service, outcome, knative=knative, stopped=stopped)
        found["Ready"] = _together(found["PredictorReady"], found["IngressReady"])
        found["Stopped"] = ("True", "Stopped", "") if stopped else ("False", "", "")
        self._report(service, outcome, now, knative=knative)

    def _refuse(self, service: Object, problem: NoRuntimeError) -> None:
        """No runtime: what was there stays as it is, the status says why nothing comes of it."""
        failure = {"reason": problem.reason, "message": problem.info}
        model = {
            "copies": {"failedCopies": 0},
            "lastFailureInfo": failure,
            "states": {"activeModelState": "", "targetModelState": "FailedToLoad"},
            "transitionStatus": "InvalidSpec",
        }

        def write(new: Object) -> None:
            new.setdefault("status", {})["modelStatus"] = model

        kind = self._store.catalogue.of("inferenceservices", GROUP)
        self._store.edit(kind, service, write)
        self._tell(service, "Warning", "InternalError", str(problem))

    def _tell(self, service: Object, type_: str, reason: str, message: str) -> None:
        uid = service["metadata"]["uid"]
        if self._told.get(uid) != message:
            self._told[uid] = message
            component = "v1beta1Controllers"
            self._recorder.record(service, type_, reason, message, component=component)

    # standard mode

    def _standard(self, service: Object, runtime: Object | None, *, stopped: bool) -> Outcome:
        made = self._workload(service, runtime)
        if stopped:
            for obj in made:
                drop(self._store, obj)
            return Outcome({"PredictorReady": ("False", "Stopped", "")})
        kept = [keep(self._store, service, obj) for obj in made]
        available: Object = next(
            (c for c in dig(kept[0], "status.conditions", []) if c["type"] == "Available"), {}
        )
        found = (
            available.get("status", "Unknown"),
            "" if available.get("status") == "True" else available.get("reason", ""),
            "" if available.get("status") == "True" else available.get("message", ""),
        )
        return Outcome({"PredictorReady": found}, {}, found[0] == "True")

    def _workload(self, service: Object, runtime: Object | None) -> list[Object]:
        """Deployment, Service and HorizontalPodAutoscaler, as Standard mode has them."""
        meta, predictor = service["metadata"], service["spec"]["predictor"]
        name = f"{meta['name']}-predictor"
        pods = template(service, runtime)
        own = {"name": name, "namespace": meta["namespace"], "labels": pods["metadata"]["labels"]}
        selector = {"app": f"isvc.{name}"}
        low = predictor.get("minReplicas", 1)
        deployment: Object = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {**own, "annotations": {"serving.kserve.io/autoscalerClass": "hpa"}},
            "spec": {"selector": {"matchLabels": selector}, "template": pods},
        }
        if self._store.find("deployments", name, meta["namespace"], "apps") is None:
            deployment["spec"]["replicas"] = low  # later the autoscaler's business
        ports = [{"name": name, "port": 80, "targetPort": 8080, "protocol": "TCP"}]
        metric = predictor.get("scaleMetric", "cpu")
        goal = {"type": "Utilization", "averageUtilization": predictor.get("scaleTarget", 80)}
        scaler = {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": max(1, low),
            "maxReplicas": max(1, low, predictor.get("maxReplicas", 0)),
            "metrics": [{"type": "Resource", "resource": {"name": metric, "target": goal}}],
        }
        return [
            deployment,
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": copy_of(own),
                "spec": {"type": "ClusterIP", "selector": selector, "ports": ports},
            },
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": copy_of(own),
                "spec": scaler,
            },
        ]

    # ingress

    def _host(self, service: Object) -> str:
        meta = service["metadata"]
        domain = self._setting("ingress", "ingressDomain", "example.com")
        return f"{meta['name']}-{meta['namespace']}.{domain}"

    def _ingress(
        self, service: Object, outcome: Outcome, *, knative: bool, stopped: bool
    ) -> tuple[str, str, str]:
        meta = service["metadata"]
        backend = {"service": {"name": f"{meta['name']}-predictor", "port": {"number": 80}}}
        path = {"path": "/", "pathType": "Prefix", "backend": backend}
        mine = "alb.ingress.kubernetes.io"
        annotations = {
            k: v for k, v in (meta.get("annotations") or {}).items() if k.startswith(mine)
        }
        ingress: Object = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {
                "name": meta["name"],
                "namespace": meta["namespace"],
                "labels": {NAME: meta["name"]},
                "annotations": annotations,
            },
            "spec": {
                "ingressClassName": self._setting("ingress", "ingressClassName", "istio"),
                "rules": [{"host": self._host(service), "http": {"paths": [path]}}],
            },
        }
        if stopped:
            drop(self._store, ingress)
            return ("False", "Stopped", "")
        status = outcome.conditions["PredictorReady"][0]
        if status != "True":
            before = dig(service, "status.conditions", [])
            was = [c for c in before if c["type"] == "IngressReady" and c["status"] == "True"]
            if was and not knative:
                return ("True", "", "")  # what was made stays
            return (status, "Predictor ingress not created", "")
        if knative:
            return self._knative.ingress(service)
        if self._setting("ingress", "disableIngressCreation", "False") != "True":
            keep(self._store, service, ingress)
        return ("True", "", "")

    # status

    def _report(self, service: Object, outcome: Outcome, now: float, *, knative: bool) -> None:
        meta = service["metadata"]
        at = ready_since(self._pods(service), now) if outcome.ready else now
        status: Object = {
            "conditions": conditions(service, outcome.conditions, stamp(at)),
            "components": {"predictor": outcome.component},
            "deploymentMode": "Knative" if knative else "Standard",
            "modelStatus": self._model_status(service, outcome),
            "observedGeneration": meta.get("generation", 1),
        }
        if outcome.conditions["Ready"][0] == "True" or dig(service, "status.url"):
            host = f"{meta['name']}-predictor.{meta['namespace']}.svc.cluster.local"
            status |= {"url": f"http://{self._host(service)}", "address": {"url": f"http://{host}"}}
        kind = self._store.catalogue.of("inferenceservices", GROUP)
        self._store.edit(kind, service, lambda new: new.update(status=status))

    def _pods(self, service: Object) -> list[Object]:
        return [
            pod
            for pod in self._store.all("pods")
            if (pod["metadata"].get("labels") or {}).get(NAME) == service["metadata"]["name"]
            and pod["metadata"]["namespace"] == service["metadata"]["namespace"]
        ]

    def _model_status(self, service: Object, outcome: Outcome) -> Object:
        pods = self._pods(service)
        states = {"activeModelState": "", "targetModelState": "Pending"}
        if outcome.ready:
            states = dict.fromkeys(states, "Loaded")
            copies = {"failedCopies": 0, "totalCopies": len(pods)}
            return {"copies": copies, "states": states, "transitionStatus": "UpToDate"}
        failures = [failure for pod in pods if (failure := _failure(pod))]
        found: Object = {"copies": {"failedCopies": len(failures)}, "states": states}
        if failures:
            states["targetModelState"] = "FailedToLoad"
            found["lastFailureInfo"] = failures[0]
            return {**found, "transitionStatus": "BlockedByFailedLoad"}
        if pods:
            states["targetModelState"] = "Loading"
        return {**found, "transitionStatus": "InProgress"}


def _failure(pod: Object) -> Object | None:
    """How the pod's model could not be loaded, as modelStatus has it."""
    for status in [
        *dig(pod, "status.initContainerStatuses", []),
        *dig(pod, "status.containerStatuses", []),
    ]:
        if status["name"] not in ("storage-initializer", "kserve-container"):
            continue
        ended = dig(status, "state.terminated") or dig(status, "lastState.terminated")
        if ended and ended["exitCode"] and not status["ready"]:
            text = ended.get("message") or ended["reason"]
            code = ended["exitCode"]
            return {"reason": "ModelLoadFailed", "message": text, "exitCode": code}
    return None


def _together(*parts: tuple[str, str, str]) -> tuple[str, str, str]:
    """Ready, of the conditions that it depends on."""
    for status in ("False", "Unknown"):
        for part in parts:
            if part[0] == status:
                return part
    return ("True", "", "")
