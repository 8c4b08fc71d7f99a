"""How many database connections the platform's Deployments may open, by their configuration."""

from __future__ import annotations

import re
from typing import Any

from runbook_lib.sources.clients import Sources
from runbook_lib.sources.seam import probe

# Names under which the platform's applications read their pool (platform API, MLflow, gunicorn).
POOL_SIZE = ("DB_POOL_SIZE", "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE")
OVERFLOW = ("DB_MAX_OVERFLOW", "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW")
WORKERS = ("WEB_CONCURRENCY", "GUNICORN_WORKERS", "MLFLOW_WORKERS")
SQLALCHEMY_OVERFLOW = 10  # QueuePool's max_overflow when it is not set
_WORKERS_FLAG = re.compile(r"(?:^|\s)(?:-w\s*|--workers[\s=]+)(\d+)(?=\s|$)")


@probe(
    lambda config: (
        f"kubectl get deploy,configmap -n {config.namespaces.platform} -o yaml"
        " | grep -iE 'replicas:|POOL_SIZE|MAX_OVERFLOW|CONCURRENCY|WORKERS|-w'"
    )
)
def database_pools(sources: Sources) -> list[dict[str, Any]]:
    """The pools that Deployments of the platform's namespace declare:
    [{deployment, replicas, workers, pool_size, max_overflow}].

    pool_size is None where none is set. workers (from the environment, else -w or --workers of
    the command) is 1 where none is set, max_overflow SQLAlchemy's 10. Runbook: RDS Connection
    Exhaustion, solution 3.
    """
    namespace = sources.config.namespaces.platform
    listed = sources.kubernetes.list(f"/apis/apps/v1/namespaces/{namespace}/deployments")
    maps = sources.kubernetes.list(f"/api/v1/namespaces/{namespace}/configmaps")
    values = {one["metadata"]["name"]: one.get("data") or {} for one in maps}
    return [declared(deployment, values) for deployment in listed]


def declared(deployment: dict[str, Any], maps: dict[str, dict[str, str]]) -> dict[str, Any]:
    """One Deployment's entry in `database_pools`; maps is {ConfigMap: {key: value}}."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    env: dict[str, str] = {}
    for container in containers:
        env |= _environment(container, maps)
    return {
        "deployment": deployment["metadata"]["name"],
        "replicas": deployment["spec"].get("replicas", 1),
        "workers": _first(env, WORKERS, _workers_of(containers)),
        "pool_size": _first(env, POOL_SIZE, None),
        "max_overflow": _first(env, OVERFLOW, SQLALCHEMY_OVERFLOW),
    }


def _workers_of(containers: list[dict[str, Any]]) -> int:
    """The most workers that a container's command line asks for, or 1."""
    lines = (" ".join([*(c.get("command") or []), *(c.get("args") or [])]) for c in containers)
    return max((int(n) for line in lines for n in _WORKERS_FLAG.findall(line)), default=1)


def _environment(container: dict[str, Any], maps: dict[str, dict[str, str]]) -> dict[str, str]:
    env: dict[str, str] = {}
    for source in container.get("envFrom", []):
        env |= maps.get(source.get("configMapRef", {}).get("name", ""), {})
    for entry in container.get("env", []):
        reference = entry.get("valueFrom", {}).get("configMapKeyRef", {})
        value = entry.get("value") or maps.get(reference.get("name", ""), {}).get(
            reference.get("key", "")
        )
        if value is not None:
            env[entry["name"]] = value
    return env


def _first(env: dict[str, str], names: tuple[str, ...], default: int | None) -> int | None:
    return next((int(env[name]) for name in names if env.get(name, "").isdecimal()), default)
