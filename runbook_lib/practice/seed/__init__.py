"""What a healthy platform looks like in Kubernetes, as the objects that an engineer would list."""

from __future__ import annotations

from runbook_lib.practice.seed import models, monitoring, platform, rules, system
from runbook_lib.practice.seed.parts import NAMESPACES, NODES, Object, namespace, node, secret

__all__ = ["NODES", "objects"]

# Until the cloud says otherwise.
_CLOUD = {
    "alb_hostname": "k8s-mlopsplatform-0a1b2c3d4e-1122334455.us-east-1.elb.amazonaws.com",
    "certificate_arn": "arn:aws:acm:us-east-1:123456789012:certificate/"
    "11112222-3333-4444-5555-666677778888",
}


def objects(
    database: dict[str, str],
    jwt_secret: str,
    database_url: str,
    cloud: dict[str, str] | None = None,
) -> list[Object]:
    """All objects of the healthy platform, owners before what they own.

    `database` is what Secret mlflow-db-secret holds: host, port, username, password, database.
    `cloud` names what the cloud made for the Ingresses: alb_hostname, certificate_arn.
    """
    cloud = {**_CLOUD, **(cloud or {})}
    return [
        *(namespace(name) for name in NAMESPACES),
        *(node(one) for one in NODES),
        *rules.classes(cloud),
        secret("mlflow-db-secret", database),
        secret("platform-api-secrets", {"jwt-secret": jwt_secret, "database-url": database_url}),
        *rules.rules(cloud),
        *system.workloads(),
        *models.workloads(),
        *platform.workloads(),
        *monitoring.workloads(),
    ]
