"""The stand-in for every node's kubelet: it starts containers and reports on their pods.

Nothing runs. What containers do is read from annotations on their pods (`containers.Program`),
and what they need from the real Secrets and ConfigMaps, so that any client can break and mend
them. Nodes themselves are in `nodes`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.practice.cluster.containers import Container, Fate, Setting, step
from runbook_lib.practice.cluster.environment import environment, mount_problem
from runbook_lib.practice.cluster.events import Recorder
from runbook_lib.practice.cluster.nodes import kubelet_answers
from runbook_lib.practice.cluster.program import PROGRAM, Program, programs
from runbook_lib.practice.cluster.quantities import span
from runbook_lib.practice.kubernetes.selectors import condition, dig
from runbook_lib.practice.kubernetes.store import Change, Key, Object, Store, key_of, seconds, stamp

_MOUNT_RETRY_SECONDS = 15.0
_LONG_SECONDS = 5.0  # a wait of the real kubelet that is shortened, but not to nothing
_SHORTEST_SECONDS = 0.25
_LOG_LINES = 5_000  # of one container
_VOLUMES = ""  # the step before any container


@dataclass
class _Pod:
    """What the kubelet knows of one pod, beside the object."""

    uid: str
    ip: str
    started: float
    containers: dict[str, Container]
    due: dict[str, float] = field(default_factory=dict)
    mounted: bool = False
    program: str = ""
    programs: dict[str, Program] = field(default_factory=dict)
    problem: str = ""  # why the pod's program cannot be read
    changed_at: float = 0.0


class Kubelet:
    """All kubelets of the practice cluster."""

    def __init__(self, store: Store, recorder: Recorder, time_scale: float) -> None:
        self._store = store
        self._recorder = recorder
        self._scale = time_scale
        self._pods: dict[Key, _Pod] = {}
        self._recorded: set[str] = set()  # pods that keep the status they were loaded with
        self._dirty: dict[Key, None] = {}
        store.listeners.append(self._notice)

    def _notice(self, change: Change) -> None:
        if change.kind.table == ("", "pods"):
            self._dirty[key_of(change.obj)] = None
        elif change.kind.table == ("", "nodes"):  # a kubelet may have come back
            self._dirty |= dict.fromkeys(self._pods)

    # what the API asks a kubelet for

    def can_stop(self, pod: Object) -> bool:
        """Whether a deleted pod goes at once: unbound, or its kubelet answers."""
        node = self._node(pod)
        return node is None or kubelet_answers(node)

    def logs(
        self, pod: Object, container: str, *, previous: bool
    ) -> list[tuple[float, str]] | None:
        """(Unix time, line) of the current or the previous run; None where there was none."""
        known = self._pods.get(key_of(pod))
        found = known.containers.get(container) if known else None
        if found is None:
            return None
        if previous:
            return found.previous if found.last or found.ends else None
        return found.current_log() if found.running or found.ends else None

    # what applications that live in its containers tell it

    def environment(self, pod: Object, container: str) -> dict[str, str] | None:
        """The variables that a running container was started with; None where it does not run."""
        found = self._running(pod, container)
        return found.environment if found else None

    def append_log(self, pod: Object, container: str, line: str) -> None:
        """A running container writes a line; the oldest go, as a runtime rotates its logs."""
        if found := self._running(pod, container):
            found.log.append((time.time(), line))
            del found.log[:-_LOG_LINES]

    def end(
        self, pod: Object, container: str, exit_code: int, lines: tuple[str, ...], reason: str
    ) -> None:
        """A running container ends by itself, at once, with these last lines in its log."""
        found, node = self._running(pod, container), self._node(pod)
        if found is None or node is None:
            return
        known, now = self._pods[key_of(pod)], time.time()
        lived = now - seconds(found.state["running"]["startedAt"])
        found.fate = Fate(lived, exit_code, reason, lines)
        known.due[container] = now
        self._advance(known, pod, now)
        self._report(known, pod, node)

    def _running(self, pod: Object, container: str) -> Container | None:
        known = self._pods.get(key_of(pod))
        found = known.containers.get(container) if known else None
        return found if found and found.running else None

    def program(self, pod: Object, container: str) -> Program:
        known = self._pods.get(key_of(pod))
        return known.programs.get(container, Program()) if known else Program()

    def _node(self, pod: Object) -> Object | None:
        return self._store.find("nodes", dig(pod, "spec.nodeName", ""))

    # what it does by itself

    def sync(self, now: float) -> float | None:
        """Do all that is due; the Unix time when something will be next."""
        dirty, self._dirty = self._dirty, {}
        waiting = [
            key for key, pod in self._pods.items() if min(pod.due.values(), default=now + 1) <= now
        ]
        for key in dict.fromkeys([*dirty, *waiting]):
            self._sync_pod(key, now)
        return min((at for pod in self._pods.values() for at in pod.due.values()), default=None)

    def _sync_pod(self, key: Key, now: float) -> None:
        pod = self._store.find("pods", key[1], key[0])
        known = self._pods.get(key)
        if pod is None or (known and known.uid != pod["metadata"]["uid"]):
            self._pods.pop(key, None)
            known = None
        node = self._node(pod) if pod else None
        if pod is None or node is None or not kubelet_answers(node):
            if known:  # nothing happens on a node whose kubelet is stopped
                known.due = {name: max(at, now + 1) for name, at in known.due.items()}
            if known and pod and node and condition(node, "Ready") == "Unknown":
                self._mark_unready(pod, now)
            return
        if pod["metadata"].get("deletionTimestamp"):
            if not pod["metadata"].get("finalizers"):
                self._store.remove(self._store.catalogue.of("pods"), pod)
                self._pods.pop(key, None)
            return
        if known is None:
            if dig(pod, "status.containerStatuses") and not self._has_program(pod):
                return  # restored with its status: it stays as it was recorded
            known = self._pods[key] = self._admit(pod, now)
        self._read_program(known, pod, now)
        self._advance(known, pod, now)
        self._report(known, pod, node)

    def _mark_unready(self, pod: Object, now: float) -> None:
        """What the node controller does to pods of which nobody hears any more."""

        def change(new: Object) -> None:
            for item in dig(new, "status.conditions", []):
                if item["type"] == "Ready" and item["status"] == "True":
                    item |= {"status": "False", "lastTransitionTime": stamp(now)}

        self._store.edit(self._store.catalogue.of("pods"), pod, change)

    @staticmethod
    def _has_program(pod: Object) -> bool:
        return PROGRAM in (pod["metadata"].get("annotations") or {})

    def _admit(self, pod: Object, now: float) -> _Pod:
        """Begin with a pod: now, or when its status says that it started."""
        meta, spec = pod["metadata"], pod["spec"]
        begun = dig(pod, "status.startTime")
        started = seconds(begun) if begun else now
        digest = hashlib.sha256(meta["uid"].encode()).hexdigest()
        ip = f"10.0.{int(digest[:2], 16)}.{int(digest[2:4], 16) % 253 + 2}"
        containers = {}
        inits = spec.get("initContainers") or []
        for container in [*inits, *spec["containers"]]:
            name = container["name"]
            waits = "PodInitializing" if inits and container not in inits else "ContainerCreating"
            identity = hashlib.sha256(f"{meta['uid']}/{name}".encode()).hexdigest()
            image = container.get("image", "")
            containers[name] = Container(name, image, identity, waits)
        return _Pod(meta["uid"], ip, started, containers, {_VOLUMES: started})

    def _read_program(self, known: _Pod, pod: Object, now: float) -> None:
        annotations = pod["metadata"].get("annotations") or {}
        text = annotations.get(PROGRAM, "")
        if text == known.program:
            return
        first, known.program = not known.program and not known.mounted, text
        try:
            known.programs, known.problem = programs(annotations), ""
        except (ValueError, TypeError) as problem:
            known.programs, known.problem = {}, str(problem)
            self._recorder.record(pod, "Warning", "PracticeProgramInvalid", str(problem))
        if first:
            agos = [span(p.started_ago) for p in known.programs.values() if p.started_ago]
            if agos and not pod["metadata"].get("ownerReferences"):
                known.started = min(known.started, now - max(agos))
                known.due = dict.fromkeys(known.due, known.started)
        for name, container in known.containers.items():
            if container.running:  # it behaves otherwise from now on
                setting = self._setting(known, pod, name)
                container.rethink(setting)
                known.due[name] = now

    def _advance(self, known: _Pod, pod: Object, now: float) -> None:
        for _ in range(20_000):  # a history of many days has some thousand steps
            name, at = min(known.due.items(), key=lambda item: item[1], default=("", now + 1))
            if at > now:
                return
            known.changed_at = at
            delay = self._step(known, pod, name, at)
            if delay is None:
                known.due.pop(name, None)
            elif at + delay <= now - 1:  # still catching up with a history
                known.due[name] = at + delay
            else:
                known.due[name] = now + self._shortened(at + delay - now)

    def _shortened(self, delay: float) -> float:
        scaled = delay * self._scale
        return max(scaled, _SHORTEST_SECONDS) if delay > _LONG_SECONDS else max(scaled, 0.0)

    def _step(self, known: _Pod, pod: Object, name: str, at: float) -> float | None:
        if name == _VOLUMES:
            if problem := mount_problem(self._store, pod):
                self._recorder.record(
                    pod, "Warning", "FailedMount", problem, at=at, host=pod["spec"]["nodeName"]
                )
                return _MOUNT_RETRY_SECONDS
            known.mounted = True
            self._start_next(known, pod, at)
            return None
        container = known.containers[name]
        delay = step(container, self._setting(known, pod, name), at)
        if container.done and self._is_init(pod, name) and container.ready:
            self._start_next(known, pod, at)
        return delay

    @staticmethod
    def _is_init(pod: Object, name: str) -> bool:
        return name in [c["name"] for c in pod["spec"].get("initContainers") or []]

    def _start_next(self, known: _Pod, pod: Object, at: float) -> None:
        """The next init container, or when they are through all containers."""
        for init in pod["spec"].get("initContainers") or []:
            if not known.containers[init["name"]].done:
                known.due[init["name"]] = at + 1 if at < time.time() - 2 else at
                return
        known.due |= {container["name"]: at for container in pod["spec"]["containers"]}

    def _setting(self, known: _Pod, pod: Object, name: str) -> Setting:
        spec = pod["spec"]
        init = self._is_init(pod, name)
        listed = spec.get("initContainers") if init else spec["containers"]
        container = next(c for c in listed or [] if c["name"] == name)
        meta = pod["metadata"]
        place = "initContainers" if init else "containers"

        def record(type_: str, reason: str, message: str, **more: Any) -> None:
            self._recorder.record(
                pod,
                type_,
                reason,
                message,
                host=spec["nodeName"],
                field_path=f"spec.{place}{{{name}}}",
                **more,
            )

        return Setting(
            container,
            known.programs.get(name, Program()),
            f"{meta['name']}_{meta['namespace']}({meta['uid']})",
            spec.get("restartPolicy", "Always"),
            init,
            lambda: environment(self._store, pod, container),
            record,
        )

    def _report(self, known: _Pod, pod: Object, node: Object) -> None:
        status = pod_status(known, pod, node)
        if status != pod.get("status"):
            kind = self._store.catalogue.of("pods")
            self._store.edit(kind, pod, _setter("status", status))


def _setter(field_: str, value: Any) -> Callable[[Object], None]:
    def change(obj: Object) -> None:
        obj[field_] = value

    return change


def pod_status(known: _Pod, pod: Object, node: Object) -> Object:
    """The whole status of a pod, from its containers."""
    spec, old = pod["spec"], pod.get("status") or {}
    inits = [known.containers[c["name"]] for c in spec.get("initContainers") or []]
    mains = [known.containers[c["name"]] for c in spec["containers"]]
    initialized = all(c.done and c.ready for c in inits)
    unready = [c.name for c in mains if not c.ready]
    phase = _phase(mains, initialized)
    uninitialized = [c.name for c in inits if not (c.done and c.ready)]
    done = phase == "Succeeded"
    problems = (
        ("PodReadyToStartContainers", known.mounted, "", ""),
        (
            "Initialized",
            initialized,
            "ContainersNotInitialized",
            f"containers with incomplete status: [{' '.join(uninitialized)}]",
        ),
        *(
            (
                type_,
                not unready and phase == "Running",
                "PodCompleted" if done else "ContainersNotReady",
                "" if done else f"containers with unready status: [{' '.join(unready)}]",
            )
            for type_ in ("Ready", "ContainersReady")
        ),
        ("PodScheduled", True, "", ""),
    )
    status: Object = {
        "phase": phase,
        "conditions": [_condition(old, *problem, known) for problem in problems],
        "hostIP": dig(node, "status.addresses", [{}])[0].get("address", ""),
        "startTime": old.get("startTime") or stamp(known.started),
        "qosClass": old.get("qosClass", "BestEffort"),
        "containerStatuses": [container.status() for container in mains],
    }
    if known.mounted:
        status |= {"podIP": known.ip, "podIPs": [{"ip": known.ip}]}
    if inits:
        status["initContainerStatuses"] = [container.status() for container in inits]
    return status


def _phase(mains: list[Container], initialized: bool) -> str:
    if not initialized or not any(c.running or c.ends for c in mains):
        return "Pending"
    if all(c.done for c in mains):
        failed = any(c.state["terminated"]["exitCode"] for c in mains)
        return "Failed" if failed else "Succeeded"
    never_started = [c for c in mains if not c.running and not c.ends]
    return "Pending" if never_started else "Running"


def _condition(
    old: Object, type_: str, true: bool, reason: str, message: str, known: _Pod
) -> Object:
    before: Object = next((c for c in old.get("conditions") or [] if c["type"] == type_), {})
    status = "True" if true else "False"
    same = before.get("status") == status and before.get("lastTransitionTime")
    found: Object = {
        "type": type_,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": same or stamp(known.changed_at or known.started),
    }
    if not true:
        found |= {"reason": reason, "message": message} if message else {"reason": reason}
    return found
