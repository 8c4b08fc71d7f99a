"""Who may do what: Roles and bindings, evaluated as the RBAC authorizer does.

Source: the Kubernetes documentation, "Using RBAC Authorization".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runbook_lib.practice.kubernetes.identity import MASTERS, User
from runbook_lib.practice.objects.errors import ApiError
from runbook_lib.practice.objects.store import Object, Store

_GROUP = "rbac.authorization.k8s.io"


@dataclass(frozen=True)
class Attempt:
    """What a request wants to do: to a resource, or with `path` to another address."""

    verb: str
    group: str = ""
    resource: str = ""  # with its subresource: pods/log
    namespace: str = ""
    name: str = ""
    path: str = ""


class Authorizer:
    """Decides from the Role, ClusterRole, RoleBinding and ClusterRoleBinding objects."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def allows(self, user: User, attempt: Attempt) -> bool:
        return MASTERS in user.groups or any(
            covers(rule, attempt) for rule in self.rules(user, attempt.namespace, [])
        )

    def require(self, user: User, attempt: Attempt) -> None:
        """Raise the 403 of the real API server for what no rule allows."""
        if not self.allows(user, attempt):
            raise forbidden(user, attempt, self.why_not(user, attempt))

    def why_not(self, user: User, attempt: Attempt) -> str:
        """What the authorizer says beside its refusal: bindings to roles that are not there."""
        missing: list[str] = []
        list(self.rules(user, attempt.namespace, missing))
        listed = missing[0] if len(missing) == 1 else f"[{', '.join(missing)}]"
        return f"RBAC: {listed}" if missing else ""

    def rules(self, user: User, namespace: str, missing: list[str]) -> Iterator[Object]:
        """Every rule that binds the user, cluster-wide and in a namespace; notes missing roles."""
        bindings = self._store.all("clusterrolebindings", _GROUP)
        if namespace:
            bindings += [
                binding
                for binding in self._store.all("rolebindings", _GROUP)
                if binding["metadata"]["namespace"] == namespace
            ]
        for binding in bindings:
            home = binding["metadata"].get("namespace") or ""
            if not any(_is_subject(s, user, home) for s in binding.get("subjects") or []):
                continue
            reference = binding["roleRef"]
            plural = reference["kind"].lower() + "s"
            home = home if reference["kind"] == "Role" else ""
            role = self._store.find(plural, reference["name"], home, _GROUP)
            if role is None:
                missing.append(f'{plural[:-1]}.{_GROUP} "{reference["name"]}" not found')
            else:
                yield from role.get("rules") or []


def _is_subject(subject: Object, user: User, namespace: str) -> bool:
    match subject["kind"]:
        case "User":
            return bool(user.name == subject["name"])
        case "Group":
            return subject["name"] in user.groups
    home = subject.get("namespace") or namespace
    return user.name == f"system:serviceaccount:{home}:{subject['name']}"


def covers(rule: Object, attempt: Attempt) -> bool:
    if not {"*", attempt.verb} & set(rule.get("verbs") or []):
        return False
    if attempt.path:
        return any(_path_matches(url, attempt.path) for url in rule.get("nonResourceURLs") or [])
    names = rule.get("resourceNames") or []
    if names and attempt.name not in names:
        return False
    return bool({"*", attempt.group} & set(rule.get("apiGroups") or [])) and any(
        _resource_matches(resource, attempt.resource) for resource in rule.get("resources") or []
    )


def _resource_matches(pattern: str, resource: str) -> bool:
    subresource = resource.partition("/")[2]
    return pattern in ("*", resource) or bool(subresource and pattern == f"*/{subresource}")


def _path_matches(pattern: str, path: str) -> bool:
    return pattern == path or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def forbidden(user: User, attempt: Attempt, why: str = "") -> ApiError:
    """The 403, word for word."""
    who = f'User "{user.name}" cannot {attempt.verb}'
    why = f": {why}" if why else ""
    if attempt.path:
        message = f'forbidden: {who} path "{attempt.path}"{why}'
        return ApiError(403, "Forbidden", message, {})
    plural = attempt.resource.partition("/")[0]
    qualified = f"{plural}.{attempt.group}" if attempt.group else plural
    where = (
        f'in the namespace "{attempt.namespace}"' if attempt.namespace else "at the cluster scope"
    )
    named = f' "{attempt.name}"' if attempt.name else ""
    details: dict[str, Any] = {"name": attempt.name} if attempt.name else {}
    details |= {"group": attempt.group} if attempt.group else {}
    return ApiError(
        403,
        "Forbidden",
        f'{qualified}{named} is forbidden: {who} resource "{attempt.resource}" in API group '
        f'"{attempt.group}" {where}{why}',
        {**details, "kind": plural},
    )
