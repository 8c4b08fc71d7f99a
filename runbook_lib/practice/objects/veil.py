"""What an engineer who rehearses must not be shown: the annotations that make things misbehave.

Who directs the practice sees them. To everybody else's answers they are missing, as if nothing but
the traces they leave were there; a replaced object keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]
PREFIX = "practice.runbook/"
DIRECTORS = "practice:directors"  # a group of users

_CARRIERS = (("metadata",), ("spec", "template", "metadata"))


def veiled(obj: Object) -> Object:
    """The object without them; itself where it has none, for stored objects are never altered."""
    for path in _CARRIERS:
        if _hidden(_at(obj, path)):
            obj = _without(obj, path)
    return obj


def keep(old: Object, new: Object) -> None:
    """Give `new`, by which a client who did not see them replaces `old`, those that it lacks."""
    for path in _CARRIERS:
        carrier = _at(new, path)
        if isinstance(carrier, dict) and (hidden := _hidden(_at(old, path))):
            carrier["annotations"] = {**hidden, **(carrier.get("annotations") or {})}


def revision(old: Object, new: Object, replica_sets: Iterable[Object]) -> Object:
    """Whose template is replaced by: the one in force, or the revision that is rolled back to."""
    wanted = _shown_template(new)
    if wanted is None or wanted == _shown_template(old):
        return old
    same = (one for one in replica_sets if _shown_template(one) == wanted)
    found = next(same, None)
    return {**old, "spec": {"template": found["spec"]["template"]}} if found else old


def _shown_template(obj: Object) -> Any:
    template = _at(veiled(obj), ("spec", "template"))
    if not isinstance(template, dict):
        return None
    metadata = dict(template.get("metadata") or {})
    labels = metadata.get("labels") or {}
    metadata["labels"] = {n: value for n, value in labels.items() if n != "pod-template-hash"}
    return {**template, "metadata": metadata}


def _at(obj: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        obj = obj.get(step) if isinstance(obj, dict) else None
    return obj


def _hidden(metadata: Any) -> dict[str, str]:
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    found = annotations if isinstance(annotations, dict) else {}
    return {name: value for name, value in found.items() if name.startswith(PREFIX)}


def _without(obj: Object, path: tuple[str, ...]) -> Object:
    if path:
        return {**obj, path[0]: _without(obj[path[0]], path[1:])}
    shown = {n: value for n, value in obj["annotations"].items() if not n.startswith(PREFIX)}
    rest = {name: value for name, value in obj.items() if name != "annotations"}
    return {**rest, "annotations": shown} if shown else rest
