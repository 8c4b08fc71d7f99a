"""Certificate Manager: certificates that are not issued or not renewed, and keys that do not fit.

Sources: ACM API reference, DescribeCertificate (CertificateDetail, RenewalSummary),
ListCertificates (Filters.keyTypes: only RSA_1024 and RSA_2048 by default), ImportCertificate.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from runbook_lib.practice.aws.additions import Addition, Verb, backend, one_of
from runbook_lib.practice.aws.front import Handler
from runbook_lib.practice.aws.lean import ACCOUNT
from runbook_lib.practice.aws.wire import AwsError, Call, Document

STATUS = (
    "PENDING_VALIDATION", "ISSUED", "INACTIVE", "EXPIRED", "VALIDATION_TIMED_OUT", "REVOKED",
    "FAILED",
)  # fmt: skip
# Of a domain, by the status of its certificate; SUCCESS for the others.
VALIDATION = {
    "PENDING_VALIDATION": "PENDING_VALIDATION",
    "VALIDATION_TIMED_OUT": "FAILED",
    "FAILED": "FAILED",
}
RENEWAL = ("PENDING_AUTO_RENEWAL", "PENDING_VALIDATION", "SUCCESS", "FAILED")
# What a CertificateSummary has of a CertificateDetail.
SUMMARY = (
    "CertificateArn", "DomainName", "Status", "Type", "KeyAlgorithm", "RenewalEligibility",
    "NotBefore", "NotAfter", "CreatedAt", "IssuedAt", "ImportedAt",
)  # fmt: skip
LISTED_BY_DEFAULT = ("RSA_1024", "RSA_2048")
KEY_TYPES = (
    "RSA_1024", "RSA_2048", "RSA_3072", "RSA_4096", "EC_prime256v1", "EC_secp384r1", "EC_secp521r1",
)  # fmt: skip


class Certificates(Addition):
    """`certificate` changes what is said of one, or adds it."""

    def reset(self) -> None:
        self._changed: dict[str, Document] = {}

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "acm.DescribeCertificate": self._describe,
            "acm.ListCertificates": self._list,
            "acm.ImportCertificate": self._import,
            "acm.DeleteCertificate": self._delete,
        }

    def verbs(self) -> Mapping[str, Verb]:
        return {"certificate": self.certificate}

    def certificate(
        self,
        domain: str,
        status: str | None = None,
        reason: str | None = None,
        renewal: str | None = None,
        renewal_reason: str | None = None,
        days_left: float | None = None,
        key_type: str | None = None,
    ) -> str:
        """What ACM says of the certificate whose first name is `domain`; one that does not exist
        is requested. `status`, `renewal` and `key_type` as ACM has them, `reason` a
        FailureReason (CAA_ERROR …). Returns its ARN."""
        if status is not None:
            one_of("status", status, STATUS)
        if renewal is not None:
            one_of("renewal", renewal, RENEWAL)
        if key_type is not None:
            one_of("key_type", key_type, KEY_TYPES)
        arn = self._arn(domain)
        changed = self._changed.setdefault(arn, {})
        given = {
            "Status": status,
            "FailureReason": reason,
            "renewal": renewal,
            "renewal_reason": renewal_reason,
            "KeyAlgorithm": key_type,
        }
        changed |= {name: value for name, value in given.items() if value is not None}
        if days_left is not None:
            changed["NotAfter"] = _now() + datetime.timedelta(days=days_left)
        return arn

    def _arn(self, domain: str) -> str:
        for bundle in backend("acm")._certificates.values():
            if bundle.common_name == domain:
                return str(bundle.arn)
        made = self.ask(
            "acm", "RequestCertificate", {"DomainName": domain, "ValidationMethod": "DNS"}
        )
        return str(made["CertificateArn"])

    def _altered(self, certificate: Document) -> Document:
        """A CertificateDetail with what was changed."""
        changed = self._changed.get(certificate["CertificateArn"], {})
        plain = ("Status", "NotAfter", "KeyAlgorithm")
        certificate |= {name: changed[name] for name in plain if name in changed}
        issued = certificate["Status"] not in ("PENDING_VALIDATION", "FAILED")
        if not issued:
            for name in ("NotAfter", "NotBefore", "IssuedAt"):
                certificate.pop(name, None)
        used = bool(certificate.get("InUseBy"))
        if certificate.get("Type") == "AMAZON_ISSUED" and issued and used:
            certificate["RenewalEligibility"] = "ELIGIBLE"
        return certificate

    def _describe(self, call: Call) -> Document:
        answer = call.forward()
        detail = self._altered(answer["Certificate"])
        changed = self._changed.get(detail["CertificateArn"], {})
        if "FailureReason" in changed:
            detail["FailureReason"] = changed["FailureReason"]
        validated = VALIDATION.get(detail["Status"], "SUCCESS")
        for option in detail.get("DomainValidationOptions", []):
            option["ValidationStatus"] = validated
        if "renewal" in changed:
            options = [
                {**one, "ValidationStatus": _renewed(changed["renewal"])}
                for one in detail.get("DomainValidationOptions", [])
            ]
            summary: Document = {
                "RenewalStatus": changed["renewal"],
                "DomainValidationOptions": options,
                "UpdatedAt": _now(),
            }
            if "renewal_reason" in changed:
                summary["RenewalStatusReason"] = changed["renewal_reason"]
            detail["RenewalSummary"] = summary
        return answer

    def _list(self, call: Call) -> Document:
        given = call.parameters
        kinds = given.get("Includes", {}).get("keyTypes") or LISTED_BY_DEFAULT
        statuses = given.get("CertificateStatuses")
        found = []
        for arn in list(backend("acm")._certificates):
            asked = self.ask("acm", "DescribeCertificate", {"CertificateArn": arn})
            detail = asked["Certificate"]
            if detail["KeyAlgorithm"] in kinds and (not statuses or detail["Status"] in statuses):
                summary = {name: detail[name] for name in SUMMARY if name in detail}
                names = detail.get("SubjectAlternativeNames", [])
                summary["SubjectAlternativeNameSummaries"] = names
                found.append({**summary, "InUse": bool(detail.get("InUseBy"))})
        return {"CertificateSummaryList": found}

    def _import(self, call: Call) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        given = call.parameters
        try:
            certificate = x509.load_pem_x509_certificate(given["Certificate"])
            key: Any = load_pem_private_key(given["PrivateKey"], password=None)
        except (TypeError, ValueError):
            return  # moto refuses them itself
        if certificate.public_key() != key.public_key():
            raise AwsError("ValidationException", "The certificate and private key do not match.")

    def _delete(self, call: Call) -> None:
        arn = call.parameters["CertificateArn"]
        bundle = backend("acm")._certificates.get(arn)
        if bundle and bundle.in_use_by:
            raise AwsError(
                "ResourceInUseException",
                f"Certificate with ARN {arn} in account {ACCOUNT} is in use.",
            )


def _renewed(renewal: str) -> str:
    return {"SUCCESS": "SUCCESS", "FAILED": "FAILED"}.get(renewal, "PENDING_VALIDATION")


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
