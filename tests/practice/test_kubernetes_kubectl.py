"""An engineer's walk through the practice cluster with an ordinary kubectl: look and change."""

from __future__ import annotations

import json
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from practice.walk import WEB, Walk, begun

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")


@pytest.fixture(scope="module")
def walk(practice: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    yield from begun(practice, tmp_path_factory.mktemp("walk"))


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("get pods", r"NAME +READY +STATUS +RESTARTS +AGE\nweb-\S+ +2/2 +Running +0"),
        ("get pods -o wide", r"IP +NODE +NOMINATED NODE +READINESS GATES\n.* node-[abc] "),
        ("get deploy web -o yaml", r"(?s)apiVersion: apps/v1\nkind: Deployment.*image: web:1"),
        ("get deploy web -o jsonpath={{.spec.replicas}}", r"^2$"),
        ("get pods -l app=web,!none -o name", r"^(pod/web-\S+\n){2}$"),
        ("get pods --field-selector=status.phase=Running --no-headers", r"^(web-.*\n){2}$"),
        ("get pods -A", r"NAMESPACE +NAME(?s:.*)\nkube-system +metrics-server"),
        ("get nodes --sort-by=.metadata.name -o name", r"node/node-a\nnode/node-b\nnode/node-c"),
        ("get nodes -o wide", r"STATUS +ROLES(?s:.*)node-a +Ready"),
        ("get all", r"(?s)pod/web-.*service/web .*deployment.apps/web .*replicaset.apps/web-"),
        ("get svc,endpoints,endpointslices", r"(?s)service/web +ClusterIP.*endpoints/web +10\."),
        ("get isvc", r"NAME +URL +READY"),
        ("get events", r"LAST SEEN +TYPE +REASON +OBJECT +MESSAGE\n"),
        ("get pvc,job,cj,ing,netpol,quota,limits,hpa,pdb,sts,ds", r"No resources found"),
        ("get roles,rolebindings", r"No resources found"),
        ("get clusterrolebindings cluster-admin", r"ROLE +AGE\ncluster-admin +ClusterRole/cluster"),
        ("get crd", r"inferenceservices.serving.kserve.io"),
        ("describe pod -l app=web", r"(?s)Containers:\n  app:.*State: +Running.*Events:"),
        ("describe node node-a", r"(?s)Conditions:.*Ready +True.*Allocated resources:"),
        ("describe deployment web", r"2 desired \| 2 updated(?s:.*)NewReplicaSet: +web-"),
        ("describe svc web", r"Endpoints: +10\.\d"),
        ("describe isvc model", r"Storage Uri: +s3://bucket/model"),
        ("logs deployment/web -c app --tail=1", r"(?m)^three$"),
        ("logs deployment/web -c app --since=1h", r"(?s)one\ntwo\nthree"),
        ("logs -l app=web --all-containers --prefix", r"\[pod/web-\S+/app\] one"),
        ("logs deployment/web -c app --timestamps", r"\d{4}-\d\d-\d\dT\S+Z one"),
        ("top nodes", r"node-a +\d+m +\d+% +\d+Mi +\d+%"),
        ("top pods --containers", r"web-\S+ +side +\d+m +\d+Mi"),
        ("events --for deployment/web", r"ScalingReplicaSet +Deployment/web +Scaled up"),
        ("api-resources --api-group=apps", r"deployments +deploy +apps/v1 +true +Deployment"),
        ("api-versions", r"serving.kserve.io/v1beta1"),
        ("version", r"Server Version: v1\.32\.\d"),
        ("cluster-info", r"control plane is running at https://127.0.0.1:\d+"),
        ("config current-context", r"^practice$"),
        ("get --raw /readyz", r"^ok$"),
        ("auth can-i delete pods", r"^yes$"),
        ("auth whoami", r"Username +kubernetes-admin"),
        ("auth can-i --list", r"\*\.\* +\[\] +\[\] +\[\*\]"),
        ("rollout history deployment/web", r"REVISION +CHANGE-CAUSE\n1 +<none>"),
        ("diff -f {manifest}", r"^$"),
        (
            "apply -f {manifest} --dry-run=server",
            r"deployment.apps/web unchanged \(server dry run\)",
        ),
        ("exec deploy/web -c app -- env", r"HOSTNAME=web-"),
        ("explain pods", r"Field documentation is not served"),
    ],
)
def test_what_is_shown(walk: Walk, words: str, shown: str) -> None:
    said = walk(*words.format(manifest=walk.manifest).split(" "))
    assert re.search(shown, said, re.MULTILINE), said


def test_logs_of_the_former_container(walk: Walk) -> None:
    program = {"app": {"exit_code": 3, "log": ["out of luck"]}}
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "loop",
            "namespace": "walk",
            "annotations": {"practice.runbook/program": json.dumps(program)},
        },
        "spec": {"containers": [{"name": "app", "image": "loop:1"}]},
    }
    walk("create", "-f", "-", typed=json.dumps(manifest))
    walk.practice.until(
        lambda: "CrashLoopBackOff" in walk("get", "pod", "loop"), "a crash loop to be shown"
    )
    assert walk("logs", "loop", "--previous") == "out of luck\n"
    walk("delete", "pod", "loop", "--wait", "--timeout=60s")
    assert 'pods "loop" not found' in walk("get", "pod", "loop", code=1)


def test_logs_are_followed_to_their_end(walk: Walk) -> None:
    program = {"short": {"log": ["first"], "last_log": ["last"], "exit_code": 0}}
    override = {
        "metadata": {"annotations": {"practice.runbook/program": json.dumps(program)}},
        "spec": {"restartPolicy": "Never"},
    }
    walk(
        "run", "short", "--image=short:1", "--restart=Never", f"--overrides={json.dumps(override)}"
    )
    walk("wait", "--for=jsonpath={.status.containerStatuses}", "pod/short", "--timeout=60s")
    assert "last\n" in walk("logs", "-f", "short")
    walk("delete", "pod", "short", "--now")


def test_apply_and_the_fields_of_others(walk: Walk) -> None:
    walk("apply", "--server-side", "--field-manager=team", "-f", walk.manifest, "--force-conflicts")
    walk("scale", WEB, "--replicas=3")
    refused = walk("apply", "--server-side", "--field-manager=team", "-f", walk.manifest, code=1)
    assert (
        'conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas' in refused
    )
    changed = walk("diff", "-f", walk.manifest, code=1)
    assert "-  replicas: 3\n+  replicas: 2" in changed
    walk("apply", "--server-side", "--field-manager=team", "--force-conflicts", "-f", walk.manifest)
    assert walk.web()["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("type_", "patch"),
    [
        ("json", '[{"op": "add", "path": "/metadata/labels/by", "value": "json"}]'),
        ("merge", '{"metadata": {"labels": {"by": "merge"}}}'),
        ("strategic", '{"metadata": {"labels": {"by": "strategic"}}}'),
    ],
)
def test_patches(walk: Walk, type_: str, patch: str) -> None:
    assert "patched" in walk("patch", "deployment", "web", f"--type={type_}", "-p", patch)
    assert walk.web()["metadata"]["labels"]["by"] == type_


def test_edit(walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tmp_path / "editor"
    editor.write_text(
        '#!/bin/sh\nsed -i "s/revisionHistoryLimit: .*/revisionHistoryLimit: 7/" "$1"\n'
    )
    editor.chmod(editor.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("KUBE_EDITOR", str(editor))
    assert walk("edit", WEB) == "deployment.apps/web edited\n"
    assert walk.web()["spec"]["revisionHistoryLimit"] == 7


def test_labels_annotations_and_scale(walk: Walk) -> None:
    walk("label", "pods", "-l", "app=web", "tier=front")
    assert all(pod["metadata"]["labels"]["tier"] == "front" for pod in walk.pods())
    walk("annotate", WEB, "note=seen")
    assert walk.web()["metadata"]["annotations"]["note"] == "seen"
    walk("annotate", WEB, "note-")
    assert "note" not in walk.web()["metadata"]["annotations"]
    walk("scale", WEB, "--replicas=3", "--current-replicas=2")
    walk("wait", "--for=jsonpath={.status.readyReplicas}=3", WEB, "--timeout=60s")
    walk("scale", WEB, "--replicas=2")
    walk("wait", "--for=jsonpath={.status.replicas}=2", WEB, "--timeout=60s")
    walk("wait", "--for=condition=Available", WEB, "--timeout=60s")


def test_rollouts(walk: Walk) -> None:
    def containers() -> Any:
        return walk.web()["spec"]["template"]["spec"]["containers"]

    before = {pod["metadata"]["name"] for pod in walk.pods()}
    walk("set", "image", WEB, "app=web:2")
    walk("set", "env", WEB, "-c", "app", "MODE=fast")
    walk.rolled_out()
    assert containers()[0]["image"] == "web:2"
    assert containers()[0]["env"] == [{"name": "MODE", "value": "fast"}]
    assert before.isdisjoint(pod["metadata"]["name"] for pod in walk.pods())
    assert "web:2" in walk("rollout", "history", WEB, "--revision=2")
    walk("rollout", "undo", WEB, "--to-revision=1")
    walk.rolled_out()
    assert containers()[0]["image"] == "web:1"
    walk("rollout", "restart", WEB)
    walk.rolled_out()
    template = walk.web()["spec"]["template"]["metadata"]
    assert "kubectl.kubernetes.io/restartedAt" in template["annotations"]


def test_drain_respects_the_budget(walk: Walk) -> None:
    walk("create", "pdb", "web", "--selector=app=web", "--min-available=2")
    walk.practice.until(
        lambda: "currentHealthy: 2" in walk("get", "pdb", "web", "-o", "yaml"), "a counted budget"
    )
    found = walk.pods()[0]
    node, pod = found["spec"]["nodeName"], found["metadata"]["name"]
    assert f"node/{node} cordoned" in walk("cordon", node)
    assert "SchedulingDisabled" in walk("get", "node", node)
    drain = ("drain", node, "--ignore-daemonsets", "--force", "--pod-selector=app=web")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    path = f"/api/v1/namespaces/walk/pods/{pod}/eviction"
    refused = walk("create", "--raw", path, "-f", "-", typed=json.dumps(eviction), code=1)
    assert "would violate the pod's disruption budget" in refused
    walk("delete", "pdb", "web")
    assert f"node/{node} drained" in walk(*drain, "--timeout=60s")
    assert node not in {pod["spec"]["nodeName"] for pod in walk.pods()}
    walk("uncordon", node)
    assert "SchedulingDisabled" not in walk("get", "node", node)
    walk.rolled_out()


def test_what_is_not_there_is_said(walk: Walk) -> None:
    assert 'pods "none" not found' in walk("get", "pod", "none", code=1)
    assert "the server doesn't have a resource type" in walk("get", "nothings", code=1)
    assert "is not served in practice" in walk("port-forward", WEB, "18080:80", code=1)
    assert "is not served in practice" in walk("attach", WEB, "-c", "app", code=1)
