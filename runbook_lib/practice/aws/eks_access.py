"""EKS access entries: which IAM identities the cluster's API knows (401 for the others).

Source: EKS API reference, AccessEntry, AssociateAccessPolicy.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from runbook_lib.practice.aws.additions import Addition, backend
from runbook_lib.practice.aws.faults import USER
from runbook_lib.practice.aws.front import Handler
from runbook_lib.practice.aws.lean import ACCOUNT, REGION
from runbook_lib.practice.aws.names import CLUSTER, role_arn
from runbook_lib.practice.aws.wire import AwsError, Call, Document

ADMIN_POLICY = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"


class AccessEntries(Addition):
    """A scenario deletes or creates entries by ordinary calls."""

    def reset(self) -> None:
        now = datetime.datetime.now(datetime.UTC)
        self._entries: dict[str, Document] = {}
        self._policies: dict[str, list[Document]] = {}
        self._add(USER, "STANDARD", [], now)
        self._add(role_arn("eks-node-role"), "EC2_LINUX", ["system:nodes"], now)
        self._policies[USER] = [_associated(ADMIN_POLICY, {"type": "cluster"})]

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "eks.ListAccessEntries": self._list,
            "eks.DescribeAccessEntry": self._describe,
            "eks.CreateAccessEntry": self._create,
            "eks.DeleteAccessEntry": self._delete,
            "eks.ListAssociatedAccessPolicies": self._list_policies,
            "eks.AssociateAccessPolicy": self._associate,
            "eks.DisassociateAccessPolicy": self._disassociate,
        }

    def _add(
        self, principal: str, kind: str, groups: list[str], now: datetime.datetime
    ) -> Document:
        name = principal.rsplit("/", 1)[-1]
        word = "user" if ":user/" in principal else "role"
        entry = {
            "clusterName": CLUSTER,
            "principalArn": principal,
            "kubernetesGroups": groups,
            "accessEntryArn": f"arn:aws:eks:{REGION}:{ACCOUNT}:access-entry/{CLUSTER}/{word}/"
            f"{ACCOUNT}/{name}/1",
            "createdAt": now,
            "modifiedAt": now,
            "tags": {},
            "username": "system:node:{{EC2PrivateDNSName}}" if kind != "STANDARD" else principal,
            "type": kind,
        }
        self._entries[principal] = entry
        return entry

    def _entry(self, call: Call) -> Document:
        _check_cluster(call)
        principal = call.parameters["principalArn"]
        if principal not in self._entries:
            raise AwsError(
                "ResourceNotFoundException",
                f"The specified principalArn could not be found: {principal}",
                404,
            )
        return self._entries[principal]

    def _list(self, call: Call) -> Document:
        _check_cluster(call)
        return {"accessEntries": list(self._entries)}

    def _describe(self, call: Call) -> Document:
        return {"accessEntry": self._entry(call)}

    def _create(self, call: Call) -> Document:
        _check_cluster(call)
        given = call.parameters
        principal = given["principalArn"]
        if principal in self._entries:
            raise AwsError(
                "ResourceInUseException",
                "The specified access entry resource is already in use on this cluster.",
                409,
            )
        now = datetime.datetime.now(datetime.UTC)
        groups = given.get("kubernetesGroups", [])
        return {"accessEntry": self._add(principal, given.get("type", "STANDARD"), groups, now)}

    def _delete(self, call: Call) -> Document:
        principal = self._entry(call)["principalArn"]
        del self._entries[principal]
        self._policies.pop(principal, None)
        return {}

    def _list_policies(self, call: Call) -> Document:
        principal = self._entry(call)["principalArn"]
        return {
            "clusterName": CLUSTER,
            "principalArn": principal,
            "associatedAccessPolicies": self._policies.get(principal, []),
        }

    def _associate(self, call: Call) -> Document:
        principal = self._entry(call)["principalArn"]
        given = call.parameters
        made = _associated(given["policyArn"], given["accessScope"])
        others = [
            one
            for one in self._policies.get(principal, [])
            if one["policyArn"] != made["policyArn"]
        ]
        self._policies[principal] = [*others, made]
        return {
            "clusterName": CLUSTER,
            "principalArn": principal,
            "associatedAccessPolicy": made,
        }

    def _disassociate(self, call: Call) -> Document:
        principal = self._entry(call)["principalArn"]
        gone = call.parameters["policyArn"]
        kept = [one for one in self._policies.get(principal, []) if one["policyArn"] != gone]
        self._policies[principal] = kept
        return {}


def _associated(policy: str, scope: Document) -> Document:
    now = datetime.datetime.now(datetime.UTC)
    return {"policyArn": policy, "accessScope": scope, "associatedAt": now, "modifiedAt": now}


def _check_cluster(call: Call) -> None:
    name = call.parameters.get("clusterName")
    if name not in backend("eks").clusters:
        raise AwsError("ResourceNotFoundException", f"No cluster found for name: {name}.", 404)
