"""The controller of Jobs. CronJobs are kept as objects; nothing runs by the clock."""

from __future__ import annotations

import time

from runbook_lib.practice.cluster.events import Recorder
from runbook_lib.practice.cluster.owners import PodOwners
from runbook_lib.practice.objects.selectors import condition, dig
from runbook_lib.practice.objects.store import Object, Store, copy_of, seconds, stamp

_BACK_OFF, _BACK_OFF_LIMIT = 10.0, 360.0  # seconds between pods that fail
_UID = "batch.kubernetes.io/controller-uid"


class Jobs(PodOwners):
    def __init__(self, store: Store, recorder: Recorder, time_scale: float) -> None:
        super().__init__(store, recorder)
        self._scale = time_scale
        self._jobs = store.catalogue.of("jobs", "batch")

    def sync(self, now: float) -> float | None:
        """Start and count pods; the Unix time when a Job is to be looked at again."""
        dues = [self._sync(job, now) for job in self._store.all("jobs", "batch")]
        return min((due for due in dues if due is not None), default=None)

    def _sync(self, job: Object, now: float) -> float | None:
        if condition(job, "Complete") == "True" or condition(job, "Failed") == "True":
            return None
        spec = job["spec"]
        if not spec.get("selector"):
            job = self._store.edit(self._jobs, job, _complete_spec)
            spec = job["spec"]
        pods = self._store.children(job, "pods")
        by_phase = {
            phase: [pod for pod in pods if dig(pod, "status.phase") == phase]
            for phase in ("Succeeded", "Failed")
        }
        active = [p for p in pods if dig(p, "status.phase") not in ("Succeeded", "Failed")]
        done, failed = len(by_phase["Succeeded"]), len(by_phase["Failed"])
        started = dig(job, "status.startTime") or stamp(now)
        wanted = spec.get("completions") or 1
        ended, due = self._ended(job, done >= wanted, failed, active, seconds(started), now)
        if ended or spec.get("suspend"):
            for pod in active:
                self._store.remove(self._pods, pod)
            active = []
        else:
            ready_at = self._retry_at(by_phase["Failed"], failed)
            if ready_at > now:
                due = min(due or ready_at, ready_at)
            else:
                for _ in range(min(spec.get("parallelism", 1), wanted - done) - len(active)):
                    if self._create_pod(job, spec["template"], "", None):
                        break
        active = [
            p
            for p in self._store.children(job, "pods")
            if dig(p, "status.phase") not in ("Succeeded", "Failed")
        ]
        counts = {"active": len(active), "succeeded": done, "failed": failed}
        status: Object = {name: number for name, number in counts.items() if number}
        status["startTime"] = started
        if ended:
            status["conditions"] = [ended]
            if ended["type"] == "Complete":
                status["completionTime"] = stamp(now)
        self._store.edit(self._jobs, job, lambda new: new.update(status=status))
        return due

    def _ended(
        self,
        job: Object,
        complete: bool,
        failed: int,
        active: list[Object],
        started: float,
        now: float,
    ) -> tuple[Object | None, float | None]:
        """(condition with which the Job ends or None, when its deadline is)."""
        spec = job["spec"]
        restarts = sum(
            status["restartCount"]
            for pod in active
            for status in dig(pod, "status.containerStatuses", [])
        )
        limit = spec.get("backoffLimit", 6)
        if complete:
            message = "Reached expected number of succeeded pods"
            self._record(job, "Completed", "Job completed")
            return _condition("Complete", "CompletionsReached", message, now), None
        if failed > limit or (restarts and restarts >= limit > 0):
            message = "Job has reached the specified backoff limit"
            self._record(job, "BackoffLimitExceeded", message, "Warning")
            return _condition("Failed", "BackoffLimitExceeded", message, now), None
        deadline = spec.get("activeDeadlineSeconds")
        if deadline is None:
            return None, None
        at = started + deadline
        if now >= at:
            message = "Job was active longer than specified deadline"
            self._record(job, "DeadlineExceeded", message, "Warning")
            return _condition("Failed", "DeadlineExceeded", message, now), None
        return None, at

    def _retry_at(self, failed_pods: list[Object], failed: int) -> float:
        """When the next pod may be made: a while after the last one failed."""
        if not failed_pods:
            return 0.0
        last = max(_finished(pod) for pod in failed_pods)
        return last + min(_BACK_OFF * 2.0 ** (failed - 1), _BACK_OFF_LIMIT) * self._scale


def _finished(pod: Object) -> float:
    ends = [
        seconds(end)
        for status in dig(pod, "status.containerStatuses", [])
        if (end := dig(status, "state.terminated.finishedAt"))
    ]
    return max(ends, default=time.time())


def _complete_spec(job: Object) -> None:
    """The selector and labels that tell the Job's pods."""
    labels = {_UID: job["metadata"]["uid"], "batch.kubernetes.io/job-name": job["metadata"]["name"]}
    job["spec"]["selector"] = {"matchLabels": {_UID: job["metadata"]["uid"]}}
    meta = job["spec"]["template"].setdefault("metadata", {})
    meta["labels"] = {**copy_of(meta.get("labels") or {}), **labels}
    meta["labels"]["job-name"] = job["metadata"]["name"]


def _condition(type_: str, reason: str, message: str, now: float) -> Object:
    found = {"type": type_, "status": "True", "reason": reason, "message": message}
    return {**found, "lastProbeTime": stamp(now), "lastTransitionTime": stamp(now)}
