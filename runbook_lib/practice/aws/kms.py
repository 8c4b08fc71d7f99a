"""KMS: a key that is disabled or about to be deleted does nothing, which moto passes over.

Source: AWS KMS developer guide, "Key states of AWS KMS keys".
"""

from __future__ import annotations

from collections.abc import Mapping

from runbook_lib.practice.aws.additions import Addition
from runbook_lib.practice.aws.front import Handler
from runbook_lib.practice.aws.wire import AwsError, Call

USES = ("Encrypt", "Decrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext")
ID_LENGTH = 36  # with which moto's ciphertexts begin


class Kms(Addition):
    """Looks at the key before moto uses it."""

    def handlers(self) -> Mapping[str, Handler]:
        return {f"kms.{operation}": self._check for operation in USES}

    def _check(self, call: Call) -> None:
        given = call.parameters
        key = given.get("KeyId")
        if key is None:
            key = given.get("CiphertextBlob", b"")[:ID_LENGTH].decode(errors="replace")
        if not key:
            return
        found = self.ask("kms", "DescribeKey", {"KeyId": key})["KeyMetadata"]
        if found["KeyState"] == "Disabled":
            raise AwsError("DisabledException", f"{found['Arn']} is disabled.")
        if found["KeyState"] == "PendingDeletion":
            raise AwsError("KMSInvalidStateException", f"{found['Arn']} is pending deletion.")
