"""Names follow Route 53, changed by the official client, and the cluster's Services."""

from __future__ import annotations

from typing import Any

import dns.resolver
import pytest
from practice.hosted import Hosted

from runbook_lib.practice.aws.additions import backend
from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.network.nameserver import LOAD_BALANCER, NameServer
from runbook_lib.practice.network.sources import hosted_zone, other_balancers, service_addresses
from runbook_lib.practice.network.zone import Record

MLFLOW = "mlflow.mlops-platform.com"
ALIAS = {
    "AliasTarget": {
        "HostedZoneId": "Z35SXDOTRQ7X7K",
        "DNSName": f"{LOAD_BALANCER}.",
        "EvaluateTargetHealth": True,
    }
}


def resolved(port: int, type_: str = "A") -> list[str]:
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port, resolver.lifetime = ["127.0.0.1"], port, 2
    return [one.to_text() for one in resolver.resolve(MLFLOW, type_)]


def test_a_change_in_route_53_is_seen_at_once(breakable_account: Aws) -> None:
    route53 = breakable_account.client("route53")
    made = route53.create_hosted_zone(Name="mlops-platform.com.", CallerReference="test")
    zone_id = made["HostedZone"]["Id"]

    def change(action: str, type_: str, **values: Any) -> None:
        record = {"Name": f"{MLFLOW}.", "Type": type_, **values}
        batch = {"Changes": [{"Action": action, "ResourceRecordSet": record}]}
        route53.change_resource_record_sets(HostedZoneId=zone_id, ChangeBatch=batch)

    zone = backend("route53").zones[zone_id.rpartition("/")[2]]
    names = NameServer(zone=lambda: hosted_zone(zone))
    with Hosted(names):
        with pytest.raises(dns.resolver.NXDOMAIN):
            resolved(names.port)
        change("CREATE", "A", **ALIAS)
        assert resolved(names.port) == ["127.0.0.1"]
        change("CREATE", "TXT", TTL=60, ResourceRecords=[{"Value": '"of the team"'}])
        assert resolved(names.port, "TXT") == ['"of the team"']
        change("UPSERT", "A", TTL=60, ResourceRecords=[{"Value": "127.0.0.4"}])
        assert resolved(names.port) == ["127.0.0.4"]
        change("DELETE", "A", TTL=60, ResourceRecords=[{"Value": "127.0.0.4"}])
        with pytest.raises(dns.resolver.NoAnswer):  # the TXT is still there
            resolved(names.port)


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "mlops-platform"}, "spec": spec}


def endpoints(name: str, **ready: bool) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"{name}-x",
            "namespace": "mlops-platform",
            "labels": {"kubernetes.io/service-name": name},
        },
        "endpoints": [
            {"conditions": {"ready": state}, "targetRef": {"name": pod.replace("_", "-")}}
            for pod, state in ready.items()
        ],
    }


SERVICES = [
    service("mlflow", clusterIP="172.20.1.1"),
    service("redis", clusterIP="None"),
    service("idle", clusterIP="None"),
    service("database", type="ExternalName", externalName="db.us-east-1.rds.amazonaws.com"),
]
SLICES = [endpoints("redis", redis_0=True, redis_1=False), endpoints("idle", idle_0=False)]


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("mlflow.mlops-platform", ["127.0.0.1"]),
        ("redis.mlops-platform", ["127.0.0.1"]),
        ("redis-0.redis.mlops-platform", ["127.0.0.1"]),
        ("database.mlops-platform", ["db.us-east-1.rds.amazonaws.com"]),
        ("idle.mlops-platform", []),
        ("mlops-platform", []),
        ("redis-1.redis.mlops-platform", None),
        ("pod.mlflow.mlops-platform", None),
        ("mlflow.models", None),
        ("models", None),
        ("a.b.c.mlops-platform", None),
    ],
)
def test_what_core_dns_answers(name: str, addresses: list[str] | None) -> None:
    assert service_addresses(f"{name}.svc.cluster.local", SERVICES, SLICES) == addresses


def test_names_beside_services_do_not_exist() -> None:
    assert service_addresses("1-2-3-4.mlops-platform.pod.cluster.local", SERVICES, SLICES) is None


def test_other_load_balancers_are_elsewhere() -> None:
    former = "k8s-former-1.us-east-1.elb.amazonaws.com"
    others = other_balancers([LOAD_BALANCER, former], LOAD_BALANCER.lower())
    alias = Record(MLFLOW, "ALIAS", (former,))
    with Hosted(NameServer(zone=lambda: [alias, *others])) as names:
        assert resolved(names.system.port) == ["127.0.0.2"]
