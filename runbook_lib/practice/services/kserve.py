"""KServe's model servers, behind a Service or behind Knative's revisions.

How a request gets to a server, and how a model gets there; what it answers is `kserve_protocols`'.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.cluster.knative import SCALE
from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.cluster.owners import is_alive, is_ready
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store
from runbook_lib.practice.services.application import Application
from runbook_lib.practice.services.batching import Batches
from runbook_lib.practice.services.cloud import Cloud
from runbook_lib.practice.services.exchange import Answer, Call
from runbook_lib.practice.services.kserve_protocols import RefusedError, respond
from runbook_lib.practice.services.routing import (
    Backend,
    GatewayError,
    Target,
    listener,
)
from runbook_lib.practice.services.rules import Raised
from runbook_lib.practice.services.storage import INITIALIZER, fetch

if TYPE_CHECKING:
    from aiohttp import web

NAMESPACE, GROUP, KNATIVE = "models", "serving.kserve.io", "serving.knative.dev"
MODEL_LABEL = "serving.kserve.io/inferenceservice"
REVISION_LABEL = f"{KNATIVE}/revision"
CONTAINER = "kserve-container"
_USUAL = ("churn-model", "recommender")
_ENVOY = {
    404: (404, ""),
    502: (
        503,
        "upstream connect error or disconnect/reset before headers. reset reason: remote "
        "connection failure, transport failure reason: delayed connect error: Connection refused",
    ),
    503: (503, "no healthy upstream"),
    504: (504, "upstream request timeout"),
}


class ModelServers(Application):
    """The predictors of all InferenceServices in namespace models, behind one gateway.

    The Host names the model (status.url, or a predictor's Service); without one, the path does.
    """

    def __init__(self, store: Store, kubelet: Kubelet, aws: Cloud) -> None:
        super().__init__(
            store,
            kubelet,
            app="kserve",
            backend=Backend(NAMESPACE, f"{_USUAL[0]}-predictor", 80),
        )
        self._aws = aws
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._batches = Batches()

    # what is what

    def container_of(self, pod: Object) -> str:
        labels = pod["metadata"].get("labels") or {}
        return CONTAINER if MODEL_LABEL in labels else ""

    def app_of(self, pod: Object) -> str:
        return str(pod["metadata"]["labels"][MODEL_LABEL])

    def usual_request(self, number: int) -> tuple[str, str, dict[str, str], Any]:
        model = _USUAL[number % 2]
        row = [1.0, 0.2 * (number % 7), -0.5, 0.1]
        return "POST", f"/v1/models/{model}:predict", {}, {"instances": [row]}

    def error_lines(self, call: Call, error: Raised) -> Iterable[str]:
        return (f"ERROR:kserve:{call.target.name}:Exception:", *error.traceback)

    def failed(self, error: Raised) -> Answer:
        """kserve's own handler: an InferenceError is its text, anything else has its class."""
        own = error.name == "kserve.errors.InferenceError"
        text = error.message if own else f"{error.name} : {error.message}"
        return Answer(500, {"error": text})

    def gateway_answer(self, error: GatewayError) -> Answer:
        status, body = _ENVOY[error.status]
        return Answer(status, body, "text/plain", {"Server": "envoy"})

    # a pod begins

    async def _follow(self, namespace: str, name: str) -> None:
        """Its initializer fetches the model before its server begins."""
        pod = self._store.find("pods", name, namespace)
        if pod and self._kubelet.environment(pod, INITIALIZER) is not None:
            await fetch(self._aws, self._store, self._kubelet, pod)
        await super()._follow(namespace, name)

    # the way to a container

    def service_of(self, request: web.Request) -> Object:
        """The InferenceService that is asked for. Raises GatewayError."""
        host = request.headers.get("Host", "").partition(":")[0]
        known = [
            one
            for one in self._store.all("inferenceservices", GROUP)
            if one["metadata"]["namespace"] == NAMESPACE
        ]
        for one in known:
            name = one["metadata"]["name"]
            outside = dig(one, "status.url", "").partition("://")[2]
            inside = (f"{name}-predictor", f"{name}-predictor.{NAMESPACE}")
            if host == outside or host.removesuffix(".svc.cluster.local") in inside:
                return one
        named = model_of(request.path)
        for one in known:
            if one["metadata"]["name"] == (named or _USUAL[0]):
                return one
        raise GatewayError(404)

    def backend_of(self, request: web.Request) -> Backend:
        found = self.service_of(request)
        seconds = float(dig(found, "spec.predictor.timeout", 300 if is_knative(found) else 60))
        return Backend(NAMESPACE, f"{found['metadata']['name']}-predictor", 80, seconds)

    async def choose(self, backend: Backend, request: web.Request) -> Target:
        found = self.service_of(request)
        if is_knative(found):
            return await self._of_revision(request)
        return self.next_of(await self.serving(backend))

    def _revision(self, service: Object) -> str:
        """One revision, as the traffic is split. Raises GatewayError where there is none."""
        self._turn += 1
        # 37 and 100 have no common divisor: a hundred requests are split exactly.
        place, passed = self._turn * 37 % 100, 0
        for name, percent in _shares(service).items():
            passed += percent
            if place < passed:
                return name
        raise GatewayError(503)

    async def _of_revision(self, request: web.Request) -> Target:
        """A container of a revision; from zero, the activator holds the request until one is."""
        revision = self._revision(self.service_of(request))
        while not (ready := self._ready(revision)):
            found = self._store.find("revisions", revision, NAMESPACE, KNATIVE)
            if found is None:
                raise GatewayError(503)
            changed = self._store.changed
            self._scale(found, 1)
            await changed.wait()
            service = self.service_of(request)
            if revision not in _shares(service):  # meanwhile another one has taken over
                revision = self._revision(service)
        self._turn += 1
        return ready[self._turn // 7 % len(ready)]

    def _scale(self, revision: Object, pods: int) -> None:
        """What Knative's autoscaler does when the activator tells it of a request."""
        kind = self._store.catalogue.of("revisions", KNATIVE)

        def change(new: Object) -> None:
            new["metadata"].setdefault("annotations", {})[SCALE] = str(pods)

        self._store.edit(kind, revision, change)

    def _ready(self, revision: str) -> list[Target]:
        found = []
        for pod in self._store.all("pods"):
            labels = pod["metadata"].get("labels") or {}
            if labels.get(REVISION_LABEL) == revision and is_ready(pod) and is_alive(pod):
                names = [one["name"] for one in pod["spec"]["containers"]]
                container = CONTAINER if CONTAINER in names else listener(pod, 8080)
                found.append(Target(pod, container, 8080))
        return found

    # in the container

    async def answer(self, call: Call) -> Answer:
        model = self.app_of(call.target.pod)
        found = self._store.find("inferenceservices", model, NAMESPACE, GROUP) or {}
        try:
            if call.path.endswith((":predict", "/infer")) and call.method == "POST":
                async with self._slot(call.target.pod, found):
                    await self._batches.wait(call.target.pod["metadata"]["uid"], *batcher(found))
                    return Answer(200, respond(call, model, found))
            return Answer(200, respond(call, model, found))
        except RefusedError as refusal:
            if refusal.status < 500 and "error" in refusal.body:
                call.log(f"ERROR:kserve:{call.target.name}:Exception: {refusal.body['error']}")
            return Answer(refusal.status, refusal.body)

    def _slot(self, pod: Object, service: Object) -> Any:
        """The queue-proxy lets only so many requests at once into its container."""
        limit = int(dig(service, "spec.predictor.containerConcurrency", 0) or 0)
        if not limit or not is_knative(service):
            return contextlib.nullcontext()
        return self._slots.setdefault(pod["metadata"]["uid"], asyncio.Semaphore(limit))

    async def heal(self) -> None:
        await super().heal()
        self._slots = {}
        for one in self._store.all("revisions", KNATIVE):
            if SCALE in (one["metadata"].get("annotations") or {}):
                self._scale(one, 0)


def is_knative(service: Object) -> bool:
    annotations = dig(service, "metadata.annotations", {})
    mode = annotations.get("serving.kserve.io/deploymentMode", "Knative")
    return mode in ("Knative", "Serverless")


def _shares(service: Object) -> dict[str, int]:
    """Revision to its percentage of the traffic."""
    split = {
        str(one["revisionName"]): int(one.get("percent") or 0)
        for one in dig(service, "status.components.predictor.traffic", [])
    }
    latest = dig(service, "status.components.predictor.latestReadyRevision", "")
    return split or ({str(latest): 100} if latest else {})


def batcher(service: Object) -> tuple[int, float]:
    """maxBatchSize, and maxLatency in seconds; (1, 0) where requests are not batched."""
    found = dig(service, "spec.predictor.batcher")
    if not found:
        return 1, 0.0
    return int(found.get("maxBatchSize") or 32), float(found.get("maxLatency") or 50) / 1000


def model_of(path: str) -> str:
    """The model that a path names; '' where it names none."""
    parts = path.strip("/").split("/")
    if parts[0] in ("v1", "v2") and parts[1:2] == ["models"] and len(parts) > 2:
        return parts[2].partition(":")[0]
    return ""
