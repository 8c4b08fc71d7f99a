"""What all controllers of pods share: making, counting and removing the pods of an owner."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from runbook_lib.practice.cluster.events import Recorder
from runbook_lib.practice.objects.admission import apply_defaults, random_suffix
from runbook_lib.practice.objects.errors import ApiError
from runbook_lib.practice.objects.selectors import condition, dig
from runbook_lib.practice.objects.store import (
    Object,
    Store,
    copy_of,
    owner_reference,
    seconds,
    stamp,
)

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
FRESH_SECONDS = 5.0  # older objects were restored, and so were their pods


def template_hash(template: Object) -> str:
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:10])


def is_ready(pod: Object) -> bool:
    return condition(pod, "Ready") == "True"


def ready_since(pods: list[Object], now: float) -> float:
    """When the last of the ready pods became so; now where none is."""
    times = [
        seconds(item["lastTransitionTime"])
        for pod in pods
        for item in dig(pod, "status.conditions", [])
        if item["type"] == "Ready" and item["status"] == "True" and "lastTransitionTime" in item
    ]
    return max(times, default=now)


def is_alive(pod: Object) -> bool:
    return dig(pod, "status.phase") not in ("Failed", "Succeeded") and not pod["metadata"].get(
        "deletionTimestamp"
    )


def share(value: Any, total: int, *, up: bool) -> int:
    """A number of pods given as such or as a percentage."""
    if isinstance(value, str) and value.endswith("%"):
        exact = total * int(value[:-1]) / 100
        return math.ceil(exact) if up else math.floor(exact)
    return int(value)


class PodOwners:
    """The base of the controllers."""

    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store = store
        self._recorder = recorder
        self._pods = store.catalogue.of("pods")

    def _create_pod(
        self, owner: Object, template: Object, name: str, begun: float | None, **spec: Any
    ) -> str:
        """Create a pod of the owner; why it could not be, '' where it was."""
        meta = copy_of(template.get("metadata") or {})
        pod: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **meta,
                "name": name,
                "namespace": owner["metadata"]["namespace"],
                "ownerReferences": [owner_reference(owner)],
            },
            "spec": {**copy_of(template["spec"]), **spec},
        }
        prefix = f"{owner['metadata']['name']}-"
        if not name:
            pod["metadata"] |= {"generateName": prefix, "name": prefix + random_suffix()}
        apply_defaults(self._pods, pod)
        try:
            self._store.admit(self._pods, pod)
        except ApiError as refused:
            message = str(refused).replace(f'"{pod["metadata"]["name"]}"', f'"{name or prefix}"')
            self._record(owner, "FailedCreate", f"Error creating: {message}", "Warning")
            return message
        if begun is not None:  # as if it had been there since
            pod["metadata"]["creationTimestamp"] = stamp(begun)
            pod["status"]["startTime"] = stamp(begun)
        self._store.add(self._pods, pod)
        self._record(owner, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}", at=begun)
        return ""

    def _delete_pod(self, owner: Object, pod: Object) -> None:
        self._store.remove(self._pods, pod)
        self._record(owner, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")

    def _record(
        self,
        owner: Object,
        reason: str,
        message: str,
        type_: str = "Normal",
        at: float | None = None,
    ) -> None:
        component = f"{owner['kind'].lower()}-controller"
        self._recorder.record(owner, type_, reason, message, at=at, component=component)

    def _children(self, owner: Object) -> list[Object]:
        """The owner's pods that count; failed ones (evicted, say) are left lying about."""
        return [pod for pod in self._store.children(owner, "pods") if is_alive(pod)]

    def _store_status(self, owner: Object, plural: str, counts: Object, **more: Any) -> None:
        def write(new: Object) -> None:
            status = {name: number for name, number in counts.items() if number}
            status["observedGeneration"] = new["metadata"].get("generation", 1)
            status.setdefault("replicas", 0)
            new["status"] = {**status, **more}

        self._store.edit(self._store.catalogue.of(plural, "apps"), owner, write)

    @staticmethod
    def _restored(owner: Object, now: float) -> float | None:
        """When the first pods of an owner that was back-dated began; None for any later pod."""
        if dig(owner, "status.replicas", 0) or dig(owner, "status.observedGeneration", 0):
            return None
        begun = seconds(owner["metadata"]["creationTimestamp"])
        return begun if now - begun > FRESH_SECONDS else None
