"""What postgres_exporter and redis_exporter measure, asked of the real servers.

A server that does not answer is `pg_up` or `redis_up` 0 and nothing else, as the exporters have
it: they are up themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.metrics.samples import Sample

if TYPE_CHECKING:
    import psycopg
    import redis

# Columns: labels first; then each column is a series, named after the prefix and itself.
_QUERIES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "pg_stat_activity",
        ("datname", "usename", "application_name", "state"),
        "SELECT datname, usename, application_name, coalesce(state, 'unknown') AS state,"
        " count(*) AS count,"
        " coalesce(max(extract(epoch FROM now() - xact_start)), 0)::float AS max_tx_duration"
        " FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1, 2, 3, 4",
    ),
    (
        "pg_settings",
        (),
        "SELECT current_setting('max_connections')::int AS max_connections,"
        " current_setting('superuser_reserved_connections')::int"
        " AS superuser_reserved_connections",
    ),
    (
        "pg_stat_database",
        ("datname",),
        "SELECT datname, numbackends, xact_commit, xact_rollback, deadlocks, blks_hit,"
        " blks_read, temp_bytes FROM pg_stat_database WHERE datname IS NOT NULL",
    ),
    (
        "pg_database",
        ("datname",),
        "SELECT datname, pg_database_size(oid) AS size_bytes FROM pg_database"
        " WHERE NOT datistemplate",
    ),
    (
        "pg_locks",
        ("mode", "granted"),
        "SELECT mode, granted::text AS granted, count(*) AS count FROM pg_locks GROUP BY 1, 2",
    ),
    (
        "pg_stat_user_tables",
        ("schemaname", "relname"),
        "SELECT schemaname, relname, seq_scan, coalesce(idx_scan, 0) AS idx_scan, n_live_tup,"
        " n_dead_tup FROM pg_stat_user_tables",
    ),
)


class PostgresExporter:
    """The job postgres-exporter. `connect` gives an autocommit connection of a monitoring role."""

    job = "postgres-exporter"

    def __init__(self, connect: Callable[[], psycopg.Connection]) -> None:
        self._connect = connect
        self._connection: psycopg.Connection | None = None

    def collect(self) -> Iterable[Sample]:
        import psycopg

        # A connection of before may have ended with a server that runs again: once more, anew.
        for last in (self._connection is None, True):
            try:
                return [Sample("pg_up", {}, 1), *self._measured()]
            except psycopg.Error:
                self.close()
                if last:
                    break
        return [Sample("pg_up", {}, 0)]

    def _measured(self) -> list[Sample]:
        if self._connection is None:
            self._connection = self._connect()
        found = []
        for prefix, names, query in _QUERIES:
            cursor = self._connection.execute(query)
            columns = [column.name for column in cursor.description or []]
            for row in cursor.fetchall():
                values = dict(zip(columns, row, strict=True))
                labels = {name: str(values.pop(name) or "") for name in names}
                found += [
                    Sample(f"{prefix}_{name}", labels, float(value))
                    for name, value in values.items()
                ]
        return found

    def close(self) -> None:
        """Give the connection back; the next scrape opens another."""
        import psycopg

        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()


# A field of INFO: the series.
_INFO = {
    "uptime_in_seconds": "redis_uptime_in_seconds",
    "connected_clients": "redis_connected_clients",
    "blocked_clients": "redis_blocked_clients",
    "maxclients": "redis_config_maxclients",
    "used_memory": "redis_memory_used_bytes",
    "used_memory_rss": "redis_memory_used_rss_bytes",
    "maxmemory": "redis_memory_max_bytes",
    "mem_fragmentation_ratio": "redis_mem_fragmentation_ratio",
    "total_commands_processed": "redis_commands_processed_total",
    "total_connections_received": "redis_connections_received_total",
    "rejected_connections": "redis_rejected_connections_total",
    "evicted_keys": "redis_evicted_keys_total",
    "expired_keys": "redis_expired_keys_total",
    "keyspace_hits": "redis_keyspace_hits_total",
    "keyspace_misses": "redis_keyspace_misses_total",
    "connected_slaves": "redis_connected_slaves",
}


class RedisExporter:
    """The job redis-exporter. `connect` gives a client, with short time limits, to the server."""

    job = "redis-exporter"

    def __init__(self, connect: Callable[[], redis.Redis]) -> None:
        self._connect = connect
        self._client: redis.Redis | None = None

    def collect(self) -> Iterable[Sample]:
        import redis

        try:
            if self._client is None:
                self._client = self._connect()
            info: Any = self._client.info()
            slow: Any = self._client.slowlog_len()
        except redis.RedisError:
            self.close()
            return [Sample("redis_up", {}, 0)]
        found = [Sample("redis_up", {}, 1), Sample("redis_slowlog_length", {}, float(slow))]
        found += [
            Sample(name, {}, float(info[field])) for field, name in _INFO.items() if field in info
        ]
        about = {"role": str(info["role"]), "redis_version": str(info["redis_version"])}
        found.append(Sample("redis_instance_info", about, 1))
        for name, keys in info.items():
            if name.startswith("db") and isinstance(keys, dict):
                found.append(Sample("redis_db_keys", {"db": name}, float(keys["keys"])))
        return found

    def close(self) -> None:
        """Close the client; the next scrape opens another."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
