"""What the host asks of each of its systems: start, stop, break, heal."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any


class System(ABC):
    """One system of the platform. Its coroutines run in the host's event loop.

    `start` may be called again after `stop`: same port, same contents. Blocking work goes to
    threads (`asyncio.to_thread`), for every system shares the loop.
    """

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether it takes requests."""

    @abstractmethod
    async def start(self) -> None:
        """Take requests; harmless when it does."""

    @abstractmethod
    async def stop(self) -> None:
        """Refuse connections; what it holds stays. Harmless when it is stopped."""

    @abstractmethod
    async def heal(self) -> None:
        """Contents, settings and behaviour as after the first start. Called while running."""

    def verbs(self) -> Mapping[str, Callable[..., Any]]:
        """Its faults and what else a scenario may do to it, by name.

        Functions and coroutine functions with keyword arguments that JSON can carry; they return
        None or something that JSON can carry. Functions run in a thread. They raise ValueError
        for what cannot be asked.
        """
        return {}

    def environment(self) -> dict[str, str]:
        """The variables that its ordinary clients read."""
        return {}

    def settings(self) -> dict[str, dict[str, Any]]:
        """What `runbook.toml` must say, by table; nothing secret."""
        return {}

    def secrets(self) -> list[str]:
        """Every secret value that it hands out or takes."""
        return []


def all_verbs(system: System) -> dict[str, Callable[..., Any]]:
    """Its own verbs and those that every system has."""
    every = {"start": system.start, "stop": system.stop, "heal": system.heal}
    return {**every, **system.verbs()}


async def perform(system: System, verb: str, arguments: dict[str, Any]) -> Any:
    """Do to a system what one of its verbs, or start, stop, restart or heal, says.

    Raises ValueError for a verb or an argument that does not exist, and what the verb raises.
    """
    known = all_verbs(system)
    if verb == "restart" and "restart" not in known:
        await system.stop()
        return await system.start()
    if verb not in known:
        raise ValueError(f"there is no verb {verb!r}; there are {', '.join(sorted(known))}")
    function = known[verb]
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"{verb}: {error}") from None
    if inspect.iscoroutinefunction(function):
        return await function(**arguments)
    return await asyncio.to_thread(function, **arguments)
