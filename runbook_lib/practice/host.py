"""The process in which the practice platform lives.

    python -m runbook_lib.practice.host STATE_DIR [--temporary] [--detached]

Kubernetes, web endpoints and the control API run in its event loop, moto in threads, PostgreSQL
as a guarded child. It announces itself with one JSON line on standard output and ends when its
standard input does, which is how the death of the process that started it reaches it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import time
from pathlib import Path

from runbook_lib.practice import seed
from runbook_lib.practice.access import Cluster, pod_is_ready
from runbook_lib.practice.aws import seed as aws_seed
from runbook_lib.practice.aws.server import REGION, Aws
from runbook_lib.practice.control import Control
from runbook_lib.practice.kubernetes_api import KubernetesApi
from runbook_lib.practice.postgres.clients import Clients
from runbook_lib.practice.postgres.server import ADMIN, DATABASE, Postgres
from runbook_lib.practice.services.web import Behaviour, Health, Prometheus, Server
from runbook_lib.practice.wait import until

PODS_READY_SECONDS = 20.0
SAMPLE_SECONDS = 60.0
LOG = logging.getLogger("practice")


class Host:
    """The platform's systems, started side by side and stopped one by one."""

    def __init__(self, state: Path, *, temporary: bool) -> None:
        self.state = state
        self.temporary = temporary
        self.stopping = asyncio.Event()
        self.jwt_secret = secrets.token_urlsafe(32)
        self.kubernetes_token = secrets.token_urlsafe(32)
        self.control_token = secrets.token_urlsafe(32)
        self.postgres = Postgres(state, remove_when_orphaned=temporary)
        self.clients = Clients(self.postgres)
        self.aws = Aws()
        self.kubernetes = KubernetesApi(state / "kubernetes", self.kubernetes_token)
        self.kubernetes_running = False
        self._kubernetes_port = 0
        self.prometheus = Prometheus()
        self.endpoints: dict[str, Health | Prometheus] = {
            "mlflow": Health(Behaviour(body="OK")),
            "api": Health(Behaviour(body='{"status": "healthy"}')),
            "feast": Health(Behaviour()),
            "prometheus": self.prometheus,
        }
        self.control = Control(self, self.control_token)

    async def start(self) -> None:
        """Start all systems, fill them, and write the state files. Raises what went wrong."""
        began = time.monotonic()
        servers: list[Server] = [*self.endpoints.values(), self.control]
        async with asyncio.TaskGroup() as side_by_side:
            aws = side_by_side.create_task(asyncio.to_thread(self._start_aws))
            side_by_side.create_task(self._start_postgres_then_kubernetes())
            for server in servers:
                side_by_side.create_task(server.start())
        instances = aws.result()
        await asyncio.to_thread(self._finish, instances)
        self._write_state()
        LOG.info("ready after %.1f s", time.monotonic() - began)

    def _start_aws(self) -> dict[str, str]:
        self.aws.create()
        return self.aws.seed(self.postgres.passwords[ADMIN]).instances

    async def _start_postgres_then_kubernetes(self) -> None:
        """Postgres first: the Secrets name its port."""
        await asyncio.to_thread(self.postgres.create)
        await asyncio.to_thread(self.clients.open_pools)
        await self.start_kubernetes()
        self._load()

    async def start_kubernetes(self) -> None:
        """Listen, the second time on the port of the first."""
        if not self.kubernetes_running:
            (self.state / "kubernetes").mkdir(mode=0o700, exist_ok=True)
            await self.kubernetes.start(self._kubernetes_port)
            self._kubernetes_port = int(self.kubernetes.url.rsplit(":", 1)[1])
            self.kubernetes_running = True

    async def stop_kubernetes(self) -> None:
        """Refuse connections; the objects stay."""
        if self.kubernetes_running:
            self.kubernetes_running = False
            await self.kubernetes.stop()

    def _load(self) -> None:
        password = self.postgres.passwords
        address = f"{self.postgres.host}:{self.postgres.port}/{DATABASE}"
        self.kubernetes.load(
            seed.objects(
                {
                    "host": self.postgres.host,
                    "port": str(self.postgres.port),
                    "username": "mlflow",
                    "password": password["mlflow"],
                    "database": DATABASE,
                },
                self.jwt_secret,
                f"postgresql://platform_api:{password['platform_api']}@{address}",
            )
        )

    def _finish(self, instances: dict[str, str]) -> None:
        """What needs two systems: nodes name their instances, EKS names its endpoint."""
        certificate = base64.b64encode(Path(self.kubernetes.ca_file).read_bytes()).decode()
        self.aws.point_cluster_at(self.kubernetes.url, certificate)
        cluster = Cluster(self.kubernetes.url, self.kubernetes.ca_file, self.kubernetes_token)
        with contextlib.closing(cluster):
            for node in seed.NODES:
                provider = f"aws:///{node.zone}/{instances[node.name]}"
                cluster.patch(f"/api/v1/nodes/{node.name}", {"spec": {"providerID": provider}})
            self._wait_for_pods(cluster)

    def _wait_for_pods(self, cluster: Cluster) -> None:
        def all_ready() -> bool:
            pods = cluster.get("/api/v1/pods")["items"]
            return bool(pods) and all(pod_is_ready(pod) for pod in pods)

        until(all_ready, PODS_READY_SECONDS, "all pods of the practice platform ready")

    def _write_state(self) -> None:
        """kubeconfig, runbook.toml (no secret in it), and platform.json, written last."""
        kubeconfig = self.state / "kubeconfig"
        self.kubernetes.write_kubeconfig(kubeconfig)
        kubeconfig.chmod(0o600)
        configuration = self.state / "runbook.toml"
        configuration.write_text(
            f'[database]\nhost = "{self.postgres.host}"\nport = {self.postgres.port}\n'
            f'name = "{DATABASE}"\nuser = "{ADMIN}"\nsslmode = "disable"\n\n'
            f'[endpoints]\nmlflow = "{self.endpoints["mlflow"].url}/health"\n'
            f'api = "{self.endpoints["api"].url}/health"\n'
            f'prometheus = "{self.endpoints["prometheus"].url}"\n'
        )
        passwords = self.postgres.passwords
        environment = {
            "KUBECONFIG": str(kubeconfig),
            "AWS_ENDPOINT_URL": self.aws.url,
            "AWS_ACCESS_KEY_ID": self.aws.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.aws.secret_access_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "PGHOST": self.postgres.host,
            "PGPORT": str(self.postgres.port),
            "PGUSER": ADMIN,
            "PGPASSWORD": passwords[ADMIN],
            "PGDATABASE": DATABASE,
            "PGSSLMODE": "disable",
            "RUNBOOK_CONFIG": str(configuration),
        }
        description = {
            "pid": os.getpid(),
            "control": {"url": self.control.url, "token": self.control_token},
            "kubernetes": {
                "url": self.kubernetes.url,
                "ca_file": str(self.kubernetes.ca_file),
                "token": self.kubernetes_token,
            },
            "endpoints": {name: server.url for name, server in self.endpoints.items()},
            "env": environment,
            "passwords": passwords,
            "jwt_secret": self.jwt_secret,
            "secrets": [
                *passwords.values(),
                self.jwt_secret,
                self.aws.access_key_id,
                self.aws.secret_access_key,
                self.kubernetes_token,
                self.control_token,
            ],
        }
        part = self.state / "platform.json.part"
        part.touch(mode=0o600)
        part.write_text(json.dumps(description, indent=1))
        part.rename(self.state / "platform.json")

    async def sample_metrics(self) -> None:
        """Each minute, what CloudWatch would have seen of the server; nothing while it is down."""
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            await asyncio.to_thread(self._sample)

    def _sample(self) -> None:
        import psycopg

        try:
            with self.postgres.connect("postgres", application="rdsadmin") as connection:
                row = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                ).fetchone()
        except psycopg.OperationalError as error:
            LOG.info("no sample of DatabaseConnections: %s", error)
            return
        if row and self.aws.listening:
            aws_seed.add_points(self.aws, "DatabaseConnections", [(0.0, float(row[0]) - 1)])

    def clean_up(self) -> None:
        """End PostgreSQL and delete what is nobody's any more; the rest ends with the process."""
        self.postgres.stop()
        self.postgres.remove()
        if self.temporary:
            shutil.rmtree(self.state, ignore_errors=True)
        # Last: its absence tells others that the platform is down.
        (self.state / "platform.json").unlink(missing_ok=True)


def watch_parent(host: Host) -> None:
    """Stop when standard input ends: the parent closed it or died."""
    loop = asyncio.get_running_loop()

    def readable() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            host.stopping.set()

    loop.add_reader(0, readable)


async def run(host: Host, *, detached: bool) -> int:
    """Start, announce, and serve until told to stop; the exit code."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, host.stopping.set)
    if not detached:
        watch_parent(host)
    stopping = asyncio.create_task(host.stopping.wait())
    starting = asyncio.create_task(host.start())
    await asyncio.wait({stopping, starting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        return 1
    if failure := starting.exception():
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]  # systems start side by side: the first that failed
        LOG.error("the practice platform did not start", exc_info=failure)
        print(json.dumps({"error": f"{type(failure).__name__}: {failure}"}), flush=True)
        return 1
    print(json.dumps({"ready": True}), flush=True)
    sampling = asyncio.create_task(host.sample_metrics())
    await stopping
    sampling.cancel()
    await asyncio.to_thread(host.clients.close)
    return 0


async def serve(state: Path, *, temporary: bool, detached: bool) -> None:
    host = Host(state, temporary=temporary)
    code = 1
    try:
        code = await run(host, detached=detached)
    finally:
        host.clean_up()
        # At once: threads that are still starting something must not hold the process; the
        # guards see it go.
        os._exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state", type=Path)
    parser.add_argument("--temporary", action="store_true", help="delete STATE_DIR at the end")
    parser.add_argument("--detached", action="store_true", help="outlive the starting process")
    args = parser.parse_args()
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s"
    )
    for noisy in ("httpx", "botocore", "werkzeug"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # The terminal's Ctrl-C is the parent's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(serve(args.state, temporary=args.temporary, detached=args.detached))


if __name__ == "__main__":
    main()
