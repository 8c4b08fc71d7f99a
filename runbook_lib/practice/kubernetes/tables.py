"""Table objects, which `kubectl get` asks for, and metadata-only ones."""

from __future__ import annotations

import json
import re

from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.kubernetes.columns import Column, built_in
from runbook_lib.practice.objects.errors import bad_request
from runbook_lib.practice.objects.resources import Kind
from runbook_lib.practice.objects.store import Object, Store

_NAME = Column("Name", "metadata.name")
_CREATED = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
# A step of a JSON path: [?(@.field == "text")], ['name'], [index] or name.
_STEP = re.compile(
    r"""\.?(?:\[\?\(@\.(\w+)\s*==\s*["']?(.*?)["']?\)\]|\['(.+?)'\]|\[(\d+|\*)\]|([^.\[]+))"""
)


def _jmespath(path: str) -> str:
    """The JSON path of a custom kind's column in JMESPath, whose names are quoted."""
    found = ""
    for field, wanted, quoted, index, name in _STEP.findall(path):
        if field:
            found += f"[?to_string({field}) == `{json.dumps(wanted)}`]"
        elif index:
            found += f"[{index}]"
        else:
            found += "." + json.dumps(name or quoted.replace("\\.", "."))
    return found.lstrip(".")


def _columns(kind: Kind) -> list[Column]:
    return list(map(_custom, kind.columns or (_CREATED,))) if kind.custom else built_in(kind.kind)


def _custom(given: Object) -> Column:
    path, type_ = _jmespath(given["jsonPath"]), given["type"]
    value = f"{path} && age({path})" if type_ == "date" else path
    return Column(given["name"], value, type_, wide=bool(given.get("priority")))


def table(call: Call, items: list[Object], meta: Object, store: Store) -> Object:
    """The Table of these objects, each row with as much of its object as the client asked for."""
    include = call.query.get("includeObject", "Metadata")
    if include not in ("None", "Metadata", "Object"):
        raise bad_request(f'invalid parameter includeObject: "{include}"')
    columns = _columns(call.kind)
    if call.kind.kind != "Event":  # whose name says nothing
        columns = [_NAME, *columns]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta or {"resourceVersion": str(store.revision)},
        "columnDefinitions": [
            {
                "name": column.name,
                "type": column.type,
                "format": "name" if column is _NAME else "",
                "description": "",
                "priority": int(column.wide),
            }
            for column in columns
        ],
        "rows": [
            {"cells": [column.cell(item) for column in columns], **_included(item, include)}
            for item in items
        ],
    }


def _included(obj: Object, include: str) -> Object:
    if include == "None":
        return {}
    return {"object": obj if include == "Object" else partial(obj)}


def partial(obj: Object) -> Object:
    """An object of which only the metadata is told."""
    about = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return {**about, "metadata": obj["metadata"]}
