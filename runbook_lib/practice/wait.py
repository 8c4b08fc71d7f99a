"""Wait for a condition, with a deadline; or for the end of a task."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

POLL_SECONDS = 0.05


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Return when `condition` holds. Raises TimeoutError naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(POLL_SECONDS)


async def cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it is over. Raises what the task has raised."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
