"""A pod's connection pool to Postgres, bounded and worded as SQLAlchemy's QueuePool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.AsyncConnection[dict[str, Any]]

CONNECT_SECONDS = 5


class PoolTimeoutError(Exception):
    """No connection came free in time; the text is SQLAlchemy's."""


@dataclass(frozen=True)
class Limits:
    """SQLAlchemy's pool_size, max_overflow and pool_timeout in seconds."""

    size: int
    overflow: int
    timeout: float = 30.0


def parameters(url: str) -> dict[str, Any]:
    """psycopg's arguments from a URL postgresql://user:password@host:port/database.

    Raises ValueError for what is no such URL.
    """
    parts = urlsplit(url)
    if parts.scheme.partition("+")[0] not in ("postgresql", "postgres") or not parts.hostname:
        raise ValueError("Could not parse SQLAlchemy URL from given URL string")
    return {
        "host": parts.hostname,
        "port": parts.port or 5432,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "dbname": parts.path.lstrip("/"),
    }


class Pool:
    """Connections that one pod holds: opened on first use, kept up to `size`, LIFO."""

    def __init__(self, connect: dict[str, Any], limits: Limits, application: str) -> None:
        self._connect = {
            "connect_timeout": CONNECT_SECONDS,
            **connect,
            "application_name": application,
        }
        self._limits = limits
        self._free = asyncio.Semaphore(max(1, limits.size + limits.overflow))
        self._idle: list[Connection] = []
        self._leaked: list[Connection] = []
        self._closed = False

    @property
    def leaked(self) -> int:
        """How many connections were checked out for good."""
        return len(self._leaked)

    @asynccontextmanager
    async def connection(self, *, leak: bool = False) -> AsyncIterator[Connection]:
        """A connection for one request; it goes back afterwards, unless it leaks.

        Raises PoolTimeoutError, and psycopg.Error where the server refuses or the statement fails.
        """
        import psycopg

        await self._acquire()
        taken: Connection | None = None
        kept = False
        try:
            taken = await self._checked_out()
            yield taken
            if leak:
                self._leaked.append(taken)
                kept = True
        except psycopg.Error:
            if taken is not None and not taken.broken:
                await taken.rollback()
            raise
        finally:
            if not kept:
                await self._give_back(taken)

    async def close(self) -> None:
        """Give all connections up, the leaked ones too; who holds one closes it when done."""
        self._closed = True
        while self._idle or self._leaked:
            await (self._idle or self._leaked).pop().close()

    async def _acquire(self) -> None:
        limits = self._limits
        try:
            async with asyncio.timeout(limits.timeout):
                await self._free.acquire()
        except TimeoutError:
            raise PoolTimeoutError(
                f"QueuePool limit of size {limits.size} overflow {limits.overflow} reached, "
                f"connection timed out, timeout {limits.timeout:.2f} "
                "(Background on this error at: https://sqlalche.me/e/20/3o7r)"
            ) from None

    async def _checked_out(self) -> Connection:
        import psycopg
        from psycopg.rows import dict_row

        while self._idle:
            found = self._idle.pop()
            if await _is_alive(found):
                return found
        return await psycopg.AsyncConnection.connect(
            **self._connect, row_factory=dict_row, autocommit=True
        )

    async def _give_back(self, taken: Connection | None) -> None:
        try:
            if taken is None or taken.closed:
                return
            if self._closed or taken.broken or len(self._idle) >= self._limits.size:
                await taken.close()
            else:
                self._idle.append(taken)
        finally:
            self._free.release()


async def _is_alive(connection: Connection) -> bool:
    """SQLAlchemy's pre-ping: a connection that the server has ended is replaced unseen."""
    import psycopg

    try:
        await connection.execute("SELECT 1")
    except psycopg.OperationalError:
        await connection.close()
        return False
    return True
