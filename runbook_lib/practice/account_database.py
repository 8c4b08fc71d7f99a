"""The PostgreSQL behind the account's RDS instance does as the instance is told."""

from __future__ import annotations

import asyncio
import logging

from runbook_lib.practice.aws.rds import Rds
from runbook_lib.practice.aws.rds_orders import Order
from runbook_lib.practice.postgres.binaries import PostgresError
from runbook_lib.practice.postgres.system import Database

LOG = logging.getLogger(__name__)


async def carry_out_orders(rds: Rds, database: Database) -> None:
    """All that were given so far, in turn."""
    while order := rds.orders.first():
        try:
            await _carry_out(order, database)
        except PostgresError as error:
            LOG.warning("the database does not start with its parameters: %s", error)
            rds.ordered(order, starts=False)
        else:
            rds.ordered(order, starts=True)


async def _carry_out(order: Order, database: Database) -> None:
    if order.action == "reload":
        await asyncio.to_thread(database.server.reload, order.parameters)
    elif order.action == "stop":
        await database.stop()
    else:
        await database.restart(order.parameters)
