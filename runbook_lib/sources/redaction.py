"""Keeping secrets out of everything that is kept: answers, errors, commands, notebooks, reports.

Two nets: values known to be secret, in every spelling that they travel in, and shapes that
secrets have (credentials in an address, `password=…`, tokens, key ids, private keys).
"""

from __future__ import annotations

import base64
import json
import os
import re
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "[redacted]"
SECRET_NAME = re.compile(
    r"(?i)(password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key(_id)?|private[_-]?key)$"
)
# Every shape begins at a boundary or is bounded: a picture's base64 is one long word, and a
# pattern that may begin anywhere in it takes minutes.
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        # A log may cut a key off before its end.
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S
        ),
        MASK,
    ),
    (re.compile(r"(?<=://)([^\s:/@]*):[^\s/@]+@"), rf"\1:{MASK}@"),
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), MASK),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MASK),
    (re.compile(r"(?i)(authorization\W{1,5}(?:bearer|basic)\s+)[^\s\"'\\,;]+"), rf"\1{MASK}"),
    # Without the header's name only what looks random: "basic authentication" is prose.
    (
        re.compile(r"\b((?i:bearer|basic)\s+)(?=[\w.~+/-]+[A-Z0-9=])[\w.~+/=-]{8,}"),
        rf"\1{MASK}",
    ),
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
        self._learning = threading.Lock()  # probes run side by side, and each may teach it one
        self.add(*values)

    def add(self, *values: str | None) -> None:
        """Learn secret values. Those under four characters are too common to replace."""
        # A value read from a file or a Secret often ends in a newline that its users strip.
        wanted = {part for value in values if value for part in (value, value.strip())}
        with self._learning:
            for value in wanted:
                if len(value) >= 4:
                    self._values |= spellings(value)
            longest_first = sorted(self._values, key=len, reverse=True)
            if longest_first:
                self._known = re.compile("|".join(map(re.escape, longest_first)))

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
    raw = value.encode(errors="replace")
    encoded = [base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()]
    in_url = [quote(raw, safe=""), quote(raw, safe="/"), quote_plus(raw)]
    in_json = [json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    return {value, *encoded, *(text.rstrip("=") for text in encoded), *in_url, *in_json}


def from_environment(environ: Mapping[str, str] = os.environ) -> Redactor:
    """A redactor that knows every variable of the environment whose name says secret."""
    return Redactor(
        v for name, v in environ.items() if SECRET_NAME.search(name) and not _is_a_path(v)
    )


def _is_a_path(value: str) -> bool:
    """Whether it names something that is there: an AWS secret key, too, may begin with a slash."""
    try:
        return value.startswith("/") and Path(value).exists()
    except OSError:  # too long for a name
        return False
