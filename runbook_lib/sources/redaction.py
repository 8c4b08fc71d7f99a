"""Keeping secrets out of everything that is kept: answers, errors, commands, notebooks, reports.

Two nets: values known to be secret, in every spelling that they travel in, and shapes that
secrets have (credentials in an address, `password=…`, tokens, key ids, private keys).
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

MASK = "[redacted]"
SECRET_NAME = re.compile(
    r"(?i)(password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key(_id)?|private[_-]?key)$"
)
# Every shape begins at a boundary or is bounded: a picture's base64 is one long word, and a
# pattern that may begin anywhere in it takes minutes.
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.S),
        MASK,
    ),
    (re.compile(r"(?<=://)([^\s:/@]*):[^\s/@]+@"), rf"\1:{MASK}@"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), MASK),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MASK),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {MASK}"),
    (
        re.compile(
            r"(?i)(?<![\w-])([\w-]{0,60}?(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key))"
            r"(\\?[\"']?\s*[=:]\s*\\?[\"']?)(?!\[redacted\])([^\s\"'\\,;&)}]{4,})"
        ),
        rf"\1\2{MASK}",
    ),
)


class Redactor:
    """Replaces secrets in text and in nested plain data. Learns values with `add`."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values: set[str] = set()
        self._known: re.Pattern[str] | None = None
        self.add(*values)

    def add(self, *values: str | None) -> None:
        """Learn secret values. Those under four characters are too common to replace."""
        for value in values:
            if value and len(value) >= 4:
                self._values |= spellings(value)
        longest_first = sorted(self._values, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if self._values else None

    def text(self, text: str) -> str:
        """The text with every secret replaced by [redacted]."""
        if self._known:
            text = self._known.sub(MASK, text)
        for shape, replacement in _SHAPES:
            text = shape.sub(replacement, text)
        return text

    def clean(self, value: Any) -> Any:
        """The same for nested dicts, lists and strings; other values pass unchanged."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.clean(item) for item in value]
        return value


def spellings(value: str) -> set[str]:
    """A secret as it may appear: plain, base64, URL-encoded, inside a JSON string."""
    encoded = base64.b64encode(value.encode()).decode()
    return {value, encoded, encoded.rstrip("="), quote(value, safe=""), json.dumps(value)[1:-1]}


def from_environment(environ: Mapping[str, str] = os.environ) -> Redactor:
    """A redactor that knows every variable of the environment whose name says secret."""
    return Redactor(v for name, v in environ.items() if SECRET_NAME.search(name) and v[:1] != "/")
