"""What the server behind an RDS instance is told, until it has done so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Order:
    """`action` is reboot, stop, start, or reload; `parameters` hold from then on."""

    action: str
    parameters: Mapping[str, str] = field(default_factory=dict)


class Orders:
    """Kept only where somebody runs the server (`awaited`); given in one thread, taken in another.

    The first stays until it is `done`.
    """

    def __init__(self) -> None:
        self.awaited = False
        self._given: list[Order] = []

    def give(self, order: Order) -> None:
        if self.awaited:
            self._given.append(order)

    def first(self) -> Order | None:
        return next(iter(self._given), None)

    def done(self, order: Order) -> None:
        if order in self._given:  # it may be forgotten meanwhile
            self._given.remove(order)

    def forget(self) -> None:
        self._given.clear()

    @property
    def changes_state(self) -> bool:
        """Whether the instance is on its way to another state."""
        return any(order.action != "reload" for order in self._given)
