"""Answers about the asker itself: access reviews, rules, who am I; and tokens for accounts."""

from __future__ import annotations

from typing import Any

from runbook_lib.practice.kubernetes.calls import Call
from runbook_lib.practice.kubernetes.identity import MASTERS, Identities, User, user
from runbook_lib.practice.kubernetes.rbac import Attempt, Authorizer
from runbook_lib.practice.objects.errors import bad_request, invalid, not_allowed
from runbook_lib.practice.objects.fields import causes
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store, stamp

_HOUR, _LEAST_SECONDS, _LONGEST_SECONDS = 3600, 600, 1 << 32


def review(call: Call, authorizer: Authorizer) -> Object:
    """The posted review with its status; nothing is stored."""
    if call.method != "POST" or call.name:
        raise not_allowed()
    body = call.body()
    if body is not None and not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized: it must be a JSON object")
    body = {**(body or {}), **call.kind.head()}
    spec: Object = body.setdefault("spec", {})
    match call.kind.kind:
        case "SelfSubjectReview":
            body.pop("spec")
            body["metadata"] = {"creationTimestamp": stamp()}
            body["status"] = {"userInfo": call.user.document()}
        case "SelfSubjectRulesReview":
            body["status"] = _rules(call, authorizer, spec.get("namespace") or "")
        case "SelfSubjectAccessReview":
            body["status"] = _decision(call, authorizer, call.user, spec)
        case _:  # SubjectAccessReview, LocalSubjectAccessReview
            if not spec.get("user") and not spec.get("groups"):
                text = "at least one of user or group must be specified"
                raise invalid(call.kind, "", causes.wrong("spec.user", "", text))
            about = User(spec.get("user") or "", tuple(spec.get("groups") or ()))
            body["status"] = _decision(call, authorizer, about, spec)
    return body


def _decision(call: Call, authorizer: Authorizer, about: User, spec: Object) -> Object:
    wanted, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if bool(wanted) == bool(path):
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise invalid(call.kind, "", causes.wrong("spec.resourceAttributes", wanted, text))
    if wanted and (wanted.get("fieldSelector") or wanted.get("labelSelector")):
        raise bad_request("the practice API does not decide by selectors (resourceAttributes)")
    if wanted:
        parts = [wanted.get("resource") or "", wanted.get("subresource")]
        attempt = Attempt(
            verb=wanted.get("verb") or "",
            group=wanted.get("group") or "",
            resource="/".join(filter(None, parts)),
            namespace=wanted.get("namespace") or "",
            name=wanted.get("name") or "",
        )
    else:
        attempt = Attempt(verb=dig(path, "verb", ""), path=dig(path, "path", ""))
    if authorizer.allows(about, attempt):
        return {"allowed": True}
    why = authorizer.why_not(about, attempt)
    return {"allowed": False, "reason": why} if why else {"allowed": False}


def _rules(call: Call, authorizer: Authorizer, namespace: str) -> Object:
    if not namespace:
        raise bad_request("no namespace on request")
    rules = list(authorizer.rules(call.user, namespace, []))
    if MASTERS in call.user.groups:
        rules.insert(0, {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
    return {
        "resourceRules": [rule for rule in rules if rule.get("resources")],
        "nonResourceRules": [
            {"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]}
            for rule in rules
            if rule.get("nonResourceURLs")
        ],
        "incomplete": False,
    }


def token(call: Call, store: Store, identities: Identities) -> Object:
    """The answer to a TokenRequest for a ServiceAccount."""
    account = store.get(call.kind, call.namespace, call.name)
    body: Any = call.body() or {}
    spec = dig(body, "spec", {})
    lifetime = spec.get("expirationSeconds") or _HOUR
    if not _LEAST_SECONDS <= lifetime <= _LONGEST_SECONDS:
        text = "may not specify a duration less than 10 minutes"
        kind = call.kind.named("authentication.k8s.io", "TokenRequest")
        raise invalid(kind, "", causes.wrong("spec.expirationSeconds", lifetime, text))
    if spec.get("boundObjectRef"):
        raise bad_request("the practice API does not bind tokens to objects (boundObjectRef)")
    made, expires = identities.issue(account, spec.get("audiences") or [], lifetime)
    names = ("name", "namespace")
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {
            **{name: account["metadata"][name] for name in names},
            "creationTimestamp": stamp(),
        },
        "spec": {**spec, "expirationSeconds": lifetime},
        "status": {"token": made, "expirationTimestamp": stamp(expires)},
    }


# impersonation


def impersonated(headers: Any, asker: User, authorizer: Authorizer) -> User:
    """The user that the request acts as; 403 where the asker may not be that user."""
    name = headers.get("Impersonate-User", "")
    groups = headers.getall("Impersonate-Group", [])
    other = [h for h in headers if h.lower().startswith(("impersonate-uid", "impersonate-extra-"))]
    if other:
        raise bad_request(f"the practice API does not impersonate by {', '.join(other)}")
    if not name and not groups:
        return asker
    if not name:
        raise bad_request("requested groups without impersonating a user")
    if name.startswith("system:serviceaccount:"):
        _, _, namespace, account = name.split(":", 3)
        wanted = [Attempt("impersonate", "", "serviceaccounts", namespace, account)]
    else:
        wanted = [Attempt("impersonate", "", "users", "", name)]
    wanted += [Attempt("impersonate", "", "groups", "", group) for group in groups]
    for attempt in wanted:
        authorizer.require(asker, attempt)
    return user(name, tuple(groups))
