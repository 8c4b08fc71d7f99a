"""Runbook Notebooks: an MLOps platform's troubleshooting runbook as software."""

from runbook_lib.runs import start

__all__ = ["start"]
