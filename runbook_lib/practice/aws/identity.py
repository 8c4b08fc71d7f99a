"""Who calls, what they may do, and which ServiceAccount may take which role.

Sources: STS API reference, AssumeRoleWithWebIdentity; IAM API reference, SimulatePrincipalPolicy.
"""

from __future__ import annotations

import base64
import datetime
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook_lib.practice.aws import policies
from runbook_lib.practice.aws.additions import Addition, Ask, Verb, backend
from runbook_lib.practice.aws.faults import IAM_PREFIX, failure
from runbook_lib.practice.aws.front import Handler
from runbook_lib.practice.aws.lean import ACCOUNT
from runbook_lib.practice.aws.policy_rules import Malformed, check_identity
from runbook_lib.practice.aws.wire import INTERNAL, AwsError, Call, Document

S3_ACTIONS = {
    "HeadObject": "GetObject",
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListBuckets": "ListAllMyBuckets",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "DeleteObjects": "DeleteObject",
}
# The policies of AWS's own that the runbook attaches or an EKS node has.
MANAGED = {
    "AmazonS3FullAccess": ["s3:*"],
    "AmazonS3ReadOnlyAccess": ["s3:Get*", "s3:List*", "s3:Describe*"],
    "AmazonEKSWorkerNodePolicy": ["ec2:Describe*", "eks:DescribeCluster"],
    "AmazonEKS_CNI_Policy": ["ec2:AssignPrivateIpAddresses", "ec2:AttachNetworkInterface",
                             "ec2:CreateNetworkInterface", "ec2:Describe*"],
    "AmazonEC2ContainerRegistryReadOnly": ["ecr:GetAuthorizationToken", "ecr:BatchGet*",
                                           "ecr:Describe*", "ecr:GetDownloadUrlForLayer",
                                           "ecr:List*", "ecr:BatchCheckLayerAvailability"],
    "AmazonSSMManagedInstanceCore": ["ssm:UpdateInstanceInformation", "ssmmessages:*"],
}  # fmt: skip
EXPIRY_FORMAT = "%a %b %d %H:%M:%S UTC %Y"


@dataclass
class Caller:
    """An identity, the names under which policies know it, and its own policies."""

    arn: str
    names: set[str]
    documents: list[str]


class Identity(Addition):
    """Policies are ordinary IAM documents: scenarios change them by ordinary calls."""

    def __init__(self, ask: Ask, access_key_id: str) -> None:
        self.access_key_id = access_key_id
        super().__init__(ask)

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "sts.AssumeRoleWithWebIdentity": self._assume_with_web_identity,
            "sts.AssumeRole": self._assume_role,
            "iam.SimulatePrincipalPolicy": self._simulate,
        }

    def verbs(self) -> Mapping[str, Verb]:
        return {"caller": self.caller}

    def caller(self, user: str, administrator: bool = False) -> None:
        """The access key that everybody has is that user's, as with a wrong profile: a user made
        for it, if need be, who may do nothing or (`administrator`) everything."""
        iam = backend("iam")
        if user not in iam.users:
            self.ask("iam", "CreateUser", {"UserName": user})
            if administrator:
                statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}
                document = {"Version": "2012-10-17", "Statement": [statement]}
                self.ask(
                    "iam",
                    "PutUserPolicy",
                    {
                        "UserName": user,
                        "PolicyName": "administrator",
                        "PolicyDocument": json.dumps(document),
                    },
                )
        elif administrator:
            raise ValueError(f"user {user!r} exists, with policies of its own")
        [(owner, key)] = (
            (one, key)
            for one in iam.users.values()
            for key in one.access_keys
            if key.access_key_id == self.access_key_id
        )
        owner.access_keys.remove(key)
        iam.users[user].access_keys.append(key)
        key.user_name = user

    def check(self, call: Call) -> None:
        """Raises AwsError where the caller is unknown, or not allowed to do this."""
        if call.access_key_id == INTERNAL:
            return
        if not call.access_key_id:
            if call.service == "s3":
                _check_anonymous(call)
            return
        caller = _caller(call.access_key_id)
        if caller is None:
            raise failure(call, "unknown-identity")
        if (call.service, call.operation) == ("sts", "GetCallerIdentity"):
            return  # nobody can be denied this
        action, resource = _action(call)
        own = policies.decide(caller.documents, action, resource, _context(call))
        bucket = _bucket_policy(call)
        of_bucket = policies.decide(bucket, action, resource, {}, caller.names)
        if policies.EXPLICIT_DENY in (own, of_bucket):
            kind = "identity" if own == policies.EXPLICIT_DENY else "resource"
            why = f"with an explicit deny in {_article(kind)}-based policy"
        elif policies.ALLOWED in (own, of_bucket):
            return
        else:
            why = f"because no identity-based policy allows the {action} action"
        place = f" on resource: {json.dumps(resource)}" if resource else ""
        message = f"User: {caller.arn} is not authorized to perform: {action}{place} {why}"
        raise failure(call, "denied", message)

    def _assume_role(self, call: Call) -> None:
        if call.access_key_id == INTERNAL:
            return
        arn = call.parameters["RoleArn"]
        caller = _caller(call.access_key_id)
        role = _role(arn)
        names = (caller.names if caller else set()) | {ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root"}
        trust = [role.assume_role_policy_document] if role else []
        if policies.decide(trust, "sts:AssumeRole", None, {}, names) != policies.ALLOWED:
            who = caller.arn if caller else "anonymous"
            raise AwsError(
                "AccessDenied",
                f"User: {who} is not authorized to perform: sts:AssumeRole on resource: {arn}",
                403,
            )

    def _assume_with_web_identity(self, call: Call) -> None:
        given = call.parameters
        claims = _claims(given["WebIdentityToken"])
        issuer = str(claims.get("iss", "")).removeprefix("https://")
        provider = next(
            (p for p in backend("iam").open_id_providers.values() if p.url == issuer), None
        )
        if provider is None:
            raise AwsError(
                "InvalidIdentityToken",
                f"No OpenIDConnect provider found in your account for https://{issuer}",
            )
        audiences = claims.get("aud", [])
        audiences = audiences if isinstance(audiences, list) else [audiences]
        if not set(audiences) & set(provider.client_id_list):
            raise AwsError("InvalidIdentityToken", "Incorrect token audience")
        expiry = float(claims.get("exp", 0))
        if expiry < time.time():
            raise AwsError(
                "ExpiredTokenException",
                f"Token expired: current date/time {_words(time.time())} must be before the "
                f"expiration date/time {_words(expiry)}",
            )
        context = {
            f"{issuer}:sub": str(claims.get("sub", "")),
            f"{issuer}:aud": str(audiences[0]),
        }
        role = _role(given["RoleArn"])
        trust = [role.assume_role_policy_document] if role else []
        action = "sts:AssumeRoleWithWebIdentity"
        if policies.decide(trust, action, None, context, {provider.arn}) != policies.ALLOWED:
            raise AwsError("AccessDenied", f"Not authorized to perform {action}", 403)

    def _simulate(self, call: Call) -> Document:
        given = call.parameters
        source = given["PolicySourceArn"]
        documents = _documents_of(source)
        if documents is None:
            raise AwsError("NoSuchEntity", f"The entity {source} cannot be found.", 404)
        context = {
            one["ContextKeyName"]: one["ContextKeyValues"][0]
            for one in given.get("ContextEntries", [])
        }
        for text in given.get("PolicyInputList", []):
            try:
                check_identity(text)
            except Malformed as error:
                raise AwsError("InvalidInput", str(error)) from None
        documents = [*documents, *given.get("PolicyInputList", [])]
        resources = given.get("ResourceArns", ["*"])
        owned = [given["ResourcePolicy"]] if "ResourcePolicy" in given else []
        results = []
        for action in given["ActionNames"]:
            for resource in resources:
                decision = policies.decide(documents, action, resource, context)
                by_owner = policies.decide(owned, action, resource, context, {source})
                if policies.EXPLICIT_DENY in (decision, by_owner):
                    decision = policies.EXPLICIT_DENY
                elif by_owner == policies.ALLOWED:
                    decision = by_owner
                results.append(
                    {
                        "EvalActionName": action,
                        "EvalResourceName": resource,
                        "EvalDecision": decision,
                        "MatchedStatements": [],
                        "MissingContextValues": [],
                    }
                )
        return {"EvaluationResults": results, "IsTruncated": False}


def add_managed_policies() -> None:
    """Those of AWS's own policies that the runbook names; moto would load them all."""
    from moto.iam.models import AWSManagedPolicy

    iam = backend("iam")
    for name, actions in MANAGED.items():
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        data = {
            "DefaultVersionId": "v1",
            "Path": "/",
            "Document": {"Version": "2012-10-17", "Statement": [statement]},
            "CreateDate": "2015-02-06T18:40:58+00:00",
            "UpdateDate": "2021-09-27T20:16:37+00:00",
        }
        policy = AWSManagedPolicy.from_data(name, ACCOUNT, iam.region_name, data)
        iam.managed_policies[policy.arn] = policy


def user_of(access_key_id: str) -> str | None:
    """The name of the IAM user whose access key that is; None for nobody's."""
    for one in list(backend("iam").users.values()):
        if any(key.access_key_id == access_key_id for key in one.access_keys):
            return str(one.name)
    return None


def _article(kind: str) -> str:
    return f"an {kind}" if kind == "identity" else f"a {kind}"


def _words(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime(EXPIRY_FORMAT)


def _claims(token: str) -> Document:
    """What a token says; the practice platform checks no signature."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        claims = None
    if not isinstance(claims, dict):
        raise AwsError(
            "InvalidIdentityToken",
            "The ID Token provided is not a valid JWT. (You may see this error if you sent an "
            "Access Token)",
        )
    return claims


def _role(arn: str) -> Any:
    return next((one for one in backend("iam").roles.values() if one.arn == arn), None)


def _documents(entity: Any) -> list[str]:
    """Inline and attached policies of moto's user or role."""
    inline = entity.policies
    texts = list(inline.values()) if isinstance(inline, dict) else list(inline)
    for policy in entity.managed_policies.values():
        texts += [one.document for one in policy.versions if one.is_default]
    return [one if isinstance(one, str) else json.dumps(one) for one in texts]


def _documents_of(arn: str) -> list[str] | None:
    iam = backend("iam")
    for entity in (*iam.roles.values(), *iam.users.values()):
        if entity.arn == arn:
            return _documents(entity)
    return None


def _caller(access_key_id: str) -> Caller | None:
    """Whose key it is: a user's, or a role's session; None for nobody's."""
    for user in backend("iam").users.values():
        keys = [key for key in user.access_keys if key.status == "Active"]
        if any(key.access_key_id == access_key_id for key in keys):
            names = {user.arn, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root"}
            return Caller(user.arn, names, _documents(user))
    for session in backend("sts").assumed_roles:
        if session.access_key_id == access_key_id:
            role = _role(session.role_arn)
            documents = _documents(role) if role else []
            names = {session.arn, session.role_arn, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root"}
            return Caller(session.arn, names, documents)
    return None


def _action(call: Call) -> tuple[str, str | None]:
    """The IAM action of a call, and its resource where we know how AWS names it."""
    operation = str(call.operation)
    if call.service != "s3":
        return f"{IAM_PREFIX.get(call.signed, call.signed)}:{operation}", None
    action = f"s3:{S3_ACTIONS.get(operation, operation)}"
    bucket, key = call.parameters.get("Bucket"), call.parameters.get("Key")
    if not bucket:
        return action, "*"
    arn = f"arn:aws:s3:::{bucket}"
    return action, f"{arn}/{key}" if key else arn


def _check_anonymous(call: Call) -> None:
    """Only a bucket's own policy can allow somebody who does not sign."""
    if policies.decide(_bucket_policy(call), *_action(call), {}, ()) != policies.ALLOWED:
        raise failure(call, "denied", "Access Denied")


def _context(call: Call) -> policies.Context:
    """Tags of the Auto Scaling group that a call is about; other calls have no context."""
    if call.service != "autoscaling":
        return {}
    name = call.parameters.get("AutoScalingGroupName")
    instance = call.parameters.get("InstanceId")
    for group in backend("autoscaling").autoscaling_groups.values():
        if group.name == name or instance in [s.instance.id for s in group.instance_states]:
            return {f"aws:ResourceTag/{tag['Key']}": tag["Value"] for tag in group.tags}
    return {}


def _bucket_policy(call: Call) -> list[str]:
    if call.service != "s3":
        return []
    bucket = backend("s3").buckets.get(call.parameters.get("Bucket", ""))
    policy = bucket.policy if bucket else None
    if not policy:
        return []
    return [policy.decode() if isinstance(policy, bytes) else policy]
