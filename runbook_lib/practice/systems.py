"""The systems of one platform: which there are, how they are joined, started and healed."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runbook_lib.practice import seed
from runbook_lib.practice.alignment import Alignment
from runbook_lib.practice.aws.identity import user_of
from runbook_lib.practice.aws.lean import ACCOUNT, REGION
from runbook_lib.practice.aws.names import ON_CALL
from runbook_lib.practice.aws.seed import Seeded
from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.kubernetes.identity import MASTERS
from runbook_lib.practice.kubernetes_api import KubernetesApi
from runbook_lib.practice.kubernetes_system import KubernetesSystem
from runbook_lib.practice.metrics import real_systems as monitoring
from runbook_lib.practice.metrics.scrape import Target
from runbook_lib.practice.metrics.targets import targets
from runbook_lib.practice.network.gateway import Gateway
from runbook_lib.practice.network.nameserver import NameServer
from runbook_lib.practice.network.sources import hosted_zone, other_balancers, service_addresses
from runbook_lib.practice.network.zone import Record
from runbook_lib.practice.objects.store import Change, Object
from runbook_lib.practice.postgres.server import ADMIN, APPLICATION_ROLES, DATABASE
from runbook_lib.practice.postgres.sessions import role_of
from runbook_lib.practice.postgres.system import Database
from runbook_lib.practice.redis.cli import RedisCli
from runbook_lib.practice.redis.system import OnlineStore
from runbook_lib.practice.services.feast import FeatureServer
from runbook_lib.practice.services.kserve import ModelServers
from runbook_lib.practice.services.mlflow import Mlflow
from runbook_lib.practice.services.platform_api import PlatformApi
from runbook_lib.practice.services.pool import parameters
from runbook_lib.practice.system import System
from runbook_lib.practice.wait import lasting

RDS_TTL = 5  # seconds, so that a failover is soon seen


class Systems:
    """All systems of one platform; `all` names them as scenarios do."""

    def __init__(self, state: Path, *, temporary: bool) -> None:
        self._state = state
        self._jwt_secret, self._next_jwt_secret = (
            secrets.token_urlsafe(32),
            secrets.token_urlsafe(32),
        )
        self._kubernetes_token = secrets.token_urlsafe(32)
        self._seeded: Seeded | None = None
        self._followed: list[asyncio.Task[None]] = []
        self.aws = Aws()
        self.postgres = Database(state, remove_when_orphaned=temporary)
        self.redis = OnlineStore(state, remove_when_orphaned=temporary)
        api = KubernetesApi(state / "kubernetes", self._kubernetes_token)
        self.kubernetes = KubernetesSystem(api, self._objects)
        self._store = api.store
        self.mlflow = Mlflow(api.store, api.kubelet, self.aws)
        self.platform_api = PlatformApi(api.store, api.kubelet, self._address)
        self.feast = FeatureServer(api.store, api.kubelet, self.aws, self._address)
        self.models = ModelServers(api.store, api.kubelet, self.aws)
        self.applications = (self.mlflow, self.platform_api, self.feast, self.models)
        self.prometheus, self.alertmanager = monitoring.systems(
            self._targets(),
            state / "metrics",
            [state] if temporary else [],
            choice=os.environ.get(monitoring.CHOICE),
        )
        self.gateway = Gateway(state / "network", self._upstream)
        self.dns = NameServer(zone=self._zone, services=self._service_addresses)
        self.all: dict[str, System] = {
            "aws": self.aws,
            "postgres": self.postgres,
            "redis": self.redis,
            "kubernetes": self.kubernetes,
            "mlflow": self.mlflow,
            "api": self.platform_api,
            "feast": self.feast,
            "models": self.models,
            "alertmanager": self.alertmanager,
            "prometheus": self.prometheus,
            "gateway": self.gateway,
            "dns": self.dns,
        }
        api.kubelets.exec_in.tools["redis-cli"] = RedisCli(self.redis)
        self._pods_changed = asyncio.Event()
        api.store.listeners.append(self._notice)
        api.take_aws_keys(self._groups_of)
        services = {one.app: one for one in (self.mlflow, self.platform_api)}
        self.alignment = Alignment(self.aws, api, self.postgres, services)

    async def start(self) -> None:
        """Start and fill all of them, side by side where nobody waits for another."""
        for folder in ("kubernetes", "network", "metrics"):
            (self._state / folder).mkdir(mode=0o700, exist_ok=True)
        async with asyncio.TaskGroup() as side_by_side:
            account = side_by_side.create_task(asyncio.to_thread(self._make_account))
            for system in (
                self.postgres,
                self.redis,
                self.kubernetes,
                self.gateway,
                self.dns,
                self.alertmanager,
            ):
                side_by_side.create_task(system.start())
        self._seeded = account.result()
        certificate = base64.b64encode(self.kubernetes.api.ca_file.read_bytes()).decode()
        self.aws.point_cluster_at(self.kubernetes.api.url, certificate)
        self.dns.load_balancer = self._seeded.alb_hostname
        await self.kubernetes.heal()
        self._followed = [lasting(self._follow_pods())]
        self.alignment.start()
        async with asyncio.TaskGroup() as side_by_side:
            for application in self.applications:
                side_by_side.create_task(application.start())
        await self.alignment.complete(self._seeded)
        await self.prometheus.start()

    def _make_account(self) -> Seeded:
        self.aws.create()
        return self.aws.seed(self.postgres.server.passwords[ADMIN])

    async def heal(self) -> None:
        """Every system running, and each as after the start."""
        async with self.alignment.healing():
            await self._heal()

    async def _heal(self) -> None:
        for system in self.all.values():
            await system.start()
        below = (self.aws, self.postgres, self.redis)
        apart = (*below, self.kubernetes, self.prometheus)
        above = (one for one in self.all.values() if one not in apart)
        # From below: a pod that starts while its database restarts would crash. What is measured
        # first is taken for how all has been.
        for storey in (below, (self.kubernetes,), above, (self.prometheus,)):
            async with asyncio.TaskGroup() as side_by_side:
                for system in storey:
                    side_by_side.create_task(system.heal())

    async def stop(self) -> None:
        """End what must be ended in order; the rest goes with the process."""
        self.alignment.stop()
        for task in self._followed:
            task.cancel()
        last = (self.prometheus, self.alertmanager, *self.applications, self.redis, self.postgres)
        for system in last:
            await system.stop()

    def clean_up(self) -> None:
        """End the guarded children and delete their files. Blocks."""
        self.redis.server.stop()
        self.redis.server.forget()
        self.postgres.server.stop()
        self.postgres.server.remove()

    # how they are joined

    def _objects(self) -> list[Object]:
        assert self._seeded
        passwords, server = self.postgres.server.passwords, self.postgres.server
        address = f"{server.host}:{server.port}/{DATABASE}"
        objects = seed.objects(
            {
                "host": server.host,
                "port": str(server.port),
                "username": "mlflow",
                "password": passwords["mlflow"],
                "database": DATABASE,
            },
            self._jwt_secret,
            f"postgresql://platform_api:{passwords['platform_api']}@{address}",
            {
                "alb_hostname": self._seeded.alb_hostname,
                "certificate_arn": self._seeded.certificate_arn,
            },
        )
        zones = {node.name: node.zone for node in seed.NODES}
        for one in objects:
            if one["kind"] == "Node":
                name = one["metadata"]["name"]
                instance = self._seeded.instances[name]
                one["spec"]["providerID"] = f"aws:///{zones[name]}/{instance}"
        return objects

    def _upstream(self, host: str) -> str | None:
        """Where the load balancer sends what is meant for a host."""
        application = self.mlflow if host.startswith("mlflow.") else self.platform_api
        return application.url if application.running else None

    def _address(self, service: str) -> str | None:
        """Where a Service's application really listens."""
        store = self.redis.server
        known = {
            "mlflow": self.mlflow.url,
            "feast-feature-server": self.feast.url,
            "feast-redis-master": f"redis://:{store.password}@{store.host}:{store.port}",
        }
        return known.get(service)

    def _targets(self) -> list[Target]:
        """What Prometheus scrapes."""
        server = self.postgres.server
        return targets(
            self._store,
            self.kubernetes.api.kubelet,
            lambda: server.connect(ADMIN, application="postgres-exporter"),
            self._redis_client,
            {f"{one.app}:8000": one for one in self.applications},
        )

    def _redis_client(self) -> Any:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        server = self.redis.server
        return Redis(
            host=server.host,
            port=server.port,
            password=self.redis.password,
            socket_timeout=1,
            socket_connect_timeout=1,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )

    def _zone(self) -> list[Any]:
        if not self._seeded:
            return []
        from moto.elbv2.models import elbv2_backends
        from moto.route53.models import route53_backends

        backend = route53_backends[ACCOUNT]["global"]
        balancers = list(elbv2_backends[ACCOUNT][REGION].load_balancers.values())
        return [
            *hosted_zone(backend.zones[self._seeded.hosted_zone]),
            # RDS's own zone, for which the name server answers by recursion.
            Record(self._seeded.database_address, "A", (self.postgres.server.host,), RDS_TTL),
            *other_balancers((one.dns_name for one in balancers), self.dns.load_balancer),
        ]

    def _groups_of(self, access_key_id: str) -> tuple[str, list[str]] | None:
        """The cluster knows the on-call engineer, as its administrator, and no other IAM user."""
        if self._seeded and user_of(access_key_id) == ON_CALL:
            return ON_CALL, [MASTERS]
        return None

    def _service_addresses(self, name: str) -> list[str] | None:
        slices = self._store.all("endpointslices", "discovery.k8s.io")
        return service_addresses(name, self._store.all("services"), slices)

    def _notice(self, change: Change) -> None:
        if change.kind.kind == "Pod":
            self._pods_changed.set()

    async def _follow_pods(self) -> None:
        """Applications' sessions on the database live and end with their pods."""
        while True:
            self._pods_changed.clear()
            pods: dict[str, list[str]] = {"platform-api": [], "mlflow": []}
            for pod in self._store.all("pods"):
                application = pod["metadata"].get("labels", {}).get("app")
                if application in pods and _runs(pod):
                    pods[application].append(pod["metadata"]["name"])
                    env = self.kubernetes.api.kubelet.environment(pod, application) or {}
                    if password := _database_password(env):
                        self.postgres.server.passwords[role_of(application)] = password
            await self.postgres.pods_changed(pods)
            await self._pods_changed.wait()

    # what clients need

    def describe(self) -> dict[str, Any]:
        """platform.json, but for what the host adds; writes the files that it names."""
        api = self.kubernetes.api
        kubeconfig, configuration = self._state / "kubeconfig", self._state / "runbook.toml"
        api.write_kubeconfig(kubeconfig)
        configuration.write_text(_toml(self._settings()))
        environment = {"KUBECONFIG": str(kubeconfig), "RUNBOOK_CONFIG": str(configuration)}
        for name in ("NO_PROXY", "no_proxy"):  # everything of ours is on loopback
            environment[name] = ",".join(
                filter(None, (os.environ.get(name), "127.0.0.1,localhost"))
            )
        for system in self.all.values():
            environment |= system.environment()
        return {
            "kubernetes": {
                "url": api.url,
                "ca_file": str(api.ca_file),
                "token": api.director_token,
            },
            "endpoints": {
                "mlflow": self.mlflow.url,
                "api": self.platform_api.url,
                "feast": self.feast.url,
                "models": self.models.url,
                "prometheus": self.prometheus.url,
                "alertmanager": self.alertmanager.url,
                "gateway": self.gateway.address,
                "gateway_http": self.gateway.http_address,
                "gateway_ca": str(self.gateway.ca_file),
                "dns": self.dns.address,
            },
            "env": environment,
            "passwords": self.postgres.server.passwords,
            "jwt_secret": self._jwt_secret,
            "rotated": {
                "jwt_secret": self._next_jwt_secret,
                **{
                    f"password_{role}": self.postgres.password_of(role)
                    for role in APPLICATION_ROLES
                },
            },
            "secrets": [
                self._jwt_secret,
                self._next_jwt_secret,
                self._kubernetes_token,
                *(value for system in self.all.values() for value in system.secrets()),
            ],
        }

    def _settings(self) -> dict[str, dict[str, Any]]:
        """What runbook.toml must say; nothing secret."""
        settings: dict[str, dict[str, Any]] = {
            "endpoints": {
                "mlflow": f"{self.mlflow.url}/health",
                "api": f"{self.platform_api.url}/health",
            }
        }
        for system in self.all.values():
            for table, values in system.settings().items():
                settings.setdefault(table, {}).update(values)
        return settings


def _database_password(env: Mapping[str, str]) -> str:
    """What a container logs in to the database with; '' where its environment does not say."""
    if "DATABASE_URL" not in env:
        return env.get("DB_PASSWORD", "")
    try:
        return str(parameters(env["DATABASE_URL"])["password"])
    except ValueError:
        return ""


def _toml(tables: dict[str, dict[str, Any]]) -> str:
    """Tables of strings and numbers, which TOML writes as JSON does."""
    return "\n".join(
        f"[{table}]\n" + "".join(f"{name} = {json.dumps(v)}\n" for name, v in values.items())
        for table, values in tables.items()
    )


def _runs(pod: Object) -> bool:
    """A container of it runs."""
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return any("running" in one.get("state", {}) for one in statuses)
