"""The same requests to the real kserve model server and to ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from practice.inside import Inside, NoCloud
from real.conftest import Process, Side, environment, outline

from runbook_lib.practice.services.kserve import ModelServers

pytestmark = pytest.mark.real

V1, V2 = "/v1/models/churn-model", "/v2/models/churn-model"
ROWS = [[1, 2, 3, 4], [-1, -2, -3, -4]]


def tensor(**changes: Any) -> dict[str, Any]:
    one = {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [1, 2, 3, 4], **changes}
    return {"inputs": [{name: value for name, value in one.items() if value is not None}]}


@pytest.fixture(scope="module")
def sides(inside: Inside, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    binaries = environment("kserve")
    process = Process(tmp_path_factory.mktemp("kserve") / "kserve.log")
    script = str(Path(__file__).with_name("model.py"))
    process.start([str(binaries / "python"), script, str(process.port)])
    made = inside.add(ModelServers(inside.api.store, inside.api.kubelet, NoCloud()))
    made.traffic(0)
    inside.until_ready("isvc.churn-model-predictor", 2, "models")
    host = {"Host": "churn-model-predictor.models"}
    yield Side(made.url, {}, host), Side(process.url, {}, {})
    process.stop()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/", None),
        ("GET", "/v1/models", None),
        ("GET", V1, None),
        ("GET", "/v1/models/nope", None),
        ("GET", f"{V1}/metadata", None),
        ("GET", f"{V1}:predict", None),
        ("GET", "/nothing", None),
        ("GET", "/v2", None),
        ("GET", "/v2/health/live", None),
        ("GET", "/v2/health/ready", None),
        ("GET", "/v2/models", None),
        ("GET", V2, None),
        ("GET", f"{V2}/ready", None),
        ("GET", f"{V2}/versions/1", None),
        ("GET", "/v2/models/nope", None),
        ("GET", "/v2/models/nope/ready", None),
        ("POST", f"{V1}:predict", {"instances": ROWS}),
        ("POST", f"{V1}:predict", {"inputs": ROWS}),
        ("POST", f"{V1}:predict", {"instances": [[1, 2, 3]]}),
        ("POST", f"{V1}:predict", {"instances": [["a", 2, 3, 4]]}),
        ("POST", f"{V1}:predict", {"instances": "x"}),
        ("POST", f"{V1}:predict", {"x": 1}),
        ("POST", f"{V1}:predict", b"nonsense"),
        ("POST", f"{V1}:predict", b""),
        ("POST", f"{V1}:predict", b"[1]"),
        ("POST", "/v1/models/nope:predict", {"instances": ROWS}),
        ("POST", f"{V2}/infer", tensor()),
        ("POST", f"{V2}/infer", {"id": "7", **tensor()}),
        ("POST", f"{V2}/infer", {"inputs": []}),
        ("POST", f"{V2}/infer", {"instances": ROWS}),
        ("POST", f"{V2}/infer", b"nonsense"),
        ("POST", f"{V2}/infer", tensor(shape=[1, 3], data=[1, 2, 3])),
        ("POST", f"{V2}/infer", tensor(datatype=None)),
        ("POST", f"{V2}/infer", tensor(data=[1, 2, 3])),
        ("POST", "/v2/models/nope/infer", tensor()),
    ],
)
def test_same(sides: tuple[Side, Side], method: str, path: str, body: Any) -> None:
    ours, real = sides
    assert outline(ours.ask(method, path, body)) == outline(real.ask(method, path, body))


@pytest.mark.parametrize("rows", [ROWS, [[0, 0, 0, 1]], [[1, 2, 3]]])
def test_same_predictions(sides: tuple[Side, Side], rows: Any) -> None:
    ours, real = (one.ask("POST", f"{V1}:predict", {"instances": rows}).json() for one in sides)
    assert ours == real


def test_same_inference(sides: tuple[Side, Side]) -> None:
    ours, real = (one.ask("POST", f"{V2}/infer", {"id": "7", **tensor()}).json() for one in sides)
    assert ours == real
