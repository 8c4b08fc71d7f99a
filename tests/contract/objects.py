"""Small objects that the statements create."""

from __future__ import annotations

import json
from typing import Any

Object = dict[str, Any]

NOBODY = "contract-nobody"  # no scheduler is called so: such pods stay pending in any cluster


def config_map(name: str, data: dict[str, str] | None = None, **meta: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, **meta},
        "data": {"a": "1"} if data is None else data,
    }


def container(name: str = "app", image: str = "example:1", **fields: Any) -> Object:
    return {"name": name, "image": image, **fields}


def pod(name: str, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    """A pod that no scheduler takes, unless `spec` says otherwise."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"schedulerName": NOBODY, "containers": [container()], **spec},
    }


def template(labels: dict[str, str], **spec: Any) -> Object:
    made = pod("", labels, **spec)
    return {"metadata": {"labels": labels}, "spec": made["spec"]}


def deployment(name: str, replicas: int = 1, **changes: Any) -> Object:
    """A Deployment of pods that no scheduler takes; `changes` are fields of its spec."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": template(labels),
            **changes,
        },
    }


def stateful_set(name: str, replicas: int) -> Object:
    made = deployment(name, replicas, serviceName=name)
    return {**made, "kind": "StatefulSet"}


def job(name: str, **changes: Any) -> Object:
    spec = template({}, restartPolicy="Never")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": spec, **changes},
    }


def service(name: str, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}], **spec},
    }


def budget(name: str, **spec: Any) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, **spec},
    }


def event(name: str, about: Object, reason: str, type_: str = "Warning") -> Object:
    meta = about["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
        },
        "reason": reason,
        "message": f"{reason} happened",
        "type": type_,
        "source": {"component": "contract"},
        "count": 1,
    }


def role(name: str, *rules: Object, kind: str = "Role") -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "rules": list(rules),
    }


def rule(resources: str, verbs: str, group: str = "", **more: Any) -> Object:
    """`rule("pods pods/log", "get list")`."""
    return {
        "apiGroups": [group],
        "resources": resources.split(),
        "verbs": verbs.split(),
        **more,
    }


def binding(
    name: str, subject: Object, role_kind: str = "Role", kind: str = "RoleBinding"
) -> Object:
    """Binds the role of the same name."""
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": kind,
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": role_kind, "name": name},
        "subjects": [subject],
    }


def owned_by(owner: Object, **more: Any) -> list[Object]:
    meta = owner["metadata"]
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
    return [{**reference, "name": meta["name"], "uid": meta["uid"], **more}]


def saying(*lines: str, exit_code: int | None = None) -> tuple[Object, Object]:
    """Annotations and a container's fields with which it prints lines, then stays or ends.

    A kubelet runs the command; the practice platform's stand-in reads the annotation.
    """
    end = "exec sleep 3600" if exit_code is None else f"exit {exit_code}"
    says = "; ".join(f"echo {line}" for line in lines)
    program: Object = (
        {"log": lines} if exit_code is None else {"log": lines, "exit_code": exit_code}
    )
    annotations = {"practice.runbook/program": json.dumps({"app": program})}
    return annotations, {"command": ["sh", "-c", f"{says}; {end}"]}


def widget_definition(group: str) -> Object:
    """A CustomResourceDefinition of Widgets: sized, coloured, with one field that is free."""
    spec = {
        "type": "object",
        "required": ["size"],
        "properties": {
            "size": {"type": "integer", "minimum": 1},
            "color": {"type": "string", "default": "blue"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    status = {"type": "object", "properties": {"phase": {"type": "string"}}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {
            "openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}
        },
        "additionalPrinterColumns": [
            {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
    }
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {**names, "listKind": "WidgetList"},
            "versions": [version],
        },
    }


def widget(path: str, name: str, **spec: Any) -> Object:
    """A Widget of size 3; `path` is that of its collection."""
    _, _, group, version, *_ = path.split("/")
    fields = {"size": 3, **spec}
    return {
        "apiVersion": f"{group}/{version}",
        "kind": "Widget",
        "metadata": {"name": name},
        "spec": {key: value for key, value in fields.items() if value is not None},
    }
