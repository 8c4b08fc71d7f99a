"""What the cluster follows in its AWS account, seen through the official clients."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from runbook_lib.practice import scenario
from runbook_lib.practice.account import OWN_ADDRESS, lets_in
from runbook_lib.practice.lookers import CouldNotLook, aws, kubernetes
from runbook_lib.practice.platform import Platform
from runbook_lib.practice.wait import until

CLUSTER = "mlops-platform-production"
SECONDS = 10.0


@pytest.fixture
def account(platform: Platform) -> Iterator[Platform]:
    yield platform
    scenario.heal(platform)


def open_endpoint(platform: Platform, **access: Any) -> None:
    arguments = {"name": CLUSTER, "resourcesVpcConfig": access}
    platform.do("aws", "call", service="eks", operation="UpdateClusterConfig", arguments=arguments)


def answers(platform: Platform) -> bool:
    """Whether a connection to the Kubernetes API comes about; False where packets are dropped."""
    url = urlsplit(platform.kubernetes_url)
    assert url.hostname and url.port
    try:
        socket.create_connection((url.hostname, url.port), 0.3).close()
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    ("access", "let_in"),
    [
        ({"endpointPublicAccess": True}, True),
        ({"endpointPublicAccess": True, "publicAccessCidrs": ["0.0.0.0/0"]}, True),
        ({"endpointPublicAccess": True, "publicAccessCidrs": [f"{OWN_ADDRESS}/32"]}, True),
        ({"endpointPublicAccess": True, "publicAccessCidrs": ["203.0.113.0/24"]}, False),
        ({"endpointPublicAccess": False, "publicAccessCidrs": ["0.0.0.0/0"]}, False),
    ],
)
def test_whom_an_endpoint_lets_in(access: dict[str, Any], let_in: bool) -> None:
    assert lets_in(access, OWN_ADDRESS) == let_in


def test_a_closed_endpoint_drops_us_and_the_cluster_lives_on(account: Platform) -> None:
    before = kubernetes(account, "deployments/platform-api", "mlops-platform")["metadata"]["uid"]
    open_endpoint(account, publicAccessCidrs=["203.0.113.0/24"])
    until(lambda: not answers(account), SECONDS, "packets to be dropped")
    described = aws(account, "eks.describe_cluster", {"name": CLUSTER})["cluster"]
    access = described["resourcesVpcConfig"]
    assert (access["endpointPublicAccess"], access["publicAccessCidrs"]) == (
        True,
        ["203.0.113.0/24"],
    )
    assert access["subnetIds"]  # what was not given stays
    open_endpoint(account, publicAccessCidrs=["203.0.113.0/24", f"{OWN_ADDRESS}/32"])
    until(lambda: answers(account), SECONDS, "the endpoint to answer")
    after = kubernetes(account, "deployments/platform-api", "mlops-platform")["metadata"]["uid"]
    assert after == before


def test_an_endpoint_is_not_closed_to_all(account: Platform) -> None:
    with pytest.raises(CouldNotLook, match="InvalidParameterException"):
        aws(
            account,
            "eks.update_cluster_config",
            {
                "name": CLUSTER,
                "resourcesVpcConfig": {
                    "endpointPublicAccess": False,
                    "endpointPrivateAccess": False,
                },
            },
        )


def test_the_autoscaler_goes_by_its_auto_scaling_group(account: Platform) -> None:
    scaling = {"minSize": 2, "maxSize": 4, "desiredSize": 3}
    group = {"clusterName": CLUSTER, "nodegroupName": "compute-nodes", "scalingConfig": scaling}
    aws(account, "eks.update_nodegroup_config", group)

    def told() -> bool:
        try:
            status = kubernetes(account, "configmaps/cluster-autoscaler-status", "kube-system")
        except CouldNotLook:
            return False
        return "minSize: 2" in status["data"]["status"] and "maxSize: 4" in status["data"]["status"]

    until(told, 2 * SECONDS, "the autoscaler's status")


def nodes(platform: Platform) -> dict[str, str]:
    """Each node's machine."""
    items = kubernetes(platform, "nodes")["items"]
    return {one["metadata"]["name"]: one["spec"]["providerID"].rpartition("/")[2] for one in items}


@pytest.mark.slow
def test_the_node_of_a_terminated_machine_falls_silent(account: Platform) -> None:
    name, machine = sorted(nodes(account).items())[0]

    def ready() -> dict[str, str]:
        conditions = kubernetes(account, f"nodes/{name}")["status"]["conditions"]
        return next(one for one in conditions if one["type"] == "Ready")

    aws(account, "ec2.terminate_instances", {"InstanceIds": [machine]})
    until(lambda: ready()["status"] == "Unknown", 6 * SECONDS, "a node that nobody hears of")
    lease = kubernetes(account, f"leases.coordination.k8s.io/{name}", "kube-node-lease")
    assert lease["spec"]["renewTime"] < ready()["lastTransitionTime"]
    shown = kubernetes(account, f"nodes/{name}")
    assert "practice" not in str(shown["metadata"].get("annotations"))
    scenario.heal(account)
    assert ready()["status"] == "True"


def scaling_group(platform: Platform) -> dict[str, Any]:
    answer = aws(platform, "autoscaling.describe_auto_scaling_groups")
    group: dict[str, Any] = answer["AutoScalingGroups"][0]
    return group


def test_one_pod_too_many_brings_one_node_and_its_machine(account: Platform) -> None:
    before = nodes(account)
    scenario.break_platform(account, scenario.find("scaled-up-already"))
    events = kubernetes(account, "events", "models", fields="reason=TriggeredScaleUp")["items"]
    assert len(events) == 1
    assert "3->4 (max: 6)" in events[0]["message"]
    group = scaling_group(account)
    assert group["DesiredCapacity"] == 4
    [(name, machine)] = nodes(account).items() - before.items()
    assert machine in {one["InstanceId"] for one in group["Instances"]}
    described = aws(account, "ec2.describe_instances", {"InstanceIds": [machine]})
    assert described["Reservations"][0]["Instances"][0]["PrivateDnsName"] == name
    scenario.heal(account)
    assert nodes(account) == before
    assert scaling_group(account)["DesiredCapacity"] == 3
