"""What AWS refuses is refused here too, in its code, and leaves the account as it was."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runbook_lib.practice.aws.server import Aws

CLUSTER = "mlops-platform-production"
ARTIFACTS = f"{CLUSTER}-artifacts"
ROLE = "mlops-mlflow-role"
ALLOWED = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{ARTIFACTS}/*"}
TRUST = {
    "Effect": "Allow",
    "Principal": {"Service": "ec2.amazonaws.com"},
    "Action": "sts:AssumeRole",
}
FILTER = {"Filters": [{"Name": "nonsense", "Values": ["x"]}]}


def refused(call: Any, **arguments: Any) -> tuple[str, int, str]:
    """The code, the status and the words with which AWS refuses that call."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response
    return (
        error["Error"]["Code"],
        error["ResponseMetadata"]["HTTPStatusCode"],
        error["Error"]["Message"],
    )


def policy(*statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def without(statement: dict[str, Any], *fields: str, **more: Any) -> dict[str, Any]:
    return {key: value for key, value in statement.items() if key not in fields} | more


def test_what_breaks_moto_is_not_served_and_no_trouble_of_the_platform(
    account: Aws, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise KeyError("option_group_name")

    monkeypatch.setattr("moto.rds.models.RDSBackend.describe_event_subscriptions", break_down)
    rds = account.client("rds")
    with caplog.at_level(logging.WARNING):
        code, status, said = refused(rds.describe_event_subscriptions)
    assert (code, status) == ("NotImplemented", 501)
    assert "rds:DescribeEventSubscriptions, as it was asked: KeyError" in said
    assert {one.levelname for one in caplog.records} == {"WARNING"}
    assert "Traceback" in caplog.text
    assert rds.describe_db_instances()["DBInstances"]


def test_filters_that_ec2_does_not_have(account: Aws) -> None:
    ec2 = account.client("ec2")
    for call in (ec2.describe_security_groups, ec2.describe_instances, ec2.describe_nat_gateways):
        assert refused(call, **FILTER) == (
            "InvalidParameterValue",
            400,
            "The filter 'nonsense' is invalid",
        )
    for name, value in (("tag:Name", "*"), ("tag-key", "Name"), ("vpc-id", "vpc-*")):
        assert ec2.describe_subnets(Filters=[{"Name": name, "Values": [value]}]) is not None


def test_filters_that_only_aws_has_are_not_served(account: Aws) -> None:
    ec2 = account.client("ec2")
    hypervisor = [{"Name": "hypervisor", "Values": ["xen"]}]
    code, status, said = refused(ec2.describe_instances, Filters=hypervisor)
    assert (code, status) == ("NotImplemented", 501)
    assert "'hypervisor'" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bad", "Policies must be valid JSON and the first byte must be '{'"),
        ("{bad", "This policy contains invalid Json"),
        ("{}", "Missing required field Statement"),
        (policy(), "Statement is empty"),
        (policy(without(ALLOWED, "Effect", Principal="*")), "Missing required field Effect"),
        (policy(without(ALLOWED, Effect="Maybe", Principal="*")), "Invalid effect: Maybe"),
        (policy(ALLOWED), "Missing required field Principal"),
        (policy(without(ALLOWED, Principal="mlflow")), "Invalid principal"),
        (policy(without(ALLOWED, "Action", Principal="*")), "Missing required field Action"),
        (policy(without(ALLOWED, "Resource", Principal="*")), "Missing required field Resource"),
        (policy(without(ALLOWED, Principal="*", Action="ec2:*")), "invalid action"),
        (policy(without(ALLOWED, Principal="*", Resource="arn:aws:s3:::x/*")), "invalid resource"),
        (policy(without(ALLOWED, Principal="*", Condition=[])), "Syntax errors"),
    ],
)
def test_bucket_policies_that_s3_refuses(account: Aws, text: str, said: str) -> None:
    s3 = account.client("s3")
    code, status, words = refused(s3.put_bucket_policy, Bucket=ARTIFACTS, Policy=text)
    assert (code, status) == ("MalformedPolicy", 400)
    assert said in words
    assert s3.list_objects_v2(Bucket=ARTIFACTS)["KeyCount"] > 0


def test_policies_that_iam_refuses(account: Aws) -> None:
    iam = account.client("iam")
    for text, said in (
        ("{bad", "Syntax errors in policy."),
        (policy(without(ALLOWED, "Effect")), "Syntax errors in policy."),
        (policy(without(ALLOWED, "Action")), "must contain actions"),
        (policy(without(ALLOWED, "Resource")), "must contain resources"),
        (policy(without(ALLOWED, Principal="*")), "should not specify a principal"),
    ):
        for call, more in (
            (iam.put_role_policy, {"RoleName": ROLE, "PolicyName": "p"}),
            (iam.put_user_policy, {"UserName": "on-call", "PolicyName": "p"}),
            (iam.create_policy, {"PolicyName": "p"}),
        ):
            code, status, words = refused(call, PolicyDocument=text, **more)
            assert (code, status) == ("MalformedPolicyDocument", 400)
            assert said in words
        arn = f"arn:aws:iam::123456789012:role/{ROLE}"
        simulated = {"PolicySourceArn": arn, "ActionNames": ["s3:GetObject"]}
        answer = refused(iam.simulate_principal_policy, PolicyInputList=[text], **simulated)
        assert answer[:2] == ("InvalidInput", 400)


def test_trust_policies_that_iam_refuses(account: Aws) -> None:
    iam = account.client("iam")
    for text, said in (
        ("{bad", "invalid Json"),
        (policy(without(TRUST, "Principal")), "Missing required field Principal"),
        (policy(without(TRUST, "Action")), "Missing required field Action"),
        (policy(without(TRUST, Resource="*")), "prohibited field Resource"),
        (policy(without(TRUST, Action="s3:*")), "may only specify STS AssumeRole actions"),
    ):
        for call, document in (
            (iam.create_role, {"AssumeRolePolicyDocument": text}),
            (iam.update_assume_role_policy, {"PolicyDocument": text}),
        ):
            code, status, words = refused(call, RoleName=ROLE, **document)
            assert (code, status) == ("MalformedPolicyDocument", 400)
            assert said in words


def test_conditions_that_are_not_evaluated_are_not_kept(account: Aws) -> None:
    s3 = account.client("s3")
    condition = {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}
    text = policy(without(ALLOWED, Principal="*", Condition=condition))
    code, status, said = refused(s3.put_bucket_policy, Bucket=ARTIFACTS, Policy=text)
    assert (code, status) == ("NotImplemented", 501)
    assert "IpAddress" in said
    assert s3.list_objects_v2(Bucket=ARTIFACTS)["KeyCount"] > 0


def test_taints_of_no_effect(account: Aws) -> None:
    eks = account.client("eks")
    taints = {"addOrUpdateTaints": [{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}]}
    names = {"clusterName": CLUSTER, "nodegroupName": "compute-nodes"}
    code, status, said = refused(eks.update_nodegroup_config, **names, taints=taints)
    assert (code, status) == ("InvalidParameterException", 400)
    assert said == (
        "Invalid taint effect: NoSchedule, must be one of these "
        "[NO_SCHEDULE, NO_EXECUTE, PREFER_NO_SCHEDULE]"
    )
    assert not eks.describe_nodegroup(**names)["nodegroup"].get("taints")


def test_updates_of_the_clusters_logging(breakable_account: Aws) -> None:
    eks = breakable_account.client("eks")

    def set_up(*types: str, on: bool = True) -> dict[str, Any]:
        return {"clusterLogging": [{"types": list(types), "enabled": on}]}

    update = eks.update_cluster_config(name=CLUSTER, logging=set_up("api", "audit"))["update"]
    assert (update["type"], update["status"]) == ("LoggingUpdate", "Successful")
    assert json.loads(update["params"][0]["value"]) == set_up("api", "audit")
    described = eks.describe_update(name=CLUSTER, updateId=update["id"])["update"]
    assert described["type"] == "LoggingUpdate"
    eks.update_cluster_config(name=CLUSTER, logging=set_up("audit", on=False))
    assert eks.describe_cluster(name=CLUSTER)["cluster"]["logging"]["clusterLogging"] == [
        {"types": ["api"], "enabled": True},
        {"types": ["audit", "authenticator", "controllerManager", "scheduler"], "enabled": False},
    ]
    access = {"endpointPublicAccess": True}
    for given, code, said in (
        ({"logging": set_up("api")}, "InvalidParameterException", "No changes needed"),
        ({"logging": set_up("kubelet")}, "InvalidParameterException", "log type: kubelet"),
        ({}, "InvalidParameterException", "Only one type of update"),
        (
            {"logging": set_up("audit"), "resourcesVpcConfig": access},
            "InvalidParameterException",
            "Only one type of update",
        ),
        ({"upgradePolicy": {"supportType": "STANDARD"}}, "NotImplemented", "upgradePolicy"),
    ):
        answer = refused(eks.update_cluster_config, name=CLUSTER, **given)
        assert answer[0] == code
        assert said in answer[2]
    absent = refused(eks.update_cluster_config, name="absent", logging=set_up("api"))
    assert absent[:2] == ("ResourceNotFoundException", 404)


def test_processes_that_auto_scaling_does_not_have(account: Aws) -> None:
    scaling = account.client("autoscaling")
    [group] = scaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    given = {
        "AutoScalingGroupName": group["AutoScalingGroupName"],
        "ScalingProcesses": ["Launch", "Nonsense"],
    }
    for call in (scaling.suspend_processes, scaling.resume_processes):
        code, status, said = refused(call, **given)
        assert (code, status) == ("ValidationError", 400)
        assert "Nonsense" in said
    [group] = scaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    assert group["SuspendedProcesses"] == []


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ({"StorageType": "nonsense"}, "InvalidParameterValue", "Invalid storage type: nonsense"),
        ({"EngineVersion": "99.9"}, "InvalidParameterCombination", "Cannot find version 99.9"),
        ({"EngineVersion": "latest"}, "InvalidParameterCombination", "Cannot find version latest"),
        (
            {"EngineVersion": "15.10"},
            "InvalidParameterCombination",
            "Cannot upgrade postgres from 16.4 to 15.10",
        ),
        (
            {"VpcSecurityGroupIds": ["sg-0123456789abcdef0"]},
            "InvalidParameterValue",
            "Invalid security group , groupId= sg-0123456789abcdef0, groupName=.",
        ),
        ({"MonitoringInterval": 7}, "InvalidParameterValue", "Invalid monitoring interval: 7"),
        ({"MonitoringInterval": 60}, "InvalidParameterCombination", "MonitoringRoleARN"),
        (
            {"BackupRetentionPeriod": 999},
            "InvalidParameterValue",
            "Retention period must be between 0 and 35.",
        ),
        ({"EngineVersion": "16.8"}, "NotImplemented", "upgrades no server"),
        ({"NewDBInstanceIdentifier": "other"}, "NotImplemented", "renames no instance"),
    ],
)
@pytest.mark.parametrize("immediately", [False, True])
def test_values_that_rds_refuses(
    account: Aws, given: dict[str, Any], code: str, said: str, immediately: bool
) -> None:
    rds = account.client("rds")
    one = {"DBInstanceIdentifier": f"{CLUSTER}-mlflow"}

    def described() -> dict[str, Any]:
        [found] = rds.describe_db_instances(**one)["DBInstances"]
        return without(found, "LatestRestorableTime")

    before = described()
    answer = refused(rds.modify_db_instance, **one, **given, ApplyImmediately=immediately)
    assert answer[0] == code
    assert said in answer[2]
    assert described() == before


def test_a_new_instance_takes_no_such_values_either(account: Aws) -> None:
    rds = account.client("rds")
    new = {
        "DBInstanceIdentifier": "another",
        "DBInstanceClass": "db.t3.medium",
        "Engine": "postgres",
        "MasterUsername": "somebody",
        "MasterUserPassword": "a-long-password",
        "AllocatedStorage": 20,
    }
    absent = {"VpcSecurityGroupIds": ["sg-0123456789abcdef0"]}
    assert refused(rds.create_db_instance, **new, **absent)[0] == "InvalidParameterValue"
    version = {"EngineVersion": "9.6"}
    assert refused(rds.create_db_instance, **new, **version)[0] == "InvalidParameterCombination"
    replica = {
        "DBInstanceIdentifier": "replica",
        "SourceDBInstanceIdentifier": f"{CLUSTER}-mlflow",
        "StorageType": "tape",
    }
    assert refused(rds.create_db_instance_read_replica, **replica)[0] == "InvalidParameterValue"


def test_values_that_the_api_reference_does_not_list(account: Aws) -> None:
    ec2, s3 = account.client("ec2"), account.client("s3")
    volume = ec2.describe_volumes()["Volumes"][0]["VolumeId"]
    assert refused(ec2.modify_volume, VolumeId=volume, VolumeType="fast") == (
        "InvalidParameterValue",
        400,
        "Value (fast) for parameter volumeType is invalid.",
    )
    versioning = {"VersioningConfiguration": {"Status": "On"}}
    assert refused(s3.put_bucket_versioning, Bucket=ARTIFACTS, **versioning)[0] == "MalformedXML"
    check = {"CallerReference": "x", "HealthCheckConfig": {"Type": "PING"}}
    answer = refused(account.client("route53").create_health_check, **check)
    assert answer[0] == "InvalidInput"
    elb = account.client("elbv2")
    group = {"Name": "g", "Protocol": "GOPHER", "Port": 70}
    code, status, said = refused(elb.create_target_group, **group)
    assert (code, status) == ("ValidationError", 400)
    assert "Value 'GOPHER' at 'protocol' failed to satisfy constraint" in said
    parameter = {"Name": "/x", "Value": "v", "Type": "Text"}
    assert refused(account.client("ssm").put_parameter, **parameter)[0] == "ValidationException"


def test_rules_and_volumes_that_ec2_refuses(account: Aws) -> None:
    ec2 = account.client("ec2")
    assert account.seeded is not None
    group = account.seeded.security_groups["rds"]
    before = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    for protocol, ports, said in (
        ("gopher", {"FromPort": 70, "ToPort": 70}, "Unknown protocol"),
        ("tcp", {"FromPort": 70000, "ToPort": 70000}, "TCP/UDP port (70000) out of range"),
        ("tcp", {}, "Must specify both from and to ports"),
        ("tcp", {"FromPort": 5432, "ToPort": 5431}, "Invalid TCP/UDP port range (5432-5431)"),
    ):
        rule = {"IpProtocol": protocol, **ports, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
        allow = ec2.authorize_security_group_ingress
        code, _, words = refused(allow, GroupId=group, IpPermissions=[rule])
        assert code == "InvalidParameterValue"
        assert said in words
    assert ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"] == before
    volume = ec2.describe_volumes()["Volumes"][0]["VolumeId"]
    assert "smaller than existing" in refused(ec2.modify_volume, VolumeId=volume, Size=1)[2]


def test_a_node_group_in_no_subnet_or_of_no_role(account: Aws) -> None:
    eks = account.client("eks")
    group = eks.describe_nodegroup(clusterName=CLUSTER, nodegroupName="compute-nodes")["nodegroup"]
    new = {"clusterName": CLUSTER, "nodegroupName": "more"}
    there = {"subnets": group["subnets"], "nodeRole": group["nodeRole"]}
    nowhere = {**there, "subnets": ["subnet-0123456789abcdef0"]}
    nobody = {**there, "nodeRole": "arn:aws:iam::123456789012:role/nobody"}
    for given, said in ((nowhere, "subnet-0123456789abcdef0"), (nobody, "role with name nobody")):
        code, _, words = refused(eks.create_nodegroup, **new, **given)
        assert code == "InvalidParameterException"
        assert said in words


def test_keys_that_are_disabled_or_about_to_go_do_nothing(breakable_account: Aws) -> None:
    kms = breakable_account.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    sealed = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    kms.disable_key(KeyId=key)
    assert refused(kms.decrypt, CiphertextBlob=sealed)[0] == "DisabledException"
    assert refused(kms.encrypt, KeyId=key, Plaintext=b"x")[0] == "DisabledException"
    kms.enable_key(KeyId=key)
    assert kms.decrypt(CiphertextBlob=sealed)["Plaintext"] == b"x"
    kms.schedule_key_deletion(KeyId=key)
    assert refused(kms.decrypt, CiphertextBlob=sealed)[0] == "KMSInvalidStateException"


def test_a_suspended_launch_waits_for_its_resumption(breakable_account: Aws) -> None:
    scaling = breakable_account.client("autoscaling")
    assert breakable_account.seeded is not None
    name = {"AutoScalingGroupName": breakable_account.seeded.autoscaling_group}

    def seen() -> tuple[int, int]:
        [group] = scaling.describe_auto_scaling_groups()["AutoScalingGroups"]
        return group["DesiredCapacity"], len(group["Instances"])

    scaling.suspend_processes(**name, ScalingProcesses=["Launch", "Terminate"])
    scaling.set_desired_capacity(**name, DesiredCapacity=5)
    assert seen() == (5, 3)
    scaling.resume_processes(**name, ScalingProcesses=["Launch"])
    assert seen() == (5, 5)
    scaling.set_desired_capacity(**name, DesiredCapacity=4)
    assert seen() == (4, 5)
    scaling.resume_processes(**name)
    assert seen() == (4, 4)


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "code"),
    [
        ("autoscaling", "suspend_processes", {"AutoScalingGroupName": "no"}, "ValidationError"),
        (
            "autoscaling",
            "describe_load_balancers",
            {"AutoScalingGroupName": "no"},
            "ValidationError",
        ),
        (
            "autoscaling",
            "terminate_instance_in_auto_scaling_group",
            {"InstanceId": "i-0123456789abcdef0", "ShouldDecrementDesiredCapacity": False},
            "ValidationError",
        ),
        ("eks", "list_nodegroups", {"clusterName": "no"}, "ResourceNotFoundException"),
        ("eks", "list_fargate_profiles", {"clusterName": "no"}, "ResourceNotFoundException"),
        ("ec2", "delete_nat_gateway", {"NatGatewayId": "nat-0"}, "NatGatewayNotFound"),
    ],
)
def test_names_at_which_moto_breaks(
    account: Aws, service: str, operation: str, arguments: dict[str, Any], code: str
) -> None:
    assert refused(getattr(account.client(service), operation), **arguments)[0] == code
