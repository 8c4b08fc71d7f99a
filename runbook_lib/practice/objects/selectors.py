"""Label and field selectors, as the API server reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from runbook_lib.practice.objects import data
from runbook_lib.practice.objects.errors import bad_request
from runbook_lib.practice.objects.resources import Kind

Test = Callable[[dict[str, Any]], bool]

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_KEY = rf"({_NAME}/)?{_NAME}"
_SET = re.compile(rf"^({_KEY})\s+(in|notin)\s*\(([^()]*)\)$")
_EQUALS = re.compile(rf"^({_KEY})\s*(==|=|!=)\s*({_NAME})?$")
_EXISTS = re.compile(rf"^(!?)\s*({_KEY})$")
# A comma outside brackets separates requirements.
_TERM = re.compile(r"(?:[^,(]|\([^)]*\)?)+")


def dig(obj: Any, path: str, default: Any = None) -> Any:
    """The value at a dotted path; the default where any step of it is missing or null."""
    for step in path.split("."):
        if not isinstance(obj, Mapping):
            return default
        obj = obj.get(step)
    return default if obj is None else obj


def condition(obj: Any, type_: str) -> str:
    """The status of one of an object's conditions, or '' where it is not reported."""
    for item in dig(obj, "status.conditions", []):
        if item.get("type") == type_:
            return str(item.get("status", ""))
    return ""


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector object (matchLabels, matchExpressions) selects these labels."""
    selector = selector or {}
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_expression(e, labels) for e in selector.get("matchExpressions") or [])


def _expression(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    operator = expression["operator"]
    if operator in ("In", "NotIn"):
        return (labels.get(key) in values) == (operator == "In")
    if operator in ("Exists", "DoesNotExist"):
        return (key in labels) == (operator == "Exists")
    if operator in ("Gt", "Lt"):  # node affinity only
        number, limit = int(labels.get(key, "0")), int(values[0])
        return key in labels and (number > limit if operator == "Gt" else number < limit)
    raise bad_request(f'"{operator}" is not a valid label selector operator')


def label_selector(text: str) -> Test:
    """A test over whole objects; 400 where the selector cannot be read."""
    tests = [_label_term(term.strip(), text) for term in _TERM.findall(text)]

    def selects(obj: dict[str, Any]) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(test(labels) for test in tests)

    return selects


def _label_term(term: str, whole: str) -> Test:
    if found := _SET.match(term):
        key, wants = found[1], found[5] == "in"
        values = {value.strip() for value in found[6].split(",")}
        return lambda labels: (labels.get(key) in values) == wants
    if found := _EQUALS.match(term):
        key, operator, value = found[1], found[5], found[6] or ""
        return lambda labels: (labels.get(key) == value) == (operator != "!=")
    if found := _EXISTS.match(term):
        key, absent = found[2], bool(found[1])
        return lambda labels: (key not in labels) == absent
    raise bad_request(f'unable to parse requirement: found "{term}" in "{whole}"')


def field_selector(text: str, kind: Kind) -> Test:
    """A test over whole objects; 400 for a field that the kind cannot be selected by."""
    own = {} if kind.custom else data.table("fields").get(kind.kind, {})
    known = {"metadata.name", "metadata.namespace", *own.get("selected", ())}
    tests = []
    for term in filter(None, text.split(",")):
        found = re.match(r"^([^=!]+)(==|=|!=)(.*)$", term)
        if not found:
            raise bad_request(f'invalid selector: "{text}"; can\'t understand "{term}"')
        if found[1] not in known:
            raise bad_request(f'field label not supported: "{found[1]}"')
        tests.append((found[1], found[3], found[2] == "!="))

    def selects(obj: dict[str, Any]) -> bool:
        return all((_text(obj, path) == value) != negated for path, value, negated in tests)

    return selects


def _text(obj: dict[str, Any], path: str) -> str:
    value = dig(obj, "source.component" if path == "source" else path, "")
    return str(value).lower() if isinstance(value, bool) else str(value)
