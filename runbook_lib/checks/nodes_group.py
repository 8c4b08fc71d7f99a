"""Judge of *Nodes not ready*: what EKS says of the node group itself."""

from __future__ import annotations

from typing import Any

from runbook_lib.checks.nodes_common import some
from runbook_lib.core import check
from runbook_lib.model import Finding, fail, ok, warn
from runbook_lib.sources import aws


@check(
    "node-group-health",
    probe=aws.node_group,
    explains=("node-heartbeat-lost", "node-lease-stale", "pods-pending"),
)
def group_health(group: dict[str, Any]) -> list[Finding]:
    """EKS finds nothing wrong with the node group.

    EKS itself notes what keeps a group from having sound nodes: no capacity, a deleted subnet or
    security group, a missing permission, instances that do not join.
    """
    thing, scaling = f"nodegroup/{group['name']}", group["scaling"]
    found = [
        fail(
            thing,
            f"EKS reports {issue['code']} for the node group {group['name']}: {issue['message']}"
            + (f" ({some(issue['resources'])})." if issue["resources"] else ""),
            hint="Mend what EKS names first: until then the group replaces no node, and a "
            "terminated instance may not come back.",
            evidence={"resources": issue["resources"], "scaling": scaling},
        )
        for issue in group["issues"]
    ]
    if not found and group["status"] != "ACTIVE":
        found = [
            warn(
                thing,
                f"The node group {group['name']} is {group['status']}, not ACTIVE.",
                hint="Is somebody changing it? aws eks list-updates. Do not change it meanwhile.",
                evidence={"scaling": scaling},
            )
        ]
    wanted = scaling.get("desiredSize", "an unknown number of")
    return found or [
        ok(thing, f"The node group {group['name']} is ACTIVE, wants {wanted} nodes, has no issue.")
    ]
