"""Looking into pods as `kubectl exec` and `kubectl logs` do."""

from __future__ import annotations

import pytest

from runbook_lib.practice.lookers import HTTP_ENDPOINTS, LOOKERS, CouldNotLook
from runbook_lib.practice.platform import Platform

WHERE = {"labels": "app=platform-api", "namespace": "mlops-platform"}


def test_a_command_has_its_code_and_its_words(platform: Platform) -> None:
    execute = LOOKERS["exec"]
    open_ = execute.look(platform, command=["nc", "-zv", "mlflow", "5000"], **WHERE)
    assert (open_["code"], "succeeded" in open_["text"]) == (0, True)
    closed = execute.look(platform, command=["nc", "-zv", "nobody", "5000"], **WHERE)
    assert (closed["code"], "Name or service not known" in closed["text"]) == (1, True)


def test_logs_are_those_of_all_pods(platform: Platform) -> None:
    written = LOOKERS["logs"].look(platform, **WHERE)
    assert written.count("Application startup complete") == 3


@pytest.mark.parametrize(
    ("client", "asked", "words"),
    [
        ("exec", {"command": ["env"], "labels": "app=none", "namespace": "models"}, "no pod has"),
        ("exec", {"command": ["vi"], **WHERE}, "executable file not found"),
        ("logs", {"labels": "app=none", "namespace": "models"}, "no pod has"),
        ("logs", {**WHERE, "container": "none"}, "400"),
    ],
)
def test_what_cannot_be_looked_at(
    platform: Platform, client: str, asked: dict[str, object], words: str
) -> None:
    try:
        seen = LOOKERS[client].look(platform, **asked)
    except CouldNotLook as failure:
        assert words in str(failure)
    else:  # a command that could not be started ends as its runtime says
        assert (seen["code"], words in seen["text"]) == (127, True)


def test_all_endpoints_over_http_are_known(platform: Platform) -> None:
    over_http = {name for name, at in platform.endpoints.items() if at.startswith("http")}
    assert over_http == set(HTTP_ENDPOINTS)


def test_an_operation_that_aws_does_not_have_is_not_seen(platform: Platform) -> None:
    with pytest.raises(CouldNotLook, match="rds has no operation 'describe_everything'"):
        LOOKERS["aws"].look(platform, call="rds.describe_everything")
