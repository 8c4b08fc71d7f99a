"""A real PostgreSQL server on loopback. Everything blocks; the host calls it in threads."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runbook_lib.practice.guarded import Guarded
from runbook_lib.practice.postgres import snapshot
from runbook_lib.practice.postgres.binaries import (
    PostgresError,
    make_home,
    unprivileged,
    usable_binaries,
)

if TYPE_CHECKING:
    import psycopg

DATABASE = "mlflow"
ADMIN = "mlops_admin"
APPLICATION_ROLES = ("platform_api", "mlflow", "reporting")
MAX_CONNECTIONS = 40
MOST_CONNECTIONS = 2000  # each takes memory; RDS's own formula has 1,802 for db.r5.large
SUPERUSER_RESERVED = 3
RESERVED = 2
START_SECONDS = 20.0
COPY_SECONDS = 60.0
PORT_ATTEMPTS = 3


def free_port() -> int:
    """A port on 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Postgres:
    """One PostgreSQL server: create, then start, stop, kill and start again at will."""

    host = "127.0.0.1"

    def __init__(self, state: Path, *, remove_when_orphaned: bool = False) -> None:
        """`state` is the platform's folder, which an orphaned server's guard may remove."""
        self.state = state
        self.port = 0
        self.major = 0
        self.passwords = {
            role: secrets.token_urlsafe(18) for role in ("postgres", ADMIN, *APPLICATION_ROLES)
        }
        self._account = unprivileged()
        self._remove_when_orphaned = remove_when_orphaned
        self._server: Guarded | None = None
        self._home: Path | None = None
        self.max_connections = MAX_CONNECTIONS
        self._binaries = Path()

    def create(self) -> None:
        """Initialise the data folder, start the server, and make roles, database and rows."""
        self._home = make_home(self.state, self._account)
        self._binaries, self.major = usable_binaries(self._home, self._account)
        self._initdb(self._home)
        for attempt in range(PORT_ATTEMPTS):
            self.port = free_port()
            try:
                self.start()
                break
            except PostgresError:
                # Another process may have taken the port between looking and binding.
                if attempt == PORT_ATTEMPTS - 1:
                    raise
        self._fill()
        self._keep()

    def restore(self) -> None:
        """The server as create() left it, whatever was done to it; every session ends."""
        self.stop()
        self._snapshot("restore")
        self.max_connections = MAX_CONNECTIONS
        self.start()

    def remove(self) -> None:
        """Delete what the server wrote; call only when it has ended."""
        if self._home:
            shutil.rmtree(self._home, ignore_errors=True)
        link = self.state / "postgres"
        if link.is_symlink():
            link.unlink()

    @property
    def pid(self) -> int | None:
        return self._server.pid if self._server and self._server.alive() else None

    def usable_slots(self) -> int:
        """Connections that an ordinary role can have at once."""
        return self.max_connections - SUPERUSER_RESERVED - (RESERVED if self.major >= 16 else 0)

    def connect(
        self, role: str, *, application: str, database: str = DATABASE
    ) -> psycopg.Connection:
        """An autocommit connection as `role`. Raises psycopg.OperationalError."""
        # Imported here: only the host needs it, and only once the server runs.
        import psycopg

        conninfo = self.conninfo(role, application=application, database=database)
        return psycopg.connect(conninfo, autocommit=True)

    def conninfo(self, role: str, *, application: str, database: str = DATABASE) -> str:
        """What libpq needs to connect as `role`, the password in it."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo(
            host=self.host,
            port=self.port,
            dbname=database,
            user=role,
            password=self.passwords[role],
            application_name=application,
            sslmode="disable",
            connect_timeout=3,
        )

    def client_sessions(self) -> int | None:
        """How many sessions clients have; None while the server answers nobody.

        Without those of the superuser, who is here what `rdsadmin` is on Amazon RDS. Asks by a
        session that is gone again, in a slot that clients cannot take.
        """
        import psycopg

        if not self.pid:
            return None
        try:
            with self.connect("postgres", application="practice", database="postgres") as asking:
                row = asking.execute(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND usename <> 'postgres'"
                ).fetchone()
        except psycopg.OperationalError as refusal:
            # libpq gives no SQLSTATE here. Even the reserved slots are taken.
            return self.max_connections if "too many clients" in str(refusal) else None
        return int(row[0]) if row else None

    def start(self) -> None:
        """Start the server on its port and wait until it takes connections."""
        if self.pid:
            return
        self.stop()
        self._server = self._run(
            [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        )
        self._wait_ready()

    def restart(self, settings: Mapping[str, str]) -> None:
        """End the server, which cuts its sessions off, and start it with these settings.

        Raises PostgresError where it does not start with them; then it is down, and they are no
        more.
        """
        self.stop()
        before, slots = self._configuration.read_text(), self.max_connections
        self.max_connections = int(settings.get("max_connections", slots))
        try:
            if self.max_connections > MOST_CONNECTIONS:
                raise PostgresError(f"no memory for {self.max_connections} connections")
            self._configure(settings)
            self.start()
        except PostgresError:
            self._configuration.write_text(before)
            self.max_connections = slots
            raise

    def reload(self, settings: Mapping[str, str]) -> None:
        """Give a running server settings that it takes as it runs."""
        self._configure(settings)
        if pid := self.pid:
            os.kill(pid, signal.SIGHUP)

    def _configure(self, settings: Mapping[str, str]) -> None:
        with self._configuration.open("a") as lines:  # the last of a name counts
            lines.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    @property
    def _configuration(self) -> Path:
        return self._data / "postgresql.conf"

    def stop(self) -> None:
        """End the server in order, if it runs."""
        if self._server:
            server, self._server = self._server, None
            server.stop()

    def kill(self) -> None:
        """SIGKILL to the server and its backends, if it runs."""
        if self.pid and self._server:
            # A backend that computes would outlive the server and keep it from starting again.
            backends = self._backends()
            server, self._server = self._server, None
            server.kill()
            for pid in backends:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _keep(self) -> None:
        """Put the data folder aside for restore()."""
        self.stop()
        self._snapshot("save")
        self.start()

    def _snapshot(self, what: str) -> None:
        # As ourselves: the server's user may not reach Python. Owners are kept.
        archive = self._folder / "kept.tar"
        copying = Guarded(
            [sys.executable, "-I", "-S", snapshot.__file__, what, str(self._data), str(archive)],
            user=None,
            cwd=self._folder,
            log=self.log,
            remove=self._leftovers(),
        )
        if code := copying.wait(timeout=COPY_SECONDS):
            raise PostgresError(f"snapshot.py {what} ended with {code}; see {self.log}")

    def reject(self, role: str) -> None:
        """Put a rule that rejects `role` before all others; it holds from the next reload on."""
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"host all {role} all reject\n" + rules.read_text())

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _folder(self) -> Path:
        if self._home is None:
            raise PostgresError("PostgreSQL is used before create()")
        return self._home

    @property
    def log(self) -> Path:
        return self.state / "postgres.log"

    def _run(self, command: list[str]) -> Guarded:
        return Guarded(
            command,
            user=self._account,
            cwd=self._folder,
            log=self.log,
            remove=self._leftovers(),
        )

    def _leftovers(self) -> list[Path]:
        return [self._folder, self.state] if self._remove_when_orphaned else []

    def _initdb(self, home: Path) -> None:
        password_file = home / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.passwords["postgres"])
        if self._account:
            os.chown(password_file, self._account.uid, self._account.gid)
        command = f"{self._binaries / 'initdb'} -U postgres -A scram-sha-256 -E UTF8 --locale=C"
        code = self._run(
            [
                *command.split(),
                "--no-sync",
                # Small segments: the data folder is copied whole.
                "--wal-segsize=1",
                f"--pwfile={password_file}",
                "-D",
                str(self._data),
            ]
        ).wait(timeout=60)
        password_file.unlink()
        if code:
            raise PostgresError(f"initdb ended with {code}; see {self.log}\n{self._tail()}")
        with self._configuration.open("a") as settings:
            settings.write(self._settings())

    def _settings(self) -> str:
        """Small and quick: the data is thrown away, so nothing is forced to disk."""
        lines = [
            "listen_addresses = '127.0.0.1'",
            "unix_socket_directories = ''",
            f"max_connections = {MAX_CONNECTIONS}",
            f"superuser_reserved_connections = {SUPERUSER_RESERVED}",
            "shared_preload_libraries = 'pg_stat_statements'",
            "shared_buffers = 16MB",
            # Segments in the data folder: a killed server then leaves nothing in /dev/shm.
            "dynamic_shared_memory_type = mmap",
            "fsync = off",
            "synchronous_commit = off",
            "full_page_writes = off",
            # The usual one; initdb makes it small where segments are.
            "max_wal_size = 1GB",
            "track_io_timing = on",
            "timezone = 'UTC'",
            "log_timezone = 'UTC'",
            # The log's lines as Amazon RDS writes them, and what an engineer looks for there.
            "log_line_prefix = '%t:%r:%u@%d:[%p]:'",
            "log_connections = on",
            "log_disconnections = on",
            "log_lock_waits = on",
            "log_min_duration_statement = 1000",
        ]
        if self.major >= 16:
            lines.append(f"reserved_connections = {RESERVED}")
        return "\n# practice platform\n" + "\n".join(lines) + "\n"

    def _backends(self) -> list[int]:
        import psycopg

        try:
            with self.connect("postgres", application="practice") as connection:
                rows = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                    " AND backend_type IN ('client backend', 'parallel worker')"
                ).fetchall()
        except psycopg.OperationalError:
            return []  # it answers nobody any more
        return [pid for (pid,) in rows]

    def _wait_ready(self) -> None:
        import psycopg

        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect("postgres", application="practice", database="postgres").close()
                return
            except psycopg.OperationalError as error:
                if not self.pid:
                    raise PostgresError(
                        f"PostgreSQL ended while starting\n{self._tail()}"
                    ) from None
                if time.monotonic() > deadline:
                    self.stop()
                    raise PostgresError(
                        f"PostgreSQL took no connection in {START_SECONDS:.0f} s: {error}; "
                        f"see {self.log}"
                    ) from None
                time.sleep(0.02)

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-1500:]

    def _fill(self) -> None:
        from psycopg import sql

        with self.connect("postgres", application="practice", database="postgres") as connection:
            for role in (ADMIN, *APPLICATION_ROLES):
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                        sql.Identifier(role), sql.Literal(self.passwords[role])
                    )
                )
            # As `rdsadmin` has it: no timeout of the others' may shut us out.
            for timeout in ("statement", "lock", "idle_in_transaction_session"):
                name = f"{timeout}_timeout"
                connection.execute(f"ALTER ROLE postgres SET {name} = 0")
            connection.execute(f"GRANT pg_monitor, pg_signal_backend, pg_read_all_data TO {ADMIN}")
            if self.major >= 16:
                connection.execute(f"GRANT pg_use_reserved_connections TO {ADMIN}")
            else:
                # Before 16 only a superuser may take a reserved slot, and the monitoring role
                # must get in when the ordinary ones are gone.
                connection.execute(f"ALTER ROLE {ADMIN} SUPERUSER")
            # As the master user of RDS, who may index, analyze and vacuum what others own.
            connection.execute(f"GRANT mlflow TO {ADMIN}")
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER mlflow")
        with self.connect("postgres", application="practice") as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            # On 15 and later the schema public is its owner's alone.
            connection.execute("ALTER SCHEMA public OWNER TO mlflow")
            connection.execute("SET ROLE mlflow")
            connection.execute((Path(__file__).parent / "mlflow.sql").read_text())
        # Another session: the counters of the one above must have arrived.
        with self.connect("postgres", application="practice") as connection:
            connection.execute("VACUUM ANALYZE")
            # The statements above are nobody's load.
            connection.execute("SELECT pg_stat_statements_reset()")
