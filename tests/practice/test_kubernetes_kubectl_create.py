"""The walk with kubectl goes on: what is created, replaced and deleted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from practice.walk import Walk, begun

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")


@pytest.fixture(scope="module")
def walk(practice: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    yield from begun(practice, tmp_path_factory.mktemp("walk"))


@pytest.mark.parametrize(
    ("words", "path", "value"),
    [
        (
            "deployment made --image=i:1 --replicas=0 --port=80",
            "apps/v1 deployments",
            ("replicas", 0),
        ),
        ("configmap made --from-literal=a=b", "v1 configmaps", ("data", {"a": "b"})),
        ("secret generic made --from-literal=a=b", "v1 secrets", ("data", {"a": "Yg=="})),
        ("serviceaccount made", "v1 serviceaccounts", ("kind", "ServiceAccount")),
        ("job made --image=i -- date", "batch/v1 jobs", ("command", ["date"])),
        ("service clusterip made --tcp=80:8080", "v1 services", ("targetPort", 8080)),
        ("quota made --hard=pods=2", "v1 resourcequotas", ("hard", {"pods": "2"})),
        ("ingress made --rule=a/b=c:80", "networking.k8s.io/v1 ingresses", ("host", "a")),
        (
            "role made --verb=get --resource=pods/log",
            "rbac.authorization.k8s.io/v1 roles",
            ("resources", ["pods/log"]),
        ),
        (
            "rolebinding made --role=made --user=u --serviceaccount=walk:made",
            "rbac.authorization.k8s.io/v1 rolebindings",
            ("roleRef", {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "made"}),
        ),
        (
            "cronjob made --image=i --schedule=*/5\xa0*\xa0*\xa0*\xa0*",
            "batch/v1 cronjobs",
            ("schedule", "*/5 * * * *"),
        ),
    ],
)
def test_create(walk: Walk, words: str, path: str, value: tuple[str, Any]) -> None:
    asked = [word.replace("\xa0", " ") for word in words.split(" ")]
    assert "made created" in walk("create", *asked)
    version, plural = path.split()
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    code, made = walk.practice.raw("GET", f"{root}/namespaces/walk/{plural}/made")
    assert code == 200 and value in pairs(made)
    walk("delete", plural, "made", "--wait", "--timeout=60s")
    assert walk.practice.raw("GET", f"{root}/namespaces/walk/{plural}/made")[0] == 404


def test_a_job_from_a_cron_job_is_its_template(walk: Walk) -> None:
    container = {
        "name": "c",
        "image": "i",
        "command": ["sh", "-c", "date"],
        "env": [
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "envFrom": [{"configMapRef": {"name": "c", "optional": True}}],
        "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": True}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 3},
        "livenessProbe": {"exec": {"command": ["true"]}},
        "securityContext": {"runAsUser": 0, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "restartPolicy": "Never",
        "nodeSelector": {"none": "such"},
        "tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 0}],
        "securityContext": {"fsGroup": 7},
        "containers": [container],
        "volumes": [
            {"name": "v", "emptyDir": {}},
            {"name": "w", "secret": {"secretName": "s", "items": [{"key": "k", "path": "p"}]}},
            {"name": "x", "configMap": {"name": "c"}},
            {"name": "y", "persistentVolumeClaim": {"claimName": "p"}},
        ],
    }
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": {"spec": spec}}}},
    }
    walk("create", "-f", "-", typed=json.dumps(cron))
    walk("create", "job", "now", "--from=cronjob/nightly")
    jobs = "/apis/batch/v1/namespaces/walk"
    nightly = walk.practice.raw("GET", f"{jobs}/cronjobs/nightly")[1]["spec"]["jobTemplate"]
    now = walk.practice.raw("GET", f"{jobs}/jobs/now")[1]
    for field, value in nightly["spec"]["template"]["spec"]["containers"][0].items():
        assert now["spec"]["template"]["spec"]["containers"][0][field] == value, field
    for field in ("volumes", "tolerations", "nodeSelector", "restartPolicy"):
        assert now["spec"]["template"]["spec"][field] == spec[field], field
    assert now["spec"]["template"]["spec"]["securityContext"] == {"fsGroup": 7}
    assert now["metadata"]["ownerReferences"][0]["name"] == "nightly"
    walk("delete", "cronjob", "nightly", "--cascade=foreground", "--timeout=60s")
    assert walk.practice.raw("GET", f"{jobs}/jobs/now")[0] == 404


def pairs(value: Any) -> list[tuple[str, Any]]:
    """Every (key, value) at any depth."""
    if isinstance(value, list):
        return [pair for item in value for pair in pairs(item)]
    if not isinstance(value, dict):
        return []
    return [*value.items(), *(pair for item in value.values() for pair in pairs(item))]


def test_namespaces_and_tokens(walk: Walk) -> None:
    walk("create", "namespace", "walk-2")
    walk("delete", "namespace", "walk-2", "--wait", "--timeout=60s")
    assert walk.practice.raw("GET", "/api/v1/namespaces/walk-2")[0] == 404
    walk("create", "sa", "robot")
    token = walk("create", "token", "robot", "--duration=10m").strip()
    assert "system:serviceaccount:walk:robot" in walk("auth", "whoami", "--token", token)
    walk("delete", "sa", "robot")


def test_custom_kinds(walk: Walk) -> None:
    patch = '{"spec": {"predictor": {"minReplicas": 2}}}'
    assert "patched" in walk("patch", "isvc", "model", "--type=merge", "-p", patch)
    said = walk("get", "isvc", "model", "-o", "jsonpath={.spec.predictor.minReplicas}")
    assert said == "2"
    refused = walk("patch", "isvc", "model", "-p", patch, code=1)
    assert "the body of the request was in an unknown format" in refused


def test_replace_and_cascades(walk: Walk) -> None:
    walk("create", "deployment", "gone", "--image=i:1")
    walk("rollout", "status", "deployment/gone", "--timeout=60s")
    text = walk("get", "deployment", "gone", "-o", "json")
    walk("replace", "-f", "-", typed=text.replace('"image": "i:1"', '"image": "i:2"'))
    assert "i:2" in walk("get", "deployment", "gone", "-o", "wide")
    walk("delete", "deployment", "gone", "--cascade=orphan")
    assert "gone-" in walk("get", "rs", "-l", "app=gone", "-o", "name")
    walk("delete", "rs", "-l", "app=gone", "--cascade=foreground", "--timeout=60s")
    walk.practice.until(
        lambda: "No resources" in walk("get", "pods", "-l", "app=gone"), "no pods of gone"
    )
