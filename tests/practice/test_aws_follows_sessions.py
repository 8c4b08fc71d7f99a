"""CloudWatch's DatabaseConnections are the sessions that the real Postgres has."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator

import psycopg
import pytest
from practice.ordinary import connect

from runbook_lib.practice import scenario
from runbook_lib.practice.aws.series import Series
from runbook_lib.practice.lookers import aws_client
from runbook_lib.practice.platform import Platform
from runbook_lib.practice.wait import until

DATABASE = {"DBInstanceIdentifier": "mlops-platform-production-mlflow"}
METRIC = {"namespace": "AWS/RDS", "name": "DatabaseConnections", "dimensions": DATABASE}
SECONDS = 20.0
# The requests of a quiet hour open a session now and then.
OTHERS = 6


@pytest.fixture
def breakable(platform: Platform) -> Iterator[Platform]:
    """The session's platform, healed afterwards."""
    yield platform
    scenario.heal(platform)


def points(platform: Platform, minutes: float = 60) -> list[float]:
    """The last minutes in CloudWatch, oldest first."""
    now = datetime.datetime.now(datetime.UTC)
    answer = aws_client(platform, "cloudwatch").get_metric_statistics(
        Namespace="AWS/RDS",
        MetricName="DatabaseConnections",
        Dimensions=[{"Name": key, "Value": value} for key, value in DATABASE.items()],
        StartTime=now - datetime.timedelta(minutes=minutes),
        EndTime=now,
        Period=60,
        Statistics=["Maximum"],
    )
    found = sorted(answer["Datapoints"], key=lambda point: point["Timestamp"])
    return [point["Maximum"] for point in found]


def counted(platform: Platform) -> int:
    """What an engineer counts, without the session that counts."""
    with connect(platform.env) as monitoring:
        row = monitoring.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND usename <> 'postgres' AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row
    return int(row[0])


def test_the_newest_point_is_what_the_server_has_now(breakable: Platform) -> None:
    assert abs(points(breakable)[-1] - counted(breakable)) <= OTHERS
    with contextlib.ExitStack() as held:
        before = points(breakable)[-1]
        for _ in range(10):
            held.enter_context(
                connect(breakable.env, user="reporting", password=breakable.passwords["reporting"])
            )
        assert before + 10 <= points(breakable)[-1] <= before + 10 + OTHERS
    until(lambda: points(breakable)[-1] <= before + OTHERS, SECONDS, "the sessions to be gone")


def test_a_leak_shows_by_itself_and_a_heal_takes_it_back(breakable: Platform) -> None:
    breakable.do("postgres", "leak", application="platform-api", until="refused")
    # Whose slots are all taken answers its own monitoring still.
    seen = points(breakable)
    assert seen[-1] >= 34
    assert max(seen[:50]) <= 16  # how it was before
    scenario.heal(breakable)
    assert max(points(breakable)) <= 20


def test_a_verb_bends_what_is_measured_until_it_lets_go(breakable: Platform) -> None:
    breakable.do("aws", "metric", **METRIC, level=33, since=1800)
    assert set(points(breakable, minutes=20)) == {33.0}
    breakable.do("aws", "metric", **METRIC)
    assert abs(points(breakable)[-1] - counted(breakable)) <= OTHERS


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_server_that_is_down_leaves_no_samples(breakable: Platform, end: str) -> None:
    last = points(breakable)
    breakable.do("postgres", end)
    # The sample of the minute that runs was taken before.
    assert points(breakable, minutes=30)[-1] in last
    breakable.do("postgres", "start")
    until(lambda: points(breakable)[-1] == counted(breakable), SECONDS, "its sessions to count")


def test_our_own_question_takes_no_slot_of_the_clients(breakable: Platform) -> None:
    held = breakable.do("postgres", "leak", application="mlflow", until="refused")
    assert held > 10
    for _ in range(5):
        assert points(breakable)[-1] >= 34
    assert counted(breakable) >= 34


def test_a_server_without_any_slot_has_them_all_in_use(breakable: Platform) -> None:
    breakable.do("postgres", "leak", application="mlflow", until="refused")
    with contextlib.ExitStack() as held:
        for role in ("mlops_admin", "postgres"):
            with pytest.raises(psycopg.OperationalError, match=r"slots|too many clients"):
                while True:
                    held.enter_context(
                        connect(breakable.env, user=role, password=breakable.passwords[role])
                    )
        assert points(breakable)[-1] == 40


def test_samples_are_one_a_minute_and_the_last_is_as_of_now() -> None:
    series = Series("AWS/RDS", "DatabaseConnections", DATABASE, "Count", middle=10.0)
    now = 1_000_000 * 60.0
    series.measure(now - 110, 20.0)  # two minutes ago
    series.measure(now + 1, 30.0)
    series.measure(now + 40, 31.0)  # the same minute again
    seen = list(series.samples(now - 300, now + 60, now + 41))
    assert seen == [
        (now - 300, 10.0), (now - 240, 10.0), (now - 180, 10.0), (now - 120, 20.0), (now, 31.0),
    ]  # fmt: skip
