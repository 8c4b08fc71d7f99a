"""Long lists in pieces: limit and continue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract.cluster import Space, refused
from contract.objects import config_map


@pytest.fixture
def six(space: Space, name: str) -> Iterator[str]:
    """A label selector of six ConfigMaps."""
    for number in range(6):
        space.config_maps.create(config_map(f"{name}-{number}", labels={"paged": name}))
    yield f"paged={name}"
    space.cluster.do("DELETE", space.config_maps.path, labelSelector=f"paged={name}")


def test_pages_lead_to_every_object_once(space: Space, six: str) -> None:
    seen, query = [], {"labelSelector": six, "limit": 4}
    page = space.config_maps.list(**query)
    assert len(page["items"]) == 4
    while page["items"]:
        seen += [item["metadata"]["name"] for item in page["items"]]
        if not (token := page["metadata"].get("continue")):
            break
        page = space.config_maps.list(**query, **{"continue": token})
    assert len(seen) == len(set(seen)) == 6


def test_a_list_that_fits_has_no_continue_token(space: Space, six: str) -> None:
    assert "continue" not in space.config_maps.list(limit=500)["metadata"]


def test_a_page_of_everything_counts_the_rest_and_a_selected_one_does_not(
    space: Space, six: str
) -> None:
    number = len(space.config_maps.list()["items"])
    meta = space.config_maps.list(limit=2)["metadata"]
    assert meta["remainingItemCount"] == number - 2
    assert (
        "remainingItemCount" not in (space.config_maps.list(limit=2, labelSelector=six)["metadata"])
    )


def test_later_pages_are_of_the_moment_of_the_first(space: Space, six: str, name: str) -> None:
    query = {"labelSelector": six, "limit": 2}
    first = space.config_maps.list(**query)
    space.config_maps.create(config_map(f"{name}-z", labels={"paged": name}))
    space.config_maps.delete(f"{name}-5")
    rest = space.config_maps.list(labelSelector=six, **{"continue": first["metadata"]["continue"]})
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert [i["metadata"]["name"] for i in rest["items"]] == [f"{name}-{n}" for n in range(2, 6)]


def test_a_continue_token_that_cannot_be_read_is_a_bad_request(space: Space) -> None:
    with refused(400, "BadRequest"):
        space.config_maps.list(limit=2, **{"continue": "nonsense"})


def test_a_continued_list_takes_no_resource_version(space: Space, six: str) -> None:
    first = space.config_maps.list(labelSelector=six, limit=2)["metadata"]
    with refused(400, "BadRequest"):
        space.config_maps.list(
            labelSelector=six, resourceVersion="1", **{"continue": first["continue"]}
        )
