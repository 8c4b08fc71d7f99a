"""A pod's status, made of what its containers do."""

from __future__ import annotations

from dataclasses import dataclass, field

from runbook_lib.practice.cluster.containers import Container
from runbook_lib.practice.cluster.program import Program
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, stamp


@dataclass
class PodState:
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
    evicted: str = ""  # the kubelet's reason, where it evicted the pod
    gone_at: float | None = None  # when a deleted pod's last container will have stopped


def pod_status(known: PodState, pod: Object, node: Object) -> Object:
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
    if known.evicted:
        status |= {"phase": "Failed", "reason": "Evicted", "message": known.evicted}
        target = _condition(old, "DisruptionTarget", True, "", "", known)
        target |= {"reason": "TerminationByKubelet", "message": known.evicted}
        status["conditions"].append(target)
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
    old: Object, type_: str, true: bool, reason: str, message: str, known: PodState
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
