"""From an InferenceService to the pods that serve it: the runtime that fits, and its template."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from runbook_lib.practice.objects.errors import denied
from runbook_lib.practice.objects.resources import Kind
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store, copy_of

GROUP = "serving.kserve.io"
MODE, STOP = f"{GROUP}/deploymentMode", f"{GROUP}/stop"
NAME = f"{GROUP}/inferenceservice"
# Annotations of the InferenceService that its pods do not get.
_OWN = (MODE, STOP, "kubectl.kubernetes.io/last-applied-configuration")
_MODELS = "/mnt/models"


def check_replicas(kind: Kind, obj: Object) -> None:
    """KServe's webhook: refuse an InferenceService whose bounds cross, with an ApiError.

    Source: kserve, pkg/apis/serving/v1beta1/component.go, validateReplicas.
    """
    if kind.table != (GROUP, "inferenceservices"):
        return
    for component in ("predictor", "transformer", "explainer"):
        given = dig(obj, f"spec.{component}")
        if not given:
            continue
        low, high = given.get("minReplicas", 1), given.get("maxReplicas", 0)
        if low < 0:
            why = "MinReplicas cannot be less than 0."
        elif high < 0:
            why = "MaxReplicas cannot be less than 0."
        elif low > high != 0:
            why = "MinReplicas cannot be greater than MaxReplicas."
        else:
            continue
        raise denied("inferenceservice.kserve-webhook-server.validator", why)


class NoRuntimeError(Exception):
    """No runtime serves the model; `reason` and `info` are those of modelStatus."""

    def __init__(self, reason: str, info: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.info = info


def annotation(service: Object, name: str) -> str:
    return str((service["metadata"].get("annotations") or {}).get(name, ""))


def is_knative(service: Object, default: str) -> bool:
    mode = annotation(service, MODE) or dig(service, "status.deploymentMode") or default
    return mode in ("Knative", "Serverless")


def runtime_of(store: Store, service: Object) -> Object | None:
    """The runtime of a model's server; None for a predictor with its own containers.

    Raises NoRuntimeError, worded as KServe words it.
    """
    model = dig(service, "spec.predictor.model")
    if model is None:
        return None
    namespace, wanted = service["metadata"]["namespace"], model.get("modelFormat") or {}
    kinds = ("servingruntimes", "clusterservingruntimes")
    if name := model.get("runtime"):
        found = store.find(kinds[0], name, namespace, GROUP) or store.find(
            kinds[1], name, "", GROUP
        )
        if found is None:
            why = f"no ServingRuntimes or ClusterServingRuntimes with the name: {name}"
            info = "Waiting for runtime to become available"
            raise NoRuntimeError("RuntimeNotRecognized", info, why)
        if dig(found, "spec.disabled"):
            why = f"specified runtime {name} is disabled"
            raise NoRuntimeError("RuntimeDisabled", "Specified runtime is disabled", why)
        if not _supports(found, wanted, auto=False):
            why = f"specified runtime {name} does not support specified framework/version"
            info = "Specified runtime does not support specified framework/version"
            raise NoRuntimeError("NoSupportingRuntime", info, why)
        return found
    protocol = model.get("protocolVersion", "v1")
    candidates = [
        one
        for kind in kinds
        for one in store.all(kind, GROUP)
        if one["metadata"].get("namespace") in (None, namespace)
        and not dig(one, "spec.disabled")
        and _supports(one, wanted, auto=True)
        and protocol in dig(one, "spec.protocolVersions", ["v1"])
    ]
    if not candidates:
        version = wanted.get("version", "<nil>")
        why = (
            "no runtime found to support predictor with model type: "
            f"{{{wanted.get('name', '')} {version}}}"
        )
        info = "No runtime found to support specified framework/version"
        raise NoRuntimeError("NoSupportingRuntime", info, why)
    # Those of the namespace come before those of the cluster.
    return min(candidates, key=lambda one: (not one["metadata"].get("namespace"),))


def _supports(runtime: Object, wanted: Object, *, auto: bool) -> bool:
    for one in dig(runtime, "spec.supportedModelFormats", []):
        if auto and not one.get("autoSelect"):
            continue
        version = wanted.get("version")
        if one["name"] == wanted.get("name") and version in (None, one.get("version")):
            return True
    return False


def template(service: Object, runtime: Object | None) -> Object:
    """The pod template of the predictor."""
    meta, predictor = service["metadata"], dig(service, "spec.predictor", {})
    name = f"{meta['name']}-predictor"
    spec: Object = {
        field: copy_of(predictor[field])
        for field in ("serviceAccountName", "nodeSelector", "tolerations", "affinity", "volumes")
        if field in predictor
    }
    if runtime is None:
        spec["containers"] = copy_of(predictor.get("containers") or [])
    else:
        spec["containers"] = [_server(meta["name"], predictor["model"], runtime)]
    annotations = {
        key: value for key, value in (meta.get("annotations") or {}).items() if key not in _OWN
    }
    if uri := dig(predictor, "model.storageUri"):
        _fetch(spec, uri)
        annotations["internal.serving.kserve.io/storage-initializer-sourceuri"] = uri
    labels = {"app": f"isvc.{name}", "component": "predictor", NAME: meta["name"]}
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}


def _server(name: str, model: Object, runtime: Object) -> Object:
    container: Object = copy_of(dig(runtime, "spec.containers", [{}])[0])
    container["args"] = [a.replace("{{.Name}}", name) for a in container.get("args") or []]
    for field in ("resources", "image", "command"):
        if given := model.get(field):
            container[field] = copy_of(given)
    container["args"] += model.get("args") or []
    container["env"] = [*(container.get("env") or []), *(model.get("env") or [])]
    for probe in ("readinessProbe", "livenessProbe"):
        if given := model.get(probe):
            container[probe] = copy_of(given)
    container.setdefault(
        "readinessProbe", {"tcpSocket": {"port": 8080}, "periodSeconds": 10, "timeoutSeconds": 1}
    )
    return container


def _fetch(spec: Object, uri: str) -> None:
    """Add the init container that copies the model from its store."""
    volume = "kserve-provision-location"
    spec.setdefault("volumes", []).append({"name": volume, "emptyDir": {}})
    for container in spec["containers"][:1]:
        mount = {"name": volume, "mountPath": _MODELS, "readOnly": True}
        container.setdefault("volumeMounts", []).append(mount)
    spec["initContainers"] = [
        {
            "name": "storage-initializer",
            "image": "kserve/storage-initializer:v0.15.2",
            "args": [uri, _MODELS],
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "resources": {
                "requests": {"cpu": "100m", "memory": "100Mi"},
                "limits": {"cpu": "1", "memory": "1Gi"},
            },
            "volumeMounts": [{"name": volume, "mountPath": _MODELS}],
        }
    ]


# Knative's revisions


def revision(service: Object, runtime: Object | None, number: int) -> Object:
    """The Revision that Knative makes of the InferenceService as it is now."""
    meta, predictor = service["metadata"], service["spec"]["predictor"]
    made = template(service, runtime)
    name = f"{meta['name']}-predictor"
    annotations = made["metadata"]["annotations"] | {
        "autoscaling.knative.dev/min-scale": str(predictor.get("minReplicas", 1)),
        "autoscaling.knative.dev/class": "kpa.autoscaling.knative.dev",
    }
    if predictor.get("maxReplicas"):
        annotations["autoscaling.knative.dev/max-scale"] = str(predictor["maxReplicas"])
    labels = made["metadata"]["labels"] | {
        "serving.knative.dev/service": name,
        "serving.knative.dev/configuration": name,
        "serving.knative.dev/configurationGeneration": str(number),
    }
    annotations["practice.runbook/template-hash"] = digest([annotations, made["spec"]])
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Revision",
        "metadata": {
            "name": f"{name}-{number:05d}",
            "namespace": meta["namespace"],
            "labels": labels,
            "annotations": annotations,
        },
        "spec": {"containerConcurrency": 0, "timeoutSeconds": 300, **made["spec"]},
    }


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
