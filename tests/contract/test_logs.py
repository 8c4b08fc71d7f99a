"""Logs of containers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract.cluster import Refused, Space, refused
from contract.objects import container, pod, saying

from runbook_lib.practice.wait import until

SECONDS = 180.0  # a node may have to pull an image first


@pytest.fixture(scope="module")
def talker(space: Space, image: str, lacking: dict[str, str]) -> Iterator[str]:
    """The name of a running pod that printed one, two and three."""
    if why := lacking.get("needs_nodes"):
        pytest.skip(f"needs_nodes: {why}")
    annotations, says = saying("one", "two", "three")
    made = pod("talker", schedulerName="default-scheduler")
    made["metadata"]["annotations"] = annotations
    made["spec"]["containers"] = [container(image=image, **says)]
    space.pods.create(made)
    until(lambda: "three" in _log(space), SECONDS, "the pod has printed")
    yield "talker"
    space.pods.delete("talker", gracePeriodSeconds=0)


def _log(space: Space) -> str:
    try:
        return str(space.pods.read("talker", "log"))
    except Refused:
        return ""


@pytest.mark.needs_nodes
def test_a_log_is_plain_text(space: Space, talker: str) -> None:
    assert space.pods.read(talker, "log").splitlines()[-3:] == ["one", "two", "three"]


@pytest.mark.needs_nodes
def test_the_tail_of_a_log_is_its_last_lines(space: Space, talker: str) -> None:
    assert space.pods.read(talker, "log", tailLines=2) == "two\nthree\n"
    assert space.pods.read(talker, "log", tailLines=0) == ""


@pytest.mark.needs_nodes
def test_a_log_can_be_cut_and_stamped(space: Space, talker: str) -> None:
    assert len(space.pods.read(talker, "log", limitBytes=3)) == 3
    (line,) = space.pods.read(talker, "log", tailLines=1, timestamps="true").splitlines()
    stamp, said = line.split(" ")
    assert stamp.startswith("20") and stamp.endswith("Z") and said == "three"


@pytest.mark.needs_nodes
def test_a_log_since_a_time_to_come_is_empty(space: Space, talker: str) -> None:
    assert space.pods.read(talker, "log", sinceTime="2100-01-01T00:00:00Z") == ""


@pytest.mark.needs_nodes
def test_a_container_that_never_ended_has_no_previous_log(space: Space, talker: str) -> None:
    with refused(400, "BadRequest") as status:
        space.pods.read(talker, "log", previous="true")
    assert "not found" in status["message"]


def test_a_pod_without_a_node_has_an_empty_log(space: Space, name: str) -> None:
    space.pods.create(pod(name))
    assert space.pods.read(name, "log") == ""
    space.pods.delete(name, gracePeriodSeconds=0)


def test_of_several_containers_one_must_be_named(space: Space, name: str) -> None:
    space.pods.create(pod(name, containers=[container("app"), container("side")]))
    with refused(400, "BadRequest") as status:
        space.pods.read(name, "log")
    assert "[app side]" in status["message"]
    assert space.pods.read(name, "log", container="side") == ""
    space.pods.delete(name, gracePeriodSeconds=0)


def test_a_log_of_an_unknown_container_is_a_bad_request(space: Space, name: str) -> None:
    space.pods.create(pod(name))
    with refused(400, "BadRequest") as status:
        space.pods.read(name, "log", container="other")
    assert status["message"] == f"container other is not valid for pod {name}"
    space.pods.delete(name, gracePeriodSeconds=0)


@pytest.mark.parametrize("query", [{"tailLines": -1}, {"sinceSeconds": 0}, {"limitBytes": 0}])
def test_a_log_cannot_be_shorter_than_nothing(
    space: Space, name: str, query: dict[str, int]
) -> None:
    space.pods.create(pod(name))
    with refused(422, "Invalid"):
        space.pods.read(name, "log", **query)
    space.pods.delete(name, gracePeriodSeconds=0)


def test_a_log_of_no_pod_is_not_found(space: Space, name: str) -> None:
    with refused(404, "NotFound"):
        space.pods.read(name, "log")
