"""What a kserve model server (0.21) answers, in both protocols.

A model is a sum: class 1 where the features of a row add up to more than 0. All that matters
here is how its server answers.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from typing import Any

from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object
from runbook_lib.practice.services.exchange import Call
from runbook_lib.practice.services.rules import Raised

FEATURES = 4
VERSION = "0.21.0"
_PACKAGES = "/prod_venv/lib/python3.11/site-packages/"
_FRAMES = (
    (f"{_PACKAGES}kserve/protocol/rest/v1_endpoints.py", 82, "predict"),
    (f"{_PACKAGES}kserve/model.py", 230, "__call__"),
)
_MODEL_FRAMES = (*_FRAMES, (f"{_PACKAGES}sklearnserver/model.py", 76, "predict"))


class RefusedError(Exception):
    """A request that the server answers with a status and an error."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(str(body))
        self.status, self.body = status, body


def respond(call: Call, model: str, service: Object) -> Any:
    """The body of kserve's answer. Raises RefusedError, and Raised in the model's code."""
    parts = call.path.strip("/").split("/")
    if not parts[0] and call.method == "GET":
        return {"status": "alive"}
    only_v2 = dig(service, "spec.predictor.model.protocolVersion") == "v2"
    if parts[0] == "v1" and not only_v2:
        return _version_1(call, parts[1:], model)
    if parts[0] == "v2":
        return _version_2(call, parts[1:], model)
    raise RefusedError(404, {"detail": "Not Found"})


def _version_1(call: Call, parts: list[str], model: str) -> Any:
    match call.method, parts:
        case "GET", ["models"]:
            return {"models": [model]}
        case "POST", ["models", name] if name.endswith(":predict"):
            _require(name.removesuffix(":predict"), model)
            rows = _instances(_decoded(call.body))
            return {"predictions": _predict(rows)}
        case "GET", ["models", name]:
            _require(name, model)
            return {"name": model, "ready": True}
    raise RefusedError(404, {"detail": "Not Found"})


def _version_2(call: Call, parts: list[str], model: str) -> Any:
    match call.method, parts:
        case "GET", []:
            extensions = ["model_repository_extension"]
            return {"name": "kserve", "version": VERSION, "extensions": extensions}
        case "GET", ["health", "live"]:
            return {"live": True}
        case "GET", ["health", "ready"]:
            return {"ready": True}
        case "GET", ["models"]:
            return {"models": [model]}
        case "GET", ["models", name]:
            _require(name, model)
            return {"name": model, "versions": None, "platform": "", "inputs": [], "outputs": []}
        case "GET", ["models", name, "ready"]:
            _require(name, model)
            return {"name": model, "ready": True}
        case "POST", ["models", name, "infer"]:
            given = _inference_request(call)
            _require(name, model)
            return _inferred(given, model)
        case _, ["models", _, "versions", *_]:
            raise RefusedError(501, {"error": "Model versioning not supported yet."})
    raise RefusedError(404, {"detail": "Not Found"})


def _require(name: str, model: str) -> None:
    if name != model:
        raise RefusedError(404, {"error": f"Model with name {name} does not exist."})


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise RefusedError(400, {"error": f"Unrecognized request format: {error}"}) from None


def _instances(given: Any) -> Any:
    if not isinstance(given, dict):
        raise _failed("tuple index out of range")
    if "inputs" in given:
        return given["inputs"]
    if "instances" not in given:
        raise _failed("'instances'")
    return given["instances"]


def _inference_request(call: Call) -> Mapping[str, Any]:
    """A V2 request as kserve's endpoint validates it. Raises RefusedError."""
    if "json" not in call.headers.get("Content-Type", ""):
        words = "received byte inputs, but the'inference-header-content-length' header is missing."
        raise RefusedError(400, {"error": words})
    try:
        given = json.loads(call.body)
    except ValueError:
        wrong = {"type": "json_invalid", "loc": ["body", 0], "msg": "JSON decode error"}
        raise RefusedError(422, {"detail": [wrong]}) from None
    inputs = given.get("inputs") if isinstance(given, dict) else None
    missing: list[list[Any]] = []
    if not isinstance(inputs, list):
        missing.append(["inputs"])
    for number, one in enumerate(inputs or []):
        fields = ("name", "shape", "datatype", "data")
        missing += [["inputs", number, name] for name in fields if name not in one]
    if missing:
        listed = [
            {
                "type": "missing",
                "loc": ["body", "InferenceRequest", *where],
                "msg": "Field required",
            }
            for where in missing
        ]
        raise RefusedError(422, {"detail": listed})
    return dict(given)


def _inferred(given: Mapping[str, Any], model: str) -> Any:
    if not given["inputs"]:
        raise _failed("list index out of range")
    first = given["inputs"][0]
    shape, data = first["shape"], first["data"]
    if data and not isinstance(data[0], list):
        if math.prod(shape) != len(data) or len(shape) != 2:
            words = ",".join(map(str, shape))
            raise _failed(f"cannot reshape array of size {len(data)} into shape ({words})")
        data = [data[row * shape[1] : (row + 1) * shape[1]] for row in range(shape[0])]
    found = _predict(data)
    output = {
        "name": "output-0",
        "shape": [len(found)],
        "datatype": "INT64",
        "parameters": None,
        "data": found,
    }
    return {
        "model_name": model,
        "model_version": None,
        "id": given.get("id") or str(uuid.uuid4()),
        "parameters": None,
        "outputs": [output],
    }


def _predict(rows: Any) -> list[int]:
    """The model's code. Raises Raised for what it cannot take, as scikit-learn would."""
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise _failed(f"could not convert string to float: {rows!r}")
    found = []
    for row in rows:
        if len(row) != FEATURES:
            raise _failed(
                f"X has {len(row)} features, but LogisticRegression is expecting {FEATURES} "
                "features as input."
            )
        try:
            found.append(int(sum(map(float, row)) > 0))
        except (TypeError, ValueError):
            wrong = next(value for value in row if not isinstance(value, int | float))
            raise _failed(f"could not convert string to float: {wrong!r}") from None
    return found


def _failed(message: str) -> Raised:
    return Raised("kserve.errors.InferenceError", message, _MODEL_FRAMES)
