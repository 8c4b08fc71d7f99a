"""The page about the practice cluster names every field and annotation, and no other."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from runbook_lib.practice.cluster import evictions, groups, loadbalancers, nodes
from runbook_lib.practice.cluster.program import PROGRAM, Program

PAGE = Path(__file__).parents[2] / "docs" / "practice-cluster.md"


def section(title: str) -> str:
    return PAGE.read_text().split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_field_of_a_program_has_its_line() -> None:
    named = re.findall(r"^\| `(\w+)` \|", section("What a container does"), re.M)
    assert sorted(named) == sorted(field.name for field in dataclasses.fields(Program))


def test_every_annotation_has_its_line() -> None:
    named = re.findall(r"^\| `(practice\.runbook/[\w-]+)`", PAGE.read_text(), re.M)
    known = [nodes.STATS, nodes.KUBELET, nodes.SINCE, nodes.NETWORK, evictions.EVICT]
    known += [loadbalancers.ERROR, loadbalancers.HOSTNAME, groups.GROUP]
    assert sorted(named) == sorted(known)
    assert PROGRAM in PAGE.read_text()


def test_the_fields_of_a_node_group_are_named() -> None:
    text = section("What the cloud's controllers are told")
    for field in dataclasses.fields(groups.NodeGroup):
        assert f"`{field.name}`" in text
