"""Whether a CronJob's schedule can be read, in the words of the parser that Kubernetes uses.

Source: github.com/robfig/cron/v3, parser.go.
"""

from __future__ import annotations

import re

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# Lowest, highest, and the names from the lowest on.
_FIELDS: tuple[tuple[int, int, tuple[str, ...]], ...] = (
    (0, 59, ()),
    (0, 23, ()),
    (1, 31, ()),
    (1, 12, _MONTHS),
    (0, 6, _DAYS),
)
_NAMED = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_EVERY = r"@every (\d+(\.\d+)?(ns|us|ms|s|m|h))+"


def problem(schedule: str) -> str:
    """What is wrong with a schedule; '' where nothing is."""
    if schedule.startswith("@"):
        is_known = schedule in _NAMED or re.fullmatch(_EVERY, schedule)
        return "" if is_known else f"unrecognized descriptor: {schedule}"
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        return f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]"
    try:
        for field, (low, high, names) in zip(fields, _FIELDS, strict=True):
            for part in filter(None, field.split(",")):
                _read(part, low, high, names)
    except ValueError as failure:
        return str(failure)
    return ""


def _read(part: str, low: int, high: int, names: tuple[str, ...]) -> None:
    """Raises ValueError for what is no range of numbers."""
    span, *steps = part.split("/")
    first, *others = span.split("-")
    if first in ("*", "?"):
        begin, end = low, high
    else:
        begin = end = _number(first, low, names)
        if len(others) > 1:
            raise ValueError(f"too many hyphens: {part}")
        if others:
            end = _number(others[0], low, names)
    if len(steps) > 1:
        raise ValueError(f"too many slashes: {part}")
    step = _number(steps[0], 0, ()) if steps else 1
    if steps and not others:
        end = high
    if begin < low:
        raise ValueError(f"beginning of range ({begin}) below minimum ({low}): {part}")
    if end > high:
        raise ValueError(f"end of range ({end}) above maximum ({high}): {part}")
    if begin > end:
        raise ValueError(f"beginning of range ({begin}) beyond end of range ({end}): {part}")
    if step == 0:
        raise ValueError(f"step of range should be a positive number: {part}")


def _number(text: str, low: int, names: tuple[str, ...]) -> int:
    if text.lower() in names:
        return low + names.index(text.lower())
    if not re.fullmatch(r"[+-]?\d+", text):
        why = f'strconv.Atoi: parsing "{text}": invalid syntax'
        raise ValueError(f"failed to parse int from {text}: {why}")
    if int(text) < 0:
        raise ValueError(f"negative number ({int(text)}) not allowed: {text}")
    return int(text)
