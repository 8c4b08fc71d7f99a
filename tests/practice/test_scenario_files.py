"""A scenario's file is refused in one line that names it and what is wrong; and so is a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from practice.scenarios import WHOLE, written

from runbook_lib.practice import scenario as scenarios
from runbook_lib.practice.platform import Platform, PracticeError
from runbook_lib.practice.scenario import Scenario
from runbook_lib.practice.steps import Step, refuse_impossible, take


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    one = scenarios.load(written(tmp_path))
    assert (one.id, one.break_[0].verb) == ("made/up", "leak")


def sees(**symptom: Any) -> dict[str, Any]:
    return {"symptom": [symptom]}


def does(step: str, arguments: Any) -> dict[str, Any]:
    return {"break": [{step: arguments}]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"title": None}, "title: Field required"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"kind": "joke"}, "kind: Input should be"),
        ({"symptom": []}, "symptom: "),
        ({"symptom": [{"telnet": {}}]}, "no client 'telnet'"),
        ({"symptom": [{"sql": {"run": "x", "rum": 1}}]}, "unexpected keyword argument 'rum'"),
        ({"break": [{"kubernetes.scale": {"replicas": 3}}]}, "kubernetes.scale: missing"),
        ({"break": [{"a.b": {}, "c.d": {}}]}, "a step is one `system.verb`"),
        ({"repair": None}, "a fault says which fix repairs it"),
        ({"never_blames": None}, "a fault says what must not be blamed"),
        ({"finds": {"outcome": "cause found"}}, "`cause` goes with the outcome"),
        ({"kind": "red herring"}, "a red herring's right answer is healthy or recovered"),
        (sees(sql={"run": "x", "find": "items[?"}), "'items[?' is no JMESPath"),
        (sees(sql={"run": "x", "find": "size(@)"}), "JMESPath has no function size()"),
        (sees(sql={"run": "x", "find": "[0].[length(@, @)]"}), "length() takes 1 arguments, not 2"),
        (sees(sql={"run": "x", "matches": "a(b"}), "'a(b' is no regular expression"),
        (sees(sql={"run": "x", "error": "["}), "'[' is no regular expression"),
        (sees(sql={"run": "x", "error": "x", "is": 1}), "`error` stands alone"),
        (sees(sql={"run": "x", "above": "much"}), "symptom.0.above: Input should be a valid num"),
        (sees(sql=["SELECT 1"]), "sql: what it asks is a mapping"),
        (sees(http={"at": "grafana"}), "no endpoint 'grafana'"),
        (does("wait", {"sql": {"run": "x", "matches": "a(b"}}), "wait: matches: 'a(b' is no"),
        (does("wait", {}), "an observation is one client"),
        (does("postgres.leak", ["platform-api"]), "its arguments, by name"),
        (does("sql", {"run": "SELECT '${jwt-secret}'"}), "nobody knows ${jwt-secret}"),
        (does("a.b", {"c": [{"d": "x${rotated_password_root}"}]}), "${rotated_password_root}"),
        ({"finds": {**WHOLE["finds"], "about": "a(b"}}, "'a(b' is no regular expression"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(PracticeError) as refused:
        scenarios.load(written(tmp_path, **changes))
    told = str(refused.value)
    assert told.startswith("made/up.yaml: ") and said in told
    assert "\n" not in told


@pytest.mark.parametrize("text", ["[1, 2]", "", "title: [", "just words"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = written(tmp_path)
    path.write_text(text)
    with pytest.raises(PracticeError, match=r"made/up\.yaml"):
        scenarios.load(path)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"oracle.leak": {}}, "no system 'oracle'"),
        ({"postgres.frob": {}}, "no verb 'frob'"),
        ({"postgres.leak": {"application": "x", "colour": 1}}, "takes no colour"),
    ],
)
def test_an_impossible_step_is_refused_before_the_first_is_taken(
    platform: Platform, tmp_path: Path, step: dict[str, Any], said: str
) -> None:
    broken = scenarios.load(written(tmp_path, **{"break": [*WHOLE["break"], step]}))
    with pytest.raises(PracticeError, match=said):
        scenarios.break_platform(platform, broken)
    assert platform.control("status")["broken"] == []
    refuse_impossible(platform, broken.break_[:1])


def test_a_node_that_is_not_there_is_refused(platform: Platform) -> None:
    step = Step.model_validate({"kubernetes.node": {"number": 9, "stats": {"fs_used_percent": 1}}})
    with pytest.raises(PracticeError, match="there are nodes 1 to 3, and no 9"):
        take(platform, step)


def test_a_scenario_is_broken_once(platform: Platform) -> None:
    one: Scenario = scenarios.find("nodes-not-ready/full-disk")
    try:
        scenarios.break_platform(platform, one)
        with pytest.raises(PracticeError, match="is broken already; heal first"):
            scenarios.break_platform(platform, one)
    finally:
        scenarios.heal(platform)
