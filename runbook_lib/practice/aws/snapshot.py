"""moto's state at one moment, to go back to: faster than to make the account again."""

from __future__ import annotations

import copy
from typing import Any

from runbook_lib.practice.aws.additions import backend

# Of these the healthy account has nothing; the parameters of SSM cannot be copied.
EMPTY = ("ssm", "sts", "kms", "servicequotas")


class Snapshot:
    """Taken of all backends at once: what one holds of another is kept, not copied."""

    def __init__(self) -> None:
        empty = {id(backend(service)) for service in EMPTY}
        # A lock cannot be copied; cryptography's objects need not be: nothing changes them.
        bundles = backend("acm")._certificates.values()
        self._shared = [one for bundle in bundles for one in (bundle._key, bundle._cert)]
        self._shared.append(backend("ecr").registry_scanning_configuration_update_lock)
        taken = [(one, one.__dict__) for one in _backends() if id(one) not in empty]
        self._states = self._copied(taken)

    def restore(self) -> None:
        """All as it was; backends that were empty, or have come into being since, are emptied."""
        taken = self._copied(self._states)
        kept = {id(one) for one, _ in taken}
        for one in _backends():
            if id(one) not in kept:
                one.reset()
        for one, state in taken:
            one.__dict__ = state

    def _copied(self, states: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        memo = {id(one): one for one in (*_backends(), *self._shared)}
        return [(one, copy.deepcopy(state, memo)) for one, state in states]


def _backends() -> list[Any]:
    """Every backend of every service, account and region that there is so far."""
    from moto.core import base_backend

    services: Any = base_backend.BackendDict._instances  # type: ignore[misc]
    return [one for of_service in services for _, _, one in of_service.iter_backends()]
