"""A real Redis-compatible server and its faults."""
