"""Spans of time as annotations say them: "14m"."""

from __future__ import annotations

import re

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SPANS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def span(text: str) -> float:
    """Seconds of "25m", "1h30m", "9d"; ValueError for anything else."""
    found = _SPAN.findall(text)
    if not found or "".join(number + unit for number, unit in found) != text:
        raise ValueError(f"{text!r} is no span of time such as 25m or 1h30m")
    return sum(float(number) * _SPANS[unit] for number, unit in found)
