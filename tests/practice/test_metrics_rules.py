"""The rule file: what it covers, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from practice.documented import DOCS, documented, offered
from practice.measured import listed

from runbook_lib.practice.metrics.promql.engine import instant, parsed
from runbook_lib.practice.metrics.promql.functions import SUPPORTED
from runbook_lib.practice.metrics.rules import FILE, all_rules, expanded, loaded, seconds
from runbook_lib.practice.metrics.store import SeriesStore
from runbook_lib.practice.metrics.systems import Alertmanager, Prometheus

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
DOCUMENT = DOCS / "practice-metrics.md"


def test_every_alert_that_a_notebook_answers_has_a_rule() -> None:
    wanted = {
        name
        for path in NOTEBOOKS.rglob("*.ipynb")
        for name in json.loads(path.read_text())["metadata"]["runbook"]["alerts"]
    }
    assert len(wanted) > 10
    assert wanted <= {rule.name for rule in all_rules(loaded())}


def test_every_query_is_one_that_the_evaluator_knows() -> None:
    for rule in all_rules(loaded()):
        assert instant(SeriesStore(), rule.query, 0).type == "vector", rule.name


def test_what_a_rule_file_may_not_have(tmp_path: Path) -> None:
    for given in (
        "{record: x, expr: y}",
        "{alert: x, expr: y, keep_firing_for: 1m}",
        "{alert: x, expr: y, annotations: {summary: '{{ humanizeDuration $value }}'}}",
        "{alert: x, expr: y, annotations: {summary: '{{ $value | title }}'}}",
        "{alert: x, expr: y, for: soon}",
    ):
        path = tmp_path / "rules.yaml"
        path.write_text(f"groups: [{{name: a, rules: [{given}]}}]")
        with pytest.raises(ValueError, match=r"known|duration"):
            loaded(path)


def test_templates() -> None:
    texts = {"a": "{{ $labels.pod }} at {{ $value | humanizePercentage }}, {{$value}}"}
    assert expanded(texts, {"pod": "p"}, 0.5) == {"a": "p at 50%, 0.5"}
    assert seconds("1h2m3s") == 3723.0


def test_the_document_names_all_verbs() -> None:
    verbs = {**Prometheus([]).verbs(), **Alertmanager().verbs()}
    assert documented(DOCUMENT) == offered(verbs)


def test_the_document_names_all_functions() -> None:
    assert listed(DOCUMENT, "Functions") == SUPPORTED


def test_the_document_names_all_rules() -> None:
    assert {rule.name for rule in all_rules(loaded())} == listed(DOCUMENT, "Rules")


def test_every_rule_is_parsed_alike() -> None:
    assert FILE.name == "rules.yaml"
    for rule in all_rules(loaded()):
        assert parsed(parsed(rule.query).prettify()).prettify() == parsed(rule.query).prettify()
