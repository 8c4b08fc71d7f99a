"""Namespace mlops-platform: MLflow, the platform API, Feast and its Redis."""

from __future__ import annotations

from runbook_lib.practice.seed.parts import (
    PLATFORM,
    Object,
    Program,
    meta,
    secret_env,
    service,
    workload,
)

API_LOG = (
    "INFO:     Started server process [1]",
    "INFO:     Application startup complete.",
    "INFO:     Uvicorn running on http://0.0.0.0:8000",
)


def workloads() -> list[Object]:
    """Namespace mlops-platform: MLflow, the platform API, Feast and its Redis."""
    feast = {"app": "feast"}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": meta("platform-api-config", PLATFORM),
            "data": {"DB_POOL_SIZE": "5", "DB_MAX_OVERFLOW": "2", "LOG_LEVEL": "info"},
        },
        workload(
            "Deployment",
            "mlflow",
            {"app": "mlflow"},
            Program("mlflow:3.6.0", 5000, "500m", "1Gi", "120m", "520Mi"),
            replicas=2,
            env=(
                *(
                    secret_env(f"DB_{key.upper()}", "mlflow-db-secret", key)
                    for key in ("host", "port", "username", "password", "database")
                ),
                {"name": "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "value": "2"},
                {"name": "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", "value": "1"},
            ),
        ),
        service("mlflow", {"app": "mlflow"}, 5000, 5000),
        workload(
            "Deployment",
            "platform-api",
            {"app": "platform-api"},
            Program(
                "platform-api:1.8.2",
                8000,
                "250m",
                "512Mi",
                "90m",
                "240Mi",
                API_LOG,
                ("JWT_SECRET",),
            ),
            replicas=3,
            env=(
                # Optional: a missing key then shows as the application's own crash.
                secret_env("JWT_SECRET", "platform-api-secrets", "jwt-secret", optional=True),
                secret_env("DATABASE_URL", "platform-api-secrets", "database-url"),
                {"name": "MLFLOW_TRACKING_URI", "value": "http://mlflow:5000"},
            ),
            env_from=({"configMapRef": {"name": "platform-api-config"}},),
        ),
        service("platform-api", {"app": "platform-api"}, 80, 8000),
        workload(
            "Deployment",
            "feast-feature-server",
            {**feast, "component": "feature-server"},
            Program("feast:0.56.0", 6566, "250m", "512Mi", "80m", "260Mi"),
            replicas=2,
        ),
        service("feast-feature-server", {**feast, "component": "feature-server"}, 6566, 6566),
        workload(
            "StatefulSet",
            "feast-redis-master",
            {"app": "feast-redis", "role": "master"},
            Program("redis:7.4", 6379, "250m", "1Gi", "40m", "310Mi", probe_path=None),
        ),
        service("feast-redis-master", {"app": "feast-redis", "role": "master"}, 6379, 6379),
    ]


def platform_api() -> Object:
    """The Deployment platform-api, as it is when all is well."""
    return next(
        one
        for one in workloads()
        if one["kind"] == "Deployment" and one["metadata"]["name"] == "platform-api"
    )
