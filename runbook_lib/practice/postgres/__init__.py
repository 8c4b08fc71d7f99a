"""A real PostgreSQL server, the sessions that applications hold on it, and its faults."""
