"""Keeps the AWS account and the real parts of the platform alike, in both directions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from runbook_lib.practice.account import LOOK_SECONDS, follow
from runbook_lib.practice.account_database import carry_out_orders
from runbook_lib.practice.account_targets import HealthChecks
from runbook_lib.practice.aws import seed_metrics
from runbook_lib.practice.aws.seed import Seeded
from runbook_lib.practice.aws.series import MINUTE
from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.kubernetes_api import KubernetesApi
from runbook_lib.practice.postgres.system import Database
from runbook_lib.practice.services.application import Application
from runbook_lib.practice.wait import lasting


class Alignment:
    """Cluster and database do as the account says; it says of them what is measured.

    `services` are what is behind the load balancer's target groups, by their names.
    """

    def __init__(
        self, aws: Aws, api: KubernetesApi, database: Database, services: Mapping[str, Application]
    ) -> None:
        self._aws, self._api, self._database, self._services = aws, api, database, services
        self._checks: HealthChecks | None = None
        self._tasks: list[asyncio.Task[None]] = []
        # Held while one of the two is looked at or changed, so that a heal is alone.
        self._alone = asyncio.Lock()
        aws.rds.orders.awaited = True
        aws.metrics.measure(
            seed_metrics.RDS,
            "DatabaseConnections",
            seed_metrics.DATABASE,
            database.server.client_sessions,
        )

    def start(self) -> None:
        """Let the cluster follow; the account must be seeded."""
        self._tasks = [lasting(follow(self._aws, self._api, self._alone))]

    async def complete(self, seeded: Seeded) -> None:
        """Let the account follow too; all systems must run."""
        self._checks = HealthChecks(self._aws, seeded, self._api.store, self._services)
        await self._sample()
        self._tasks += [
            lasting(self._sample_each_minute()),
            lasting(self._run_database()),
            *(lasting(self._checks.follow(name)) for name in self._services),
        ]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    @asynccontextmanager
    async def healing(self) -> AsyncIterator[None]:
        """Nothing is looked at meanwhile; afterwards the account is as the healed parts are."""
        async with self._alone:
            yield
            if self._checks:
                self._checks.forget()
            await self._sample()

    async def _sample_each_minute(self) -> None:
        while True:
            await asyncio.sleep(MINUTE - time.time() % MINUTE)
            async with self._alone:
                await self._sample()

    async def _run_database(self) -> None:
        while True:
            async with self._alone:
                await carry_out_orders(self._aws.rds, self._database)
            await asyncio.sleep(LOOK_SECONDS)

    async def _sample(self) -> None:
        def sample() -> None:
            with self._aws.undisturbed():
                self._aws.metrics.sample()

        await asyncio.to_thread(sample)
