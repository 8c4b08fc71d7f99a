"""Quantities and spans of time, which the API reads, too."""

from runbook_lib.practice.kubernetes.quantities import quantity, span

__all__ = ["quantity", "span"]
