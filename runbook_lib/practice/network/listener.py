"""A TCP listener that hands over accepted sockets as they are, and can vanish or be filtered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Awaitable, Callable

LOG = logging.getLogger(__name__)
ADDRESS = "127.0.0.1"
BACKLOG = 128
# open; closed: nothing listens; filtered: packets are dropped, as by a security group.
STATES = ("open", "closed", "filtered")


class Listener:
    """One loopback port, the same for life; `serve` is awaited with each accepted socket.

    The sockets do not block; `serve` closes them.
    """

    def __init__(self, serve: Callable[[socket.socket], Awaitable[None]]) -> None:
        self.port = 0
        self.state = "closed"
        self._serve = serve
        self._sockets: list[socket.socket] = []
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def become(self, state: str) -> None:
        """Be one of STATES; connections that were accepted before are dropped by another one.

        Raises ValueError for an unknown state, and for `filtered` outside Linux.
        """
        if state not in STATES:
            raise ValueError(f"a listener is {', '.join(STATES)}, not {state!r}")
        if state == "filtered" and sys.platform != "linux":
            raise ValueError("only Linux drops what a full accept queue cannot take")
        if state == self.state:
            return
        await self._close()
        if state == "open":
            self._accepting = asyncio.create_task(self._accept(self._listen(BACKLOG)))
        elif state == "filtered":
            self._listen(0)
            self._fill()
        self.state = state

    def _listen(self, backlog: int) -> socket.socket:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._sockets.append(listening)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind((ADDRESS, self.port))
        listening.listen(backlog)
        self.port = listening.getsockname()[1]
        return listening

    def _fill(self) -> None:
        """Take the accept queue's only place: the kernel drops every further SYN."""
        for _ in range(2):
            filler = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._sockets.append(filler)
            filler.setblocking(False)
            filler.connect_ex((ADDRESS, self.port))

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listening)
            task = asyncio.create_task(self._connected(connection))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _connected(self, connection: socket.socket) -> None:
        try:
            await self._serve(connection)
        except OSError as error:  # ssl.SSLError too: clients that leave, or trust otherwise
            LOG.info("connection lost: %s", error)
            connection.close()
        except BaseException:
            connection.close()
            raise

    async def _close(self) -> None:
        tasks = [task for task in (self._accepting, *self._connections) if task]
        self._accepting = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.close()
        self._sockets.clear()
