"""Namespace mlops-platform: MLflow, the platform API, Feast and its Redis."""

from __future__ import annotations

from runbook_lib.practice.seed.parts import (
    CLUSTER,
    Container,
    Object,
    config_map,
    secret_env,
    service,
    service_account,
    variable,
    workload,
)

API_LOG = (
    "INFO:     Started server process [1]",
    "INFO:     Application startup complete.",
    "INFO:     Uvicorn running on http://0.0.0.0:8000",
)
MLFLOW_LOG = (
    "INFO mlflow.store.db.utils: Creating initial MLflow database tables...",
    "INFO alembic.runtime.migration: Context impl PostgresqlImpl.",
    "INFO:     Uvicorn running on http://0.0.0.0:5000 (Press CTRL+C to quit)",
    "INFO:     Started parent process [1]",
    "INFO:     Application startup complete.",
)
REDIS_LOG = (
    "1:C * Redis version=7.4.2, bits=64, commit=00000000, modified=0, pid=1, just started",
    "1:M * Server initialized",
    "1:M * Ready to accept connections tcp",
)
FEAST_REGISTRY = f"s3://{CLUSTER}-features/registry.db"
FEATURE_STORE = f"""project: mlops_platform
registry:
  path: {FEAST_REGISTRY}
  cache_ttl_seconds: 60
provider: aws
online_store:
  type: redis
  connection_string: feast-redis-master:6379
entity_key_serialization_version: 3
"""
# A slim Python image has no tools but those of its shell; ours for the API has a few for rescue.
SLIM = ("sh", "env", "printenv", "echo", "cat", "getent")
RESCUE = (*SLIM, "curl", "nc", "nslookup")
_MLFLOW, _API = {"app": "mlflow"}, {"app": "platform-api"}
_SERVER = {"app": "feast", "component": "feature-server"}
_MASTER = {"app": "feast-redis", "role": "master"}
_REPLICA = {"app": "feast-redis", "role": "replica"}


def workloads() -> list[Object]:
    """Everything in namespace mlops-platform but what rules over it (`rules`)."""
    return [
        service_account("mlflow-sa", role="mlops-mlflow-role"),
        service_account("platform-api"),
        service_account("feast-sa", role="mlops-feast-role"),
        config_map(
            "platform-api-config",
            {
                "DB_POOL_SIZE": "5",
                "DB_MAX_OVERFLOW": "2",
                "LOG_LEVEL": "info",
                "JWT_EXPIRATION": "3600",
                "JWT_ALGORITHM": "HS256",
                "REDIS_CACHE_ENABLED": "true",
                "REDIS_CACHE_TTL": "300",
                "REDIS_CACHE_URL": "redis://feast-redis-master:6379/1",
            },
        ),
        config_map("feast-config", {"feature_store.yaml": FEATURE_STORE}),
        _mlflow(),
        service("mlflow", _MLFLOW, 5000, 5000),
        platform_api(),
        service("platform-api", _API, 80, 8000),
        _feast(),
        service("feast-feature-server", _SERVER, 6566, 6566),
        _redis("feast-redis-master", _MASTER),
        service("feast-redis-master", _MASTER, 6379, 6379, port_name="redis"),
        _redis("feast-redis-replica", _REPLICA, "--replicaof", "feast-redis-master", "6379"),
        service("feast-redis-replica", _REPLICA, 6379, 6379, port_name="redis"),
    ]


def _mlflow() -> Object:
    parts = ("host", "port", "username", "password", "database")
    url = "postgresql://$(DB_USERNAME):$(DB_PASSWORD)@$(DB_HOST):$(DB_PORT)/$(DB_DATABASE)"
    container = Container(
        "mlflow:3.6.0",
        5000,
        "500m",
        "1Gi",
        "120m",
        "520Mi",
        MLFLOW_LOG,
        command=("mlflow", "server"),
        args=("--host", "0.0.0.0", "--port", "5000"),
        env=(
            *(secret_env(f"DB_{part.upper()}", "mlflow-db-secret", part) for part in parts),
            variable("MLFLOW_BACKEND_STORE_URI", url),
            variable("MLFLOW_ARTIFACTS_DESTINATION", f"s3://{CLUSTER}-artifacts/"),
            variable(
                "MLFLOW_SERVER_ALLOWED_HOSTS",
                "mlflow.mlops-platform.com,mlflow,mlflow:5000,mlflow.mlops-platform:5000,"
                "localhost:*,10.0.*",
            ),
            variable("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "2"),
            variable("MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", "1"),
        ),
        behaviour={"tools": list(SLIM), "answers": {"/health": "200 OK"}},
    )
    return workload("Deployment", "mlflow", _MLFLOW, container, replicas=2, account="mlflow-sa")


def platform_api() -> Object:
    """The Deployment platform-api, as it is when all is well."""
    container = Container(
        "platform-api:1.8.2",
        8000,
        "250m",
        "512Mi",
        "90m",
        "240Mi",
        API_LOG,
        env=(
            # Optional: a missing key then shows as the application's own crash.
            secret_env("JWT_SECRET", "platform-api-secrets", "jwt-secret", optional=True),
            secret_env("DATABASE_URL", "platform-api-secrets", "database-url"),
            variable("MLFLOW_TRACKING_URI", "http://mlflow:5000"),
            variable("FEAST_URL", "http://feast-feature-server:6566"),
        ),
        env_from=({"configMapRef": {"name": "platform-api-config"}},),
        behaviour={
            "needs_env": ["JWT_SECRET"],
            "exit_code": 1,
            "tools": list(RESCUE),
            "answers": {"/health": '200 {"status": "healthy"}'},
        },
    )
    return workload(
        "Deployment",
        "platform-api",
        _API,
        container,
        replicas=3,
        account="platform-api",
        priorityClassName="platform-critical",
    )


def _feast() -> Object:
    container = Container(
        "feast:0.56.0",
        6566,
        "250m",
        "512Mi",
        "80m",
        "260Mi",
        ("INFO:     Application startup complete.", "INFO: registry loaded from s3"),
        command=("feast", "serve"),
        args=("--host", "0.0.0.0", "--registry_ttl_sec", "60"),
        env=(
            variable("FEAST_REGISTRY", FEAST_REGISTRY),
            variable("REDIS_HOST", "feast-redis-master"),
            variable("REDIS_PORT", "6379"),
        ),
        mounts={"config": "/feature_repo"},
        behaviour={"tools": [*SLIM, "curl"]},
    )
    return workload(
        "Deployment",
        "feast-feature-server",
        _SERVER,
        container,
        replicas=2,
        account="feast-sa",
        volumes=[{"name": "config", "configMap": {"name": "feast-config"}}],
    )


def _redis(name: str, labels: dict[str, str], *more: str) -> Object:
    container = Container(
        "redis:7.4",
        6379,
        "250m",
        "1Gi",
        "40m",
        "310Mi",
        REDIS_LOG,
        probe_path=None,
        port_name="redis",
        command=("redis-server",),
        args=("--maxmemory", "768mb", "--maxmemory-policy", "allkeys-lru", *more),
        mounts={"data": "/data"},
        behaviour={"tools": [*SLIM, "nc", "redis-cli"]},
    )
    return workload("StatefulSet", name, labels, container, claim="data 8Gi")
