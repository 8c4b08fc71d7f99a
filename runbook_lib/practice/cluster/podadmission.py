"""What a cluster's admission plugins do to a pod that is created: fill in, or refuse.

ServiceAccount, EKS' pod identity webhook, Priority, LimitRanger and ResourceQuota, in that order.
A pod keeps what it got: a later annotation or limit does not reach it.
"""

from __future__ import annotations

from collections import defaultdict

from runbook_lib.practice.cluster.predicates import requests
from runbook_lib.practice.objects.admission import quality_of_service
from runbook_lib.practice.objects.errors import ApiError
from runbook_lib.practice.objects.quantities import quantity
from runbook_lib.practice.objects.resources import Kind
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store

ROLE = "eks.amazonaws.com/role-arn"
_TOKEN_FOLDER = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
_SYSTEM_PRIORITIES = {
    "system-cluster-critical": 2_000_000_000,
    "system-node-critical": 2_000_001_000,
}


class PodAdmission:
    """Called with every object before it is created."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self, kind: Kind, obj: Object) -> None:
        """Change a new pod in place; ApiError 403 where it may not be."""
        if kind.table != ("", "pods"):
            return
        account = self._account(obj)
        if role := (dig(account, "metadata.annotations") or {}).get(ROLE):
            _give_role(obj, role)
        self._set_priority(obj)
        self._limit(obj)
        obj.setdefault("status", {})["qosClass"] = quality_of_service(obj["spec"])
        self._check_quotas(obj)

    def _account(self, pod: Object) -> Object | None:
        spec, namespace = pod["spec"], pod["metadata"]["namespace"]
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        spec |= {"serviceAccountName": name, "serviceAccount": name}
        account = self._store.find("serviceaccounts", name, namespace)
        if account is None and name != "default":  # that one comes a moment after its namespace
            missing = f'serviceaccount "{name}" not found'
            raise _refused(pod, f"error looking up service account {namespace}/{name}: {missing}")
        if account and account.get("imagePullSecrets") and not spec.get("imagePullSecrets"):
            spec["imagePullSecrets"] = account["imagePullSecrets"]
        return account

    def _set_priority(self, pod: Object) -> None:
        name = pod["spec"].get("priorityClassName")
        if not name:
            return
        found = self._store.find("priorityclasses", name, "", "scheduling.k8s.io")
        if found is None and name not in _SYSTEM_PRIORITIES:
            raise _refused(pod, f"no PriorityClass with name {name} was found")
        pod["spec"]["priority"] = found["value"] if found else _SYSTEM_PRIORITIES[name]

    def _limit(self, pod: Object) -> None:
        """The defaults and maxima of the namespace's LimitRanges, for containers."""
        namespace = pod["metadata"]["namespace"]
        for limits in self._store.all("limitranges"):
            if limits["metadata"]["namespace"] != namespace:
                continue
            for limit in dig(limits, "spec.limits", []):
                if limit.get("type") != "Container":
                    continue
                for container in _containers(pod):
                    _apply_limit(pod, container, limit)

    # quotas

    def _check_quotas(self, pod: Object) -> None:
        namespace = pod["metadata"]["namespace"]
        for quota in self._store.all("resourcequotas"):
            if quota["metadata"]["namespace"] != namespace:
                continue
            hard, name = dig(quota, "spec.hard", {}), quota["metadata"]["name"]
            asked = charged(pod)
            for resource in hard:
                if _is_compute(resource) and resource not in asked:
                    named = ",".join(c["name"] for c in pod["spec"]["containers"])
                    raise _refused(
                        pod, f"failed quota: {name}: must specify {resource} for: {named}"
                    )
            used = quota_used(self._store, namespace)
            over = [
                resource
                for resource, limit in sorted(hard.items())
                if asked.get(resource) and asked[resource] + used[resource] > quantity(limit)
            ]
            if over:
                listed = {
                    what: ",".join(f"{r}={shown(r, amounts[r])}" for r in over)
                    for what, amounts in (("requested", asked), ("used", used))
                }
                limited = ",".join(f"{r}={hard[r]}" for r in over)
                raise _refused(
                    pod,
                    f"exceeded quota: {name}, requested: {listed['requested']}, "
                    f"used: {listed['used']}, limited: {limited}",
                )


def charged(pod: Object) -> dict[str, float]:
    """What a pod takes of a quota, by the quota's names."""
    found: dict[str, float] = {"pods": 1, "count/pods": 1}
    for name, amount in requests(pod["spec"]).items():
        found[f"requests.{name}"] = amount
        if name in ("cpu", "memory"):
            found[name] = amount
    for container in pod["spec"]["containers"]:
        for name, text in dig(container, "resources.limits", {}).items():
            found[f"limits.{name}"] = found.get(f"limits.{name}", 0) + quantity(text)
    return found


def quota_used(store: Store, namespace: str) -> dict[str, float]:
    """What the pods of a namespace that are not finished take of its quotas."""
    total: dict[str, float] = defaultdict(float)
    for pod in store.all("pods"):
        if pod["metadata"]["namespace"] != namespace:
            continue
        if dig(pod, "status.phase") not in ("Succeeded", "Failed"):
            for resource, amount in charged(pod).items():
                total[resource] += amount
    return total


def shown(resource: str, amount: float) -> str:
    """An amount as the API would write it: 1500m, 2Gi, 3."""
    if "memory" in resource or "storage" in resource:
        for unit, size in (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
            if amount and amount % size == 0:
                return f"{int(amount // size)}{unit}"
    return str(int(amount)) if amount == int(amount) else f"{round(amount * 1000)}m"


def _is_compute(resource: str) -> bool:
    return resource.removeprefix("requests.").removeprefix("limits.") in ("cpu", "memory")


def _containers(pod: Object) -> list[Object]:
    return [*pod["spec"]["containers"], *dig(pod, "spec.initContainers", [])]


def _apply_limit(pod: Object, container: Object, limit: Object) -> None:
    resources = container.setdefault("resources", {})
    for field, default in (("limits", "default"), ("requests", "defaultRequest")):
        for name, value in (limit.get(default) or {}).items():
            resources.setdefault(field, {}).setdefault(name, value)
    for name, most in (limit.get("max") or {}).items():
        given = dig(resources, "limits", {}).get(name)
        if given is not None and quantity(given) > quantity(most):
            why = f"maximum {name} usage per Container is {most}, but limit is {given}"
            raise _refused(pod, why)


def _give_role(pod: Object, role: str) -> None:
    """What EKS' webhook adds to the pods of an account that names a role."""
    given = (
        ("AWS_STS_REGIONAL_ENDPOINTS", "regional"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ROLE_ARN", role),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", f"{_TOKEN_FOLDER}/token"),
    )
    for container in _containers(pod):
        env = container.setdefault("env", [])
        known = {variable["name"] for variable in env}
        env += [{"name": name, "value": value} for name, value in given if name not in known]
        mount = {"name": "aws-iam-token", "mountPath": _TOKEN_FOLDER, "readOnly": True}
        container.setdefault("volumeMounts", []).append(mount)
    token = {"audience": "sts.amazonaws.com", "expirationSeconds": 86400, "path": "token"}
    projected = {"defaultMode": 420, "sources": [{"serviceAccountToken": token}]}
    pod["spec"].setdefault("volumes", []).append({"name": "aws-iam-token", "projected": projected})


def _refused(pod: Object, why: str) -> ApiError:
    name = pod["metadata"]["name"]
    message = f'pods "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, {"name": name, "kind": "pods"})
