"""The pools of healthy applications, while the server keeps them waiting."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from runbook_lib.practice.postgres.pools import Pools
from runbook_lib.practice.postgres.server import Postgres
from runbook_lib.practice.postgres.sessions import Sessions

DEADLINE_SECONDS = 10.0


def test_pools_that_end_while_they_connect_keep_nobody_waiting(tmp_path: Path) -> None:
    """A heal ends them in the middle of a rollout; whoever follows the pods must go on."""

    async def ended_while_connecting(listener: socket.socket) -> None:
        server = Postgres(tmp_path)
        server.port = listener.getsockname()[1]
        pools = Pools(Sessions(server), {"mlflow": 2})
        following = asyncio.create_task(pools.follow())
        accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
        with accepted:  # and no word is said
            await pools.end()
            async with asyncio.timeout(DEADLINE_SECONDS):
                await following

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        asyncio.run(ended_while_connecting(listener))
