"""Load balancer, certificates, names, identities and quotas, and what they refuse."""

from __future__ import annotations

import base64
import datetime
import json
import time
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from runbook_lib.practice.aws.names import ISSUER
from runbook_lib.practice.aws.server import Aws

CLUSTER = "mlops-platform-production"
DOMAIN = "mlops-platform.com"
ROLE = "arn:aws:iam::123456789012:role/mlops-mlflow-role"
ARTIFACTS = f"{CLUSTER}-artifacts"


def code(call: Any, **arguments: Any) -> str:
    """The code with which AWS refuses that call."""
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    return str(refused.value.response["Error"]["Code"])


def targets(account: Aws, name: str) -> list[dict[str, Any]]:
    """The health of a target group's targets."""
    elb = account.client("elbv2")
    group = elb.describe_target_groups(Names=[name])["TargetGroups"][0]["TargetGroupArn"]
    found: list[dict[str, Any]] = elb.describe_target_health(TargetGroupArn=group)[
        "TargetHealthDescriptions"
    ]
    return found


def test_the_way_from_a_name_to_healthy_targets(account: Aws) -> None:
    route53, elb = account.client("route53"), account.client("elbv2")
    zone = route53.list_hosted_zones_by_name(DNSName=DOMAIN)["HostedZones"][0]["Id"]
    records = route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    aliases = {one["Name"]: one["AliasTarget"] for one in records if "AliasTarget" in one}
    assert set(aliases) == {f"{name}{DOMAIN}." for name in ("", "mlflow.", "api.")}
    balancer = elb.describe_load_balancers()["LoadBalancers"][0]
    assert {one["DNSName"] for one in aliases.values()} == {f"{balancer['DNSName']}."}
    listener = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"][0]
    assert (listener["Port"], listener["Protocol"]) == (443, "HTTPS")
    arn = listener["Certificates"][0]["CertificateArn"]
    certificate = account.client("acm").describe_certificate(CertificateArn=arn)["Certificate"]
    assert certificate["Status"] == "ISSUED"
    assert certificate["DomainName"] == f"*.{DOMAIN}"
    rules = elb.describe_rules(ListenerArn=listener["ListenerArn"])["Rules"]
    hosts = [rule["Conditions"][0]["HostHeaderConfig"]["Values"][0] for rule in rules[:3]]
    assert f"mlflow.{DOMAIN}" in hosts
    group = account.client("ec2").describe_security_groups(GroupIds=balancer["SecurityGroups"])
    rule = group["SecurityGroups"][0]["IpPermissions"][0]
    assert (rule["FromPort"], rule["IpRanges"][0]["CidrIp"]) == (443, "0.0.0.0/0")
    assert [one["TargetHealth"] for one in targets(account, "k8s-mlflow")] == [
        {"State": "healthy"}
    ] * 3


def test_why_targets_are_out(breakable_account: Aws) -> None:
    node = "ip-10-0-1-7.ec2.internal"
    verb = breakable_account.verbs()["target_health"]
    for reason, state in (
        ("Target.FailedHealthChecks", "unhealthy"),
        ("Target.Timeout", "unhealthy"),
        ("Elb.InternalError", "unhealthy"),
        ("Elb.InitialHealthChecking", "initial"),
        ("Target.DeregistrationInProgress", "draining"),
    ):
        verb(target_group="mlflow", reason=reason, node=node)
        health = [one["TargetHealth"] for one in targets(breakable_account, "k8s-mlflow")]
        out = [one for one in health if one["State"] != "healthy"]
        assert [(one["State"], one["Reason"]) for one in out] == [(state, reason)]
        assert out[0]["Description"]
    others = targets(breakable_account, "k8s-platform-api")
    assert {one["TargetHealth"]["State"] for one in others} == {"healthy"}


def test_targets_that_are_out_show_in_cloudwatch(breakable_account: Aws) -> None:
    verb = breakable_account.verbs()["target_health"]
    verb(target_group="platform-api", since=600)
    assert len(targets(breakable_account, "k8s-platform-api")) == 3
    cloudwatch = breakable_account.client("cloudwatch")
    metrics = cloudwatch.list_metrics(MetricName="UnHealthyHostCount")["Metrics"]
    found = next(one for one in metrics if "platform-api" in str(one["Dimensions"]))
    now = datetime.datetime.now(datetime.UTC)
    answer = cloudwatch.get_metric_statistics(
        **found,
        StartTime=now - datetime.timedelta(minutes=5),
        EndTime=now,
        Period=60,
        Statistics=["Maximum"],
    )
    assert {point["Maximum"] for point in answer["Datapoints"]} == {3.0}
    verb(target_group="platform-api", reason=None)
    healthy = targets(breakable_account, "k8s-platform-api")
    assert {one["TargetHealth"]["State"] for one in healthy} == {"healthy"}
    with pytest.raises(ValueError, match="no target group"):
        verb(target_group="others")
    with pytest.raises(ValueError, match="reason is one of"):
        verb(target_group="mlflow", reason="Tired")


def test_certificates_that_are_not_issued_or_not_renewed(breakable_account: Aws) -> None:
    verb = breakable_account.verbs()["certificate"]
    arn = verb(domain=f"new.{DOMAIN}")
    acm = breakable_account.client("acm")
    pending = acm.describe_certificate(CertificateArn=arn)["Certificate"]
    assert pending["Status"] == "PENDING_VALIDATION"
    assert "NotAfter" not in pending
    option = pending["DomainValidationOptions"][0]
    assert option["ValidationStatus"] == "PENDING_VALIDATION"
    assert option["ResourceRecord"]["Type"] == "CNAME"
    verb(domain=f"new.{DOMAIN}", status="FAILED", reason="CAA_ERROR")
    failed = acm.describe_certificate(CertificateArn=arn)["Certificate"]
    assert (failed["Status"], failed["FailureReason"]) == ("FAILED", "CAA_ERROR")
    wild = verb(domain=f"*.{DOMAIN}", renewal="PENDING_VALIDATION", days_left=9)
    detail = acm.describe_certificate(CertificateArn=wild)["Certificate"]
    assert detail["Status"] == "ISSUED"
    assert detail["RenewalEligibility"] == "ELIGIBLE"
    assert detail["RenewalSummary"]["RenewalStatus"] == "PENDING_VALIDATION"
    left = detail["NotAfter"] - datetime.datetime.now(datetime.UTC)
    assert left.days in (8, 9)
    with pytest.raises(ValueError, match="status is one of"):
        verb(domain=f"*.{DOMAIN}", status="TIRED")


def test_only_small_rsa_keys_are_listed_unless_asked_for(breakable_account: Aws) -> None:
    breakable_account.verbs()["certificate"](domain=f"*.{DOMAIN}", key_type="EC_prime256v1")
    acm = breakable_account.client("acm")
    assert acm.list_certificates()["CertificateSummaryList"] == []
    asked = acm.list_certificates(Includes={"keyTypes": ["EC_prime256v1"]})
    assert [one["DomainName"] for one in asked["CertificateSummaryList"]] == [f"*.{DOMAIN}"]
    issued = acm.list_certificates(
        CertificateStatuses=["EXPIRED"], Includes={"keyTypes": ["EC_prime256v1"]}
    )
    assert issued["CertificateSummaryList"] == []


def key_and_certificate() -> tuple[bytes, bytes]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"own.{DOMAIN}")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(pem, *plain), certificate.public_bytes(pem)


def test_what_acm_refuses(breakable_account: Aws) -> None:
    acm = breakable_account.client("acm")
    (key, certificate), (other_key, _) = key_and_certificate(), key_and_certificate()
    imported = acm.import_certificate
    mismatched = {"Certificate": certificate, "PrivateKey": other_key}
    assert code(imported, **mismatched) == "ValidationException"
    assert imported(Certificate=certificate, PrivateKey=key)["CertificateArn"]
    used = acm.list_certificates()["CertificateSummaryList"][0]["CertificateArn"]
    assert code(acm.delete_certificate, CertificateArn=used) == "ResourceInUseException"
    absent = used[:-4] + "0000"
    assert code(acm.describe_certificate, CertificateArn=absent) == "ResourceNotFoundException"


@pytest.mark.parametrize(
    ("action", "name", "kind", "value", "said"),
    [
        ("CREATE", f"mlflow.{DOMAIN}", "A", "192.0.2.1", "already exists"),
        ("CREATE", DOMAIN, "CNAME", "balancer.example", "not permitted at apex"),
        ("CREATE", f"mlflow.{DOMAIN}", "CNAME", "balancer.example", "conflicting RRSet of type A"),
        ("DELETE", f"absent.{DOMAIN}", "A", "192.0.2.1", "was not found"),
        ("CREATE", f"bad.{DOMAIN}", "A", "nowhere", "not a valid IPv4 address"),
        ("UPSERT", "mlflow.example.org", "A", "192.0.2.1", "not permitted in zone"),
    ],
)
def test_record_sets_that_route53_refuses(
    account: Aws, action: str, name: str, kind: str, value: str, said: str
) -> None:
    route53 = account.client("route53")
    zone = route53.list_hosted_zones()["HostedZones"][0]["Id"]
    record = {"Name": name, "Type": kind, "TTL": 60, "ResourceRecords": [{"Value": value}]}
    batch = {"Changes": [{"Action": action, "ResourceRecordSet": record}]}
    with pytest.raises(ClientError, match=said) as refused:
        route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)
    assert refused.value.response["Error"]["Code"] == "InvalidChangeBatch"


def test_record_sets_that_route53_takes(breakable_account: Aws) -> None:
    route53 = breakable_account.client("route53")
    zone = route53.list_hosted_zones()["HostedZones"][0]["Id"]
    record = {"Name": f"new.{DOMAIN}", "Type": "A", "TTL": 60}
    for action, value in (("CREATE", "192.0.2.1"), ("UPSERT", "192.0.2.2")):
        given = {**record, "ResourceRecords": [{"Value": value}]}
        batch = {"Changes": [{"Action": action, "ResourceRecordSet": given}]}
        route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)
    found = route53.list_resource_record_sets(
        HostedZoneId=zone, StartRecordName=f"new.{DOMAIN}", StartRecordType="A", MaxItems="1"
    )["ResourceRecordSets"]
    assert found[0]["ResourceRecords"] == [{"Value": "192.0.2.2"}]


def token(**claims: Any) -> str:
    """A ServiceAccount's projected token, as the cluster's issuer would sign it."""
    body = {
        "iss": f"https://{ISSUER}",
        "sub": "system:serviceaccount:mlops-platform:mlflow-sa",
        "aud": ["sts.amazonaws.com"],
        "exp": time.time() + 3600,
        **claims,
    }
    parts = ({"alg": "RS256"}, body)
    encoded = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode() for one in parts]
    return ".".join([*(one.rstrip("=") for one in encoded), "signature"])


def take_role(account: Aws, **claims: Any) -> dict[str, Any]:
    """Credentials of the role, as a pod gets them."""
    sts = boto3.client(
        "sts",
        endpoint_url=account.url,
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED),
    )
    answer = sts.assume_role_with_web_identity(
        RoleArn=ROLE, RoleSessionName="mlflow", WebIdentityToken=token(**claims)
    )
    found: dict[str, Any] = answer["Credentials"]
    return found


def as_role(account: Aws, service: str, credentials: dict[str, Any]) -> Any:
    return boto3.client(
        service,
        endpoint_url=account.url,
        region_name="us-east-1",
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"sub": "system:serviceaccount:mlops-platform:default"}, "AccessDenied"),
        ({"aud": ["kubernetes.default.svc"]}, "InvalidIdentityToken"),
        ({"iss": "https://oidc.eks.us-east-1.amazonaws.com/id/OTHER"}, "InvalidIdentityToken"),
        ({"exp": 1}, "ExpiredTokenException"),
    ],
)
def test_tokens_that_take_no_role(account: Aws, claims: dict[str, Any], expected: str) -> None:
    assert code(take_role, account=account, **claims) == expected


def test_a_pod_takes_its_role_and_does_what_the_role_may(account: Aws) -> None:
    credentials = take_role(account)
    who = as_role(account, "sts", credentials).get_caller_identity()["Arn"]
    assert who == "arn:aws:sts::123456789012:assumed-role/mlops-mlflow-role/mlflow"
    s3 = as_role(account, "s3", credentials)
    assert s3.get_object(Bucket=ARTIFACTS, Key="test.txt")["Body"].read() == b"reachable\n"
    s3.list_objects_v2(Bucket=ARTIFACTS)
    denied = f"{CLUSTER}-features"
    assert code(s3.get_object, Bucket=denied, Key="registry.db") == "AccessDenied"
    assert code(s3.head_object, Bucket=denied, Key="registry.db") == "403"
    assert code(s3.delete_bucket, Bucket=ARTIFACTS) == "AccessDenied"
    eks = as_role(account, "eks", credentials)
    assert code(eks.list_clusters) == "AccessDeniedException"


def test_access_is_broken_by_ordinary_calls(breakable_account: Aws) -> None:
    call = breakable_account.call
    s3 = as_role(breakable_account, "s3", take_role(breakable_account))
    put = {"Bucket": ARTIFACTS, "Key": "1/x", "Body": b"x"}
    s3.put_object(**put)
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{ARTIFACTS}/*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    call("s3", "PutBucketPolicy", {"Bucket": ARTIFACTS, "Policy": policy})
    with pytest.raises(ClientError, match="explicit deny in a resource-based policy"):
        s3.put_object(**put)
    call("s3", "DeleteBucketPolicy", {"Bucket": ARTIFACTS})
    s3.put_object(**put)
    role = {"RoleName": "mlops-mlflow-role"}
    call("iam", "DeleteRolePolicy", {**role, "PolicyName": "mlflow-artifacts"})
    with pytest.raises(ClientError, match="no identity-based policy allows the s3:PutObject"):
        s3.put_object(**put)
    managed = {"PolicyArn": "arn:aws:iam::aws:policy/AmazonS3FullAccess"}
    call("iam", "AttachRolePolicy", {**role, **managed})
    s3.put_object(**put)
    trust = call("iam", "GetRole", role)["Role"]["AssumeRolePolicyDocument"]
    condition = trust["Statement"][0]["Condition"]["StringEquals"]
    condition[f"{ISSUER}:sub"] = "system:serviceaccount:default:mlflow-sa"
    call("iam", "UpdateAssumeRolePolicy", {**role, "PolicyDocument": trust})
    assert code(take_role, account=breakable_account) == "AccessDenied"
    provider = call("iam", "ListOpenIDConnectProviders")["OpenIDConnectProviderList"][0]["Arn"]
    call("iam", "DeleteOpenIDConnectProvider", {"OpenIDConnectProviderArn": provider})
    assert code(take_role, account=breakable_account) == "InvalidIdentityToken"


def test_the_on_call_engineer_can_lose_permissions(breakable_account: Aws) -> None:
    breakable_account.call(
        "iam", "DeleteUserPolicy", {"UserName": "on-call", "PolicyName": "administrator"}
    )
    eks = breakable_account.client("eks")
    with pytest.raises(ClientError, match="user/on-call is not authorized to perform: eks:List"):
        eks.list_clusters()
    assert breakable_account.client("sts").get_caller_identity()["Arn"].endswith("user/on-call")


def test_the_keys_are_of_the_wrong_user(breakable_account: Aws) -> None:
    breakable_account.verbs()["caller"](user="ci-deployer")
    who = breakable_account.client("sts").get_caller_identity()["Arn"]
    assert who == "arn:aws:iam::123456789012:user/ci-deployer"
    assert code(breakable_account.client("eks").list_clusters) == "AccessDeniedException"
    breakable_account.verbs()["caller"](user="somebody", administrator=True)
    eks = breakable_account.client("eks")
    assert who not in eks.list_access_entries(clusterName=CLUSTER)["accessEntries"]
    breakable_account.verbs()["caller"](user="on-call")
    assert breakable_account.client("sts").get_caller_identity()["Arn"].endswith("/on-call")
    with pytest.raises(ValueError, match="exists"):
        breakable_account.verbs()["caller"](user="on-call", administrator=True)


def test_keys_that_nobody_has(account: Aws) -> None:
    stranger = {"AccessKeyId": "AKIAABCDEFGHIJKLMNOP", "SecretAccessKey": "x", "SessionToken": "y"}
    assert code(as_role(account, "sts", stranger).get_caller_identity) == "InvalidClientTokenId"
    assert code(as_role(account, "ec2", stranger).describe_vpcs) == "AuthFailure"


def test_a_role_for_pods_is_not_for_people(account: Aws) -> None:
    assume = account.client("sts").assume_role
    assert code(assume, RoleArn=ROLE, RoleSessionName="me") == "AccessDenied"


def test_what_a_role_may_is_simulated(account: Aws) -> None:
    simulate = account.client("iam").simulate_principal_policy
    resource = f"arn:aws:s3:::{ARTIFACTS}/1/x"
    actions = ["s3:PutObject", "s3:DeleteBucket"]
    found = simulate(PolicySourceArn=ROLE, ActionNames=actions, ResourceArns=[resource])
    decisions = {one["EvalActionName"]: one["EvalDecision"] for one in found["EvaluationResults"]}
    assert decisions == {"s3:PutObject": "allowed", "s3:DeleteBucket": "implicitDeny"}
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    denied = simulate(
        PolicySourceArn=ROLE,
        ActionNames=actions[:1],
        ResourceArns=[resource],
        ResourcePolicy=policy,
    )
    assert denied["EvaluationResults"][0]["EvalDecision"] == "explicitDeny"
    scaler = "arn:aws:iam::123456789012:role/eks-cluster-autoscaler-role"
    action = ["autoscaling:SetDesiredCapacity"]
    tag = {
        "ContextKeyName": f"aws:ResourceTag/k8s.io/cluster-autoscaler/{CLUSTER}",
        "ContextKeyValues": ["owned"],
        "ContextKeyType": "string",
    }
    for context, decision in (([], "implicitDeny"), ([tag], "allowed")):
        answer = simulate(PolicySourceArn=scaler, ActionNames=action, ContextEntries=context)
        assert answer["EvaluationResults"][0]["EvalDecision"] == decision
    assert code(simulate, PolicySourceArn=ROLE + "x", ActionNames=action) == "NoSuchEntity"


def test_quotas(breakable_account: Aws) -> None:
    quotas = breakable_account.client("service-quotas")
    vcpus = {"ServiceCode": "ec2", "QuotaCode": "L-1216C47A"}
    assert quotas.get_service_quota(**vcpus)["Quota"]["Value"] == 32.0
    breakable_account.verbs()["service_quota"](service="ec2", code="L-1216C47A", value=12)
    assert quotas.get_service_quota(**vcpus)["Quota"]["Value"] == 12.0
    listed = quotas.list_service_quotas(ServiceCode="ec2")["Quotas"]
    assert 12.0 in [one["Value"] for one in listed]
    unknown = {**vcpus, "QuotaCode": "L-00000000"}
    assert code(quotas.get_service_quota, **unknown) == "NoSuchResourceException"
