"""Secrets, ConfigMaps and keys that a pod's specification refers to and that are not there."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from typing import Any

from runbook_lib.checks import crashloop_logs
from runbook_lib.checks.crashloop_pods import CREATING, Crash
from runbook_lib.sources import workloads

# The kubelet's words for what keeps a container from being created.
_NO_KEY = re.compile(
    r"couldn't find key (?P<key>\S+) in (?P<kind>Secret|ConfigMap) [^/\s]+/(?P<name>\S+)"
)
_NO_OBJECT = re.compile(r'(?P<kind>secret|configmap) "(?P<name>[^"]+)" not found')
_KINDS = {"secret": "Secret", "configmap": "ConfigMap"}


@dataclass(frozen=True)
class Missing:
    """Something that a container needs and does not get.

    kind, namespace, name, key: what. need: what needs it, as the end of a sentence. env: the
    variable that stays unset. there: the keys that the object has. unread: why it is not known.
    """

    kind: str
    namespace: str
    name: str
    key: str
    need: str
    env: str = ""
    exists: bool = False
    empty: bool = False
    there: tuple[str, ...] = ()
    changed: str = ""
    unread: str = ""

    @property
    def sentence(self) -> str:
        """ "Secret ns/name has no key jwt-secret, which env JWT_SECRET needs"."""
        if not self.name:
            return f"its specification does not set env {self.env}, {self.need}"
        thing = f"{self.kind} {self.namespace}/{self.name}"
        if not self.exists:
            return f"{thing} does not exist, {self.need}"
        if not self.key:
            return f"{thing} has no key {self.env}, {self.need}"
        if self.empty:
            return f"key {self.key} of {thing} is empty, {self.need}"
        return f"{thing} has no key {self.key}, {self.need}"

    @property
    def hint(self) -> str:
        """What to do about it, and what not."""
        if not self.name:
            return (
                f"Add {self.env} to the workload's env, or roll back the change that removed it "
                "(kubectl rollout undo)."
            )
        if not self.exists:
            return (
                f"Restore the {self.kind} from where it is kept (Git, the secret store), or mend "
                "the name; the kubelet retries by itself. Do not make up a value to silence it."
            )
        close = difflib.get_close_matches(self.key or self.env, self.there, n=1, cutoff=0.75)
        close += [one for one in self.there if _letters(one) == _letters(self.key or self.env)]
        alike = f" It has {close[0]}: is the name misspelt?" if close else ""
        return (
            f"Put the key back from where it is kept, merging it into the {self.kind}.{alike} "
            "Containers take it up at their next restart. Do not recreate the "
            f"{self.kind} with create | apply: that drops its other keys."
        )

    @property
    def command(self) -> str:
        """The command that shows key names and sizes, never values."""
        if not self.name:
            return ""
        return f"kubectl describe {self.kind.lower()} -n {self.namespace} {self.name}"


def _letters(key: str) -> str:
    return re.sub(r"[^a-z0-9]", "", key.lower())


def find(crash: Crash, log: list[str] | None, referred: list[dict[str, Any]]) -> Missing | None:
    """What keeps this container from running, if it is missing configuration; else None.

    What the kubelet says counts first. A container that was started without an optional key
    counts only if its log ends by naming the variable. With `unread` set, it cannot be told.
    """
    said = _said_by_kubelet(crash, referred)
    if said or crash.waiting == "CreateContainerConfigError":
        return said
    lacking = _lacking(crash, referred)
    if crash.waiting == CREATING:
        # What is known not to be there comes before what could not be read.
        return min(lacking, key=lambda one: bool(one.unread), default=None)
    if crash.code in (None, 0):
        return None
    if log is None:
        suspect = next((one for one in lacking if one.env), None)
        why = "that key is not there, but the previous log, which says if it matters, is unreadable"
        return replace(suspect, unread=suspect.unread or why) if suspect else None
    named = [one for one in lacking if one.env and crashloop_logs.mentions(log, one.env)]
    return next(iter(named), None) or _not_given(crash, log, referred)


def _said_by_kubelet(crash: Crash, referred: list[dict[str, Any]]) -> Missing | None:
    found = _NO_KEY.search(crash.message) or _NO_OBJECT.search(crash.message)
    if not found or crash.waiting not in ("CreateContainerConfigError", CREATING):
        return None
    kind = _KINDS[found["kind"].lower()]
    key = found.groupdict().get("key") or ""
    held = _held(referred, kind, crash.namespace, found["name"])
    needing = [
        one
        for one in workloads.references(crash.pod)
        if (one["kind"], one["name"]) == (kind, found["name"]) and key in ("", one["key"])
        if one["container"] in ("", crash.container)
    ]
    need = _need(needing[0]) if needing else "which the container needs"
    return Missing(
        kind, crash.namespace, found["name"], key, need,
        env=needing[0]["env"] if needing else "", exists=bool(key), **_about(held),
    )  # fmt: skip


def _lacking(crash: Crash, referred: list[dict[str, Any]]) -> list[Missing]:
    """Every reference of the container, or of a volume, that leads to nothing or cannot be read."""
    found = []
    for one in workloads.references(crash.pod):
        if one["container"] not in ("", crash.container):
            continue
        if crash.waiting == CREATING and (not one["volume"] or one["optional"]):
            continue
        held = _held(referred, one["kind"], crash.namespace, one["name"])
        sizes = held.get("keys", {})
        there = held.get("exists", False) and (not one["key"] or sizes.get(one["key"]))
        if not held or there:
            continue
        found.append(
            Missing(
                one["kind"], crash.namespace, one["name"], one["key"], _need(one), env=one["env"],
                exists=held.get("exists", False), empty=one["key"] in sizes,
                unread=held.get("error", ""), **_about(held),
            )
        )  # fmt: skip
    return found


def _not_given(crash: Crash, log: list[str], referred: list[dict[str, Any]]) -> Missing | None:
    """A variable that the log asks for, and that neither env nor envFrom gives."""
    variable = crashloop_logs.asked_variable(log)
    if not variable or variable in {one["name"] for one in crash.spec.get("env") or []}:
        return None
    whole = [
        one
        for one in workloads.references(crash.pod)
        if one["container"] == crash.container and not one["env"] and not one["volume"]
    ]
    sources = [(one, _held(referred, one["kind"], crash.namespace, one["name"])) for one in whole]
    if any(variable in held.get("keys", {}) for _, held in sources):
        return None
    if not sources:
        return Missing("", crash.namespace, "", "", "which its log asks for", env=variable)
    # Of several sources a Secret is the likelier home of what a program cannot start without.
    one, held = max(sources, key=lambda source: source[0]["kind"])
    need = "which its log asks for"
    return Missing(
        one["kind"], crash.namespace, one["name"], "", need, env=variable,
        exists=held.get("exists", False), unread=held.get("error", ""), **_about(held),
    )  # fmt: skip


def _held(referred: list[dict[str, Any]], kind: str, namespace: str, name: str) -> dict[str, Any]:
    wanted = (kind, namespace, name)
    found = (one for one in referred if (one["kind"], one["namespace"], one["name"]) == wanted)
    return next(found, {})


def _about(held: dict[str, Any]) -> dict[str, Any]:
    return {"there": tuple(held.get("keys", {})), "changed": held.get("changed") or ""}


def _need(one: dict[str, Any]) -> str:
    if one["env"]:
        return f"which env {one['env']} needs"
    if one["volume"]:
        return f"which volume {one['volume']} mounts"
    return f"and {one['container']} takes its environment from it"
