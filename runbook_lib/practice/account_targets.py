"""The load balancer's health checks: a target is healthy if its node leads to an answer.

A target is a node's port, behind which is a Service. What lies behind is found as the load
balancer's own requests find it (`services.routing`), and asked as they are answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from runbook_lib.practice.aws.elbv2 import REASONS, Health, TargetGroup
from runbook_lib.practice.aws.seed import Seeded
from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Store
from runbook_lib.practice.services.application import Application
from runbook_lib.practice.services.routing import GatewayError, Target

# Seconds in life: 15.
INTERVAL_SECONDS = 0.5
FAILED, TIMEOUT, MISMATCH = (
    "Target.FailedHealthChecks",
    "Target.Timeout",
    "Target.ResponseCodeMismatch",
)


class HealthChecks:
    """Checks the targets of the platform's own groups; `services` by these groups' names."""

    def __init__(
        self, aws: Aws, seeded: Seeded, store: Store, services: Mapping[str, Application]
    ) -> None:
        self._aws, self._seeded, self._store, self._services = aws, seeded, store, services
        self._nodes = {instance: node for node, instance in seeded.instances.items()}
        self._round = 0
        for arn in seeded.target_groups.values():
            aws.balancing.count_hosts(arn)

    async def follow(self, name: str) -> None:
        """Check a group again and again; two checks must agree, as the thresholds have it."""
        before, round_ = None, self._round
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            found = await self._check(name)
            if (found, self._round) == (before, round_):
                self._aws.balancing.checked(self._seeded.target_groups[name], found)
            before, round_ = found, self._round

    def forget(self) -> None:
        """All are healthy, as after a start, until two checks from now on find otherwise."""
        self._round += 1
        for name in self._services:
            self._aws.balancing.checked(self._seeded.target_groups[name], {})

    async def _check(self, name: str) -> dict[str, Health]:
        """Why which targets of a group are out."""
        group = await asyncio.to_thread(self._group, name)
        if group is None:
            return {}
        behind = await self._behind(self._services[name], group)
        port = self._seeded.node_ports[name]
        out = {
            instance: self._on_the_way(instance) or (_health(FAILED) if at != port else behind)
            for instance, at in group.targets.items()
        }
        return {instance: health for instance, health in out.items() if health}

    def _group(self, name: str) -> TargetGroup | None:
        with self._aws.undisturbed():
            return self._aws.balancing.group(self._seeded.target_groups[name])

    def _on_the_way(self, instance: str) -> Health | None:
        """What keeps a check from the Service already; on a machine that is no node nobody
        listens."""
        if instance not in self._nodes:
            return _health(FAILED)
        node = self._store.find("nodes", self._nodes[instance])
        conditions = dig(node, "status.conditions", [])
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
        return None if ready else _health(TIMEOUT)

    async def _behind(self, service: Application, group: TargetGroup) -> Health | None:
        """What is wrong with the Service: None if one of its ready endpoints answers."""
        if not service.running:
            return _health(FAILED)

        async def asked(target: Target) -> Health | None:
            try:
                async with asyncio.timeout(group.seconds):
                    status = await service.probed(target, group.path)
            except TimeoutError:
                return _health(TIMEOUT)
            except GatewayError:  # it has ended a moment ago
                return _health(FAILED)
            return None if group.takes(status) else _health(MISMATCH, status)

        try:
            async with asyncio.timeout(group.seconds):
                ready = await service.serving(service.backend)
        except TimeoutError:
            return _health(TIMEOUT)
        except GatewayError:  # nobody listens, or there is no endpoint
            return _health(FAILED)
        found = await asyncio.gather(*map(asked, ready))
        return None if None in found else found[0]


def _health(reason: str, status: int | None = None) -> Health:
    if status is not None:
        return reason, f"Health checks failed with these codes: [{status}]"
    return reason, REASONS[reason][1]
