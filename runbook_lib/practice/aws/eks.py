"""EKS: the cluster's security group and health, the node group's health and updates."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

from runbook_lib.practice.aws.additions import Addition, Verb, backend, one_of
from runbook_lib.practice.aws.front import Handler
from runbook_lib.practice.aws.wire import AwsError, Call, Document

CLUSTER_STATUS = ("CREATING", "ACTIVE", "DELETING", "FAILED", "UPDATING", "PENDING")
# Source: EKS API reference, ClusterIssue and (node group) Issue.
CLUSTER_ISSUES = (
    "AccessDenied", "ClusterUnreachable", "ConfigurationConflict", "InternalFailure",
    "ResourceLimitExceeded", "ResourceNotFound", "IamRoleNotFound", "VpcNotFound",
    "InsufficientFreeAddresses", "Ec2ServiceNotSubscribed", "Ec2SubnetNotFound",
    "Ec2SecurityGroupNotFound", "KmsGrantRevoked", "KmsKeyNotFound",
    "KmsKeyMarkedForDeletion", "KmsKeyDisabled", "StsRegionalEndpointDisabled",
    "UnsupportedVersion", "Other",
)  # fmt: skip
GROUP_STATUS = (
    "CREATING", "ACTIVE", "UPDATING", "DELETING", "CREATE_FAILED", "DELETE_FAILED", "DEGRADED",
)  # fmt: skip
GROUP_ISSUES = (
    "AutoScalingGroupNotFound", "AutoScalingGroupInvalidConfiguration",
    "Ec2SecurityGroupNotFound", "Ec2SecurityGroupDeletionFailure", "Ec2LaunchTemplateNotFound",
    "Ec2LaunchTemplateVersionMismatch", "Ec2SubnetNotFound",
    "Ec2SubnetInvalidConfiguration", "IamInstanceProfileNotFound", "IamLimitExceeded",
    "IamNodeRoleNotFound", "NodeCreationFailure", "AsgInstanceLaunchFailures",
    "InstanceLimitExceeded", "InsufficientFreeAddresses", "AccessDenied", "InternalFailure",
    "ClusterUnreachable", "AmiIdNotFound", "Ec2InstanceTypeDoesNotExist", "Unknown",
)  # fmt: skip
# What an update of the cluster says beside what it changes.
UNCHANGING = ("name", "clientRequestToken")
LOG_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")
TAINT_EFFECTS = ("NO_SCHEDULE", "NO_EXECUTE", "PREFER_NO_SCHEDULE")
VPC_CONFIG = {"public_access": "endpointPublicAccess", "private_access": "endpointPrivateAccess"}


class Eks(Addition):
    """`cluster` and `nodegroup` change what is described; updates are checked as EKS does."""

    def reset(self) -> None:
        self.security_group = ""  # EKS makes it with the cluster; the seed names it
        self._cluster: Document = {}
        self._groups: dict[str, Document] = {}
        self._updates: dict[str, tuple[str | None, Document]] = {}  # with their node group's name

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "eks.DescribeCluster": self._describe_cluster,
            "eks.UpdateClusterConfig": self._update_cluster_config,
            "eks.DescribeNodegroup": self._describe_nodegroup,
            "eks.CreateNodegroup": self._create_nodegroup,
            "eks.UpdateNodegroupConfig": self._update_nodegroup_config,
            "eks.UpdateNodegroupVersion": self._update_nodegroup_version,
            "eks.DescribeUpdate": self._describe_update,
            "eks.ListUpdates": self._list_updates,
            "eks.ListNodegroups": self._check_cluster,
            "eks.ListFargateProfiles": self._check_cluster,
        }

    def verbs(self) -> Mapping[str, Verb]:
        return {"cluster": self.cluster, "nodegroup": self.nodegroup}

    def _describe_cluster(self, call: Call) -> Document:
        answer = call.forward()
        cluster = answer["cluster"]
        changed = self._cluster
        cluster["resourcesVpcConfig"] |= {
            "clusterSecurityGroupId": self.security_group,
            **changed.get("vpc", {}),
        }
        cluster["health"] = {"issues": changed.get("issues", [])}
        cluster["status"] = _lasting(changed) or cluster["status"]
        return answer

    def _update_cluster_config(self, call: Call) -> Document:
        """Access to the endpoint, or logging. moto puts what is given in the place of all; EKS
        leaves what is not given."""
        given = {key: one for key, one in call.parameters.items() if key not in UNCHANGING}
        cluster = self._moto_cluster(call.parameters["name"])
        if unknown := set(given) - {"resourcesVpcConfig", "logging"}:
            raise AwsError(
                "NotImplemented",
                f"The practice platform's EKS updates no {', '.join(sorted(unknown))}.",
                501,
            )
        if len(given) != 1:
            raise AwsError("InvalidParameterException", "Only one type of update can be allowed.")
        if "logging" in given:
            update = self._update_logging(cluster, given["logging"])
        else:
            update = self._update_access(cluster, given["resourcesVpcConfig"])
        return {"update": update}

    def _update_access(self, cluster: Any, given: Document) -> Document:
        wanted = {**cluster.resources_vpc_config, **given}
        if not (wanted["endpointPublicAccess"] or wanted["endpointPrivateAccess"]):
            raise AwsError(
                "InvalidParameterException",
                "Private and public endpoint access cannot be disabled at the same time.",
            )
        try:
            _check_blocks(given.get("publicAccessCidrs", []))
        except ValueError as error:
            raise AwsError("InvalidParameterException", str(error)) from None
        cluster.resources_vpc_config = wanted
        shown = {name[0].upper() + name[1:]: json.dumps(value) for name, value in given.items()}
        return self._successful("EndpointAccessUpdate", shown)

    def _update_logging(self, cluster: Any, given: Document) -> Document:
        """A setting only: there is no CloudWatch Logs here to which they would go."""
        before = {
            kind
            for setup in (cluster.logging or {}).get("clusterLogging", [])
            for kind in setup["types"]
            if setup["enabled"]
        }
        enabled = set(before)
        for setup in given.get("clusterLogging", []):
            for kind in setup.get("types", []):
                if kind not in LOG_TYPES:
                    raise AwsError("InvalidParameterException", f"Invalid log type: {kind}")
                (enabled.add if setup.get("enabled") else enabled.discard)(kind)
        if enabled == before:
            raise AwsError(
                "InvalidParameterException", "No changes needed for the logging config provided"
            )
        cluster.logging = {
            "clusterLogging": [
                {"types": types, "enabled": on}
                for on in (True, False)
                if (types := [kind for kind in LOG_TYPES if (kind in enabled) is on])
            ]
        }
        return self._successful("LoggingUpdate", {"ClusterLogging": json.dumps(given)})

    def endpoint_access(self) -> Document:
        """The resourcesVpcConfig of the one cluster, as it is described."""
        [cluster] = backend("eks").clusters.values()
        return {**cluster.resources_vpc_config, **self._cluster.get("vpc", {})}

    def _describe_nodegroup(self, call: Call) -> Document:
        answer = call.forward()
        group = answer["nodegroup"]
        changed = self._groups.get(group["nodegroupName"], {})
        group["health"] = {"issues": changed.get("issues", [])}
        group["status"] = _lasting(changed) or group["status"]
        return answer

    def _create_nodegroup(self, call: Call) -> None:
        for subnet in call.parameters["subnets"]:
            if not any(subnet in zone for zone in backend("ec2").subnets.values()):
                raise AwsError(
                    "InvalidParameterException", f"The subnet ID '{subnet}' does not exist"
                )
        role = call.parameters["nodeRole"].rsplit("/", 1)[-1]
        if not any(one.name == role for one in backend("iam").roles.values()):
            raise AwsError(
                "InvalidParameterException", f"The role with name {role} cannot be found."
            )
        _check_scaling(call.parameters.get("scalingConfig", {}))
        _check_taints(call.parameters.get("taints", []))

    def _update_nodegroup_config(self, call: Call) -> Document:
        given = call.parameters
        group = self._moto_group(given["clusterName"], given["nodegroupName"])
        scaling = {**group.scaling_config, **given.get("scalingConfig", {})}
        _check_scaling(scaling)
        _check_taints(given.get("taints", {}).get("addOrUpdateTaints", []))
        answer = call.forward()
        # EKS scales through the node group's Auto Scaling group.
        self.ask(
            "autoscaling",
            "UpdateAutoScalingGroup",
            {
                "AutoScalingGroupName": group.resources["autoScalingGroups"][0]["name"],
                "MinSize": scaling["minSize"],
                "MaxSize": scaling["maxSize"],
                "DesiredCapacity": scaling["desiredSize"],
            },
        )
        self._keep(answer["update"], given["nodegroupName"])
        return answer

    def _update_nodegroup_version(self, call: Call) -> Document:
        """Nodes are not replaced here: the update ends at once, the version is the new one."""
        given = call.parameters
        cluster = given["clusterName"]
        group = self._moto_group(cluster, given["nodegroupName"])
        wanted = given.get("version", backend("eks").clusters[cluster].version)
        if wanted > backend("eks").clusters[cluster].version:
            raise AwsError(
                "InvalidParameterException",
                f"Nodegroup Kubernetes version {wanted} can't be greater than the cluster's "
                f"version {backend('eks').clusters[cluster].version}",
            )
        if template := given.get("launchTemplate"):
            self._check_template(template)
            group.launch_template = {**(group.launch_template or {}), **template}
        group.version = wanted
        parameters = {
            "Version": wanted,
            "ReleaseVersion": given.get("releaseVersion", group.release_version),
            "LaunchTemplateVersion": given.get("launchTemplate", {}).get("version"),
        }
        shown = {kind: str(value) for kind, value in parameters.items() if value is not None}
        return {"update": self._successful("VersionUpdate", shown, given["nodegroupName"])}

    def _keep(self, update: Document, nodegroup: str | None) -> None:
        self._updates[update["id"]] = (nodegroup, update)

    def _successful(
        self, kind: str, parameters: dict[str, str], nodegroup: str | None = None
    ) -> Document:
        """An update that is over, of the cluster or of its node group."""
        from moto.moto_api._internal import mock_random

        update = {
            "id": str(mock_random.uuid4()),
            "status": "Successful",
            "type": kind,
            "params": [{"type": name, "value": value} for name, value in parameters.items()],
            "createdAt": datetime.datetime.now(datetime.UTC),
            "errors": [],
        }
        self._keep(update, nodegroup)
        return update

    def _check_template(self, template: Document) -> None:
        key = "LaunchTemplateIds" if "id" in template else "LaunchTemplateNames"
        named = template.get("id") or template.get("name")
        try:
            self.ask("ec2", "DescribeLaunchTemplates", {key: [named]})
        except AwsError:
            raise AwsError(
                "InvalidRequestException", f"Launch template {named} could not be found."
            ) from None

    def _describe_update(self, call: Call) -> Document:
        given = call.parameters
        self._moto_cluster(given["name"])
        nodegroup, update = self._updates.get(given["updateId"], (None, None))
        if update is None or nodegroup != given.get("nodegroupName"):
            raise AwsError(
                "ResourceNotFoundException", f"No update found for ID: {given['updateId']}", 404
            )
        return {"update": update}

    def _list_updates(self, call: Call) -> Document:
        given = call.parameters
        wanted = given.get("nodegroupName")
        if wanted is None:
            self._moto_cluster(given["name"])
        else:
            self._moto_group(given["name"], wanted)
        return {"updateIds": [key for key, (of, _) in self._updates.items() if of == wanted]}

    def _check_cluster(self, call: Call) -> None:
        self._moto_cluster(call.parameters["clusterName"])

    def _moto_cluster(self, name: str) -> Any:
        clusters = backend("eks").clusters
        if name not in clusters:
            raise AwsError("ResourceNotFoundException", f"No cluster found for name: {name}.", 404)
        return clusters[name]

    def _moto_group(self, cluster: str, name: str) -> Any:
        group = self._moto_cluster(cluster).nodegroups.get(name)
        if group is None:
            raise AwsError(
                "ResourceNotFoundException", f"No node group found for name: {name}.", 404
            )
        return group

    def cluster(
        self,
        status: str | None = None,
        issues: list[dict[str, Any]] | None = None,
        public_access: bool | None = None,
        private_access: bool | None = None,
        public_access_cidrs: list[str] | None = None,
        seconds: float | None = None,
    ) -> None:
        """What DescribeCluster says of the cluster; what is not given stays.

        After `seconds` the status is moto's again (ACTIVE). `issues`: [{code, message,
        resourceIds}], codes as in EKS's ClusterIssue.
        """
        if status is not None:
            one_of("status", status, CLUSTER_STATUS)
            self._cluster |= _until(status, seconds)
        if issues is not None:
            self._cluster["issues"] = _issues(issues, CLUSTER_ISSUES)
        given = {"public_access": public_access, "private_access": private_access}
        vpc = {VPC_CONFIG[name]: value for name, value in given.items() if value is not None}
        if public_access_cidrs is not None:
            _check_blocks(public_access_cidrs)
            vpc["publicAccessCidrs"] = public_access_cidrs  # type: ignore[assignment]
        self._cluster["vpc"] = {**self._cluster.get("vpc", {}), **vpc}

    def nodegroup(
        self,
        name: str = "compute-nodes",
        status: str | None = None,
        issues: list[dict[str, Any]] | None = None,
        seconds: float | None = None,
    ) -> None:
        """What DescribeNodegroup says of a node group; what is not given stays.

        After `seconds` the status is moto's again (ACTIVE). `issues`: [{code, message,
        resourceIds}], codes as in EKS's Issue.
        """
        if not any(name in cluster.nodegroups for cluster in backend("eks").clusters.values()):
            raise ValueError(f"there is no node group {name!r}")
        changed = self._groups.setdefault(name, {})
        if status is not None:
            one_of("status", status, GROUP_STATUS)
            changed |= _until(status, seconds)
        if issues is not None:
            changed["issues"] = _issues(issues, GROUP_ISSUES)


def _until(status: str, seconds: float | None) -> Document:
    return {"status": status, "until": None if seconds is None else time.monotonic() + seconds}


def _lasting(changed: Document) -> str | None:
    """The status that a verb gave, while it lasts."""
    until = changed.get("until")
    over = until is not None and time.monotonic() >= until
    return None if over else changed.get("status")


def _issues(issues: list[dict[str, Any]], codes: tuple[str, ...]) -> list[dict[str, Any]]:
    for issue in issues:
        one_of("an issue's code", issue.get("code"), codes)
        if unknown := set(issue) - {"code", "message", "resourceIds"}:
            raise ValueError(f"an issue has no {', '.join(sorted(unknown))}")
    return [{"message": "", "resourceIds": [], **issue} for issue in issues]


def _check_blocks(blocks: list[str]) -> None:
    for block in blocks:
        try:
            ip_network(block)
        except ValueError:
            raise ValueError(
                f"The following CIDRs are invalid in publicAccessCidrs: [{block}]"
            ) from None


def _check_taints(taints: list[Document]) -> None:
    for taint in taints:
        if taint.get("effect") not in TAINT_EFFECTS:
            raise AwsError(
                "InvalidParameterException",
                f"Invalid taint effect: {taint.get('effect')}, must be one of these "
                f"[{', '.join(TAINT_EFFECTS)}]",
            )


def _check_scaling(scaling: Document) -> None:
    """Source: EKS API reference, NodegroupScalingConfig; the words are EKS's own."""
    low, high = scaling.get("minSize"), scaling.get("maxSize")
    wanted = scaling.get("desiredSize")
    if low is not None and high is not None and low > high:
        message = "minSize can't be greater than maxSize"
    elif wanted is not None and low is not None and wanted < low:
        message = f"Minimum capacity {low} can't be greater than desired size {wanted}"
    elif wanted is not None and high is not None and wanted > high:
        message = "desiredSize can't be greater than maxSize"
    else:
        return
    raise AwsError("InvalidParameterException", message)
