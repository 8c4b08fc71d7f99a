"""The stand-in for every node's kubelet: it starts containers and reports on their pods.

Nothing runs. What containers do is read from annotations on their pods (`containers.Program`),
and what they need from the real Secrets and ConfigMaps, so that any client can break and mend
them. Nodes themselves are in `nodes`.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from runbook_lib.practice.cluster.containers import Container, Fate, Setting, step
from runbook_lib.practice.cluster.dialing import Network
from runbook_lib.practice.cluster.environment import environment, mount_problem
from runbook_lib.practice.cluster.events import Recorder
from runbook_lib.practice.cluster.images import Registry
from runbook_lib.practice.cluster.nodes import kubelet_answers
from runbook_lib.practice.cluster.podstatus import PodState, pod_status
from runbook_lib.practice.cluster.program import PROGRAM, Program, programs
from runbook_lib.practice.cluster.sandbox import sandbox_problem
from runbook_lib.practice.cluster.spans import span
from runbook_lib.practice.cluster.usage import cpu_wanted
from runbook_lib.practice.objects.quantities import quantity
from runbook_lib.practice.objects.selectors import condition, dig
from runbook_lib.practice.objects.store import Change, Key, Object, Store, key_of, seconds, stamp

_MOUNT_RETRY_SECONDS = 15.0
_LONG_SECONDS = 5.0  # a wait of the real kubelet that is shortened, but not to nothing
_SHORTEST_SECONDS = 0.25
_LOG_LINES = 5_000  # of one container
_SANDBOX_RETRY_SECONDS = 12.0
_VOLUMES = ""  # the step before any container


class Kubelet:
    """All kubelets of the practice cluster."""

    def __init__(self, store: Store, recorder: Recorder, time_scale: float) -> None:
        self._store = store
        self._recorder = recorder
        self._scale = time_scale
        self._pods: dict[Key, PodState] = {}
        self._recorded: set[str] = set()  # pods that keep the status they were loaded with
        self._dirty: dict[Key, None] = {}
        self._addresses: dict[str, str] = {}  # IP address to the uid of its pod
        self.network = Network(store, self.program)
        self.registry = Registry()
        store.listeners.append(self._notice)

    def _notice(self, change: Change) -> None:
        if change.kind.table == ("", "pods"):
            if change.type == "DELETED" and (known := self._pods.get(key_of(change.obj))):
                self._addresses.pop(known.ip, None)
            self._dirty[key_of(change.obj)] = None
        elif change.kind.table == ("", "nodes"):  # a kubelet may have come back
            self._dirty |= dict.fromkeys(self._pods)

    # what the API asks a kubelet for

    def can_stop(self, pod: Object) -> bool:
        """Whether a deleted pod goes at once: unbound, or its kubelet answers and need not wait."""
        node = self._node(pod)
        return node is None or (kubelet_answers(node) and not self._stop_seconds(pod))

    def _stop_seconds(self, pod: Object) -> float:
        """How long the slowest running container takes to stop, within the grace period."""
        known = self._pods.get(key_of(pod))
        running = [n for n, c in known.containers.items() if c.running] if known else []
        grace = float(dig(pod, "spec.terminationGracePeriodSeconds", 30))
        return min(grace, max((self.program(pod, n).stop_seconds for n in running), default=0.0))

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
        found.fate = Fate(now - found.started, exit_code, reason, lines)
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

    def usage(self, pod: Object, container: str, what: str, idle: str) -> float:
        """What a container uses now of cpu (cores), memory, disk or logs (bytes)."""
        wanted = self._wanted(pod, container, what, idle)
        # The kernel gives it no more than its limit; of disk and logs there is none here.
        limit = dig(self._spec(pod, container), f"resources.limits.{what}")
        return min(wanted, quantity(limit)) if limit else wanted

    def _wanted(self, pod: Object, container: str, what: str, idle: str) -> float:
        if what == "cpu":
            return self.cpu_wanted(pod, container, idle)
        program, found = self.program(pod, container), self._running(pod, container)
        used = quantity(program.usage.get(what, idle))
        if what == "memory" and program.memory_fills_in and found:
            limit = quantity(dig(self._spec(pod, container), "resources.limits.memory", "1Gi"))
            lived = (time.time() - found.started) / (span(program.memory_fills_in) * self._scale)
            used += (limit - used) * min(1.0, lived)
        return used

    def cpu_wanted(self, pod: Object, container: str, idle: str = "0") -> float:
        """The cores that a container would use without a limit."""
        return cpu_wanted(self._store, self.program, pod, container, idle)

    def evict(self, pod: Object, message: str, now: float) -> None:
        """End a pod for good because its node runs short; the object stays, failed."""
        known, node = self._pods.get(key_of(pod)), self._node(pod)
        if known is None or node is None:
            return
        host = dig(pod, "spec.nodeName")
        self._recorder.record(pod, "Warning", "Evicted", message, at=now, host=host)
        for name, container in known.containers.items():
            if container.running:
                text = f"Stopping container {name}"
                self._recorder.record(pod, "Normal", "Killing", text, at=now, host=host)
            container.stop(now)
        known.evicted, known.changed_at, known.due = message, now, {}
        self._report(known, pod, node)

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
            if known and known.gone_at is None:
                wait = self._stop_seconds(pod)
                known.gone_at = now + wait * self._scale
                known.due = {_VOLUMES: known.gone_at}
                self._tell_stop(known, pod, wait)
            if known and known.gone_at and now < known.gone_at:
                return
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

    def _tell_stop(self, known: PodState, pod: Object, wait: float) -> None:
        host, grace = dig(pod, "spec.nodeName"), dig(pod, "spec.terminationGracePeriodSeconds", 30)
        for name, container in known.containers.items():
            if not container.running:
                continue
            text = f"Stopping container {name}"
            self._recorder.record(pod, "Normal", "Killing", text, host=host)
            if wait >= grace and dig(self._spec(pod, name), "lifecycle.preStop"):
                text = f"PreStopHook failed: preStop hook did not complete in {grace}s"
                self._recorder.record(pod, "Warning", "FailedPreStopHook", text, host=host)

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

    def _admit(self, pod: Object, now: float) -> PodState:
        """Begin with a pod: now, or when its status says that it started."""
        meta, spec = pod["metadata"], pod["spec"]
        begun = dig(pod, "status.startTime")
        started = seconds(begun) if begun else now
        ip = self._address(pod)
        containers = {}
        inits = spec.get("initContainers") or []
        for container in [*inits, *spec["containers"]]:
            name = container["name"]
            waits = "PodInitializing" if inits and container not in inits else "ContainerCreating"
            identity = hashlib.sha256(f"{meta['uid']}/{name}".encode()).hexdigest()
            image = container.get("image", "")
            containers[name] = Container(name, image, identity, waits)
        return PodState(meta["uid"], ip, started, containers, {_VOLUMES: started})

    def _address(self, pod: Object) -> str:
        """The host's for pods in its network, else a free one of the node's subnet."""
        node = dig(self._node(pod), "status.addresses", [{}])[0].get("address", "10.0.0.1")
        if pod["spec"].get("hostNetwork"):
            return str(node)
        uid = pod["metadata"]["uid"]
        number = int(hashlib.sha256(uid.encode()).hexdigest()[:8], 16)
        prefix = node.rsplit(".", 1)[0]
        own = (f"{prefix}.{(number + i) % 200 + 50}" for i in range(200))
        more = (f"10.1.{(number + i) // 250 % 250}.{(number + i) % 250 + 1}" for i in range(60_000))
        ip = next(one for one in itertools.chain(own, more) if one not in self._addresses)
        self._addresses[ip] = uid
        return ip

    def _read_program(self, known: PodState, pod: Object, now: float) -> None:
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
                container.rethink(self._setting(known, pod, name))
                after = container.fate.after if container.fate else 0.0
                known.due[name] = now + self._shortened(after)

    def _advance(self, known: PodState, pod: Object, now: float) -> None:
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

    def _step(self, known: PodState, pod: Object, name: str, at: float) -> float | None:
        if name == _VOLUMES:
            late = at < time.time() - _LONG_SECONDS  # a history is not retold in this
            if problem := "" if late else sandbox_problem(self._store, pod, self._node(pod) or {}):
                reason = "FailedCreatePodSandBox"
                host = pod["spec"]["nodeName"]
                self._recorder.record(pod, "Warning", reason, problem, at=at, host=host)
                return _SANDBOX_RETRY_SECONDS
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

    def _start_next(self, known: PodState, pod: Object, at: float) -> None:
        """The next init container, or when they are through all containers."""
        for init in pod["spec"].get("initContainers") or []:
            if not known.containers[init["name"]].done:
                known.due[init["name"]] = at + 1 if at < time.time() - 2 else at
                return
        known.due |= {container["name"]: at for container in pod["spec"]["containers"]}

    @staticmethod
    def _spec(pod: Object, name: str) -> Object:
        listed = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
        return next(c for c in listed if c["name"] == name)

    def _setting(self, known: PodState, pod: Object, name: str) -> Setting:
        spec = pod["spec"]
        init, container = self._is_init(pod, name), self._spec(pod, name)
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
            "Job" in [owner["kind"] for owner in meta.get("ownerReferences") or []],
            lambda: environment(self._store, pod, container),
            record,
            partial(self._recorder.record, self._node(pod) or {}, host=spec["nodeName"]),
            partial(self.network.reaches, pod),
            lambda image: self.registry.refuses(image),
        )

    def _report(self, known: PodState, pod: Object, node: Object) -> None:
        status = pod_status(known, pod, node)
        if status != pod.get("status"):
            kind = self._store.catalogue.of("pods")
            self._store.edit(kind, pod, _setter("status", status))


def _setter(field_: str, value: Any) -> Callable[[Object], None]:
    def change(obj: Object) -> None:
        obj[field_] = value

    return change
