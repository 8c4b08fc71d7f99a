"""Wait for a condition, with a deadline; or for the end of a task, wanted or not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

POLL_SECONDS = 0.05
_LOG = logging.getLogger(__name__)


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Return when `condition` holds. Raises TimeoutError naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(POLL_SECONDS)


def lasting(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that ends by being cancelled only: when it fails, that is logged at once."""
    task = asyncio.create_task(work)
    task.add_done_callback(_tell)
    return task


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (failure := task.exception()):
        _LOG.error("%s has failed", task.get_coro(), exc_info=failure)


async def cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it is over. Raises what the task has raised."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
