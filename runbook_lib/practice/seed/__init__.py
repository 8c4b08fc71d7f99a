"""What a healthy platform looks like in Kubernetes, as the objects that an engineer would list."""

from __future__ import annotations

from runbook_lib.practice.seed import platform, system
from runbook_lib.practice.seed.parts import NAMESPACES, NODES, Object, namespace, node, secret

__all__ = ["NODES", "objects"]


def objects(database: dict[str, str], jwt_secret: str, database_url: str) -> list[Object]:
    """All objects of the healthy platform, owners before what they own.

    `database` is what Secret mlflow-db-secret holds: host, port, username, password, database.
    """
    return [
        *(namespace(name) for name in NAMESPACES),
        *(node(one) for one in NODES),
        secret("mlflow-db-secret", database),
        secret("platform-api-secrets", {"jwt-secret": jwt_secret, "database-url": database_url}),
        *platform.workloads(),
        *system.workloads(),
    ]
