"""The files that a container sees: what its program names, and what its volumes hold."""

from __future__ import annotations

import base64
import json
import time

from runbook_lib.practice.cluster.program import Program
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


def content(store: Store, pod: Object, container: str, program: Program, path: str) -> bytes | None:
    """The file's bytes; None where there is no such file."""
    if path in program.files:
        return program.files[path].encode()
    spec = next(
        c
        for c in [*pod["spec"]["containers"], *dig(pod, "spec.initContainers", [])]
        if c["name"] == container
    )
    volumes = {volume["name"]: volume for volume in dig(pod, "spec.volumes", [])}
    for mount in spec.get("volumeMounts") or []:
        base = mount["mountPath"].rstrip("/")
        inside = path.removeprefix(f"{base}/")
        if mount["name"] not in volumes or not (path.startswith(f"{base}/") or path == base):
            continue
        name = mount.get("subPath") or inside
        found = _in_volume(store, pod, volumes[mount["name"]], name)
        if found is not None:
            return found
    namespace = pod["metadata"]["namespace"]
    if path == f"{_ACCOUNT}/namespace" and _has_token(store, pod):
        return str(namespace).encode()
    if path == f"{_ACCOUNT}/token" and _has_token(store, pod):
        return token(pod, "https://kubernetes.default.svc").encode()
    if path == "/etc/resolv.conf":
        server = dig(store.find("services", "kube-dns", "kube-system"), "spec.clusterIP", "")
        search = f"{namespace}.svc.cluster.local svc.cluster.local cluster.local ec2.internal"
        return f"search {search}\nnameserver {server}\noptions ndots:5\n".encode()
    return None


def _has_token(store: Store, pod: Object) -> bool:
    namespace, name = pod["metadata"]["namespace"], dig(pod, "spec.serviceAccountName", "default")
    account = store.find("serviceaccounts", name, namespace)
    on_account = dig(account, "automountServiceAccountToken", True)
    return bool(dig(pod, "spec.automountServiceAccountToken", on_account))


def _in_volume(store: Store, pod: Object, volume: Object, name: str) -> bytes | None:
    namespace = pod["metadata"]["namespace"]
    for source in [volume, *dig(volume, "projected.sources", [])]:
        for field, plural in (("configMap", "configmaps"), ("secret", "secrets")):
            if not (reference := source.get(field)):
                continue
            named = reference.get("secretName") or reference.get("name", "")
            obj = store.find(plural, named, namespace) or {}
            items = {i["path"]: i["key"] for i in reference.get("items") or []}
            key = items.get(name) if items else name
            value = (obj.get("data") or {}).get(key)
            if value is not None:
                return base64.b64decode(value) if plural == "secrets" else str(value).encode()
        if (wanted := source.get("serviceAccountToken")) and wanted.get("path") == name:
            return token(pod, wanted.get("audience", "")).encode()
    return None


def token(pod: Object, audience: str) -> str:
    """A service account's token with the claims of a real one, and nothing that signs it."""
    meta = pod["metadata"]
    account = dig(pod, "spec.serviceAccountName", "default")
    now = int(time.time())
    claims = {
        "aud": [audience],
        "exp": now + 86_400,
        "iat": now,
        "iss": "https://oidc.eks.us-east-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE",
        "sub": f"system:serviceaccount:{meta['namespace']}:{account}",
        "kubernetes.io": {"namespace": meta["namespace"], "pod": {"name": meta["name"]}},
    }
    header = {"alg": "RS256", "typ": "JWT"}
    return ".".join([*(_encoded(json.dumps(part)) for part in (header, claims)), "unsigned"])


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
