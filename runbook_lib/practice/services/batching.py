"""KServe's batcher: requests wait for company, up to a number and up to a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass
class _Batch:
    full: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0


class Batches:
    """The batch that each pod's agent is filling at the moment."""

    def __init__(self) -> None:
        self._filling: dict[str, _Batch] = {}

    async def wait(self, pod: str, size: int, seconds: float) -> None:
        """Return when the batch of this request goes to the model."""
        if size <= 1:
            return
        batch = self._filling.setdefault(pod, _Batch())
        batch.waiting += 1
        if batch.waiting >= size:
            self._send(pod, batch)
            return
        try:
            async with asyncio.timeout(seconds):
                await batch.full.wait()
        except TimeoutError:
            self._send(pod, batch)

    def _send(self, pod: str, batch: _Batch) -> None:
        batch.full.set()
        if self._filling.get(pod) is batch:
            del self._filling[pod]
