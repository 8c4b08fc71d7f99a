"""EKS, EC2, Auto Scaling and SSM as an engineer sees them, and what they refuse."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.wait import until

CLUSTER = "mlops-platform-production"
GROUP = "compute-nodes"
NODE = "ip-10-0-2-15.ec2.internal"
ANYWHERE = [{"CidrIp": "0.0.0.0/0"}]


def code(call: Any, **arguments: Any) -> str:
    """The code with which AWS refuses that call."""
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    return str(refused.value.response["Error"]["Code"])


def instance(account: Aws, node: str = NODE) -> str:
    """The id of a node's machine."""
    found = account.client("ec2").describe_instances(
        Filters=[{"Name": "private-dns-name", "Values": [node]}]
    )
    return str(found["Reservations"][0]["Instances"][0]["InstanceId"])


def scaling_group(account: Aws) -> dict[str, Any]:
    groups = account.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert len(groups) == 1
    found: dict[str, Any] = groups[0]
    return found


def test_a_healthy_cluster_and_its_machines(account: Aws) -> None:
    cluster = account.client("eks").describe_cluster(name=CLUSTER)["cluster"]
    assert cluster["status"] == "ACTIVE"
    assert cluster["health"]["issues"] == []
    group_id = cluster["resourcesVpcConfig"]["clusterSecurityGroupId"]
    ec2 = account.client("ec2")
    groups = ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
    assert groups[0]["GroupName"] == f"eks-cluster-sg-{CLUSTER}"
    provider = cluster["identity"]["oidc"]["issuer"].removeprefix("https://")
    providers = account.client("iam").list_open_id_connect_providers()
    assert providers["OpenIDConnectProviderList"][0]["Arn"].endswith(provider)
    group = account.client("eks").describe_nodegroup(clusterName=CLUSTER, nodegroupName=GROUP)
    named = group["nodegroup"]["resources"]["autoScalingGroups"][0]["name"]
    scaling = scaling_group(account)
    assert scaling["AutoScalingGroupName"] == named
    assert len(scaling["Instances"]) == 3
    tags = {tag["Key"]: tag["Value"] for tag in scaling["Tags"]}
    assert tags[f"k8s.io/cluster-autoscaler/{CLUSTER}"] == "owned"
    assert tags["k8s.io/cluster-autoscaler/enabled"] == "true"
    subnets = ec2.describe_subnets(
        Filters=[{"Name": "tag:kubernetes.io/role/elb", "Values": ["1"]}]
    )["Subnets"]
    assert len({subnet["AvailabilityZone"] for subnet in subnets}) == 3


def test_cluster_health_and_public_access(breakable_account: Aws) -> None:
    breakable_account.eks.cluster(
        status="FAILED",
        issues=[{"code": "Ec2SubnetNotFound", "message": "gone", "resourceIds": ["subnet-1"]}],
        public_access=False,
        private_access=True,
        public_access_cidrs=["203.0.113.0/24"],
    )
    cluster = breakable_account.client("eks").describe_cluster(name=CLUSTER)["cluster"]
    assert cluster["status"] == "FAILED"
    assert cluster["health"]["issues"][0]["code"] == "Ec2SubnetNotFound"
    access = cluster["resourcesVpcConfig"]
    assert (access["endpointPublicAccess"], access["endpointPrivateAccess"]) == (False, True)
    assert access["publicAccessCidrs"] == ["203.0.113.0/24"]
    with pytest.raises(ValueError, match="code"):
        breakable_account.eks.cluster(issues=[{"code": "Tired"}])
    breakable_account.eks.cluster(status="UPDATING", seconds=0.2)

    def status() -> str:
        eks = breakable_account.client("eks")
        return str(eks.describe_cluster(name=CLUSTER)["cluster"]["status"])

    assert status() == "UPDATING"
    until(lambda: status() == "ACTIVE", 60, "the cluster is ACTIVE")


def test_node_group_health(breakable_account: Aws) -> None:
    breakable_account.eks.nodegroup(
        status="DEGRADED", issues=[{"code": "AsgInstanceLaunchFailures", "message": "no capacity"}]
    )
    group = breakable_account.client("eks").describe_nodegroup(
        clusterName=CLUSTER, nodegroupName=GROUP
    )["nodegroup"]
    assert group["status"] == "DEGRADED"
    assert group["health"]["issues"][0]["code"] == "AsgInstanceLaunchFailures"
    with pytest.raises(ValueError, match="no node group"):
        breakable_account.eks.nodegroup(name="others")


@pytest.mark.parametrize(
    ("scaling", "said"),
    [
        ({"minSize": 7}, "minSize can't be greater than maxSize"),
        ({"minSize": 4}, "Minimum capacity 4 can't be greater than desired size 3"),
        ({"desiredSize": 9}, "desiredSize can't be greater than maxSize"),
    ],
)
def test_impossible_scaling_is_refused(account: Aws, scaling: dict[str, int], said: str) -> None:
    with pytest.raises(ClientError, match=said) as refused:
        account.client("eks").update_nodegroup_config(
            clusterName=CLUSTER, nodegroupName=GROUP, scalingConfig=scaling
        )
    assert refused.value.response["Error"]["Code"] == "InvalidParameterException"


def test_a_launch_template_is_no_part_of_the_config(account: Aws) -> None:
    with pytest.raises(ParamValidationError, match="launchTemplate"):
        account.client("eks").update_nodegroup_config(
            clusterName=CLUSTER, nodegroupName=GROUP, updateConfig={"launchTemplate": {"id": "x"}}
        )


def test_updates_of_a_node_group(breakable_account: Aws) -> None:
    eks = breakable_account.client("eks")
    update = eks.update_nodegroup_config(
        clusterName=CLUSTER, nodegroupName=GROUP, scalingConfig={"maxSize": 8, "desiredSize": 4}
    )["update"]
    assert scaling_group(breakable_account)["MaxSize"] == 8
    assert scaling_group(breakable_account)["DesiredCapacity"] == 4
    of_group = {"name": CLUSTER, "nodegroupName": GROUP}
    assert eks.describe_update(**of_group, updateId=update["id"])["update"]["type"]
    assert eks.list_updates(**of_group)["updateIds"] == [update["id"]]
    assert eks.list_updates(name=CLUSTER)["updateIds"] == []
    of_cluster = {"name": CLUSTER, "updateId": update["id"]}
    assert code(eks.describe_update, **of_cluster) == "ResourceNotFoundException"
    template = {"name": f"{CLUSTER}-{GROUP}", "version": "1"}
    version = eks.update_nodegroup_version(
        clusterName=CLUSTER, nodegroupName=GROUP, launchTemplate=template
    )["update"]
    assert version["type"] == "VersionUpdate"
    assert version["status"] == "Successful"
    names = {"clusterName": CLUSTER, "nodegroupName": GROUP}
    update_version = eks.update_nodegroup_version
    assert code(update_version, **names, version="1.99") == "InvalidParameterException"
    absent = {"name": "absent", "version": "1"}
    assert code(update_version, **names, launchTemplate=absent) == "InvalidRequestException"
    assert code(eks.describe_update, name=CLUSTER, updateId="x") == "ResourceNotFoundException"


def test_access_entries(breakable_account: Aws) -> None:
    eks = breakable_account.client("eks")
    on_call, node_role = eks.list_access_entries(clusterName=CLUSTER)["accessEntries"]
    assert on_call.endswith("user/on-call")
    entry = eks.describe_access_entry(clusterName=CLUSTER, principalArn=node_role)["accessEntry"]
    assert entry["kubernetesGroups"] == ["system:nodes"]
    names = {"clusterName": CLUSTER, "principalArn": on_call}
    policies = eks.list_associated_access_policies(**names)["associatedAccessPolicies"]
    assert policies[0]["policyArn"].endswith("AmazonEKSClusterAdminPolicy")
    assert code(eks.create_access_entry, **names) == "ResourceInUseException"
    eks.delete_access_entry(**names)
    assert code(eks.describe_access_entry, **names) == "ResourceNotFoundException"
    eks.create_access_entry(**names, kubernetesGroups=["viewers"])
    view = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"
    scope = {"type": "namespace", "namespaces": ["models"]}
    eks.associate_access_policy(**names, policyArn=view, accessScope=scope)
    eks.disassociate_access_policy(**names, policyArn=view)
    assert eks.list_associated_access_policies(**names)["associatedAccessPolicies"] == []


def test_status_checks_of_a_machine(breakable_account: Aws) -> None:
    machine = instance(breakable_account)
    ec2 = breakable_account.client("ec2")
    healthy = ec2.describe_instance_status(InstanceIds=[machine])["InstanceStatuses"][0]
    assert healthy["AttachedEbsStatus"]["Status"] == "ok"
    verbs = breakable_account.verbs()
    verbs["instance_status"](node=NODE, instance=False, ebs=False)
    status = ec2.describe_instance_status(InstanceIds=[machine])["InstanceStatuses"][0]
    assert status["SystemStatus"]["Status"] == "ok"
    assert status["InstanceStatus"]["Status"] == "impaired"
    assert status["InstanceStatus"]["Details"][0]["Status"] == "failed"
    assert "ImpairedSince" in status["AttachedEbsStatus"]["Details"][0]
    verbs["instance_status"](node=NODE)
    again = ec2.describe_instance_status(InstanceIds=[machine])["InstanceStatuses"][0]
    assert again["InstanceStatus"]["Status"] == "ok"
    with pytest.raises(ValueError, match="no machine"):
        verbs["instance_status"](node="ip-1-2-3-4.ec2.internal")


def test_a_subnet_without_addresses(breakable_account: Aws) -> None:
    breakable_account.verbs()["subnet_addresses"](subnet="10.0.2.0/24", free=0)
    subnets = breakable_account.client("ec2").describe_subnets()["Subnets"]
    free = {one["CidrBlock"]: one["AvailableIpAddressCount"] for one in subnets}
    assert free["10.0.2.0/24"] == 0
    assert free["10.0.1.0/24"] > 200


def test_what_ec2_refuses(account: Aws) -> None:
    ec2 = account.client("ec2")
    described = ec2.describe_security_groups()["SecurityGroups"]
    groups = {one["GroupName"]: one["GroupId"] for one in described}
    rds, alb = groups[f"{CLUSTER}-rds"], groups["k8s-mlopsplatform-alb"]
    https = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443}
    open_it = ec2.authorize_security_group_ingress
    again = [{**https, "IpRanges": ANYWHERE}]
    assert code(open_it, GroupId=alb, IpPermissions=again) == "InvalidPermission.Duplicate"
    wrong = [{**https, "IpRanges": [{"CidrIp": "10.0.0.300/8"}]}]
    assert code(open_it, GroupId=alb, IpPermissions=wrong) == "InvalidParameterValue"
    absent = [{**https, "FromPort": 80, "ToPort": 80, "IpRanges": ANYWHERE}]
    close = ec2.revoke_security_group_ingress
    assert code(close, GroupId=alb, IpPermissions=absent) == "InvalidPermission.NotFound"
    assert code(ec2.delete_security_group, GroupId=rds) == "DependencyViolation"
    assert code(ec2.delete_security_group, GroupId=alb) == "DependencyViolation"
    for subnet in ec2.describe_subnets(Filters=[{"Name": "tag-key", "Values": ["Name"]}])[
        "Subnets"
    ]:
        assert code(ec2.delete_subnet, SubnetId=subnet["SubnetId"]) == "DependencyViolation"
    run = {"ImageId": "ami-0a1b2c3d4e5f60718", "MinCount": 1, "MaxCount": 1}
    assert code(ec2.run_instances, **run, InstanceType="m5.tiny") == "InvalidParameterValue"
    change = ec2.modify_instance_attribute
    machine = instance(account)
    tiny = {"Value": "m5.tiny"}
    assert code(change, InstanceId=machine, InstanceType=tiny) == "InvalidInstanceAttributeValue"
    large = {"Value": "m5.large"}
    assert code(change, InstanceId=machine, InstanceType=large) == "IncorrectInstanceState"


def test_scaling_activities_say_why_no_machine_came(breakable_account: Aws) -> None:
    scaling = breakable_account.client("autoscaling")
    name = scaling_group(breakable_account)["AutoScalingGroupName"]
    calm = scaling.describe_scaling_activities(AutoScalingGroupName=name)["Activities"]
    assert [one["StatusCode"] for one in calm] == ["Successful"] * 3
    breakable_account.verbs()["scaling_activity"](
        failure="InsufficientInstanceCapacity", zone="us-east-1b", times=2, lasting=True
    )
    failed = scaling.describe_scaling_activities(AutoScalingGroupName=name)["Activities"]
    assert [one["StatusCode"] for one in failed] == ["Failed"] * 2 + ["Successful"] * 3
    assert "sufficient m5.xlarge capacity" in failed[0]["StatusMessage"]
    assert "us-east-1b" in failed[0]["StatusMessage"]
    scaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=5)
    group = scaling_group(breakable_account)
    assert (group["DesiredCapacity"], len(group["Instances"])) == (5, 3)
    wanted = scaling.describe_scaling_activities(AutoScalingGroupName=name)["Activities"]
    assert len(wanted) == 6
    with pytest.raises(ValueError, match="failure is one of"):
        breakable_account.verbs()["scaling_activity"](failure="Tired")


def test_a_group_that_may_grow_grows(breakable_account: Aws) -> None:
    name = scaling_group(breakable_account)["AutoScalingGroupName"]
    breakable_account.client("autoscaling").set_desired_capacity(
        AutoScalingGroupName=name, DesiredCapacity=4
    )
    assert len(scaling_group(breakable_account)["Instances"]) == 4


def test_bounds_of_a_scaling_group(account: Aws) -> None:
    scaling = account.client("autoscaling")
    name = scaling_group(account)["AutoScalingGroupName"]
    to = {"AutoScalingGroupName": name}
    for call, arguments, said in (
        (scaling.update_auto_scaling_group, {"MinSize": 5, "MaxSize": 4}, "Max bound, 4,"),
        (scaling.update_auto_scaling_group, {"DesiredCapacity": 9}, "Desired capacity:9 must"),
        (scaling.set_desired_capacity, {"DesiredCapacity": 9}, "above max value 6"),
        (scaling.set_desired_capacity, {"DesiredCapacity": 1}, "below min value 3"),
    ):
        with pytest.raises(ClientError, match=said) as refused:
            call(**to, **arguments)
        assert refused.value.response["Error"]["Code"] == "ValidationError"
    absent = {"AutoScalingGroupName": "absent"}
    assert code(scaling.set_desired_capacity, **absent, DesiredCapacity=1) == "ValidationError"
    assert code(scaling.describe_scaling_activities, **absent) == "ValidationError"


def run(account: Aws, node: str, *lines: str) -> dict[str, Any]:
    """What a shell command prints on a node, by way of SSM."""
    ssm = account.client("ssm")
    machine = instance(account, node)
    command = ssm.send_command(
        InstanceIds=[machine],
        DocumentName="AWS-RunShellScript",
        Parameters={"commands": list(lines)},
    )["Command"]
    answer: dict[str, Any] = ssm.get_command_invocation(
        CommandId=command["CommandId"], InstanceId=machine
    )
    return answer


def test_commands_on_a_node(breakable_account: Aws) -> None:
    calm = run(breakable_account, NODE, "df -h", "free -m", "sudo systemctl status kubelet")
    assert calm["Status"] == "Success"
    assert "46% /" in calm["StandardOutputContent"]
    assert "Active: active (running)" in calm["StandardOutputContent"]
    verbs = breakable_account.verbs()
    verbs["command_output"](contains="df -h", output="/dev/nvme0n1p1 80G 77G 3G 96% /\n", node=NODE)
    verbs["command_output"](contains="crictl", output="connect: no such file\n", code=1)
    assert "96% /" in run(breakable_account, NODE, "df -h /")["StandardOutputContent"]
    other = "ip-10-0-1-7.ec2.internal"
    assert "46% /" in run(breakable_account, other, "df -h /")["StandardOutputContent"]
    failed = run(breakable_account, other, "sudo crictl ps")
    assert (failed["Status"], failed["ResponseCode"]) == ("Failed", 1)
    assert failed["StandardErrorContent"] == "connect: no such file\n"
    unknown = run(breakable_account, NODE, "tcpdump")
    assert (unknown["Status"], unknown["ResponseCode"]) == ("Failed", 127)


def test_a_node_s_clock_is_now(account: Aws) -> None:
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    lines = ("systemctl status kubelet", "journalctl -u kubelet -n 1", "uptime")
    said = run(account, NODE, *lines)["StandardOutputContent"]
    after = datetime.datetime.now(datetime.UTC)
    started = re.search(r"since \w{3} (\S+ \S+) UTC; 3 weeks 0 days ago", said)
    logged = re.search(r": I(\d{4} \d\d:\d\d:\d\d)\.\d{6} ", said)
    clock = re.search(r"^ (\S+) up 21 days,  3:12,", said, re.M)
    assert started and logged and clock, said
    up = datetime.timedelta(days=21, hours=3, minutes=12)
    since = datetime.datetime.fromisoformat(f"{started[1]}+00:00")
    assert before - up <= since <= after - up
    ago = datetime.timedelta(seconds=16)
    assert logged[1] in {f"{one - ago:%m%d %H:%M:%S}" for one in seconds(before, after)}
    assert clock[1] in {f"{one:%H:%M:%S}" for one in seconds(before, after)}


def seconds(first: datetime.datetime, last: datetime.datetime) -> list[datetime.datetime]:
    """Every second from the one to the other."""
    number = int((last - first).total_seconds()) + 1
    return [first + datetime.timedelta(seconds=one) for one in range(number)]


def test_an_agent_that_is_lost(breakable_account: Aws) -> None:
    breakable_account.verbs()["ssm_agent"](node=NODE)
    ssm = breakable_account.client("ssm")
    machine = instance(breakable_account)
    found = ssm.describe_instance_information()["InstanceInformationList"]
    pings = {one["InstanceId"]: one["PingStatus"] for one in found}
    assert pings[machine] == "ConnectionLost"
    assert sorted(pings.values()) == ["ConnectionLost", "Online", "Online"]
    only = ssm.describe_instance_information(Filters=[{"Key": "InstanceIds", "Values": [machine]}])
    assert len(only["InstanceInformationList"]) == 1
    shell = {"DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["df"]}}
    assert code(ssm.send_command, InstanceIds=[machine], **shell) == "InvalidInstanceId"
    assert code(ssm.start_session, Target=machine) == "TargetNotConnected"
    absent = {"CommandId": "11111111-2222-3333-4444-555555555555", "InstanceId": machine}
    assert code(ssm.get_command_invocation, **absent) == "InvocationDoesNotExist"


def test_sessions_and_what_else_is_unknown_are_refused_loudly(account: Aws) -> None:
    start = account.client("ssm").start_session
    assert code(start, Target=instance(account)) == "NotImplemented"
    assert code(account.client("eks").list_insights, clusterName=CLUSTER) == "NotImplemented"
    assert code(account.client("iam").list_policies_granting_service_access,
                Arn="arn:aws:iam::123456789012:user/on-call",
                ServiceNamespaces=["s3"]) == "NotImplemented"  # fmt: skip
