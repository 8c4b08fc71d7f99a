"""Service Quotas, and what of ECR moto answers from the year 2015.

Sources: Service Quotas API reference, GetServiceQuota; ECR API reference, GetAuthorizationToken.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from runbook_lib.practice.aws.additions import Addition, Verb
from runbook_lib.practice.aws.front import Handler
from runbook_lib.practice.aws.lean import ACCOUNT, REGION
from runbook_lib.practice.aws.wire import AwsError, Call, Document

# (service, code): its name and the value in health.
QUOTAS: dict[tuple[str, str], tuple[str, float]] = {
    ("ec2", "L-1216C47A"): (
        "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", 32.0
    ),
    ("ec2", "L-DB2E81BA"): ("Running On-Demand G and VT instances", 8.0),
    ("ec2", "L-417A185B"): ("Running On-Demand P instances", 0.0),
    ("vpc", "L-F678F1CE"): ("VPCs per Region", 5.0),
    ("eks", "L-1194D53C"): ("Clusters", 100.0),
    ("eks", "L-BD136A63"): ("Nodes per managed node group", 450.0),
    ("rds", "L-7B6409FD"): ("DB instances", 40.0),
    ("elasticloadbalancing", "L-53DA6B97"): ("Application Load Balancers per Region", 50.0),
}  # fmt: skip


class Quotas(Addition):
    """`service_quota` sets one."""

    def reset(self) -> None:
        self._values: dict[tuple[str, str], float] = {}

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "service-quotas.GetServiceQuota": self._get,
            "service-quotas.ListServiceQuotas": self._list,
            "ecr.GetAuthorizationToken": self._token,
        }

    def verbs(self) -> Mapping[str, Verb]:
        return {"service_quota": self.service_quota}

    def service_quota(self, service: str, code: str, value: float) -> None:
        """The applied value of a quota (`ec2`, `L-1216C47A`: vCPUs of standard instances)."""
        if (service, code) not in QUOTAS:
            raise ValueError(f"there is no quota {code} of {service}")
        self._values[service, code] = value

    def _shown(self, service: str, code: str) -> Document:
        name, value = QUOTAS[service, code]
        return {
            "ServiceCode": service,
            "QuotaCode": code,
            "QuotaName": name,
            "QuotaArn": f"arn:aws:servicequotas:{REGION}:{ACCOUNT}:{service}/{code}",
            "Value": self._values.get((service, code), value),
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
        }

    def _get(self, call: Call) -> Document:
        given = call.parameters
        service, code = given["ServiceCode"], given["QuotaCode"]
        if (service, code) not in QUOTAS:
            raise AwsError(
                "NoSuchResourceException",
                "The request failed because the specified service quota does not exist.",
            )
        return {"Quota": self._shown(service, code)}

    def _list(self, call: Call) -> Document:
        service = call.parameters["ServiceCode"]
        return {"Quotas": [self._shown(*key) for key in QUOTAS if key[0] == service]}

    def _token(self, call: Call) -> Document:
        answer = call.forward()
        hours = datetime.timedelta(hours=12)
        for one in answer["authorizationData"]:
            one["expiresAt"] = datetime.datetime.now(datetime.UTC) + hours
        return answer
