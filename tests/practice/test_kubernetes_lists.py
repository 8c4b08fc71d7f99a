"""Lists of one moment, watches that begin with them, and what is said of doubtful bodies."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

MAPS = "/api/v1/namespaces/shop/configmaps"


@pytest.fixture
def name() -> str:
    return f"n-{uuid.uuid4().hex[:8]}"


def make(practice: Any, name: str, **meta: Any) -> None:
    assert practice.raw("POST", MAPS, {"metadata": {"name": name, **meta}})[0] == 201


def test_pages_show_one_moment(practice: Any, name: str) -> None:
    for letter in "abc":
        make(practice, f"{name}-{letter}", labels={"page": name})
    path = f"{MAPS}?labelSelector=page%3D{name}&limit=1"
    _, first = practice.raw("GET", path)
    make(practice, f"{name}-bb", labels={"page": name})
    practice.raw("DELETE", f"{MAPS}/{name}-c")
    token = first["metadata"]["continue"]
    _, rest = practice.raw("GET", f"{MAPS}?labelSelector=page%3D{name}&continue={token}")
    assert [item["metadata"]["name"] for item in rest["items"]] == [f"{name}-b", f"{name}-c"]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    then = f"resourceVersion={first['metadata']['resourceVersion']}&resourceVersionMatch=Exact"
    _, exact = practice.raw("GET", f"{MAPS}?labelSelector=page%3D{name}&{then}")
    assert len(exact["items"]) == 3


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [
        ("resourceVersionMatch=Exact", 422, "Invalid"),
        ("resourceVersion=abc", 422, "Invalid"),
        ("resourceVersion=999999999", 504, "Timeout"),
        ("resourceVersion=1&resourceVersionMatch=Exact", 410, "Expired"),
        ("continue=WyIiLCAiIiwgMV0=", 410, "Expired"),
    ],
)
def test_moments_that_cannot_be_shown(
    practice: Any, name: str, query: str, code: int, reason: str
) -> None:
    make(practice, name)
    history = practice.api.store.history
    while history[0].revision < 1005:  # as after a compaction
        history.popleft()
    answered, status = practice.raw("GET", f"{MAPS}?{query}")
    assert (answered, status["reason"]) == (code, reason)


def test_watches_may_begin_with_a_list(practice: Any, name: str) -> None:
    make(practice, name)
    query = (
        f"watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3D{name}&sendInitialEvents=true"
        "&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    )
    text = practice.text("GET", f"{MAPS}?{query}")
    first, second = text.splitlines()[:2]
    assert '"ADDED"' in first and '"BOOKMARK"' in second and "initial-events-end" in second


@pytest.mark.parametrize(
    ("meta", "code", "message"),
    [
        ({"labels": {"a": "b c"}}, 422, "a valid label must be an empty string or consist of"),
        ({"labels": {"-a": "b"}}, 422, "name part must consist of alphanumeric characters"),
        ({"annotations": {"a": 1}}, 400, "cannot unmarshal number into Go struct field"),
        ({"lables": {"a": "b"}}, 400, 'strict decoding error: unknown field "metadata.lables"'),
    ],
)
def test_metadata_is_checked(practice: Any, name: str, meta: Any, code: int, message: str) -> None:
    body = {"metadata": {"name": name, **meta}}
    answered, status = practice.raw("POST", f"{MAPS}?fieldValidation=Strict", body)
    assert answered == code and message in status["message"]


def test_unknown_fields_are_warned_of(practice: Any, name: str) -> None:
    answer = practice.request("POST", MAPS, {"metadata": {"name": name}, "nope": 1})
    assert answer.headers["Warning"] == '299 - "unknown field \\"nope\\""'
