"""Kubernetes quantities: "250m", "2Gi"."""

from __future__ import annotations

import re

_UNITS = {
    "": 1.0,
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
    "Pi": 2.0**50,
}
_QUANTITY = re.compile(r"^([0-9.]+(?:[eE][0-9]+)?)([A-Za-z]*)$")


def quantity(text: str | int | float) -> float:
    """The number that a quantity stands for; ValueError for anything else."""
    found = _QUANTITY.match(str(text))
    if not found or found[2] not in _UNITS:
        raise ValueError(f"{text!r} is no Kubernetes quantity")
    return float(found[1]) * _UNITS[found[2]]
