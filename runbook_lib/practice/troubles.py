"""What fails inside of a platform itself, which nobody who uses it would see."""

from __future__ import annotations

import logging
from collections import deque

KEPT = 20


class Troubles(logging.Handler):
    """Keeps the last errors that were logged: their messages, and what was raised.

    Faults that a scenario makes are no errors; who meets one logs at most a warning.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.kept: deque[str] = deque(maxlen=KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        raised = record.exc_info[1] if record.exc_info else None
        self.kept.append(record.getMessage() + (f": {raised!r}" if raised else ""))
