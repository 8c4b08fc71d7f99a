"""Arguments and answers of calls, as far as JSON carries them."""

from __future__ import annotations

import re
from typing import Any

REFERENCE = re.compile(r"\$\{(\w+)(?:\.([^}]+))?\}")


def plain(value: Any) -> Any:
    """Moments as text, bytes as the text that they are as far as they are any."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "read"):
        value = value.read()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def fill_in(value: Any, known: dict[str, Any]) -> Any:
    """`${hosted_zone}` and `${instances.NODE}` replaced in all texts of a document.

    A text that is nothing but `${subnets.public}` becomes the list. Raises
    ValueError for what is not known.
    """
    if isinstance(value, dict):
        return {fill_in(key, known): fill_in(one, known) for key, one in value.items()}
    if isinstance(value, list):
        return [fill_in(one, known) for one in value]
    if not isinstance(value, str):
        return value

    whole = REFERENCE.fullmatch(value)
    if whole and whole[2] and isinstance(known.get(whole[1]), dict):
        listed = known[whole[1]].get(whole[2])
        if isinstance(listed, list):
            return list(listed)

    def found(reference: re.Match[str]) -> str:
        name, key = reference.groups()
        one = known.get(name)
        if key is not None:
            one = one.get(key) if isinstance(one, dict) else None
        if not isinstance(one, (str, int)):
            raise ValueError(f"the account has no {reference[0]}")
        return str(one)

    return REFERENCE.sub(found, value)
