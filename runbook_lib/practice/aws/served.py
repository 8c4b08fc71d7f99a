"""What of AWS the practice account serves: the services and operations of `operations.txt`.

moto would answer for many more, from an account that holds nothing of theirs and is not snapshot,
or from canned text: what a step does there would look done and be no more than moto's word.
"""

from __future__ import annotations

import functools
from pathlib import Path

LIST = Path(__file__).with_name("operations.txt")


@functools.cache
def served() -> dict[str, frozenset[str]]:
    """The operations of each service, by botocore's names."""
    found: dict[str, set[str]] = {}
    names: set[str] = set()
    for line in LIST.read_text().splitlines():
        if line.startswith("  "):
            names.update(line.split())
        elif line and not line.startswith("#"):
            names = found.setdefault(line, set())
    return {service: frozenset(operations) for service, operations in found.items()}
