"""What the fields of an object may hold: every broken rule is a cause, and names its field.

Nothing is stored: all of it is asked as a dry run, which validates as a real request does.
"""

from __future__ import annotations

from typing import Any

import pytest
from contract.cluster import Space, refused
from contract.objects import config_map, container, deployment, job, pod, service, stateful_set

INVALID, REQUIRED = "FieldValueInvalid", "FieldValueRequired"
UNSUPPORTED, NOT_FOUND, FORBIDDEN = (
    "FieldValueNotSupported",
    "FieldValueNotFound",
    "FieldValueForbidden",
)
CONTAINER = "spec.containers[0]"
HTTP = {"httpGet": {"path": "/", "port": 80}}
NOT_NEGATIVE = "must be greater than or equal to 0"
PORT = "must be between 1 and 65535, inclusive"
CRON_JOBS, INGRESSES = "batch/v1 cronjobs", "networking.k8s.io/v1 ingresses"
SCALERS = "autoscaling/v2 horizontalpodautoscalers"


def of_container(**fields: Any) -> Any:
    return pod("it", containers=[container(**fields)])


def rollout(surge: Any, unavailable: Any) -> Any:
    amounts = {"maxSurge": surge, "maxUnavailable": unavailable}
    return deployment("it", strategy={"type": "RollingUpdate", "rollingUpdate": amounts})


def restarted(policy: str) -> Any:
    made = deployment("it")
    made["spec"]["template"]["spec"]["restartPolicy"] = policy
    return made


def cron_job(schedule: str) -> Any:
    spec = {"schedule": schedule, "jobTemplate": {"spec": job("it")["spec"]}}
    return {"metadata": {"name": "it"}, "spec": spec}


def ingress(host: str = "shop.example.com", path: str = "/", type_: str = "Prefix") -> Any:
    backend = {"service": {"name": "it", "port": {"number": 80}}}
    paths = [{"path": path, "pathType": type_, "backend": backend}]
    return {
        "metadata": {"name": "it"},
        "spec": {"rules": [{"host": host, "http": {"paths": paths}}]},
    }


def scaler(low: int, high: int) -> Any:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "it"}
    spec = {"scaleTargetRef": target, "minReplicas": low, "maxReplicas": high}
    return {"metadata": {"name": "it"}, "spec": spec}


def quota(**hard: str) -> Any:
    return {"metadata": {"name": "it"}, "spec": {"hard": hard}}


def policy(*types: str) -> Any:
    return {"metadata": {"name": "it"}, "spec": {"podSelector": {}, "policyTypes": list(types)}}


def mounting(name: str, **spec: Any) -> Any:
    mounts = [{"name": name, "mountPath": "/data"}]
    return pod("it", containers=[container(volumeMounts=mounts)], **spec)


def claiming() -> Any:
    made = stateful_set("it", 1)
    mounts = [{"name": "data", "mountPath": "/data"}]
    made["spec"]["template"]["spec"]["containers"] = [container(volumeMounts=mounts)]
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    made["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": claim}]
    return made


REFUSED = {
    "a probe that does not say how it probes": (
        "v1 pods",
        of_container(startupProbe={"initialDelaySeconds": 60}),
        (f"{CONTAINER}.startupProbe", REQUIRED, "must specify a handler type"),
    ),
    "a probe that probes in two ways": (
        "v1 pods",
        of_container(livenessProbe={**HTTP, "tcpSocket": {"port": 80}}),
        (f"{CONTAINER}.livenessProbe.tcpSocket", FORBIDDEN, "more than 1 handler type"),
    ),
    "a hook that does nothing": (
        "v1 pods",
        of_container(lifecycle={"preStop": {}}),
        (f"{CONTAINER}.lifecycle.preStop", REQUIRED, "must specify a handler type"),
    ),
    "a probe of no port": (
        "v1 pods",
        of_container(readinessProbe={"httpGet": {"path": "/", "port": 99999}}),
        (f"{CONTAINER}.readinessProbe.httpGet.port", INVALID, PORT),
    ),
    "a probe with a negative period": (
        "v1 pods",
        of_container(livenessProbe={**HTTP, "periodSeconds": -1}),
        (f"{CONTAINER}.livenessProbe.periodSeconds", INVALID, NOT_NEGATIVE),
    ),
    "a container's port that is none": (
        "v1 pods",
        of_container(ports=[{"containerPort": 70000}]),
        (f"{CONTAINER}.ports[0].containerPort", INVALID, PORT),
    ),
    "a mount of a volume that is not there": (
        "v1 pods",
        mounting("data"),
        (f"{CONTAINER}.volumeMounts[0].name", NOT_FOUND, 'Not found: "data"'),
    ),
    "less than no replicas": (
        "apps/v1 deployments",
        deployment("it", replicas=-1),
        ("spec.replicas", INVALID, NOT_NEGATIVE),
    ),
    "a Deployment of pods that end": (
        "apps/v1 deployments",
        restarted("Never"),
        (
            "spec.template.spec.restartPolicy",
            UNSUPPORTED,
            'Unsupported value: "Never": supported values: "Always"',
        ),
    ),
    "a rollout that can do nothing": (
        "apps/v1 deployments",
        rollout(0, 0),
        (
            "spec.strategy.rollingUpdate.maxUnavailable",
            INVALID,
            'Invalid value: intstr.IntOrString{Type:0, IntVal:0, StrVal:""}: '
            "may not be 0 when `maxSurge` is 0",
        ),
    ),
    "a rollout of no part": (
        "apps/v1 deployments",
        rollout(0, "0%"),
        (
            "spec.strategy.rollingUpdate.maxUnavailable",
            INVALID,
            'Invalid value: intstr.IntOrString{Type:1, IntVal:0, StrVal:"0%"}: '
            "may not be 0 when `maxSurge` is 0",
        ),
    ),
    "a Job of pods that never end": (
        "batch/v1 jobs",
        {**job("it"), "spec": {"template": {"spec": {"containers": [container()]}}}},
        (
            "spec.template.spec.restartPolicy",
            REQUIRED,
            'Required value: valid values: "OnFailure", "Never"',
        ),
    ),
    "an autoscaler's bounds that cross": (
        SCALERS,
        scaler(5, 2),
        ("spec.maxReplicas", INVALID, "must be greater than or equal to `minReplicas`"),
    ),
    "an autoscaler that may make nothing": (
        SCALERS,
        scaler(1, 0),
        ("spec.maxReplicas", INVALID, "must be greater than 0"),
    ),
    "a type of Service that is none": (
        "v1 services",
        service("it", type="Foo"),
        (
            "spec.type",
            UNSUPPORTED,
            'Unsupported value: "Foo": supported values: "ClusterIP", "ExternalName", '
            '"LoadBalancer", "NodePort"',
        ),
    ),
    "a Service's port that is none": (
        "v1 services",
        service("it", ports=[{"port": 70000, "targetPort": 80}]),
        ("spec.ports[0].port", INVALID, f"Invalid value: 70000: {PORT}"),
    ),
    "a target port that is none": (
        "v1 services",
        service("it", ports=[{"port": 80, "targetPort": 70000}]),
        ("spec.ports[0].targetPort", INVALID, f"Invalid value: 70000: {PORT}"),
    ),
    "a schedule that is none": (
        CRON_JOBS,
        cron_job("nonsense"),
        ("spec.schedule", INVALID, "expected exactly 5 fields, found 1: [nonsense]"),
    ),
    "a schedule at minute 60": (
        CRON_JOBS,
        cron_job("60 * * * *"),
        ("spec.schedule", INVALID, "end of range (60) above maximum (59): 60"),
    ),
    "a schedule on no weekday": (
        CRON_JOBS,
        cron_job("0 0 * * someday"),
        ("spec.schedule", INVALID, "failed to parse int from someday: strconv.Atoi"),
    ),
    "a schedule of no known name": (
        CRON_JOBS,
        cron_job("@noon"),
        ("spec.schedule", INVALID, "unrecognized descriptor: @noon"),
    ),
    "a host in capitals": (
        INGRESSES,
        ingress(host="UPPER_case"),
        ("spec.rules[0].host", INVALID, "a lowercase RFC 1123 subdomain must consist of"),
    ),
    "an address for a host": (
        INGRESSES,
        ingress(host="10.0.0.1"),
        ("spec.rules[0].host", INVALID, "must be a DNS name, not an IP address"),
    ),
    "a path without a root": (
        INGRESSES,
        ingress(path="shop"),
        ("spec.rules[0].http.paths[0].path", INVALID, "must be an absolute path"),
    ),
    "a type of path that is none": (
        INGRESSES,
        ingress(type_="Regex"),
        ("spec.rules[0].http.paths[0].pathType", UNSUPPORTED, 'Unsupported value: "Regex"'),
    ),
    "a policy for no direction": (
        "networking.k8s.io/v1 networkpolicies",
        policy("Foo"),
        (
            "spec.policyTypes[0]",
            UNSUPPORTED,
            'Unsupported value: "Foo": supported values: "Ingress", "Egress"',
        ),
    ),
    "a key that is no name of a file": (
        "v1 configmaps",
        config_map("it", {"bad key!": "1"}),
        ("data[bad key!]", INVALID, "a valid config key must consist of alphanumeric"),
    ),
    "a Secret's key that is no name of a file": (
        "v1 secrets",
        {"metadata": {"name": "it"}, "stringData": {"bad/key": "1"}},
        ("data[bad/key]", INVALID, "a valid config key must consist of alphanumeric"),
    ),
    "a quota below nothing": (
        "v1 resourcequotas",
        quota(cpu="-1"),
        ("spec.hard[cpu]", INVALID, f'Invalid value: "-1": {NOT_NEGATIVE}'),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused(space: Space, what: str) -> None:
    where, body, (field, reason, said) = REFUSED[what]
    with refused(422, "Invalid") as status:
        space.of(*where.split()).create(body, dryRun="All")
    found = [(one["field"], one["reason"]) for one in status["details"]["causes"]]
    assert (field, reason) in found
    assert any(said in one["message"] for one in status["details"]["causes"])
    assert f"{field}: " in status["message"]


TAKEN = {
    "a probe with a handler": ("v1 pods", of_container(startupProbe=HTTP)),
    "a probe of a named port": (
        "v1 pods",
        of_container(readinessProbe={"tcpSocket": {"port": "web"}}),
    ),
    "a mount of a volume": ("v1 pods", mounting("data", volumes=[{"name": "data"}])),
    "a mount of a claim of a StatefulSet": ("apps/v1 statefulsets", claiming()),
    "no replicas": ("apps/v1 deployments", deployment("it", replicas=0)),
    "a rollout without a surge": ("apps/v1 deployments", rollout(0, 1)),
    "a rollout without a loss": ("apps/v1 deployments", rollout("25%", 0)),
    "an autoscaler of one size": (SCALERS, scaler(2, 2)),
    "the last port": ("v1 services", service("it", ports=[{"port": 65535}])),
    "a target port by name": (
        "v1 services",
        service("it", ports=[{"port": 80, "targetPort": "web"}]),
    ),
    "no target port in the way of Go": (
        "v1 services",
        service("it", ports=[{"port": 80, "targetPort": 0}]),
    ),
    "a schedule of ranges, lists and steps": (CRON_JOBS, cron_job("*/5 1-3,7 ? jan-mar mon")),
    "a schedule by name": (CRON_JOBS, cron_job("@hourly")),
    "a schedule by a span": (CRON_JOBS, cron_job("@every 1h30m")),
    "any host below a domain": (INGRESSES, ingress(host="*.example.com")),
    "a path that the class understands": (
        INGRESSES,
        ingress(path="", type_="ImplementationSpecific"),
    ),
    "a policy for both directions": (
        "networking.k8s.io/v1 networkpolicies",
        policy("Ingress", "Egress"),
    ),
    "a quota of nothing": ("v1 resourcequotas", quota(pods="0")),
}


@pytest.mark.parametrize("what", TAKEN)
def test_it_is_taken(space: Space, what: str) -> None:
    where, body = TAKEN[what]
    assert space.of(*where.split()).create(body, dryRun="All")["metadata"]["name"] == "it"


def test_a_taint_must_say_what_it_does(space: Space) -> None:
    taints = [{"key": "team", "value": "ml", "effect": "BAD"}]
    body = {"metadata": {"name": f"{space.name}-node"}, "spec": {"taints": taints}}
    with refused(422, "Invalid") as status:
        space.cluster.of("v1", "nodes").create(body, dryRun="All")
    [cause] = status["details"]["causes"]
    assert cause["field"] == "metadata.taints[0].effect"
    assert cause["message"] == (
        'Unsupported value: "BAD": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"'
    )


def test_an_object_that_was_sound_stays_sound(space: Space, name: str) -> None:
    space.deployments.create(deployment(name, replicas=0))
    with refused(422, "Invalid"):
        space.deployments.patch(name, {"spec": {"replicas": -1}})
    space.deployments.delete(name)
