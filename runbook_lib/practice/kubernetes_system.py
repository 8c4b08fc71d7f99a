"""The Kubernetes API as a system of the platform: what it holds in health, and its faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runbook_lib.practice.kubernetes_api import KubernetesApi
from runbook_lib.practice.system import System


class KubernetesSystem(System):
    """The Kubernetes API and what works behind it, holding what `contents` gives."""

    def __init__(self, api: KubernetesApi, contents: Callable[[], list[dict[str, Any]]]) -> None:
        self.api = api
        self._contents = contents
        self._port = 0
        self._running = False

    @property
    def running(self) -> bool:
        return self._running

    async def start(self) -> None:
        if not self._running:
            await self.api.start(self._port)
            self._port = int(self.api.url.rsplit(":", 1)[1])
            self._running = True

    async def stop(self) -> None:
        if self._running:
            self._running = False
            await self.api.stop()

    async def heal(self) -> None:
        """No fault, no added user, and the healthy platform's objects and no others."""
        self.api.set_fault(None)
        self.api.forget_users()
        self.api.restore(self._contents())

    def verbs(self) -> Mapping[str, Callable[..., Any]]:
        return {"fault": self.fault, "user": self.user}

    def secrets(self) -> list[str]:
        return self.api.tokens

    async def user(self, name: str, groups: list[str] | None = None) -> str:
        """Take a new bearer token, which is returned, for a user of these groups."""
        return self.api.add_user(name, groups or ())

    async def fault(
        self,
        status: int | None = None,
        delay: float = 0,
        match: str = "/",
        methods: list[str] | None = None,
    ) -> None:
        """Fail requests below `match` with an HTTP status, or only delay them; none: no more."""
        if status is None and not delay:
            self.api.set_fault(None)
            return
        given = {"status": status, "delay": delay, "match": match, "methods": methods}
        self.api.set_fault({name: value for name, value in given.items() if value is not None})
