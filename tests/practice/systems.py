"""A system of the practice platform by itself, in an event loop of a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from runbook_lib.practice.system import System, perform

DEADLINE_SECONDS = 30.0


class Alone:
    """Runs one system's coroutines from a test, which blocks."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE_SECONDS)

    def do(self, verb: str, **arguments: Any) -> Any:
        return self.wait(perform(self.system, verb, arguments))

    def end(self) -> None:
        """End the loop; the system must have been stopped."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_SECONDS)
        self._loop.close()
