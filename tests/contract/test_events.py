"""Events as objects; what they say of pods is in the statements about pods."""

from __future__ import annotations

from contract.cluster import Space, causes, refused
from contract.objects import event


def test_an_event_keeps_what_it_says(space: Space, cm: str) -> None:
    space.events.create(event(cm, space.config_maps.read(cm), "Tried"))
    kept = space.events.read(cm)
    assert (kept["reason"], kept["type"], kept["count"]) == ("Tried", "Warning", 1)
    assert kept["involvedObject"]["name"] == cm
    assert kept["source"] == {"component": "contract"}


def test_a_repeated_event_is_counted_up_by_a_patch(space: Space, cm: str) -> None:
    space.events.create(event(cm, space.config_maps.read(cm), "Tried"))
    later = {"count": 7, "lastTimestamp": "2026-01-01T00:00:00Z"}
    made = space.events.patch(cm, later, "strategic")
    assert (made["count"], made["lastTimestamp"]) == (7, "2026-01-01T00:00:00Z")


def test_an_event_is_in_the_namespace_of_its_object(space: Space, cm: str) -> None:
    about = space.config_maps.read(cm)
    about["metadata"]["namespace"] = "other"
    with refused(422, "Invalid") as status:
        space.events.create(event(cm, about, "Tried"))
    assert set(causes(status)) == {"involvedObject.namespace"}
