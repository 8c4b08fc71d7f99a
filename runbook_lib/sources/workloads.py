"""What a crash loop is diagnosed from: pods, the logs of their previous runs, their events, and
the Secrets and ConfigMaps that they refer to (names, key names, sizes and ages; never values).

One object that cannot be read has its reason beside it, so that the rest can still be judged.
The pure readings of a pod below serve the probes, which must know what to ask for, and the judges.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import chain, zip_longest
from typing import Any

from runbook_lib.config import Config
from runbook_lib.sources import kubernetes
from runbook_lib.sources.clients import Sources
from runbook_lib.sources.redaction import SECRET_NAME
from runbook_lib.sources.seam import SourceError, probe
from runbook_lib.sources.side_by_side import ask_each

LINES = 60  # of each previous log; the last error is rarely further up
LOGS = 12  # asked side by side within the probe's time; replicas of one workload say the same
LINE_LENGTH = 500
ASK_SECONDS = 8.5  # for logs and objects, within the probe's limit
# The kubelet forgets a container's back-off once it has run for ten minutes.
STABLE = timedelta(minutes=10)
BREATH = timedelta(seconds=10)
CANNOT_RUN = (
    "CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError",
    "RunContainerError", "StartError", "PostStartHookError",
)  # fmt: skip
# Reasons that a judge reads; Scheduled, Pulled and Created tell nothing about a crash.
EVENT_REASONS = (
    "Started", "BackOff", "Failed", "Killing", "Unhealthy", "FailedMount", "FailedAttachVolume",
)  # fmt: skip
_GONE = "unable to retrieve container logs"  # what a kubelet answers, with status 200


def workload(pod: dict[str, Any]) -> str:
    """What the pod belongs to: "deployment/ns/platform-api", or "pod/ns/name" of a bare one."""
    metadata = pod["metadata"]
    owner = next((o for o in metadata.get("ownerReferences", []) if o.get("controller")), None)
    kind, name = (owner["kind"], owner["name"]) if owner else ("Pod", metadata["name"])
    revision = metadata.get("labels", {}).get("pod-template-hash")
    if kind == "ReplicaSet" and revision and name.endswith(f"-{revision}"):
        kind, name = "Deployment", name.removesuffix(f"-{revision}")
    return f"{kind.lower()}/{metadata.get('namespace', '')}/{name}"


def statuses(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """The statuses of init containers, then of containers, each with `init` beside it."""
    found = pod.get("status", {})
    return [
        {**status, "init": group.startswith("init")}
        for group in ("initContainerStatuses", "containerStatuses")
        for status in found.get(group) or []
    ]


def failing(pod: dict[str, Any], now: datetime) -> list[dict[str, Any]]:
    """The statuses of the pod's containers that cannot start or do not stay up."""
    phase = pod.get("status", {}).get("phase")
    if pod["metadata"].get("deletionTimestamp") or phase in ("Succeeded", "Failed"):
        return []
    always = pod.get("spec", {}).get("restartPolicy", "Always") == "Always"
    return [one for one in statuses(pod) if _fails(one, always, now)]


def _fails(status: dict[str, Any], always: bool, now: datetime) -> bool:
    state = status.get("state", {})
    if waiting := state.get("waiting"):
        return waiting.get("reason") in CANNOT_RUN
    if ended := state.get("terminated"):
        return bool(ended.get("exitCode")) or (always and not status["init"])
    # Up at this moment, perhaps between two crashes: twice restarted after runs too short for the
    # kubelet to forget its back-off, and not yet up for clearly longer than the last of them.
    last, running = status.get("lastState", {}).get("terminated"), state.get("running")
    if not (last and running) or status.get("restartCount", 0) < 2:
        return False
    ran = run_time(last) or timedelta()
    return ran < STABLE and now - time_of(running["startedAt"]) < 2 * ran + BREATH


def run_time(terminated: dict[str, Any]) -> timedelta | None:
    """How long a run lasted; None where it never started (the kubelet then says 1970)."""
    if not (terminated.get("startedAt") and terminated.get("finishedAt")):
        return None
    began = time_of(terminated["startedAt"])
    return None if began.year == 1970 else time_of(terminated["finishedAt"]) - began


def time_of(text: str) -> datetime:
    """An RFC 3339 time of the API."""
    return datetime.fromisoformat(text)


def is_creating(pod: dict[str, Any]) -> bool:
    """Whether a container waits to be created, which it does while a volume is missing.

    With init containers the kubelet calls all of them PodInitializing until the first one starts.
    """
    reasons = {one.get("state", {}).get("waiting", {}).get("reason") for one in statuses(pod)}
    waits = "ContainerCreating" in reasons or reasons == {"PodInitializing"}
    return waits and not pod["metadata"].get("deletionTimestamp")


def references(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Which Secrets and ConfigMaps a pod needs, and what for.

    [{kind, name, key ('' for the whole object), container, env, volume, optional}]; a volume's
    container is ''.
    """
    spec = pod.get("spec", {})
    found: list[dict[str, Any]] = []
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        for entry in container.get("env") or []:
            source = entry.get("valueFrom") or {}
            for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                if one := source.get(field):
                    found.append(
                        _reference(kind, one, container=container["name"], env=entry["name"])
                    )
        for source in container.get("envFrom") or []:
            for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
                if one := source.get(field):
                    found.append(_reference(kind, one, container=container["name"]))
    for volume in spec.get("volumes") or []:
        for source in [volume, *(volume.get("projected", {}).get("sources") or [])]:
            for field, kind in (("secret", "Secret"), ("configMap", "ConfigMap")):
                if one := source.get(field):
                    found += _mounted(kind, one, volume["name"])
    return [one for one in found if one["name"] != "kube-root-ca.crt"]


def _mounted(kind: str, one: dict[str, Any], volume: str) -> list[dict[str, Any]]:
    keys = [item["key"] for item in one.get("items") or []] or [""]
    return [_reference(kind, {**one, "key": key}, volume=volume) for key in keys]


def _reference(
    kind: str, one: dict[str, Any], *, container: str = "", env: str = "", volume: str = ""
) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": one.get("secretName") or one.get("name", ""),
        "key": one.get("key", ""),
        "container": container,
        "env": env,
        "volume": volume,
        "optional": bool(one.get("optional")),
    }


def _where(config: Config, namespace: str) -> list[str]:
    return [namespace] if namespace else list(dict.fromkeys(config.namespaces.all()))


def _each(config: Config, namespace: str, command: str) -> str:
    """The command for one namespace, or once for each of the platform's."""
    if namespace:
        return command.format(namespace)
    names = " ".join(_where(config, ""))
    return f"for ns in {names}; do {command.format('$ns')}; done"


def _named(name: str, pod: dict[str, Any]) -> bool:
    """Whether a pod passes the filter: its own name, its workload's, or a prefix up to a dash."""
    own = pod["metadata"]["name"]
    return not name or own.startswith(f"{name}-") or name in (own, workload(pod).split("/")[2])


def _listed(sources: Sources, namespace: str, name: str) -> list[dict[str, Any]]:
    return [
        pod
        for one in _where(sources.config, namespace)
        for pod in kubernetes.pods.ask(sources, namespace=one)
        if _named(name, pod)
    ]


@probe(
    lambda config, namespace="", **_: _each(config, namespace, "kubectl get pods -n {} -o wide"),
    seconds=10,
)
def pods(sources: Sources, namespace: str = "", name: str = "") -> list[dict[str, Any]]:
    """Pods as `kubernetes.pods` gives them, of one namespace or of the platform's, filtered by
    the name of the pod or of what it belongs to. Runbook: CrashLoopBackOff.
    """
    return _listed(sources, namespace, name)


@probe(
    lambda config, namespace="", name="", **_: (
        f"kubectl logs -n {namespace or 'NAMESPACE'} {name or 'POD'} --previous --tail={LINES}"
    ),
    seconds=12,
)
def previous_logs(sources: Sources, namespace: str = "", name: str = "") -> dict[str, Any]:
    """The last 60 lines of the last ended run of each failing container, of 12 at most:
    {logs: [{namespace, pod, container, lines} or {…, error}], left_out: containers not asked}.

    One container of each workload is asked first, so that none is left out for another's replicas.
    """
    now = datetime.now(UTC)
    crashing: dict[tuple[str, str], list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    for pod in _listed(sources, namespace, name):
        for status in failing(pod, now):
            if _has_run(status):
                crashing[workload(pod), status["name"]].append((pod, status))
    fairly = [one for one in chain(*zip_longest(*crashing.values())) if one]
    asked = {f"{pod['metadata']['namespace']}/{pod['metadata']['name']}/{status['name']}": status
             for pod, status in fairly[:LOGS]}  # fmt: skip
    answers = ask_each(list(asked), lambda one: _log(sources, one, asked[one]), ASK_SECONDS)
    logs = [_log_row(one, answer) for one, answer in answers.items()]
    return {"logs": logs, "left_out": max(len(fairly) - LOGS, 0)}


def _has_run(status: dict[str, Any]) -> bool:
    return any("terminated" in status.get(field, {}) for field in ("state", "lastState"))


def _log(sources: Sources, where: str, status: dict[str, Any]) -> str:
    namespace, pod, container = where.split("/")
    # A container that has just ended, and is not yet restarted, shows that run as its current one.
    previous = {} if "terminated" in status.get("state", {}) else {"previous": "true"}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    return sources.kubernetes.text(path, container=container, tailLines=LINES, **previous)


def _log_row(where: str, answer: Any) -> dict[str, Any]:
    about = dict(zip(("namespace", "pod", "container"), where.split("/"), strict=True))
    if isinstance(answer, SourceError):
        return {**about, "error": str(answer)}
    if answer.startswith(_GONE):
        return {**about, "error": f"the node no longer keeps that log: {answer.strip()[:200]}"}
    return {**about, "lines": [line[:LINE_LENGTH] for line in answer.splitlines()]}


@probe(
    lambda config, namespace="", **_: _each(
        config, namespace, "kubectl describe secrets,configmaps -n {}"
    ),
    seconds=12,
)
def referred(sources: Sources, namespace: str = "", name: str = "") -> list[dict[str, Any]]:
    """The Secrets and ConfigMaps that pods in trouble refer to:
    [{kind, namespace, name, exists, keys: {key: bytes}, created, changed} or {…, error}].

    Values are counted and forgotten; those that their key calls secret are redacted from then on.
    `changed` is the newest time in managedFields, None where the API does not say.
    """
    now = datetime.now(UTC)
    wanted = {
        f"{pod['metadata']['namespace']}/{one['kind']}/{one['name']}"
        for pod in _listed(sources, namespace, name)
        if failing(pod, now) or is_creating(pod)
        for one in references(pod)
    }
    answers = ask_each(sorted(wanted), lambda one: _object(sources, one), ASK_SECONDS)
    return [_object_row(sources, one, answer) for one, answer in answers.items()]


def _object(sources: Sources, where: str) -> dict[str, Any]:
    namespace, kind, name = where.split("/")
    return sources.kubernetes.get(f"/api/v1/namespaces/{namespace}/{kind.lower()}s/{name}")


def _object_row(sources: Sources, where: str, found: Any) -> dict[str, Any]:
    about = dict(zip(("namespace", "kind", "name"), where.split("/"), strict=True))
    if isinstance(found, SourceError):
        return {
            **about,
            **({"exists": False} if found.kind == "missing" else {"error": str(found)}),
        }
    sizes = {key: len(value.encode()) for key, value in (found.get("data") or {}).items()}
    sizes |= {key: _decoded_size(value) for key, value in (found.get("binaryData") or {}).items()}
    if about["kind"] == "Secret":
        sizes = {key: _decoded_size(value) for key, value in (found.get("data") or {}).items()}
        _learn(sources, found.get("data") or {})
    metadata = found["metadata"]
    changes = [one["time"] for one in metadata.get("managedFields") or [] if one.get("time")]
    return {
        **about,
        "exists": True,
        "keys": sizes,
        "created": metadata.get("creationTimestamp"),
        "changed": max(changes, default=None),
    }


def _decoded_size(value: str) -> int:
    return len(base64.b64decode(value))


def _learn(sources: Sources, data: dict[str, str]) -> None:
    """Have secret values redacted from here on, should a log show one."""
    for key, value in data.items():
        if SECRET_NAME.search(key):
            sources.redactor.add(base64.b64decode(value).decode(errors="replace"))


@probe(
    lambda config, namespace="", **_: _each(
        config, namespace, "kubectl get events -n {} --sort-by=.lastTimestamp"
    ),
    seconds=10,
)
def pod_events(sources: Sources, namespace: str = "", name: str = "") -> dict[str, Any]:
    """Events of pods, of all types, for the reasons that tell about starts, kills and mounts:
    {events: [as `kubernetes.warnings`, with type and container], unread: {namespace: why}}.

    The API server keeps events for an hour unless told otherwise.
    """
    events: list[dict[str, Any]] = []
    unread: dict[str, str] = {}
    for one in _where(sources.config, namespace):
        path = f"/api/v1/namespaces/{one}/events"
        try:
            listed = sources.kubernetes.list(path, fieldSelector="involvedObject.kind=Pod")
        except SourceError as error:
            unread[one] = str(error)
            continue
        events += [_event(e) for e in listed if e.get("reason") in EVENT_REASONS]
    kept = [e for e in events if not name or e["object"].startswith(f"pod/{name}")]
    return {"events": kept, "unread": unread}


def _event(event: dict[str, Any]) -> dict[str, Any]:
    # "spec.containers{platform-api}"
    field = event.get("involvedObject", {}).get("fieldPath") or ""
    container = field.partition("{")[2].rstrip("}")
    return {**kubernetes.event_row(event), "type": event.get("type", ""), "container": container}
