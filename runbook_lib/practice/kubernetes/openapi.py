"""The little of OpenAPI that kubectl asks for before it writes: which parameters a patch takes."""

from __future__ import annotations

from typing import Any

from runbook_lib.practice import protobuf
from runbook_lib.practice.objects.errors import no_such_path
from runbook_lib.practice.objects.resources import Catalogue, Kind

# As it is asked for (not a proper media type), and as it is answered.
ASKED = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_INFO = {"title": "Kubernetes", "version": "v1.32.9-practice"}
_PARAMETERS = ("dryRun", "fieldValidation", "fieldManager", "force")


def version_2() -> dict[str, Any]:
    """An empty document: without schemas kubectl leaves validation to the server."""
    return {"swagger": "2.0", "info": _INFO, "paths": {}, "definitions": {}}


def version_2_protobuf() -> bytes:
    """The same, as kubectl asks for it before it writes a List (gnostic's OpenAPIv2.proto)."""
    return protobuf.encode([(1, "2.0"), (2, protobuf.encode(enumerate(_INFO.values(), start=1)))])


def version_3(catalogue: Catalogue, path: str) -> dict[str, Any]:
    """The index of group versions, or the document of one."""
    documents: dict[str, list[Kind]] = {}
    for kind in catalogue:
        prefix = f"apis/{kind.api_version}" if kind.group else "api/v1"
        documents.setdefault(prefix, []).append(kind)
    if not path:
        return {"paths": {p: {"serverRelativeURL": f"/openapi/v3/{p}"} for p in documents}}
    if path not in documents:
        raise no_such_path()
    kinds = documents[path]
    return {
        "openapi": "3.0.0",
        "info": _INFO,
        "paths": {f"/{path}/{kind.plural}/{{name}}": _patch_operation(kind) for kind in kinds},
        "components": {"schemas": {kind.kind: _schema(kind) for kind in kinds}},
    }


def _identity(kind: Kind) -> dict[str, str]:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _patch_operation(kind: Kind) -> dict[str, Any]:
    return {
        "patch": {
            "parameters": [{"name": name, "in": "query"} for name in _PARAMETERS],
            "responses": {},
            "x-kubernetes-group-version-kind": _identity(kind),
        }
    }


def _schema(kind: Kind) -> dict[str, Any]:
    """Open: field documentation (`kubectl explain`) is not served."""
    return {
        "type": "object",
        "description": "Field documentation is not served by the practice API.",
        "x-kubernetes-group-version-kind": [_identity(kind)],
    }
