"""Subresources: status, scale, eviction, node proxy, and the way to those of containers."""

from __future__ import annotations

from aiohttp import web

from runbook_lib.practice.kubernetes import containers, reviews, writes
from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.kubernetes.identity import Identities
from runbook_lib.practice.kubernetes.kubelets import Behind, Collector, Kubelets
from runbook_lib.practice.objects.admission import updated
from runbook_lib.practice.objects.errors import (
    ApiError,
    bad_request,
    invalid,
    no_such_path,
    not_allowed,
)
from runbook_lib.practice.objects.fields import causes
from runbook_lib.practice.objects.resources import Kind
from runbook_lib.practice.objects.selectors import condition, dig, matches
from runbook_lib.practice.objects.store import Object, Store, copy_of

# Of a real API server, but not of this one.
_REFUSED = (
    "attach",
    "portforward",
    "proxy",
    "ephemeralcontainers",
    "resize",
    "binding",
    "finalize",
)


async def answer(
    call: Call, store: Store, behind: Behind, identities: Identities, request: web.Request
) -> web.StreamResponse:
    known = call.subresource in call.kind.subresources
    if not known or (call.path and call.subresource != "proxy"):
        if call.subresource in _REFUSED:
            raise not_allowed(f"{call.kind.plural}/{call.subresource} is not served in practice")
        raise no_such_path()
    match call.method, call.subresource:
        case "GET", "status":
            obj = store.get(call.kind, call.namespace, call.name)
            return web.json_response(call.shown(obj))
        case "PUT", "status":
            obj = writes.replace(call, store, call.body(), "status")
            return web.json_response(call.shown(obj))
        case "PATCH", "status":
            body, code = writes.patch(call, store, "status")
            return web.json_response(call.shown(body), status=code)
        case (("GET" | "PUT" | "PATCH"), "scale"):
            return web.json_response(_scale(call, store))
        case "GET", "log":
            return await containers.log(call, store, behind.kubelets, request)
        case (("GET" | "POST"), "exec"):
            return await containers.execute(call, store, behind.kubelets, request)
        case "POST", "token":
            return web.json_response(reviews.token(call, store, identities), status=201)
        case "POST", "eviction":
            return web.json_response(_evict(call, store, behind.collector), status=201)
        case "GET", "proxy":
            return _proxy(call, store, behind.kubelets)
    raise not_allowed()


# scale


def _scale(call: Call, store: Store) -> Object:
    obj = store.get(call.kind, call.namespace, call.name)
    if call.method == "GET":
        return _scale_of(obj)
    wanted = call.body() if call.method == "PUT" else writes.patched(call, _scale_of(obj))
    replicas = dig(wanted, "spec.replicas", 0)
    scale = Kind("autoscaling", "v1", "scales", "Scale", True)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise bad_request("json: cannot unmarshal into Go struct field ScaleSpec.spec.replicas")
    if replicas < 0:
        cause = causes.wrong("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid(scale, call.name, cause)
    new = copy_of(obj)
    new["metadata"]["resourceVersion"] = dig(
        wanted, "metadata.resourceVersion", obj["metadata"]["resourceVersion"]
    )
    new["spec"]["replicas"] = replicas
    return _scale_of(writes.save(call, store, obj, updated(call.kind, obj, new), "scale"))


def _scale_of(obj: Object) -> Object:
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    labels = dig(obj, "spec.selector.matchLabels", {})
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: obj["metadata"][name] for name in names},
        "spec": {"replicas": dig(obj, "spec.replicas", 1)},
        "status": {
            "replicas": dig(obj, "status.replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in labels.items()),
        },
    }


# eviction


def _evict(call: Call, store: Store, collector: Collector) -> Object:
    pod = store.get(call.kind, call.namespace, call.name)
    body = call.body() or {}
    labels = pod["metadata"].get("labels") or {}
    budgets = [
        budget
        for budget in store.all("poddisruptionbudgets", "policy")
        if budget["metadata"]["namespace"] == call.namespace
        and matches(dig(budget, "spec.selector", {}), labels)
    ]
    if len(budgets) > 1:
        message = "This pod has more than one PodDisruptionBudget, which the eviction subresource"
        raise ApiError(500, "InternalError", f"{message} does not support.")
    budget = budgets[0] if budgets and not _is_beside_budget(pod) else None
    counts = budget is not None and not _is_broken_anyway(pod, budget)
    if budget is not None and counts and dig(budget, "status.disruptionsAllowed", 0) < 1:
        raise _too_few(budget)
    options = body.get("deleteOptions") if isinstance(body, dict) else None
    if not call.dry_run(options):
        if budget is not None and counts:
            store.edit(store.catalogue.of("poddisruptionbudgets", "policy"), budget, _one_fewer)
        collector.delete(call.kind, pod, grace=(options or {}).get("gracePeriodSeconds"))
    return {**writes.SUCCESS, "code": 201}


def _is_beside_budget(pod: Object) -> bool:
    """Pods that nobody would miss: ended, never begun, or on their way out."""
    phase = dig(pod, "status.phase")
    return phase in ("Succeeded", "Failed", "Pending") or "deletionTimestamp" in pod["metadata"]


def _is_broken_anyway(pod: Object, budget: Object) -> bool:
    """A pod that is not ready, and whose end leaves as many healthy ones as must be."""
    if condition(pod, "Ready") == "True":
        return False
    healthy, needed = (dig(budget, f"status.{n}Healthy", 0) for n in ("current", "desired"))
    always = dig(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow"
    return always or (healthy >= needed > 0)


def _too_few(budget: Object) -> ApiError:
    needed, healthy = (dig(budget, f"status.{n}Healthy", 0) for n in ("desired", "current"))
    text = (
        f"The disruption budget {budget['metadata']['name']} needs {needed} healthy pods and has "
        f"{healthy} currently"
    )
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    causes = [{"reason": "DisruptionBudget", "message": text}]
    return ApiError(429, "TooManyRequests", message, {"causes": causes})


def _one_fewer(budget: Object) -> None:
    budget["status"]["disruptionsAllowed"] -= 1


# nodes


def _proxy(call: Call, store: Store, kubelets: Kubelets) -> web.Response:
    node = store.get(call.kind, "", call.name)
    if not kubelets.answers(node):
        address = dig(node, "status.addresses", [{}])[0].get("address", "")
        raise ApiError(
            503,
            "ServiceUnavailable",
            f"error trying to reach service: dial tcp {address}:10250: connect: connection refused",
        )
    if (found := kubelets.get(call, node)) is None:
        raise no_such_path()
    return found
