"""What can be rehearsed: a folder for each runbook, a file for each scenario."""
