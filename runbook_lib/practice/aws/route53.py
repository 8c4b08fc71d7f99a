"""Route 53: refuses the record sets that moto takes.

Source: Route 53 API reference, ChangeResourceRecordSets (InvalidChangeBatch).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from runbook_lib.practice.aws.additions import Addition
from runbook_lib.practice.aws.front import Handler
from runbook_lib.practice.aws.wire import AwsError, Call, Document


class Route53(Addition):
    """Duplicates, a CNAME at the apex or beside others, addresses that are none."""

    def handlers(self) -> Mapping[str, Handler]:
        return {"route53.ChangeResourceRecordSets": self._change}

    def _change(self, call: Call) -> None:
        given = call.parameters
        zone = given["HostedZoneId"].rsplit("/", 1)[-1]
        apex = self.ask("route53", "GetHostedZone", {"Id": zone})["HostedZone"]["Name"]
        listed = self.ask("route53", "ListResourceRecordSets", {"HostedZoneId": zone})
        # Weighted and other routed sets share name and type; their identifier tells them apart.
        existing = {_key(one) for one in listed["ResourceRecordSets"]}
        for change in given["ChangeBatch"]["Changes"]:
            record = change["ResourceRecordSet"]
            if wrong := _wrong(change["Action"], record, existing, apex):
                raise AwsError("InvalidChangeBatch", f"[{wrong}]")
            if change["Action"] == "DELETE":
                existing.discard(_key(record))
            else:
                existing.add(_key(record))


Key = tuple[str, str, str]


def _name(record: Document) -> str:
    return str(record["Name"]).rstrip(".").lower() + "."


def _key(record: Document) -> Key:
    return _name(record), record["Type"], record.get("SetIdentifier", "")


def _wrong(action: str, record: Document, existing: set[Key], apex: str) -> str | None:
    """In Route 53's words, what is wrong with a change; None for a good one."""
    name, kind = _name(record), record["Type"]
    is_there = _key(record) in existing
    spoken = f"resource record set [name='{name}', type='{kind}']"
    if action == "DELETE":
        return None if is_there else f"Tried to delete {spoken} but it was not found"
    if action == "CREATE" and is_there:
        return f"Tried to create {spoken} but it already exists"
    if name != apex and not name.endswith("." + apex):
        return f"RRSet with DNS name {name} is not permitted in zone {apex}"
    set_of = f"RRSet of type {kind} with DNS name {name} is not permitted"
    if kind == "CNAME" and name == apex:
        return f"{set_of} at apex in zone {apex}"
    for other_name, other, _ in existing:
        if other_name == name and other != kind and "CNAME" in (kind, other):
            return (
                f"{set_of} because a conflicting RRSet of type {other} with the same DNS name "
                f"already exists in zone {apex}"
            )
    for value in [one["Value"] for one in record.get("ResourceRecords", [])]:
        if kind == "A" and not _is_ipv4(value):
            return (
                "Invalid Resource Record: 'FATAL problem: ARRDATAIllegalIPv4Address "
                f"(Value is not a valid IPv4 address) encountered with '{value}''"
            )
    return None


def _is_ipv4(value: str) -> bool:
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        return False
    return True
