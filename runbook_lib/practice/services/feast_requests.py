"""Requests to Feast's feature server: what it validates, looks up and refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runbook_lib.practice.services import feast_registry
from runbook_lib.practice.services.exchange import Answer
from runbook_lib.practice.services.feast_registry import Registry, View
from runbook_lib.practice.services.rules import Raised

PACKAGES = "/usr/local/lib/python3.11/site-packages/"
FRAMES = (
    (f"{PACKAGES}feast/feature_server.py", 702, "get_online_features"),
    (f"{PACKAGES}feast/feature_store.py", 4094, "get_online_features_async"),
)


def validated(body: bytes) -> dict[str, Any] | Answer:
    """The request, or FastAPI's 422."""
    try:
        given = json.loads(body)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        words = "Input should be a valid dictionary or object to extract fields from"
        wrong = {"type": "model_attributes_type", "loc": ["body"], "msg": words}
        return Answer(422, {"detail": [wrong]})
    if "entities" not in given:
        wrong = {"type": "missing", "loc": ["body", "entities"], "msg": "Field required"}
        return Answer(422, {"detail": [wrong]})
    entities = given["entities"]
    if not isinstance(entities, dict) or not all(
        isinstance(values, list) for values in entities.values()
    ):
        wrong = {"type": "dict_type", "loc": ["body", "entities"], "msg": "Input should be a dict"}
        return Answer(422, {"detail": [wrong]})
    return given


def asked(given: Mapping[str, Any], registry: Registry) -> list[tuple[View, list[str]]]:
    """The views that are asked for, each with its features. Raises Raised in Feast's words."""
    if name := given.get("feature_service"):
        text = f"Feature service {name} does not exist in project {registry.project}"
        raise Raised("feast.errors.FeatureServiceNotFoundException", text, FRAMES)
    references = [str(one) for one in given.get("features") or []]
    if not references:
        raise Raised("ValueError", "No features specified for retrieval", FRAMES)
    found: dict[str, tuple[View, list[str]]] = {}
    for reference in references:
        name, colon, feature = reference.partition(":")
        if not colon:
            text = (
                f"Invalid feature reference '{reference}'. Expected format: "
                "'<feature_view>:<feature>' or '<feature_view>@<version>:<feature>'"
            )
            raise Raised("ValueError", text, FRAMES)
        view = registry.view(name)
        if view is None:
            text = f"Feature view {name} does not exist in project {registry.project}"
            raise Raised("feast.errors.FeatureViewNotFoundException", text, FRAMES)
        if feature not in [one for one, _ in view.features]:
            text = f"'Feature {feature} not found in projection {name}'"
            raise Raised("KeyError", text, FRAMES)
        found.setdefault(name, (view, []))[1].append(feature)
    _refuse_collisions(list(found.values()), full=bool(given.get("full_feature_names")))
    _require_keys(list(found.values()), given["entities"])
    return list(found.values())


def _refuse_collisions(asked: list[tuple[View, list[str]]], *, full: bool) -> None:
    names = [f"{view.name}__{one}" if full else one for view, listed in asked for one in listed]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        text = (
            f"Duplicate features named {', '.join(twice)} found.\nTo resolve this collision, "
            "either use the full feature name by setting 'full_feature_names=True', or ensure "
            "that the features in question have different names."
        )
        raise Raised("feast.errors.FeatureNameCollisionError", text, FRAMES)


def _require_keys(asked: list[tuple[View, list[str]]], entities: Mapping[str, Any]) -> None:
    if not entities:
        raise Raised("KeyError", "'pop from an empty set'", FRAMES)
    for view, _ in asked:
        missing = [key for key, _ in view.join_keys if key not in entities]
        if missing:
            text = (
                f'"Missing join key values for keys: {missing}. No values provided for keys: '
                f'{missing}. Provided join_key_values: []"'
            )
            raise Raised("KeyError", text, FRAMES)


def cast(value: Any, kind: int) -> int | str:
    """An entity's value in the type of its column. Raises Raised."""
    if kind not in (feast_registry.INT32, feast_registry.INT64):
        return str(value)
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise Raised("ValueError", str(error), FRAMES) from None
