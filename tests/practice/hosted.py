"""A system of the practice platform in an event loop of its own, as the host would have it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from runbook_lib.practice.system import System, perform

DEADLINE_SECONDS = 60.0


class Hosted:
    """Started on entering, stopped on leaving; `do` performs its verbs as scenarios do."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Hosted:
        self._thread.start()
        self.run(self.system.start)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.run(self.system.stop)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(DEADLINE_SECONDS)
            self._loop.close()

    def run(self, coroutine: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Await it in the system's loop; what it raises is raised here."""
        return asyncio.run_coroutine_threadsafe(coroutine(), self._loop).result(DEADLINE_SECONDS)

    def do(self, verb: str, **arguments: Any) -> Any:
        return self.run(lambda: perform(self.system, verb, arguments))
