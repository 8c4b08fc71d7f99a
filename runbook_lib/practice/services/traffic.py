"""The requests of a quiet hour, so that there are rates and latencies to look at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

_LOG = logging.getLogger(__name__)
_QUIET_RATE = 0.5  # requests a second
_MOST_RATE = 50.0
_MOST_AT_ONCE = 100
_PATIENCE_SECONDS = 10.0

Wanted = tuple[str, str, dict[str, str], Any]  # method, path, headers, JSON body


class Traffic:
    """A steady stream of requests to one application.

    `usual` gives the number-th request of a quiet hour; `saw` is told each answer's path and body.
    """

    def __init__(self, usual: Callable[[int], Wanted], saw: Callable[[str, bytes], None]) -> None:
        self._usual, self._saw = usual, saw
        self._rate, self._path = _QUIET_RATE, ""

    def calm(self) -> None:
        """A quiet hour again."""
        self._rate, self._path = _QUIET_RATE, ""

    def change(self, rate: float, path: str) -> None:
        """So many requests a second, of the usual kind or as GET of one path.

        Raises ValueError.
        """
        if not 0 <= rate <= _MOST_RATE:
            raise ValueError(f"a rate is between 0 and {_MOST_RATE:.0f} requests a second")
        if path and not path.startswith("/"):
            raise ValueError(f"a path begins with /: {path!r}")
        self._rate, self._path = rate, path

    async def run(self, url: Callable[[], str]) -> None:
        """Send requests until cancelled; no more than some at once."""
        import aiohttp

        limit = aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
        number, sent = 0, set[asyncio.Task[None]]()
        async with aiohttp.ClientSession(timeout=limit) as session:
            while True:
                await asyncio.sleep(1 / self._rate if self._rate else 1.0)
                if not self._rate or len(sent) >= _MOST_AT_ONCE:
                    continue
                number += 1
                wanted = ("GET", self._path, {}, None) if self._path else self._usual(number)
                task = asyncio.create_task(self._ask(session, url(), wanted))
                sent.add(task)
                task.add_done_callback(sent.discard)

    async def _ask(self, session: Any, url: str, wanted: Wanted) -> None:
        import aiohttp

        method, path, headers, body = wanted
        try:
            async with session.request(method, url + path, headers=headers, json=body) as got:
                self._saw(path, await got.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            _LOG.debug("%s %s: %s", method, path, error)
            self._saw(path, b"")
