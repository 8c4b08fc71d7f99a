"""Auto Scaling: activities that failed, and bounds that are kept.

Sources: EC2 Auto Scaling API reference, DescribeScalingActivities, SetDesiredCapacity;
user guide, "Troubleshoot Amazon EC2 Auto Scaling: EC2 instance launch failures".
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from runbook_lib.practice.aws.additions import Addition, Verb, backend
from runbook_lib.practice.aws.front import Handler
from runbook_lib.practice.aws.names import INSTANCE_TYPE
from runbook_lib.practice.aws.wire import AwsError, Call, Document

# What Auto Scaling says of a launch that failed; {zone} and {type} are filled in.
FAILURES = {
    "InsufficientInstanceCapacity": "We currently do not have sufficient {type} capacity in the "
    "Availability Zone you requested ({zone}). Our system will be working on provisioning "
    "additional capacity. You can currently get {type} capacity by not specifying an "
    "Availability Zone in your request. Launching EC2 instance failed.",
    "VcpuLimitExceeded": "You have requested more vCPU capacity than your current vCPU limit of "
    "32 allows for the instance bucket that the specified instance type belongs to. Please "
    "visit http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit. "
    "Launching EC2 instance failed.",
    "InsufficientFreeAddressesInSubnet": "There are not enough free addresses in subnet of "
    "{zone} to satisfy the requested number of instances. Launching EC2 instance failed.",
    "UnauthorizedOperation": "You are not authorized to perform this operation. Launching EC2 "
    "instance failed.",
    "InvalidAMIID.NotFound": "The image id '[ami-0a1b2c3d4e5f60718]' does not exist. Launching "
    "EC2 instance failed.",
    "InvalidKeyPair.NotFound": "The key pair does not exist. Launching EC2 instance failed.",
    "Client.InternalError": "Client error on launch. Launching EC2 instance failed.",
}
# Of a group or a machine of one, where moto breaks if there is none.
OF_A_GROUP = (
    "AttachInstances", "DescribeLoadBalancerTargetGroups", "DescribeLoadBalancers",
    "DetachInstances", "EnterStandby", "ExitStandby", "SetInstanceHealth",
    "SetInstanceProtection", "TerminateInstanceInAutoScalingGroup",
)  # fmt: skip
PROCESSES = (
    "Launch", "Terminate", "AddToLoadBalancer", "AlarmNotification", "AZRebalance", "HealthCheck",
    "InstanceRefresh", "ReplaceUnhealthy", "ScheduledActions",
)  # fmt: skip


class AutoScaling(Addition):
    """`scaling_activity` tells of launches; with `lasting`, later ones fail alike."""

    def reset(self) -> None:
        self._activities: list[Document] = []
        self._failure = ""

    def handlers(self) -> Mapping[str, Handler]:
        return {
            **{f"autoscaling.{operation}": _check_group for operation in OF_A_GROUP},
            "autoscaling.DescribeScalingActivities": self._describe_activities,
            "autoscaling.SetDesiredCapacity": self._set_desired_capacity,
            "autoscaling.UpdateAutoScalingGroup": self._update,
            "autoscaling.SuspendProcesses": _check_processes,
            "autoscaling.ResumeProcesses": self._resume,
        }

    def verbs(self) -> Mapping[str, Verb]:
        return {"scaling_activity": self.scaling_activity}

    def scaling_activity(
        self,
        failure: str | None = None,
        zone: str = "us-east-1a",
        age: float = 120.0,
        times: int = 1,
        every: float = 60.0,
        lasting: bool = False,
        group: str | None = None,
    ) -> None:
        """`times` launches, the last `age` seconds ago, `every` seconds apart; each failed with
        `failure` (a key of FAILURES) or (None) succeeded. `lasting`: whoever asks for more
        machines from now on gets that failure again. `group`: the only one when not given."""
        if failure is not None and failure not in FAILURES:
            raise ValueError(f"failure is one of {', '.join(FAILURES)}, not {failure!r}")
        if lasting and not failure:
            raise ValueError("only a failure can be lasting")
        found = self._group(group)
        for place in range(times):
            moment = _now() - datetime.timedelta(seconds=age + place * every)
            self._note(found, failure, zone, moment)
        self._failure = failure or "" if lasting else ""

    def _group(self, name: str | None) -> Any:
        groups = backend("autoscaling").autoscaling_groups
        if name is None and len(groups) == 1:
            return next(iter(groups.values()))
        if name not in groups:
            raise ValueError(f"there is no Auto Scaling group {name!r}")
        return groups[name]

    def _note(self, group: Any, failure: str | None, zone: str, moment: datetime.datetime) -> None:
        from moto.moto_api._internal import mock_random

        said = FAILURES[failure].format(zone=zone, type=INSTANCE_TYPE) if failure else ""
        activity: Document = {
            "ActivityId": str(mock_random.uuid4()),
            "AutoScalingGroupName": group.name,
            "Description": "Launching a new EC2 instance"
            + (f".  Status Reason: {said}" if said else ""),
            "Cause": f"At {moment:%Y-%m-%dT%H:%M:%SZ} an instance was started in response to a "
            "difference between desired and actual capacity, increasing the capacity.",
            "StartTime": moment,
            "EndTime": moment + datetime.timedelta(seconds=1 if failure else 30),
            "StatusCode": "Failed" if failure else "Successful",
            "Progress": 100,
            "Details": f'{{"Availability Zone":"{zone}"}}',
        }
        if said:
            activity["StatusMessage"] = said
        self._activities.append(activity)

    def _describe_activities(self, call: Call) -> Document:
        given = call.parameters
        name = given.get("AutoScalingGroupName")
        groups = backend("autoscaling").autoscaling_groups
        if name is not None and name not in groups:
            raise _not_found(name)
        found = [one for one in self._activities if name in (None, one["AutoScalingGroupName"])]
        for group in groups.values():
            if name in (None, group.name):
                found += [_launched(group, state) for state in group.instance_states]
        found.sort(key=lambda one: one["StartTime"], reverse=True)
        return {"Activities": found[: given.get("MaxRecords", 100)]}

    def _set_desired_capacity(self, call: Call) -> Document | None:
        given = call.parameters
        name, wanted = given["AutoScalingGroupName"], given["DesiredCapacity"]
        group = backend("autoscaling").autoscaling_groups.get(name)
        if group is None:
            raise _not_found(name)
        for bound, word, wrong in (
            (group.max_size, "max", wanted > group.max_size),
            (group.min_size, "min", wanted < group.min_size),
        ):
            if wrong:
                side = "above" if word == "max" else "below"
                raise AwsError(
                    "ValidationError",
                    f"New SetDesiredCapacity value {wanted} is {side} {word} value {bound} for "
                    "the AutoScalingGroup.",
                )
        return self._launch_in_vain(group, wanted)

    def _update(self, call: Call) -> Document | None:
        given = call.parameters
        name = given["AutoScalingGroupName"]
        group = backend("autoscaling").autoscaling_groups.get(name)
        if group is None:
            raise _not_found(name)
        low = given.get("MinSize", group.min_size)
        high = given.get("MaxSize", group.max_size)
        if low > high:
            raise AwsError(
                "ValidationError",
                f"Max bound, {high}, must be greater than or equal to min bound, {low}",
            )
        wanted = given.get("DesiredCapacity")
        if wanted is not None and not low <= wanted <= high:
            raise AwsError(
                "ValidationError",
                f"Desired capacity:{wanted} must be between the specified min size:{low} and "
                f"max size:{high}",
            )
        if wanted is None:
            # Source: UpdateAutoScalingGroup: bounds draw the desired capacity with them.
            wanted = min(max(group.desired_capacity, low), high)
        answer = self._launch_in_vain(group, wanted)
        if answer is not None:
            group.min_size, group.max_size = low, high
        return answer

    def _resume(self, call: Call) -> Document:
        """What was held up meanwhile happens now."""
        _check_processes(call)
        call.forward()
        name = call.parameters["AutoScalingGroupName"]
        wanted = backend("autoscaling").autoscaling_groups[name].desired_capacity
        given = {"AutoScalingGroupName": name, "DesiredCapacity": wanted}
        self.ask("autoscaling", "SetDesiredCapacity", given)
        return {}

    def _launch_in_vain(self, group: Any, wanted: int) -> Document | None:
        """While launches fail, or are suspended, capacity is wanted and none comes."""
        suspended = {one["ProcessName"] for one in group.suspended_processes}
        machines = len(group.instance_states)
        if (wanted > machines and "Launch" in suspended) or (
            wanted < machines and "Terminate" in suspended
        ):
            group.desired_capacity = wanted
            return {}
        if not self._failure or wanted <= machines:
            return None
        group.desired_capacity = wanted
        zone = next(iter(group.availability_zones), "us-east-1a")
        self._note(group, self._failure, zone, _now())
        return {}


def _launched(group: Any, state: Any) -> Document:
    """The activity by which a running machine came."""
    moment = state.instance.launch_time.replace(tzinfo=datetime.UTC)
    return {
        "ActivityId": state.instance.id.replace("i-", "00000000-0000-4000-8000-")[:36],
        "AutoScalingGroupName": group.name,
        "Description": f"Launching a new EC2 instance: {state.instance.id}",
        "Cause": f"At {moment:%Y-%m-%dT%H:%M:%SZ} an instance was started in response to a "
        "difference between desired and actual capacity, increasing the capacity.",
        "StartTime": moment,
        "EndTime": moment + datetime.timedelta(seconds=30),
        "StatusCode": "Successful",
        "Progress": 100,
        "Details": f'{{"Availability Zone":"{state.instance.availability_zone}"}}',
    }


def _check_group(call: Call) -> None:
    """moto breaks at a group, or a machine, that is not there."""
    given = call.parameters
    groups = backend("autoscaling").autoscaling_groups
    name = given.get("AutoScalingGroupName")
    if name is not None and name not in groups:
        raise _not_found(name)
    ours = {state.instance.id for group in groups.values() for state in group.instance_states}
    machine = given.get("InstanceId")
    if machine is not None and machine not in ours:
        raise AwsError(
            "ValidationError",
            f"Instance Id not found - No managed instance found for instance ID {machine}",
        )


def _check_processes(call: Call) -> None:
    """moto takes any name."""
    _check_group(call)
    for name in call.parameters.get("ScalingProcesses", []):
        if name not in PROCESSES:
            raise AwsError(
                "ValidationError", f"{name} is not a valid process. Valid: {', '.join(PROCESSES)}"
            )


def _not_found(name: str) -> AwsError:
    return AwsError(
        "ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found"
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
