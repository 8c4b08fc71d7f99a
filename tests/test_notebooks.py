"""The shape that every notebook has, and that notebooks and checks know of one another."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import Any

import nbformat
import pytest
from notebook import NOTEBOOKS, ROOT, all_checks
from pydantic import TypeAdapter

from runbook_lib import catalogue, checks
from runbook_lib.core import Check

MOST_LINES = 6
# A cell shows and asks; whatever decides, repeats or fetches belongs to the library.
NOT_IN_A_CELL = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Try, ast.While, ast.For,
    ast.AsyncFor, ast.With, ast.If, ast.Global,
)  # fmt: skip
# Places and people that a public notebook must not know, and what was left for later.
FOREIGN = re.compile(r"(?i)\b(todo|fixme|xxx|tbd|lorem)\b|/(work|home|root|tmp)/|localhost:\d+/lab")
every_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


@cache
def notebook(name: str) -> Any:
    return nbformat.read(NOTEBOOKS[name], as_version=nbformat.NO_CONVERT)


def code(name: str) -> list[Any]:
    return [cell for cell in notebook(name).cells if cell.cell_type == "code"]


def sources(name: str) -> str:
    return "\n".join(cell.source for cell in code(name))


@cache
def used(name: str) -> dict[str, Any]:
    """What a notebook takes from modules of checks: `module.name` as written, and its value."""
    tree = ast.parse(sources(name))
    modules = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == checks.__name__
        for alias in node.names
    }
    found = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
            continue
        if module := modules.get(node.value.id):
            room = importlib.import_module(f"{checks.__name__}.{module}")
            found[f"{module}.{node.attr}"] = getattr(room, node.attr, None)
    return found


@every_notebook
def test_it_is_valid_and_clean(name: str) -> None:
    read = notebook(name)
    nbformat.validate(read)
    assert (read.nbformat, read.nbformat_minor) == (4, 5)
    assert all(not cell.outputs and cell.execution_count is None for cell in code(name))
    text = NOTEBOOKS[name].read_text()
    assert text.endswith("}\n")
    assert text.startswith('{\n "cells"')


@every_notebook
def test_its_metadata_is_whole(name: str) -> None:
    metadata = notebook(name).metadata
    assert set(metadata) == {"kernelspec", "language_info", "runbook"}
    assert metadata.kernelspec.name == "python3"
    assert set(metadata.language_info) == {"name"}
    about = metadata.runbook
    assert set(about) == {"title", "section", "severity", "alerts", "time_limit", "related"}
    assert about.title and about.section
    assert about.severity in ("P1", "P2", "P3", "P4")
    assert isinstance(about.time_limit, int) and 0 < about.time_limit <= 900
    assert all(isinstance(one, str) and one for one in [*about.alerts, *about.related])
    assert len(set(about.related)) == len(about.related)
    assert name not in about.related


@every_notebook
def test_its_place_and_cells_are_named_for_people(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    ids = [cell.id for cell in notebook(name).cells]
    assert len(set(ids)) == len(ids)
    assert [i for i in ids if not re.fullmatch(r"[a-z]+[0-9]?(-[a-z0-9]+)*", i)] == []


@every_notebook
def test_prose_comes_before_code(name: str) -> None:
    cells = notebook(name).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    assert "Impact" in cells[0].source
    titles = [c for c in cells if c.cell_type == "markdown" and re.search(r"^# ", c.source, re.M)]
    assert len([c for c in titles if "```" not in c.source]) == 1
    # The parameters and the start belong to the title; every question has its own prose.
    kinds = [cell.cell_type for cell in cells]
    assert kinds[:3] == ["markdown", "code", "code"]
    for before, after in pairwise(kinds[2:]):
        assert (before, after) != ("code", "code")


@every_notebook
def test_its_parameters_are_typed_explained_and_sound(name: str) -> None:
    tagged = [c for c in code(name) if "parameters" in c.metadata.get("tags", [])]
    assert tagged == [code(name)[0]]
    parameters = catalogue.find(name).parameters()
    assigned = [n for n in ast.parse(tagged[0].source).body if isinstance(n, ast.AnnAssign)]
    assert len(assigned) == len(ast.parse(tagged[0].source).body) == len(parameters)
    for one in parameters:
        assert one.help
        if not one.required:
            default = ast.literal_eval(one.default)
            TypeAdapter(catalogue.TYPES[one.type]).validate_python(default, strict=True)
            assert re.search(rf"\b{one.name}\b", sources(name).split(tagged[0].source, 1)[1])


@every_notebook
def test_its_code_only_asks_and_shows(name: str) -> None:
    for cell in code(name):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= MOST_LINES or "parameters" in cell.metadata.get("tags", []), cell.id
        assert not [line for line in lines if line.lstrip().startswith(("!", "%"))], cell.id
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, NOT_IN_A_CELL), f"{cell.id}: {type(node).__name__}"
            if isinstance(node, ast.Import):
                assert all(a.name.startswith("runbook_lib") for a in node.names), cell.id
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] == "runbook_lib", cell.id


@every_notebook
def test_it_starts_as_itself_and_ends_with_its_verdict(name: str) -> None:
    start, *_, end = code(name)[1:]
    assert f'run = start("{name}")' in start.source.splitlines()
    assert start.source.splitlines()[-1] == "run"
    assert end.source.strip() == "run.verdict()"


@every_notebook
def test_its_prose_is_fit_for_strangers(name: str) -> None:
    for cell in notebook(name).cells:
        assert not FOREIGN.search(cell.source), f"{cell.id}: {FOREIGN.search(cell.source)}"


@every_notebook
def test_it_says_what_to_do_and_how_to_keep_it_away(name: str) -> None:
    ids = {cell.id for cell in notebook(name).cells}
    assert {"title", "parameters", "start", "mitigation", "prevention", "verdict"} <= ids


@every_notebook
def test_every_check_that_it_names_exists(name: str) -> None:
    found = used(name)
    assert found
    assert [where for where, value in found.items() if not isinstance(value, Check)] == []


def test_every_check_is_asked_by_a_notebook() -> None:
    asked = {id(value) for name in NOTEBOOKS for value in used(name).values()}
    assert [where for where, value in all_checks().items() if id(value) not in asked] == []


def test_names_of_checks_are_unique_and_explain_one_another_without_a_circle() -> None:
    every = {id(one): one for one in all_checks().values()}.values()
    names = [one.name for one in every]
    assert len(set(names)) == len(names)
    explains = {one.name: set(one.explains) for one in every}
    assert {other for others in explains.values() for other in others} - set(names) == set()
    TopologicalSorter(explains).prepare()  # raises CycleError for a circle


@pytest.mark.parametrize("where", all_checks())
def test_a_check_states_what_is_well(where: str) -> None:
    one = all_checks()[where]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one.name)
    assert one.question != one.name, "it has no docstring"
    assert one.question.endswith(".")


def test_notebooks_stand_in_their_sections_folder() -> None:
    outside = [p for p in NOTEBOOKS.values() if p.parent == ROOT / "notebooks"]
    assert [p.stem for p in outside] == ["health-check"]
