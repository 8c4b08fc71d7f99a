"""The document names every verb of the account, and every kind of fault."""

from __future__ import annotations

import inspect

from practice.documented import DOCS, documented, offered

from runbook_lib.practice.aws.faults import ERRORS, FIELDS, TRANSPORT
from runbook_lib.practice.aws.lean import FAMILIES
from runbook_lib.practice.aws.rds_rules import PARAMETERS, REAL
from runbook_lib.practice.aws.served import served
from runbook_lib.practice.aws.server import Aws


def test_every_verb_is_documented_with_its_arguments() -> None:
    assert documented("practice-aws.md") == offered(Aws().verbs())


def test_every_verb_says_what_it_is_for() -> None:
    for name, verb in Aws().verbs().items():
        assert inspect.getdoc(verb), name


def test_faults_and_machines_are_documented() -> None:
    text = (DOCS / "practice-aws.md").read_text()
    for word in (*ERRORS, *TRANSPORT, *FIELDS):
        assert f"`{word}`" in text, word
    assert ", ".join(FAMILIES) in text


def test_every_served_service_is_documented() -> None:
    text = (DOCS / "practice-aws.md").read_text()
    named = text.split("\nServed are ")[1].split(" (botocore's names)")[0]
    assert named.replace(" and ", ", ").replace("`", "").replace("\n", " ").split(", ") == list(
        served()
    )


def test_the_parameters_that_the_database_takes_are_documented() -> None:
    text = (DOCS / "practice-aws.md").read_text()
    words = text.split("parameter group says of ")[1].split("\n## ")[0]
    for name in PARAMETERS:
        assert (f"`{name}`" in words) == (name in REAL), name
