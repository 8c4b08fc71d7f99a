"""EC2: status checks of machines, addresses left in subnets, and refusals to delete what is used.

Sources: EC2 API reference, DescribeInstanceStatus; "Error codes for the Amazon EC2 API".
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Mapping
from typing import Any

from runbook_lib.practice.aws.additions import Addition, Ask, Verb, backend
from runbook_lib.practice.aws.cloudwatch import Metrics
from runbook_lib.practice.aws.front import Handler
from runbook_lib.practice.aws.wire import AwsError, Call, Document

PROTOCOLS = ("-1", "tcp", "udp", "icmp", "icmpv6")
LAST_PROTOCOL, LAST_PORT = 255, 65535
CHECKS = {"system": "SystemStatus", "instance": "InstanceStatus", "ebs": "AttachedEbsStatus"}
CHECK_METRICS = {
    "system": "StatusCheckFailed_System",
    "instance": "StatusCheckFailed_Instance",
    "ebs": "StatusCheckFailed_AttachedEBS",
}


def instance_of(node: str) -> Any:
    """moto's instance of a node's name (or of an instance id). Raises ValueError without one."""
    for reservation in backend("ec2").reservations.values():
        for instance in reservation.instances:
            if node in (instance.id, instance.private_dns_name):
                return instance
    raise ValueError(f"there is no machine {node!r}")


class Ec2(Addition):
    """`instance_status` and `subnet_addresses` change what is described."""

    def __init__(self, ask: Ask, metrics: Metrics) -> None:
        self.metrics = metrics
        super().__init__(ask)

    def reset(self) -> None:
        self._impaired: dict[str, dict[str, datetime.datetime]] = {}
        self._free: dict[str, int] = {}

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "ec2.DescribeInstanceStatus": self._describe_instance_status,
            "ec2.DescribeSubnets": self._describe_subnets,
            "ec2.AuthorizeSecurityGroupIngress": self._authorize,
            "ec2.AuthorizeSecurityGroupEgress": self._authorize,
            "ec2.DeleteSecurityGroup": self._delete_security_group,
            "ec2.DeleteSubnet": self._delete_subnet,
            "ec2.ModifyInstanceAttribute": self._modify_instance_attribute,
            "ec2.ModifyVolume": self._modify_volume,
            "ec2.DeleteNatGateway": self._delete_nat_gateway,
            "ec2.RunInstances": self._run_instances,
        }

    def verbs(self) -> Mapping[str, Verb]:
        return {
            "instance_status": self.instance_status,
            "subnet_addresses": self.subnet_addresses,
        }

    def instance_status(
        self,
        node: str,
        system: bool = True,
        instance: bool = True,
        ebs: bool = True,
        since: float = 600.0,
    ) -> None:
        """Which of EC2's status checks a node's machine passes; what fails does so since
        `since` seconds, in CloudWatch too. `node`: the node's name, or an instance id."""
        machine = instance_of(node)
        begun = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=since)
        passed = {"system": system, "instance": instance, "ebs": ebs}
        self._impaired[machine.id] = {name: begun for name, well in passed.items() if not well}
        dimensions = {"InstanceId": machine.id}
        failed = {CHECK_METRICS[name]: not well for name, well in passed.items()}
        failed["StatusCheckFailed"] = not all(passed.values())
        for metric, bad in failed.items():
            level = 1.0 if bad else None
            self.metrics.metric("AWS/EC2", metric, dimensions, level=level, since=since)

    def subnet_addresses(self, subnet: str, free: int) -> None:
        """How many addresses DescribeSubnets says are left in a subnet (its id, or its block)."""
        for one in self.ask("ec2", "DescribeSubnets", {})["Subnets"]:
            if subnet in (one["SubnetId"], one["CidrBlock"]):
                self._free[one["SubnetId"]] = free
                return
        raise ValueError(f"there is no subnet {subnet!r}")

    def _describe_instance_status(self, call: Call) -> Document:
        answer = call.forward()
        for one in answer.get("InstanceStatuses", []):
            if one["InstanceState"]["Name"] != "running":
                continue
            impaired = self._impaired.get(one["InstanceId"], {})
            for name, key in CHECKS.items():
                if name in impaired:
                    detail = {
                        "Name": "reachability",
                        "Status": "failed",
                        "ImpairedSince": impaired[name],
                    }
                    one[key] = {"Status": "impaired", "Details": [detail]}
                elif key not in one:
                    passed = {"Name": "reachability", "Status": "passed"}
                    one[key] = {"Status": "ok", "Details": [passed]}
        return answer

    def _describe_subnets(self, call: Call) -> Document:
        answer = call.forward()
        for subnet in answer.get("Subnets", []):
            free = self._free.get(subnet["SubnetId"])
            if free is not None:
                subnet["AvailableIpAddressCount"] = free
        return answer

    def _authorize(self, call: Call) -> None:
        given = call.parameters
        blocks = [given["CidrIp"]] if "CidrIp" in given else []
        _check_ports(given)
        for rule in given.get("IpPermissions", []):
            _check_ports(rule)
            blocks += [one["CidrIp"] for one in rule.get("IpRanges", [])]
        for block in blocks:
            if not _is_block(block):
                raise AwsError("InvalidParameterValue", f"CIDR block {block} is malformed")

    def _delete_nat_gateway(self, call: Call) -> None:
        name = call.parameters["NatGatewayId"]
        if name not in backend("ec2").nat_gateways:
            raise AwsError("NatGatewayNotFound", f"NAT gateway {name} was not found")

    def _modify_volume(self, call: Call) -> None:
        given = call.parameters
        volume = backend("ec2").volumes.get(given["VolumeId"])
        if volume is not None and given.get("Size", volume.size) < volume.size:
            raise AwsError("InvalidParameterValue", "New size cannot be smaller than existing size")

    def _delete_security_group(self, call: Call) -> None:
        given = call.parameters
        group = given.get("GroupId") or given.get("GroupName")
        described = self.ask("ec2", "DescribeSecurityGroups", {})["SecurityGroups"]
        ids = [one["GroupId"] for one in described if group in (one["GroupId"], one["GroupName"])]
        if ids and self._is_used(ids[0], described):
            raise AwsError("DependencyViolation", f"resource {ids[0]} has a dependent object")

    def _is_used(self, group: str, described: list[Document]) -> bool:
        """By another group's rule, a network interface, a load balancer or a database."""
        for other in described:
            rules = [*other.get("IpPermissions", []), *other.get("IpPermissionsEgress", [])]
            pairs = [pair["GroupId"] for rule in rules for pair in rule["UserIdGroupPairs"]]
            if other["GroupId"] != group and group in pairs:
                return True
        interfaces = self.ask("ec2", "DescribeNetworkInterfaces", {})["NetworkInterfaces"]
        if any(group in [g["GroupId"] for g in one.get("Groups", [])] for one in interfaces):
            return True
        balancers = self.ask("elbv2", "DescribeLoadBalancers", {})["LoadBalancers"]
        databases = self.ask("rds", "DescribeDBInstances", {})["DBInstances"]
        return any(group in one.get("SecurityGroups", []) for one in balancers) or any(
            group in [g["VpcSecurityGroupId"] for g in one["VpcSecurityGroups"]]
            for one in databases
        )

    def _delete_subnet(self, call: Call) -> None:
        subnet = call.parameters["SubnetId"]
        interfaces = self.ask("ec2", "DescribeNetworkInterfaces", {})["NetworkInterfaces"]
        balancers = self.ask("elbv2", "DescribeLoadBalancers", {})["LoadBalancers"]
        zones = [zone["SubnetId"] for one in balancers for zone in one["AvailabilityZones"]]
        if subnet in zones or subnet in [one.get("SubnetId") for one in interfaces]:
            raise AwsError(
                "DependencyViolation",
                f"The subnet '{subnet}' has dependencies and cannot be deleted.",
            )

    def _run_instances(self, call: Call) -> None:
        wanted = call.parameters.get("InstanceType")
        if wanted and not _is_known(wanted):
            message = f"Invalid value '{wanted}' for InstanceType."
            raise AwsError("InvalidParameterValue", message)

    def _modify_instance_attribute(self, call: Call) -> None:
        wanted = call.parameters.get("InstanceType", {}).get("Value")
        if not wanted:
            return
        if not _is_known(wanted):
            raise AwsError(
                "InvalidInstanceAttributeValue",
                f"The instanceType '{wanted}' is not a valid instance type.",
            )
        if instance_of(call.parameters["InstanceId"]).state == "running":
            raise AwsError(
                "IncorrectInstanceState",
                f"The instance '{call.parameters['InstanceId']}' is not in the 'stopped' state.",
            )


def _is_known(instance_type: str) -> bool:
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    return instance_type in INSTANCE_TYPES


def _is_block(block: str) -> bool:
    try:
        ipaddress.IPv4Network(block, strict=False)
    except ValueError:
        return False
    return "/" in block


def _check_ports(rule: Document) -> None:
    """Source: EC2 API reference, IpPermission."""
    protocol = str(rule.get("IpProtocol", "-1"))
    number = protocol.isdecimal() and int(protocol) <= LAST_PROTOCOL
    if protocol not in PROTOCOLS and not number:
        raise AwsError(
            "InvalidParameterValue",
            f"Invalid value '{protocol}' for IP protocol. Unknown protocol.",
        )
    if protocol not in ("tcp", "udp", "6", "17"):
        return
    ports = [rule[name] for name in ("FromPort", "ToPort") if name in rule]
    for port in ports:
        if not 0 <= port <= LAST_PORT:
            raise AwsError("InvalidParameterValue", f"TCP/UDP port ({port}) out of range")
    if len(ports) < 2:
        said = "Must specify both from and to ports with TCP/UDP."
        raise AwsError("InvalidParameterValue", f"Invalid value '{said}' for portRange.")
    if ports[0] > ports[1]:
        raise AwsError(
            "InvalidParameterValue",
            f"Invalid TCP/UDP port range ({ports[0]}-{ports[1]})",
        )
