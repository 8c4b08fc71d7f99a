"""What *Nodes not ready* asks beyond the plain lists: events, kubelet logs, and EC2's own view."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from runbook_lib.config import Config
from runbook_lib.sources import kubernetes
from runbook_lib.sources.aws import asking
from runbook_lib.sources.clients import Sources
from runbook_lib.sources.seam import SourceError, probe
from runbook_lib.sources.side_by_side import ask_each

LOG_LINES = 200
LOGS_AT_ONCE = 5
FILTER_VALUES = 200  # what EC2 takes in one filter
PRESSURES = ("DiskPressure", "MemoryPressure", "PIDPressure")


def is_asked(node: dict[str, Any], asked: str) -> bool:
    """Whether this node is the one asked for: by name or address; an empty question means all.

    Alerts name a node as `ip-…`, `node/ip-…` or `10.0.1.7:9100`.
    """
    wanted = asked.removeprefix("node/").split(":")[0]
    addresses = node.get("status", {}).get("addresses") or []
    return wanted in ("", node["metadata"]["name"], *(one["address"] for one in addresses))


def status_of(node: dict[str, Any], kind: str) -> str:
    """A condition's status: True, False or Unknown; empty where the node does not report it."""
    conditions = node.get("status", {}).get("conditions") or []
    return next((str(c["status"]) for c in conditions if c["type"] == kind), "")


def is_troubled(node: dict[str, Any]) -> bool:
    """Not ready, under a pressure, or without its network."""
    kinds = (*PRESSURES, "NetworkUnavailable")
    pressed = any(status_of(node, kind) == "True" for kind in kinds)
    return pressed or status_of(node, "Ready") != "True"


@probe(lambda config, **_: "kubectl get events -A --field-selector involvedObject.kind=Node")
def events(sources: Sources) -> list[dict[str, Any]]:
    """Events about nodes, Normal ones too: a kubelet says NodeNotReady in a Normal event.

    [{namespace, object (node/NAME), reason, message, count, first, last}].
    """
    found = sources.kubernetes.list("/api/v1/events", fieldSelector="involvedObject.kind=Node")
    return [kubernetes.event_row(event) for event in found]


def _log_command(config: Config, node: str = "", **_: Any) -> str:
    return f'kubectl get --raw "{_log_path(node or "NODE")}?query=kubelet&tailLines={LOG_LINES}"'


def _log_path(node: str) -> str:
    return f"/api/v1/nodes/{quote(node)}/proxy/logs/"


@probe(_log_command, seconds=10)
def kubelet_logs(sources: Sources, node: str = "") -> dict[str, Any]:
    """The last lines of the kubelet's log on nodes in trouble, five nodes at most.

    {logs: [{node, lines} or {node, error}], left_out: [names]}. A healthy node is not asked: the
    log only refines why. Source: NodeLogQuery (enableSystemLogQuery in the kubelet's settings).
    """
    listed = [n for n in sources.kubernetes.list("/api/v1/nodes") if is_asked(n, node)]
    troubled = [n["metadata"]["name"] for n in listed if is_troubled(n)]
    asked, left_out = troubled[:LOGS_AT_ONCE], troubled[LOGS_AT_ONCE:]
    answers = ask_each(asked, lambda name: _log_of(sources, name), seconds=8.5)
    logs = [
        {"node": name, "error": str(found)}
        if isinstance(found, SourceError)
        else {"node": name, "lines": found}
        for name, found in answers.items()
    ]
    return {"logs": logs, "left_out": left_out}


def _log_of(sources: Sources, name: str) -> list[str]:
    path = _log_path(name)
    text = sources.kubernetes.text(path, query="kubelet", tailLines=LOG_LINES)
    # A kubelet that serves files but no queries ignores the query and lists its log folder.
    if text.lstrip()[:9].lower().startswith(("<pre>", "<!doctype", "<html")):
        raise SourceError(
            "refused",
            f"GET {path} gave a list of files: the kubelet of {name} answers no log queries.",
            "Set enableSystemLogQuery: true in the kubelet's configuration, or use SSM.",
        )
    return [line[:500] for line in text.splitlines()[-LOG_LINES:]]


def _ec2_status_command(config: Config) -> str:
    return (
        "aws ec2 describe-instance-status --include-all-instances --instance-ids "
        "$(kubectl get nodes -o jsonpath='{.items[*].spec.providerID}' | sed 's#aws:///[^/]*/##g')"
        f" --region {config.cluster.region}"
    )


@probe(_ec2_status_command)
def instances(sources: Sources) -> list[dict[str, Any]]:
    """EC2's view of each node: [{node, instance, state, system, reachability, since, planned}].

    system and reachability are the two status checks: ok, impaired, initializing,
    insufficient-data or not-applicable. since: when the impairment began. planned: AWS's own
    scheduled events. A node that EC2 does not know has {node, error}.
    """
    found = _described(sources)
    ids = [one["InstanceId"] for one in found.values() if one]
    checks = _status_checks(sources, ids)
    return [_instance(name, one, checks) for name, one in found.items()]


def _instance(
    node: str, found: dict[str, Any] | None, checks: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    if found is None:
        return {"node": node, "error": "EC2 lists no instance for this node in this region."}
    check = checks.get(found["InstanceId"], {})
    begun = [
        str(detail["ImpairedSince"])
        for part in ("SystemStatus", "InstanceStatus")
        for detail in check.get(part, {}).get("Details", [])
        if detail.get("ImpairedSince")
    ]
    return {
        "node": node,
        "instance": found["InstanceId"],
        "state": found["State"]["Name"],
        "why": found.get("StateTransitionReason", ""),
        "system": check.get("SystemStatus", {}).get("Status", ""),
        "reachability": check.get("InstanceStatus", {}).get("Status", ""),
        "since": min(begun, default=""),
        "planned": [
            f"{event['Code']}: {event.get('Description', '')}" for event in check.get("Events", [])
        ],
    }


def _described(sources: Sources) -> dict[str, dict[str, Any] | None]:
    """{node name: EC2's description of its instance, or None}."""
    listed = sources.kubernetes.list("/api/v1/nodes")
    keys = {node["metadata"]["name"]: _instance_id(node) for node in listed}
    ids = [key for key in keys.values() if key]
    names = [name for name, key in keys.items() if not key]
    found = [*_filtered(sources, "instance-id", ids)]
    found += _filtered(sources, "private-dns-name", names)
    known = {one["InstanceId"]: one for one in found}
    known |= {one["PrivateDnsName"]: one for one in found if one.get("PrivateDnsName")}
    return {name: known.get(key or name) for name, key in keys.items()}


def _instance_id(node: dict[str, Any]) -> str:
    """`i-…` out of `aws:///us-east-1a/i-…`; empty where the cloud controller set none."""
    last = (node.get("spec", {}).get("providerID") or "").rpartition("/")[2]
    return last if last.startswith("i-") else ""


def _filtered(sources: Sources, filter_name: str, values: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for first in range(0, len(values), FILTER_VALUES):
        asked = [{"Name": filter_name, "Values": values[first : first + FILTER_VALUES]}]
        with asking(f"ec2:DescribeInstances of {len(values)} nodes"):
            pages = sources.aws("ec2").get_paginator("describe_instances").paginate(Filters=asked)
            found += [i for page in pages for r in page["Reservations"] for i in r["Instances"]]
    return found


def _status_checks(sources: Sources, ids: list[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for first in range(0, len(ids), 100):
        with asking(f"ec2:DescribeInstanceStatus of {len(ids)} instances"):
            answer = sources.aws("ec2").describe_instance_status(
                InstanceIds=ids[first : first + 100], IncludeAllInstances=True
            )
        found |= {one["InstanceId"]: one for one in answer["InstanceStatuses"]}
    return found


@probe(
    lambda config: (
        "aws ec2 describe-subnets --query "
        "'Subnets[].[SubnetId,AvailabilityZone,CidrBlock,AvailableIpAddressCount]'"
        f" --output table --region {config.cluster.region}"
    )
)
def subnets(sources: Sources) -> list[dict[str, Any]]:
    """The subnets that the nodes' interfaces, and so their pods, take addresses from:
    [{subnet, zone, cidr, free, nodes}].
    """
    used: dict[str, set[str]] = {}
    for name, instance in _described(sources).items():
        for interface in (instance or {}).get("NetworkInterfaces", []):
            used.setdefault(interface["SubnetId"], set()).add(name)
    if not used:
        return []
    with asking(f"ec2:DescribeSubnets of {', '.join(sorted(used))}"):
        answer = sources.aws("ec2").describe_subnets(SubnetIds=sorted(used))
    return [
        {
            "subnet": one["SubnetId"],
            "zone": one["AvailabilityZone"],
            "cidr": one["CidrBlock"],
            "free": one["AvailableIpAddressCount"],
            "nodes": sorted(used[one["SubnetId"]]),
        }
        for one in answer["Subnets"]
    ]


@probe(
    lambda config: (
        "aws ec2 describe-security-groups --group-ids NODE-SG --query "
        f"'SecurityGroups[].[GroupId,IpPermissionsEgress]' --region {config.cluster.region}"
    )
)
def egress(sources: Sources) -> list[dict[str, Any]]:
    """What the security groups of each node let out: [{node, groups, rules}]; a node whose
    instance or groups EC2 does not tell is left out.

    rules: [{protocol (-1 is all), from_port, to_port}] of every group of the node together.
    """
    described = _described(sources)
    worn = {name: groups for name, one in described.items() if (groups := _groups(one or {}))}
    ids = sorted({group for groups in worn.values() for group in groups})
    if not ids:
        return []
    with asking(f"ec2:DescribeSecurityGroups of {', '.join(ids)}"):
        answer = sources.aws("ec2").describe_security_groups(GroupIds=ids)
    rules = {one["GroupId"]: one.get("IpPermissionsEgress", []) for one in answer["SecurityGroups"]}
    return [
        {
            "node": name,
            "groups": groups,
            "rules": [
                {
                    "protocol": rule["IpProtocol"],
                    "from_port": rule.get("FromPort"),
                    "to_port": rule.get("ToPort"),
                }
                for group in groups
                for rule in rules.get(group, [])
            ],
        }
        for name, groups in worn.items()
    ]


def _groups(instance: dict[str, Any]) -> list[str]:
    """The groups of the instance's primary interface, which the kubelet speaks through."""
    primary = [
        interface.get("Groups", [])
        for interface in instance.get("NetworkInterfaces", [])
        if interface.get("Attachment", {}).get("DeviceIndex") == 0
    ]
    told = [*instance.get("SecurityGroups", []), *(group for groups in primary for group in groups)]
    return sorted({group["GroupId"] for group in told})
