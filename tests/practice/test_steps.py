"""Steps and looks of scenarios that no other test takes: as an engineer's clients would do it."""

from __future__ import annotations

from typing import Any

import pytest

from runbook_lib.practice.observe import Observation, look
from runbook_lib.practice.platform import Platform, PracticeError
from runbook_lib.practice.steps import CALLS, Step, take

REDIS = {"run": ["PING"], "seconds": 0.2}


def test_a_statement_is_executed_as_a_role(platform: Platform) -> None:
    create = {"run": "CREATE INDEX CONCURRENTLY by_value ON metrics (value)"}
    with pytest.raises(PracticeError, match="must be owner of table metrics"):
        take(platform, Step.model_validate({"sql": {**create, "role": "platform_api"}}))
    take(platform, Step.model_validate({"sql": {**create, "role": "mlflow"}}))
    try:
        asked = "SELECT indexname FROM pg_indexes WHERE tablename = 'metrics'"
        found = Observation.model_validate(
            {"sql": {"run": asked, "find": "[]", "contains": "by_value"}}
        )
        assert look(platform, found).seen
    finally:
        take(
            platform, Step.model_validate({"sql": {"run": "DROP INDEX by_value", "role": "mlflow"}})
        )


def test_a_statement_takes_no_unknown_arguments() -> None:
    with pytest.raises(ValueError, match="unexpected keyword argument 'rolle'"):
        Step.model_validate({"sql": {"run": "SELECT 1", "rolle": "mlflow"}})


def test_moments_are_asked_for_by_their_age(platform: Platform) -> None:
    instance = {"Name": "DBInstanceIdentifier", "Value": "mlops-platform-production-mlflow"}
    asked = {
        "call": "cloudwatch.get_metric_statistics",
        "with": {
            "Namespace": "AWS/RDS",
            "MetricName": "CPUUtilization",
            "Dimensions": [instance],
            "Period": 60,
            "Statistics": ["Maximum"],
        },
        "find": "length(Datapoints)",
    }
    hour = {"aws": {**asked, "ago": {"StartTime": 3600, "EndTime": 0}, "above": 55}}
    assert look(platform, Observation.model_validate(hour)).seen
    minutes = {"aws": {**asked, "ago": {"StartTime": 300, "EndTime": 0}, "below": 7}}
    assert look(platform, Observation.model_validate(minutes)).seen


def test_a_redis_that_hangs_is_given_up_once(platform: Platform) -> None:
    platform.do("redis", "freeze")
    try:
        hangs = Observation.model_validate({"redis": {**REDIS, "error": "TimeoutError"}})
        assert look(platform, hangs).seen
    finally:
        platform.do("redis", "heal")
    assert look(platform, Observation.model_validate({"redis": {**REDIS, "is": True}})).seen


def test_words_that_no_file_can_say_are_filled_in(platform: Platform) -> None:
    said = {"message": "${password_mlflow} and ${rotated_jwt_secret} for $5"}
    made = {"metadata": {"name": "words"}, "data": said}
    where = {"namespace": "models"}
    create = {"of": "configmaps", "object": made, **where}
    take(platform, Step.model_validate({"kubernetes.create": create}))
    words = f"{platform.passwords['mlflow']} and {platform.rotated['jwt_secret']} for $5"
    try:
        asked = {"get": "configmaps/words", **where, "find": "data.message", "is": words}
        assert look(platform, Observation.model_validate({"kubernetes": asked})).seen
    finally:
        gone = {"what": "configmaps/words", **where}
        take(platform, Step.model_validate({"kubernetes.delete": gone}))


def test_only_the_selected_objects_are_deleted(platform: Platform) -> None:
    none = {"what": "pods", "namespace": "mlops-platform", "fields": "status.phase=Failed"}
    pods = {"get": "pods", "namespace": "mlops-platform", "find": "length(items)"}
    before = look(platform, Observation.model_validate({"kubernetes": pods})).said
    take(platform, Step.model_validate({"kubernetes.delete": none}))
    assert look(platform, Observation.model_validate({"kubernetes": pods})).said == before


class Cluster:
    """Answers one after another to whoever reads."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.left = list(answers)

    def get(self, _: str) -> dict[str, Any]:
        return self.left.pop(0)


def test_a_rollout_is_waited_for_from_its_first_moment() -> None:
    """A Deployment that was made just now has no status; then pods of before may be left."""
    made: dict[str, Any] = {"metadata": {"generation": 2}, "spec": {"replicas": 2}}
    counted = {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}
    answers = [
        {**made},
        {**made, "status": {}},
        {**made, "status": counted},
        {**made, "status": {**counted, "replicas": 2, "observedGeneration": 1}},
        {**made, "status": {**counted, "replicas": 2}},
    ]
    cluster = Cluster(*answers)
    CALLS["kubernetes.rollout"](cluster, "deployments/new", "models")
    assert cluster.left == []
