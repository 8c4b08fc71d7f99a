"""What kubectl walks on: a namespace with a Deployment, its Service and an InferenceService."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from practice.conftest import is_ready

MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: walk}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: walk, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - {name: app, image: "web:1", ports: [{containerPort: 80}]}
      - {name: side, image: "side:1"}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: walk}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: model, namespace: walk}
spec: {predictor: {model: {modelFormat: {name: sklearn}, storageUri: "s3://bucket/model"}}}
"""
WEB = "deployment/web"
PROGRAM = '{"app": {"log": ["one", "two", "three"]}}'


class Walk:
    """kubectl in the namespace of the walk, and the objects as they are."""

    def __init__(self, practice: Any, manifest: Path) -> None:
        self.practice = practice
        self.manifest = str(manifest)

    def __call__(self, *words: str, code: int = 0, typed: str = "") -> str:
        said: str = self.practice.kubectl("-n", "walk", *words, code=code, typed=typed)
        return said

    def web(self) -> Any:
        return self.practice.raw("GET", "/apis/apps/v1/namespaces/walk/deployments/web")[1]

    def pods(self) -> list[Any]:
        listed = self.practice.raw("GET", "/api/v1/namespaces/walk/pods?labelSelector=app%3Dweb")
        return [pod for pod in listed[1]["items"] if is_ready(pod)]

    def rolled_out(self) -> None:
        said = self("rollout", "status", WEB, "--timeout=60s")
        assert 'deployment "web" successfully rolled out' in said


def begun(practice: Any, folder: Path) -> Iterator[Walk]:
    """The walk, once what it begins with is rolled out; gone afterwards."""
    manifest = folder / "walk.yaml"
    manifest.write_text(MANIFEST)
    # How its containers behave is not kubectl's to see, so no manifest of kubectl's names it.
    namespace, web, *_ = yaml.safe_load_all(MANIFEST)
    web["spec"]["template"]["metadata"]["annotations"] = {"practice.runbook/program": PROGRAM}
    first = {"apiVersion": "v1", "kind": "List", "items": [namespace, web]}
    practice.kubectl("create", "-f", "-", typed=json.dumps(first))
    practice.kubectl("apply", "-f", str(manifest))
    made = Walk(practice, manifest)
    made.rolled_out()
    yield made
    practice.kubectl("delete", "-f", str(manifest), "--wait=false", "--ignore-not-found")
