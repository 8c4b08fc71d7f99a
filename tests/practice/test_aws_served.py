"""Only operations that have been looked at are served, and all that anything of ours calls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
import pytest
import yaml
from botocore import UNSIGNED, xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

import runbook_lib
from runbook_lib.practice.aws.served import served
from runbook_lib.practice.aws.server import Aws
from runbook_lib.practice.aws.wire import model

CLUSTER = "mlops-platform-production"
OURS = Path(runbook_lib.__file__).parent
ASKED = re.compile(r'ask\(\s*"([a-z0-9-]+)",\s*"(\w+)"')
CALLED = re.compile(r"(?:aws|client)\(\"([a-z0-9-]+)\"\)\s*\.(\w+)\(")
PAGED = re.compile(r"(?:aws|client)\(\"([a-z0-9-]+)\"\)\s*\.get_paginator\(\"(\w+)\"")
TYPED = re.compile(r"\baws ([a-z0-9-]+) ([a-z]+-[a-z0-9-]+)")
# Commands of the AWS CLI that are not operations, or that are several.
CONVENIENT = {
    "update-kubeconfig": ("eks", "DescribeCluster"),
    "get-token": ("sts", "GetCallerIdentity"),
    "get-login-password": ("ecr", "GetAuthorizationToken"),
}
# What the nodes' diagnosis has an engineer type, and a cluster with add-ons would answer.
NOT_HERE = {("eks", "DescribeAddon")}


def named(service: str, snake: str) -> tuple[str, str]:
    """The operation of a method of a client, or of a command of the AWS CLI."""
    service = {"s3api": "s3"}.get(service, service)
    wanted = snake.replace("-", "_")
    names = model(service).operation_names
    return service, next((one for one in names if xform_name(one) == wanted), wanted)


def called() -> Iterator[tuple[str, str]]:
    """Every operation that our code, its scenarios and its words to engineers name."""
    for path in sorted(OURS.rglob("*.py")):
        text = path.read_text()
        yield from ASKED.findall(text)
        for service, method in [*CALLED.findall(text), *PAGED.findall(text)]:
            if method != "get_paginator":
                yield named(service, method)
        for service, command in TYPED.findall(text):
            yield CONVENIENT.get(command) or named(service, command)
    for path in sorted(OURS.glob("practice/scenarios/**/*.yaml")):
        yield from in_scenario(yaml.safe_load(path.read_text()))


def in_scenario(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for one in value:
            yield from in_scenario(one)
    if not isinstance(value, dict):
        return
    if {"service", "operation"} <= set(value):
        yield value["service"], value["operation"]
    if isinstance(value.get("call"), str):
        yield named(*value["call"].split("."))
    for one in value.values():
        yield from in_scenario(one)


def test_all_that_is_called_is_served() -> None:
    found = set(called()) - NOT_HERE
    assert len(found) > 60
    assert {one for one in found if one[1] not in served()[one[0]]} == set()


def test_all_that_is_served_exists(account: Aws) -> None:
    handled = {name for one in account._additions for name in one.handlers()}
    for service, operations in served().items():
        assert operations <= set(model(service).operation_names), service
    assert {one for one in handled if one.split(".")[1] not in served()[one.split(".")[0]]} == set()


@pytest.mark.parametrize(
    ("service", "operation", "arguments"),
    [
        ("ec2", "get_console_output", {"InstanceId": "i-0"}),
        ("sts", "get_session_token", {}),
        ("s3", "get_object_retention", {"Bucket": f"{CLUSTER}-artifacts", "Key": "test.txt"}),
        ("s3", "get_bucket_request_payment", {"Bucket": f"{CLUSTER}-artifacts"}),
        ("iam", "create_service_linked_role", {"AWSServiceName": "eks.amazonaws.com"}),
        ("eks", "delete_cluster", {"name": CLUSTER}),
        ("eks", "list_addons", {"clusterName": CLUSTER}),
        ("autoscaling", "describe_account_limits", {}),
        ("ssm", "list_commands", {}),
    ],
)
def test_an_operation_that_is_not_on_the_list_is_refused_by_name(
    account: Aws, service: str, operation: str, arguments: dict[str, Any]
) -> None:
    client = account.client(service)
    name = client.meta.method_to_api_mapping[operation]
    with pytest.raises(ClientError, match=f"does not serve {service}:{name}") as refused:
        getattr(client, operation)(**arguments)
    answer = refused.value.response
    assert answer["Error"]["Code"] == "NotImplemented"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 501


def test_who_does_not_sign_gets_what_the_bucket_allows_everybody(breakable_account: Aws) -> None:
    bucket = f"{CLUSTER}-artifacts"
    anonymous = boto3.client(
        "s3",
        endpoint_url=breakable_account.url,
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED),
    )
    for call, more in (
        (anonymous.list_objects_v2, {}),
        (anonymous.get_object, {"Key": "test.txt"}),
        (anonymous.put_object, {"Key": "test.txt", "Body": b"x"}),
    ):
        with pytest.raises(ClientError) as refused:
            call(Bucket=bucket, **more)
        assert refused.value.response["Error"]["Code"] == "AccessDenied"
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    breakable_account.call(
        "s3", "PutBucketPolicy", {"Bucket": bucket, "Policy": {"Statement": [statement]}}
    )
    assert anonymous.get_object(Bucket=bucket, Key="test.txt")["Body"].read() == b"reachable\n"


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_a_link_is_of_who_signed_it(breakable_account: Aws, version: str) -> None:
    environment = breakable_account.environment()
    s3 = boto3.client(
        "s3",
        endpoint_url=breakable_account.url,
        region_name="us-east-1",
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        config=Config(signature_version=version),
    )
    wanted = {"Bucket": f"{CLUSTER}-artifacts", "Key": "test.txt"}
    link = s3.generate_presigned_url("get_object", Params=wanted)
    with urlopen(link) as answer:
        assert answer.read() == b"reachable\n"
    key = {"UserName": "on-call", "AccessKeyId": environment["AWS_ACCESS_KEY_ID"]}
    breakable_account.call("iam", "UpdateAccessKey", {**key, "Status": "Inactive"})
    with pytest.raises(OSError, match="403"):
        urlopen(link)


def test_our_own_clients_go_past_a_proxy(account: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "_clients", {})
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert account.client("sts").get_caller_identity()["Arn"].endswith("user/on-call")
    of_pod = account.client_of_pod("sts", "a-pod-behind-a-proxy", "", "")
    assert of_pod.get_caller_identity()["Arn"].endswith("eks-node-role/i-node")
