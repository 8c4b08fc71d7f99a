"""The signs of health, and that none of them hides another."""

from __future__ import annotations

from practice.ordinary import core

from runbook_lib.practice import scenario as scenarios
from runbook_lib.practice.platform import Platform


def test_every_sign_has_a_name_of_its_own() -> None:
    names = [str(sign) for sign in scenarios.signs_of_health()]
    assert len(set(names)) == len(names)


def test_cordoned_nodes_are_an_ailment(platform: Platform) -> None:
    scenarios.wait_until_healthy(platform)
    name = core(platform).list_node().items[0].metadata.name
    core(platform).patch_node(name, {"spec": {"unschedulable": True}})
    try:
        (ailment,) = scenarios.ailments(platform)
        assert "unschedulable" in ailment
    finally:
        core(platform).patch_node(name, {"spec": {"unschedulable": None}})
    scenarios.wait_until_healthy(platform)
