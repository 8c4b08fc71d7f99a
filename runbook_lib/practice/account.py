"""What the cluster follows in its AWS account: access to its endpoint, node group, images.

And what it asks of it: as many machines as its autoscaler wants.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict, dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from runbook_lib.practice.aws.additions import backend
from runbook_lib.practice.aws.names import CLUSTER
from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.aws.wire import AwsError
from runbook_lib.practice.cluster.groups import Machine
from runbook_lib.practice.cluster.images import Registry
from runbook_lib.practice.kubernetes_api import KubernetesApi
from runbook_lib.practice.seed.parts import REGISTRY

# The engineer's address as AWS sees it; outside of the VPC (RFC 5737).
OWN_ADDRESS = "198.51.100.7"
LOOK_SECONDS = 0.3
# The autoscaler takes a group by these keys, whatever their values say.
DISCOVERED_BY = ("k8s.io/cluster-autoscaler/enabled", f"k8s.io/cluster-autoscaler/{CLUSTER}")


@dataclass(frozen=True)
class Bounds:
    """What an Auto Scaling group tells the autoscaler; fields as in `cluster.groups.NodeGroup`."""

    name: str
    min: int
    max: int
    discovered: bool


@dataclass(frozen=True)
class Account:
    lets_us_in: bool
    bounds: Bounds | None
    machines: tuple[Machine, ...]  # of the group
    off: frozenset[str]  # ids of machines that are stopped or terminated
    images: frozenset[str]  # "name:tag" of its registry


async def follow(aws: Aws, api: KubernetesApi, alone: asyncio.Lock) -> None:
    """Let the cluster follow its account until cancelled; `alone` is held while it looks."""
    while True:
        async with alone:
            wanted = api.node_groups.take_wanted()
            account = await asyncio.to_thread(_read, aws, wanted)
            await api.let_in(account.lets_us_in)
            api.node_groups.bounds = asdict(account.bounds) if account.bounds else {}
            api.node_groups.machines = list(account.machines)
            api.switch_off(account.off)
            api.kubelet.registry = Registry(REGISTRY, account.images)
        await asyncio.sleep(LOOK_SECONDS)


def _read(aws: Aws, wanted: int | None) -> Account:
    """What the account says, once it was asked for this many machines."""
    with aws.undisturbed():
        groups = list(backend("autoscaling").autoscaling_groups.values())
        if groups and wanted is not None:
            _ask_for(aws, groups[0].name, wanted)
        return Account(
            lets_in(aws.eks.endpoint_access(), OWN_ADDRESS),
            _bounds(groups[0]) if groups else None,
            _machines(groups[0]) if groups else (),
            frozenset(
                machine.id
                for reservation in backend("ec2").reservations.values()
                for machine in reservation.instances
                if machine.state not in ("pending", "running")
            ),
            frozenset(
                f"{repository.name}:{tag}"
                for repository in backend("ecr").repositories.values()
                for image in repository.images
                for tag in image.image_tags
            ),
        )


def lets_in(access: dict[str, Any], address: str) -> bool:
    """Whether the public endpoint takes connections from an address.

    `access` is a cluster's resourcesVpcConfig; a private endpoint is reached from the VPC only.
    """
    if not access["endpointPublicAccess"]:
        return False
    networks = access.get("publicAccessCidrs") or ["0.0.0.0/0"]
    return any(ip_address(address) in ip_network(one, strict=False) for one in networks)


def _bounds(group: Any) -> Bounds:
    keys = {tag["Key"] for tag in group.tags}
    return Bounds(group.name, group.min_size, group.max_size, keys.issuperset(DISCOVERED_BY))


def _ask_for(aws: Aws, group: str, number: int) -> None:
    wanted = {"AutoScalingGroupName": group, "DesiredCapacity": number}
    # Refused where the bounds were narrowed since the autoscaler saw them: no machine comes.
    with contextlib.suppress(AwsError):
        aws.ask("autoscaling", "SetDesiredCapacity", wanted)


def _machines(group: Any) -> tuple[Machine, ...]:
    return tuple(
        Machine(one.id, one.private_dns_name, one.private_ip, one.availability_zone)
        for one in (state.instance for state in group.instance_states)
        if one.state == "running"
    )
