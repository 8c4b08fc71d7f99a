"""Which runbooks there are, and which parameters are let through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from notebook import NOTEBOOKS, made_runbook

from runbook_lib import catalogue
from runbook_lib.catalogue import Refused, Runbook

CELL = """\
name: str = "all"  # whom to look at
count: int = 3  # how many
share: float = 0.5  # of the whole
deep: bool = False  # look further
idle_minutes: float = 5  # how long
needed: str = ...  # must be given
"""


@pytest.fixture(scope="module")
def runbook(tmp_path_factory: pytest.TempPathFactory) -> Runbook:
    return made_runbook(tmp_path_factory.mktemp("notebooks"), parameters=CELL)


def test_every_notebook_is_a_runbook_and_the_health_check_is_first() -> None:
    found = catalogue.runbooks()
    assert {one.id for one in found} == set(NOTEBOOKS)
    assert found[0].id == "health-check"
    assert [one.path for one in found] == [NOTEBOOKS[one.id] for one in found]


def test_parameters_are_read_from_the_notebook(runbook: Runbook) -> None:
    found = {p.name: (p.type, p.required, p.help) for p in runbook.parameters()}
    assert found == {
        "name": ("str", False, "whom to look at"),
        "count": ("int", False, "how many"),
        "share": ("float", False, "of the whole"),
        "deep": ("bool", False, "look further"),
        "idle_minutes": ("float", False, "how long"),
        "needed": ("str", True, "must be given"),
    }


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({}, {}),
        ({"name": "0123"}, {"name": "0123"}),
        ({"name": "1e3"}, {"name": "1e3"}),
        ({"name": "True"}, {"name": "True"}),
        ({"name": "x=1;import os#"}, {"name": "x=1;import os#"}),
        ({"count": "0012"}, {"count": 12}),
        ({"share": "1e-3"}, {"share": 0.001}),
        ({"deep": "yes"}, {"deep": True}),
    ],
)
def test_values_have_the_declared_type(
    runbook: Runbook, given: dict[str, str], values: dict[str, Any]
) -> None:
    checked = catalogue.check_parameters(runbook, given | {"needed": "x"})
    assert checked == values | {"needed": "x"}
    assert {n: type(v) for n, v in checked.items()} == {
        n: type(v) for n, v in (values | {"needed": "x"}).items()
    }


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, r"made needs the parameter needed \(str\): must be given\."),
        ({"nmae": "x"}, "has no parameter 'nmae'. Did you mean name\\? It takes name, count"),
        ({"zzz": "x"}, "has no parameter 'zzz'. It takes name"),
        ({"": "x"}, "has no parameter ''"),
        ({"x=1;import os#": "1"}, "has no parameter"),
        ({"count": "abc"}, "count must be int, and 'abc' is not"),
        ({"count": "1.5"}, "count must be int"),
        ({"count": ""}, "count must be int"),
        ({"share": "half"}, "share must be float"),
        ({"share": "nan"}, "share must be float"),
        ({"share": "-inf"}, "share must be float"),
        ({"deep": "maybe"}, "deep must be bool"),
        ({"idle_minutes": "0"}, "idle_minutes must be above 0"),
        ({"idle_minutes": "-1"}, "idle_minutes must be above 0"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    runbook: Runbook, given: dict[str, str], says: str
) -> None:
    with pytest.raises(Refused, match=says):
        catalogue.check_parameters(runbook, given)


@pytest.mark.parametrize("line", ["x = 1", "x: list = []", "x: object = 1"])
def test_a_parameter_without_a_type_to_check_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(Refused, match="parameter x has no type that can be checked"):
        made_runbook(tmp_path, parameters=line).parameters()


@pytest.mark.parametrize(("name", "near"), [("nodes-not-raedy", "nodes-not-ready"), ("qqqq", "")])
def test_an_unknown_runbook_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(Refused) as refused:
        catalogue.find(name)
    assert repr(name) in str(refused.value)
    assert (f"Did you mean {near}?" in str(refused.value)) == bool(near)
    assert "runbook list" in str(refused.value)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [({}, "runbook"), ({"runbook": {"title": "x"}}, "section"),
     ({"runbook": {"title": "x", "section": "", "severity": "", "alerts": [], "related": [],
                   "time_limit": "soon"}}, "soon")],
)  # fmt: skip
def test_a_notebook_that_is_no_runbook_is_refused_by_name(
    tmp_path: Path, metadata: dict[str, Any], says: str
) -> None:
    path = tmp_path / "odd.ipynb"
    nbformat.write(nbformat.v4.new_notebook(metadata=metadata), path)
    with pytest.raises(Refused, match=rf"odd\.ipynb.*{says}"):
        catalogue.read(path)


def test_a_file_that_is_no_notebook_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "odd.ipynb"
    path.write_text("not JSON")
    with pytest.raises(Refused, match=r"odd\.ipynb"):
        catalogue.read(path)
