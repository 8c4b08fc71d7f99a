"""Systems Manager: agents on the nodes, and what commands print there.

Sources: Systems Manager API reference, SendCommand, GetCommandInvocation,
DescribeInstanceInformation, StartSession.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from runbook_lib.practice.aws.additions import Addition, Verb, one_of
from runbook_lib.practice.aws.ec2 import instance_of
from runbook_lib.practice.aws.front import Handler
from runbook_lib.practice.aws.lean import ACCOUNT
from runbook_lib.practice.aws.wire import AwsError, Call, Document

PING = ("Online", "ConnectionLost", "Inactive")
SHELL = "AWS-RunShellScript"
UP = datetime.timedelta(days=21, hours=3, minutes=12)  # how long a healthy node has been up
# What a healthy node prints, by the words that a command begins with; `_dated` fills in times.
CALM: dict[str, str] = {
    "df": (
        "Filesystem      Size  Used Avail Use% Mounted on\n"
        "devtmpfs        4.0M     0  4.0M   0% /dev\n"
        "tmpfs           7.7G     0  7.7G   0% /dev/shm\n"
        "/dev/nvme0n1p1   80G   37G   44G  46% /\n"
    ),
    "free": (
        "               total        used        free      shared  buff/cache   available\n"
        "Mem:           15682        6273        4102           3        5307        9109\n"
        "Swap:              0           0           0\n"
    ),
    "uptime": " {clock} up 21 days,  3:12,  0 users,  load average: 1.18, 1.09, 1.04\n",
    "systemctl is-active": "active\n",
    "systemctl status kubelet": (
        "● kubelet.service - Kubernetes Kubelet\n"
        "     Loaded: loaded (/etc/systemd/system/kubelet.service; enabled; preset: disabled)\n"
        "     Active: active (running) since {started} UTC; 3 weeks 0 days ago\n"
        "       Docs: https://github.com/kubernetes/kubernetes\n"
        "   Main PID: 1712 (kubelet)\n"
    ),
    "systemctl status containerd": (
        "● containerd.service - containerd container runtime\n"
        "     Active: active (running) since {started} UTC; 3 weeks 0 days ago\n"
    ),
    "systemctl restart": "",
    "journalctl -u kubelet": (
        "kubelet[1712]: I{logged}    1712 kubelet_getters.go:206] "
        '"Pod status updated" status="Running"\n'
    ),
    "crictl rmi --prune": "",
    "crictl imagefsinfo": (
        '{\n  "status": {\n    "imageFilesystems": [\n'
        '      {"usedBytes": {"value": "18253611008"}}\n    ]\n  }\n}\n'
    ),
    "crictl ps": (
        "CONTAINER      IMAGE          CREATED        STATE    NAME        ATTEMPT\n"
        "3f2a9c41d7e05  9d1f3b7c2a4e6  6 days ago     Running  aws-node    0\n"
        "b81c6e2f90a3d  4e7c8a1b5d2f0  6 days ago     Running  kube-proxy  0\n"
    ),
    "crictl images": (
        "IMAGE                                                    TAG      IMAGE ID       SIZE\n"
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/mlflow      3.6.0    9d1f3b7c2a4e6  412MB\n"
    ),
}


class Ssm(Addition):
    """`ssm_agent` loses a node's agent; `command_output` says what a command prints."""

    def reset(self) -> None:
        self._ping: dict[str, tuple[str, datetime.datetime]] = {}
        self._outputs: list[tuple[str | None, str, str, int]] = []
        self._commands: dict[str, Document] = {}

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "ssm.DescribeInstanceInformation": self._describe_instance_information,
            "ssm.SendCommand": self._send_command,
            "ssm.GetCommandInvocation": self._get_command_invocation,
            "ssm.ListCommandInvocations": self._list_command_invocations,
            "ssm.StartSession": self._start_session,
        }

    def verbs(self) -> Mapping[str, Verb]:
        return {"ssm_agent": self.ssm_agent, "command_output": self.command_output}

    def ssm_agent(self, node: str, ping: str = "ConnectionLost", since: float = 600.0) -> None:
        """A node's agent is Online, or lost since so many seconds (`node`: name or id)."""
        one_of("ping", ping, PING)
        seen = _now() - datetime.timedelta(seconds=0 if ping == "Online" else since)
        self._ping[instance_of(node).id] = (ping, seen)

    def command_output(
        self, contains: str, output: str, node: str | None = None, code: int = 0
    ) -> None:
        """Each shell line with `contains` in it prints `output` and ends with `code`, on a node
        or (None) on every; the last one said wins. With a code the output is an error's."""
        machine = instance_of(node).id if node else None
        self._outputs.insert(0, (machine, contains, output, code))

    def _machines(self) -> list[Any]:
        from runbook_lib.practice.aws.additions import backend

        return [
            one
            for reservation in backend("ec2").reservations.values()
            for one in reservation.instances
            if one.state == "running"
        ]

    def _agent(self, instance: str) -> tuple[str, datetime.datetime]:
        return self._ping.get(instance, ("Online", _now()))

    def _describe_instance_information(self, call: Call) -> Document:
        given = call.parameters
        wanted: set[str] | None = None
        pings: set[str] | None = None
        for one in given.get("Filters", []):
            wanted, pings = _narrow(one["Key"], set(one["Values"]), wanted, pings)
        for one in given.get("InstanceInformationFilterList", []):
            wanted, pings = _narrow(one["key"], set(one["valueSet"]), wanted, pings)
        found = []
        for machine in self._machines():
            ping, seen = self._agent(machine.id)
            if (wanted is None or machine.id in wanted) and (pings is None or ping in pings):
                found.append(
                    {
                        "InstanceId": machine.id,
                        "PingStatus": ping,
                        "LastPingDateTime": seen,
                        "AgentVersion": "3.3.2958.0",
                        "IsLatestVersion": True,
                        "PlatformType": "Linux",
                        "PlatformName": "Amazon Linux",
                        "PlatformVersion": "2023",
                        "ResourceType": "EC2Instance",
                        "IPAddress": machine.private_ip,
                        "ComputerName": machine.private_dns_name,
                    }
                )
        return {"InstanceInformationList": found}

    def _targets(self, given: Document) -> list[str]:
        """The instances that a command is for. Raises AwsError for one without a live agent."""
        named = list(given.get("InstanceIds", []))
        machines = self._machines()
        for target in given.get("Targets", []):
            key, values = target["Key"], target["Values"]
            if key == "InstanceIds":
                named += values
            elif key.startswith("tag:"):
                tags = {one.id: {t["key"]: t["value"] for t in one.get_tags()} for one in machines}
                named += [
                    one for one, has in tags.items() if has.get(key.removeprefix("tag:")) in values
                ]
            else:
                raise AwsError("InvalidTarget", f"The practice platform knows no target {key}.")
        running = {one.id for one in machines}
        lost = [one for one in named if one not in running or self._agent(one)[0] != "Online"]
        if lost:
            raise AwsError(
                "InvalidInstanceId",
                f"Instances [[{', '.join(lost)}]] not in a valid state for account {ACCOUNT}",
            )
        return named

    def _send_command(self, call: Call) -> Document:
        given = call.parameters
        if given["DocumentName"] != SHELL:
            raise AwsError("InvalidDocument", f"The practice platform runs only {SHELL}.")
        instances = self._targets(given)
        from moto.moto_api._internal import mock_random

        command = {
            "CommandId": str(mock_random.uuid4()),
            "DocumentName": SHELL,
            "Comment": given.get("Comment", ""),
            "Parameters": given.get("Parameters", {}),
            "InstanceIds": given.get("InstanceIds", []),
            "Targets": given.get("Targets", []),
            "RequestedDateTime": _now(),
            "Status": "Pending",
            "StatusDetails": "Pending",
            "TargetCount": len(instances),
            "CompletedCount": 0,
            "ErrorCount": 0,
        }
        self._commands[str(command["CommandId"])] = {**command, "_instances": instances}
        return {"Command": command}

    def _get_command_invocation(self, call: Call) -> Document:
        given = call.parameters
        command = self._commands.get(given["CommandId"])
        if command is None or given["InstanceId"] not in command["_instances"]:
            raise AwsError("InvocationDoesNotExist", "")
        out, error, code = self._run(given["InstanceId"], command)
        status = "Success" if code == 0 else "Failed"
        return {
            "CommandId": given["CommandId"],
            "InstanceId": given["InstanceId"],
            "DocumentName": SHELL,
            "PluginName": "aws:runShellScript",
            "ResponseCode": code,
            "ExecutionStartDateTime": command["RequestedDateTime"].strftime("%Y-%m-%dT%H:%M:%SZ"),
            "ExecutionEndDateTime": command["RequestedDateTime"].strftime("%Y-%m-%dT%H:%M:%SZ"),
            "Status": status,
            "StatusDetails": status,
            # SSM keeps the first 24,000 characters of what it returns here.
            "StandardOutputContent": out[:24000],
            "StandardErrorContent": error[:24000],
        }

    def _list_command_invocations(self, call: Call) -> Document:
        given = call.parameters
        found = []
        for name, command in self._commands.items():
            for instance in command["_instances"]:
                if given.get("CommandId") in (None, name) and given.get("InstanceId") in (
                    None,
                    instance,
                ):
                    out, error, code = self._run(instance, command)
                    status = "Success" if code == 0 else "Failed"
                    one = {
                        "CommandId": name,
                        "InstanceId": instance,
                        "DocumentName": SHELL,
                        "RequestedDateTime": command["RequestedDateTime"],
                        "Status": status,
                        "StatusDetails": status,
                    }
                    if given.get("Details"):
                        plugin: Document = {"Name": "aws:runShellScript", "Status": status}
                        plugin |= {"ResponseCode": code, "Output": out + error}
                        one["CommandPlugins"] = [plugin]
                    found.append(one)
        return {"CommandInvocations": found}

    def _run(self, instance: str, command: Document) -> tuple[str, str, int]:
        """Standard output, standard error and exit code of a command's lines, one by one."""
        out: list[str] = []
        errors: list[str] = []
        code = 0
        for line in command["Parameters"].get("commands", []):
            text, code = self._line(instance, line, command["RequestedDateTime"])
            (errors if code else out).append(text)
        return "".join(out), "".join(errors), code

    def _line(self, instance: str, line: str, now: datetime.datetime) -> tuple[str, int]:
        for machine, contains, output, code in self._outputs:
            if machine in (None, instance) and contains in line:
                return output, code
        bare = line.strip().removeprefix("sudo ")
        for begins in sorted(CALM, key=len, reverse=True):
            if bare.startswith(begins):
                return _dated(CALM[begins], now), 0
        return f"practice platform: no output is known for: {line}\n", 127

    def _start_session(self, call: Call) -> Document:
        target = call.parameters["Target"]
        running = {one.id for one in self._machines()}
        if target not in running or self._agent(target)[0] != "Online":
            raise AwsError("TargetNotConnected", f"{target} is not connected.")
        raise AwsError(
            "NotImplemented",
            "The practice platform opens no sessions: use aws ssm send-command.",
            501,
        )


def _narrow(
    key: str, values: set[str], wanted: set[str] | None, pings: set[str] | None
) -> tuple[set[str] | None, set[str] | None]:
    if key == "InstanceIds":
        return values, pings
    if key == "PingStatus":
        return wanted, values
    raise AwsError("InvalidFilterKey", f"The practice platform knows no filter {key}.")


def _dated(text: str, now: datetime.datetime) -> str:
    """A healthy node's print-out of that moment."""
    moments = {
        "{clock}": f"{now:%H:%M:%S}",
        "{started}": f"{now - UP:%a %Y-%m-%d %H:%M:%S}",
        # As klog writes it, of a line logged a moment ago.
        "{logged}": f"{now - datetime.timedelta(seconds=16):%m%d %H:%M:%S.%f}",
    }
    for name, moment in moments.items():
        text = text.replace(name, moment)
    return text


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
