"""The clients of every system, built on first use, read-only by construction.

The guard is in the clients: Kubernetes requests other than reads, AWS operations other than
reads and SQL that writes are refused here, whatever a probe asks for.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from runbook_lib.config import Config
from runbook_lib.sources.kubernetes_client import KubernetesClient
from runbook_lib.sources.redaction import SECRET_NAME, Redactor
from runbook_lib.sources.seam import SourceError

CONNECT_SECONDS = 3
READ_SECONDS = 6
# Reads whose very answer is a secret are no business of a runbook.
_AWS_READS = re.compile(
    r"^(?!GetParameter|.*(SecretValue|Password|Credential|(Authorization|Session|Federation)Token))"
    r"(Describe|Get|List|Lookup|Head|Query|Search|Simulate|Filter|AssumeRole)"
)


class Sources:
    """What a probe is handed: the configuration and the clients."""

    def __init__(self, config: Config, redactor: Redactor) -> None:
        self.config, self.redactor = config, redactor
        self._made: dict[str, Any] = {}
        # One lock a client: a kubeconfig's login that hangs must not keep AWS from being asked.
        self._making: dict[str, threading.Lock] = {}
        # A full server has one or two slots left for us: never hold more than one.
        self._one_session = threading.Lock()

    @property
    def kubernetes(self) -> KubernetesClient:
        """The API server of the configured context. Raises SourceError without a kubeconfig."""
        return self._once(
            "kubernetes", lambda: KubernetesClient.connect(self.config, self.redactor)
        )

    def aws(self, service: str) -> Any:
        """A boto3 client that can only read, in the configured region."""
        return self._once(f"aws {service}", lambda: self._aws(service))

    @property
    def http(self) -> Any:
        """An httpx client; probes only ever GET with it."""
        return self._once("http", _http)

    @contextmanager
    def postgres(self) -> Iterator[Any]:
        """A read-only session with the configured database; rows come as dicts.

        Raises SourceError: refused (no slot left), unauthenticated, unreachable or timeout.
        """
        from runbook_lib.sources.postgres_client import connect

        with self._one_session, connect(self.config.database, self._database_host()) as session:
            yield session

    def close(self) -> None:
        """Close every client's connections; each opens new ones when it is used again."""
        for name in list(self._made):
            self._made.pop(name).close()

    def _database_host(self) -> str:
        """The configured host, else the one in the database Secret (health check, point 9)."""
        database = self.config.database
        if database.host:
            return database.host
        path = f"/api/v1/namespaces/{self.config.namespaces.platform}/secrets/{database.secret}"
        values = self.kubernetes.secret_values(path)
        self.redactor.add(*(v for name, v in values.items() if SECRET_NAME.search(name)))
        if "host" not in values:
            raise SourceError(
                "not-configured",
                f"Secret {database.secret} has no key host (it has {', '.join(sorted(values))}).",
                "Set host of [database] in runbook.toml, or mend the Secret.",
            )
        return values["host"]

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        with self._making.setdefault(name, threading.Lock()):
            if name not in self._made:
                self._made[name] = make()
            return self._made[name]

    def _aws(self, service: str) -> Any:
        import boto3  # 1 s to import: only where AWS is asked
        from botocore.config import Config as Settings

        session = boto3.Session(region_name=self.config.cluster.region)
        if credentials := session.get_credentials():
            frozen = credentials.get_frozen_credentials()
            self.redactor.add(frozen.access_key, frozen.secret_key, frozen.token)
        client = session.client(
            service,
            config=Settings(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"total_max_attempts": 2, "mode": "standard"},
            ),
        )
        client.meta.events.register("before-parameter-build", refuse_aws_writes)
        return client


def refuse_aws_writes(model: Any, **_: Any) -> None:
    """Refuse every AWS operation that is not known to only read. Raises SourceError."""
    if not _AWS_READS.match(model.name):
        raise SourceError(
            "refused",
            f"The AWS operation {model.name} is not a read that a runbook may make.",
            "Changes go through a planned and approved step.",
        )


def _http() -> Any:
    import httpx

    return httpx.Client(
        timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        headers={"User-Agent": "runbook"},
        follow_redirects=False,
    )
