"""The tokens that `aws eks get-token` makes, at the practice Kubernetes API."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import boto3
import kubernetes
import pytest
from botocore.signers import RequestSigner

from runbook_lib.practice import scenario
from runbook_lib.practice.lookers import aws_client
from runbook_lib.practice.platform import Platform

CLUSTER = "mlops-platform-production"


@pytest.fixture
def breakable(platform: Platform) -> Iterator[Platform]:
    yield platform
    scenario.heal(platform)


def eks_token(
    platform: Platform,
    key: str = "",
    action: str = "GetCallerIdentity",
    headers: dict[str, str] | None = None,
) -> str:
    """As the AWS CLI makes it: a presigned GetCallerIdentity, signed for the cluster."""
    region = platform.env["AWS_DEFAULT_REGION"]
    session = boto3.Session(
        aws_access_key_id=key or platform.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=platform.env["AWS_SECRET_ACCESS_KEY"],
        region_name=region,
    )
    sts = session.client("sts", endpoint_url=platform.env["AWS_ENDPOINT_URL"])
    signer = RequestSigner(
        sts.meta.service_model.service_id, region, "sts", "v4", session.get_credentials(),
        session.events,
    )  # fmt: skip
    request: dict[str, Any] = {
        "method": "GET",
        "url": f"{platform.env['AWS_ENDPOINT_URL']}/?Action={action}&Version=2011-06-15",
        "body": {},
        "headers": {"x-k8s-aws-id": CLUSTER} if headers is None else headers,
        "context": {},
    }
    url = signer.generate_presigned_url(
        request, region_name=region, expires_in=60, operation_name=""
    )
    return "k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def client(platform: Platform, token: str) -> Any:
    """The official client, of what `aws eks update-kubeconfig` and `get-token` give."""
    described = aws_client(platform, "eks").describe_cluster(name=CLUSTER)["cluster"]
    authority = described["certificateAuthority"]["data"]
    return kubernetes.config.new_client_from_config_dict(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": CLUSTER,
            "clusters": [
                {
                    "name": CLUSTER,
                    "cluster": {
                        "server": described["endpoint"],
                        "certificate-authority-data": authority,
                    },
                }
            ],
            "users": [{"name": CLUSTER, "user": {"token": token}}],
            "contexts": [{"name": CLUSTER, "context": {"cluster": CLUSTER, "user": CLUSTER}}],
        }
    )


def status(platform: Platform, token: str) -> int:
    """The status of a refusal; 200 where the client's question is answered."""
    try:
        kubernetes.client.CoreV1Api(client(platform, token)).list_node()
    except kubernetes.client.ApiException as refused:
        return int(refused.status)
    return 200


def test_the_account_s_key_is_the_on_call_engineer(platform: Platform) -> None:
    token = eks_token(platform)
    with client(platform, token) as connection:
        assert len(kubernetes.client.CoreV1Api(connection).list_node().items) == 3
        review = kubernetes.client.AuthenticationV1Api(connection).create_self_subject_review({})
    assert review.status.user_info.username == "on-call"
    assert review.status.user_info.groups == ["system:masters", "system:authenticated"]
    log = (platform.state / "kubernetes" / "audit.jsonl").read_text()
    assert '"username":"on-call"' in log and "k8s-aws-v1" not in log
    assert token not in log and platform.env["AWS_ACCESS_KEY_ID"] not in log


def test_other_tokens_are_refused(platform: Platform) -> None:
    assert status(platform, eks_token(platform, key="AKIAIOSFODNN7EXAMPLE")) == 401
    assert status(platform, eks_token(platform, action="GetSessionToken")) == 401
    assert status(platform, eks_token(platform, headers={})) == 401
    assert status(platform, "k8s-aws-v1.not-a-url") == 401
    assert status(platform, "k8s-aws-v1.%%%") == 401


def test_a_token_signed_long_ago_is_refused(platform: Platform) -> None:
    encoded = eks_token(platform).removeprefix("k8s-aws-v1.")
    url = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    before, _, after = url.partition("X-Amz-Date=")
    old = f"{before}X-Amz-Date=20260105T080000Z{after[len('20260105T080000Z') :]}"
    token = "k8s-aws-v1." + base64.urlsafe_b64encode(old.encode()).decode().rstrip("=")
    assert status(platform, token) == 401


def test_the_wrong_identity_is_nobody_to_the_cluster(breakable: Platform) -> None:
    breakable.do("aws", "caller", user="intern", administrator=True)
    assert status(breakable, eks_token(breakable)) == 401
