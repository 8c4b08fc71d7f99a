"""A TCP listener that hands over accepted sockets as they are, and can vanish or be filtered."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Awaitable, Callable

LOG = logging.getLogger(__name__)
ADDRESS = "127.0.0.1"
ELSEWHERE = "127.0.0.2"  # loopback too, and nobody there
BACKLOG = 128
# open; closed: nothing listens; filtered: packets are dropped, as by a security group.
STATES = ("open", "closed", "filtered")


class Listener:
    """One loopback port, the same for life; `serve` is awaited with each accepted socket.

    The sockets do not block. `serve` closes them or hands them on; what it does not end, or ends
    with an exception, is closed here.
    """

    def __init__(self, serve: Callable[[socket.socket], Awaitable[None]]) -> None:
        self.port = 0
        self.state = "closed"
        self._serve = serve
        self._sockets: list[socket.socket] = []
        self._connections: set[asyncio.Future[None]] = set()

    async def become(self, state: str) -> None:
        """Be one of STATES; what `serve` still holds is dropped, what it handed on stays.

        Raises ValueError for an unknown state, and for `filtered` outside Linux; OSError where
        the port is taken.
        """
        if state not in STATES:
            raise ValueError(f"a listener is {', '.join(STATES)}, not {state!r}")
        if state == "filtered" and sys.platform != "linux":
            raise ValueError("only Linux drops what a full accept queue cannot take")
        if state == self.state:
            return
        await self._close()
        self.state = "closed"
        try:
            if state == "open":
                listening = self._listen(BACKLOG)
                asyncio.get_running_loop().add_reader(listening, self._accept, listening)
            elif state == "filtered":
                self._listen(0)
                self._fill()
        except OSError:
            await self._close()
            raise
        self.state = state

    def _listen(self, backlog: int) -> socket.socket:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._sockets.append(listening)  # first, so that a failure leaves nothing open
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

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except OSError:  # it left before
            return
        connection.setblocking(False)
        task = asyncio.ensure_future(self._serve(connection))
        self._connections.add(task)
        task.add_done_callback(lambda task: self._served(task, connection))

    def _served(self, task: asyncio.Future[None], connection: socket.socket) -> None:
        self._connections.discard(task)
        failure = None if task.cancelled() else task.exception()
        if task.cancelled() or failure:
            connection.close()
        if isinstance(failure, OSError):  # ssl.SSLError too: who leaves, or trusts otherwise
            LOG.info("connection lost: %s", failure)
        elif failure:
            LOG.error("a connection failed", exc_info=failure)

    async def _close(self) -> None:
        for one in self._sockets:
            asyncio.get_running_loop().remove_reader(one)
            one.close()
        self._sockets.clear()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
