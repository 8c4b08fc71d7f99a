"""Model serving: KServe and Knative, their runtimes, and the two models of the platform."""

from __future__ import annotations

import json
from typing import Any

from runbook_lib.practice.cluster.serving import revision
from runbook_lib.practice.seed.parts import (
    CLUSTER,
    MODELS,
    STARTED_AGO,
    Container,
    Object,
    config_map,
    meta,
    service,
    service_account,
    workload,
)

MODEL_STORE = f"s3://{CLUSTER}-models"
_SERVER_LOG = (
    "INFO:root:Registering model: {}",
    "INFO:uvicorn.error:Application startup complete.",
    "INFO:uvicorn.error:Uvicorn running on http://0.0.0.0:8080 (Press CTRL+C to quit)",
)
# name, model formats, image, protocols
_RUNTIMES = (
    ("kserve-sklearnserver", "sklearn:1", "kserve/sklearnserver:v0.15.2", ("v1", "v2")),
    ("kserve-xgbserver", "xgboost:1", "kserve/xgbserver:v0.15.2", ("v1", "v2")),
    ("kserve-mlserver", "sklearn:0 xgboost:1 lightgbm:3 mlflow:1", "mlserver:1.6.1", ("v2",)),
    ("kserve-torchserve", "pytorch:1", "pytorch/torchserve-kfs:0.9.0", ("v1", "v2")),
    ("kserve-huggingfaceserver", "huggingface:1", "kserve/huggingfaceserver:v0.15.2", ("v2",)),
)


def workloads() -> list[Object]:
    """Controllers, runtimes and InferenceServices."""
    return [
        service_account("kserve-controller-manager", namespace="kserve"),
        _configuration(),
        _controller("kserve", "kserve-controller-manager", "kserve-controller:v0.15.2", 8443),
        service_account("controller", namespace="knative-serving"),
        *(
            _controller("knative-serving", name, f"knative/{name}:v1.18.1", port)
            for name, port in (("activator", 8012), ("autoscaler", 8080), ("controller", 9090))
        ),
        _controller("kourier-system", "3scale-kourier-gateway", "envoyproxy/envoy:v1.34", 8080),
        service("kourier", {"app": "3scale-kourier-gateway"}, 80, 8080, namespace="kourier-system"),
        *(_runtime(*runtime) for runtime in _RUNTIMES),
        service_account("kserve-models-sa", role="mlops-kserve-role", namespace=MODELS),
        _service_of_model(
            "churn-model",
            "Standard",
            {"minReplicas": 2, "maxReplicas": 5},
            scaleMetric="cpu",
            scaleTarget=80,
        ),
        *_recommender(),
    ]


def _configuration() -> Object:
    ingress = {
        "enableGatewayApi": False,
        "ingressGateway": "knative-serving/knative-ingress-gateway",
        "ingressDomain": "models.mlops-platform.com",
        "ingressClassName": "alb",
        "domainTemplate": "{{ .Name }}-{{ .Namespace }}.{{ .IngressDomain }}",
        "disableIngressCreation": False,
    }
    return config_map(
        "inferenceservice-config",
        {
            "ingress": json.dumps(ingress, indent=2),
            "deploy": json.dumps({"defaultDeploymentMode": "Knative"}),
            "storageInitializer": json.dumps({"image": "kserve/storage-initializer:v0.15.2"}),
        },
        namespace="kserve",
    )


def _controller(namespace: str, name: str, image: str, port: int) -> Object:
    labels = {"control-plane": name} if namespace == "kserve" else {"app": name}
    container = Container(
        image, port, "100m", "200Mi", "8m", "60Mi", probe_path=None, memory_limit="400Mi"
    )
    account = {"kserve": "kserve-controller-manager", "knative-serving": "controller"}
    return workload(
        "Deployment",
        name,
        labels,
        container,
        namespace=namespace,
        account=account.get(namespace, ""),
    )


def _runtime(name: str, formats: str, image: str, protocols: tuple[str, ...]) -> Object:
    supported = [
        {"name": one.split(":")[0], "version": one.split(":")[1], "autoSelect": True, "priority": 1}
        for one in formats.split()
    ]
    container: Object = {
        "name": "kserve-container",
        "image": image,
        "args": ["--model_name={{.Name}}", "--model_dir=/mnt/models", "--http_port=8080"],
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "resources": {
            "requests": {"cpu": "250m", "memory": "512Mi"},
            "limits": {"cpu": "1", "memory": "1Gi"},
        },
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterServingRuntime",
        "metadata": meta(name, None),
        "spec": {
            "supportedModelFormats": supported,
            "protocolVersions": list(protocols),
            "containers": [container],
        },
    }


def _program(name: str) -> str:
    usage = {"cpu": "60m", "memory": "300Mi"}
    log = [line.format(name) for line in _SERVER_LOG]
    server = {"log": log, "started_ago": STARTED_AGO, "usage": usage}
    server["answers"] = {
        f"/v1/models/{name}": f'200 {{"name": "{name}", "ready": true}}',
        f"/v2/models/{name}/ready": f'200 {{"name": "{name}", "ready": true}}',
    }
    fetched = [
        "INFO:root:Initializing, args: src_uri [{uri}] dest_path[ [/mnt/models]",
        "INFO:root:Successfully copied {uri} to /mnt/models",
    ]
    uri = f"{MODEL_STORE}/{name}"
    begins, ends = (line.format(uri=uri) for line in fetched)
    initializer = {"log": [begins], "last_log": [ends], "run_seconds": 4}
    proxy = {"log": ['{"severity":"INFO","message":"Starting queue-proxy"}']}
    found = {"kserve-container": server, "storage-initializer": initializer, "queue-proxy": proxy}
    return json.dumps(found)


def _service_of_model(
    name: str, mode: str, scale: Object, uri: str = "", **predictor: Any
) -> Object:
    made: Object = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": meta(name, MODELS),
        "spec": {
            "predictor": {
                **scale,
                **predictor,
                "serviceAccountName": "kserve-models-sa",
                "model": {
                    "modelFormat": {"name": "sklearn"},
                    "storageUri": uri or f"{MODEL_STORE}/{name}",
                    "resources": {
                        "requests": {"cpu": "250m", "memory": "512Mi"},
                        "limits": {"cpu": "1", "memory": "1Gi"},
                    },
                },
            }
        },
    }
    alb = "alb.ingress.kubernetes.io"
    made["metadata"]["annotations"] = {
        f"{alb}/group.name": "mlops-platform",
        f"{alb}/scheme": "internet-facing",
        f"{alb}/target-type": "ip",
        "serving.kserve.io/deploymentMode": mode,
        "practice.runbook/program": _program(name),
    }
    return made


def _recommender() -> list[Object]:
    """A canary: revision 1 takes 90 % of the traffic, revision 2 the rest."""
    scale = {"minReplicas": 1, "maxReplicas": 3}
    name = "recommender"
    canary = {"canaryTrafficPercent": 10}
    service_ = _service_of_model(name, "Knative", scale, f"{MODEL_STORE}/{name}/v2", **canary)
    first = _service_of_model(name, "Knative", scale, f"{MODEL_STORE}/{name}/v1")
    runtime = _runtime(*_RUNTIMES[0])
    before, after = revision(first, runtime, 1), revision(service_, runtime, 2)
    for one in (before, after):  # both have been there for long
        one["metadata"]["creationTimestamp"] = first["metadata"]["creationTimestamp"]
    # The controller learns from the status what was rolled out before.
    rolled_out = {"latestRolledoutRevision": before["metadata"]["name"]}
    service_["status"] = {"components": {"predictor": rolled_out}}
    return [before, after, service_]
