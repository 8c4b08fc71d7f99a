"""What the AWS SDK in a pod has: clients with its role's credentials, else with its node's.

Source: AWS SDKs and Tools reference ("Assume role with web identity", "IMDS credential provider").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runbook_lib.practice.aws.additions import Ask
from runbook_lib.practice.aws.lean import REGION
from runbook_lib.practice.aws.names import role_arn

NODE_ROLE = "eks-node-role"
MOST = 12  # clients of so many pods are kept


class Sessions:
    """Clients of pods; a pod keeps its credentials, as an SDK does, until `forget`."""

    def __init__(self, ask: Ask, url: Callable[[], str]) -> None:
        self._ask = ask
        self._url = url
        self._clients: dict[tuple[str, str], Any] = {}

    def forget(self) -> None:
        """No session that was given out holds any longer."""
        self._clients.clear()

    def client(self, service: str, pod: str, role: str, token: str) -> Any:
        """The boto3 client of a pod (its uid); without a role it has its node's.

        Raises botocore's ClientError where the role may not be taken. Blocks.
        """
        key = (pod, service)
        if key not in self._clients:
            credentials = self._of_role(role, token) if role else self._of_node()
            self._clients[key] = _client(
                service,
                self._url(),
                aws_access_key_id=credentials["AccessKeyId"],
                aws_secret_access_key=credentials["SecretAccessKey"],
                aws_session_token=credentials["SessionToken"],
            )
            for oldest in list(self._clients)[:-MOST]:
                self._clients.pop(oldest, None)
        return self._clients[key]

    def _of_role(self, role: str, token: str) -> dict[str, Any]:
        from botocore import UNSIGNED

        sts = _client("sts", self._url(), signature_version=UNSIGNED)
        taken: dict[str, Any] = sts.assume_role_with_web_identity(
            RoleArn=role, RoleSessionName="botocore-session", WebIdentityToken=token
        )["Credentials"]
        return taken

    def _of_node(self) -> dict[str, Any]:
        """Of the instance metadata service, which is asked for no token."""
        given = {"RoleArn": role_arn(NODE_ROLE), "RoleSessionName": "i-node"}
        taken: dict[str, Any] = self._ask("sts", "AssumeRole", given)["Credentials"]
        return taken


def _client(service: str, url: str, signature_version: Any = None, **credentials: str) -> Any:
    import boto3

    config = straight(**{"signature_version": signature_version} if signature_version else {})
    return boto3.client(service, endpoint_url=url, region_name=REGION, config=config, **credentials)


def straight(**more: Any) -> Any:
    """How our own clients ask: once, and past the proxy that a shell may name, for it is loopback
    that they ask."""
    from botocore.config import Config

    return Config(retries={"total_max_attempts": 1}, proxies={}, **more)
