"""The kinds that the practice API serves, and the discovery documents made from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

# apiVersion, plural, kind, n(amespaced) or c(luster), short names, subresources
_BUILT_IN = """
v1 pods Pod n po status,log,eviction,exec
v1 nodes Node c no status,proxy
v1 namespaces Namespace c ns status
v1 services Service n svc status
v1 endpoints Endpoints n ep -
v1 events Event n ev -
v1 configmaps ConfigMap n cm -
v1 secrets Secret n - -
v1 serviceaccounts ServiceAccount n sa token
v1 persistentvolumeclaims PersistentVolumeClaim n pvc status
v1 persistentvolumes PersistentVolume c pv status
v1 resourcequotas ResourceQuota n quota status
v1 limitranges LimitRange n limits -
apps/v1 deployments Deployment n deploy status,scale
apps/v1 replicasets ReplicaSet n rs status,scale
apps/v1 statefulsets StatefulSet n sts status,scale
apps/v1 daemonsets DaemonSet n ds status
batch/v1 jobs Job n - status
batch/v1 cronjobs CronJob n cj status
networking.k8s.io/v1 ingresses Ingress n ing status
networking.k8s.io/v1 networkpolicies NetworkPolicy n netpol -
networking.k8s.io/v1 ingressclasses IngressClass c - -
scheduling.k8s.io/v1 priorityclasses PriorityClass c pc -
discovery.k8s.io/v1 endpointslices EndpointSlice n - -
autoscaling/v2 horizontalpodautoscalers HorizontalPodAutoscaler n hpa status
policy/v1 poddisruptionbudgets PodDisruptionBudget n pdb status
apiextensions.k8s.io/v1 customresourcedefinitions CustomResourceDefinition c crd,crds status
storage.k8s.io/v1 storageclasses StorageClass c sc -
rbac.authorization.k8s.io/v1 roles Role n - -
rbac.authorization.k8s.io/v1 rolebindings RoleBinding n - -
rbac.authorization.k8s.io/v1 clusterroles ClusterRole c - -
rbac.authorization.k8s.io/v1 clusterrolebindings ClusterRoleBinding c - -
coordination.k8s.io/v1 leases Lease n - -
"""
# These are answered, not stored.
_VIRTUAL = """
authentication.k8s.io/v1 selfsubjectreviews SelfSubjectReview c create
authorization.k8s.io/v1 selfsubjectaccessreviews SelfSubjectAccessReview c create
authorization.k8s.io/v1 selfsubjectrulesreviews SelfSubjectRulesReview c create
authorization.k8s.io/v1 subjectaccessreviews SubjectAccessReview c create
authorization.k8s.io/v1 localsubjectaccessreviews LocalSubjectAccessReview n create
metrics.k8s.io/v1beta1 pods PodMetrics n get,list
metrics.k8s.io/v1beta1 nodes NodeMetrics c get,list
"""
# Custom kinds come in as CustomResourceDefinition objects, like any other.
_CUSTOM = """
serving.kserve.io v1beta1 inferenceservices InferenceService Namespaced isvc
serving.kserve.io v1alpha1 servingruntimes ServingRuntime Namespaced -
serving.kserve.io v1alpha1 clusterservingruntimes ClusterServingRuntime Cluster -
serving.knative.dev v1 services Service Namespaced kservice,ksvc
serving.knative.dev v1 revisions Revision Namespaced rev
"""
# What `kubectl get all` shows.
_ALL = ("Pod", "Service", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob")


@dataclass(frozen=True)
class Kind:
    """One served kind in one version."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    short: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    custom: bool = False
    # Of custom kinds: additionalPrinterColumns and openAPIV3Schema.
    columns: tuple[dict[str, Any], ...] = field(default=(), hash=False, compare=False)
    schema: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def table(self) -> tuple[str, str]:
        """The stored table: versions of one kind share it."""
        return (self.group, self.plural)

    @property
    def qualified(self) -> str:
        """`deployments.apps`, as messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def named(self, group: str, kind: str) -> Kind:
        """Another kind that is sent to this one's address: options, Scale, TokenRequest."""
        return replace(self, group=group, kind=kind)


def _names(text: str) -> tuple[str, ...]:
    return () if text == "-" else tuple(text.split(","))


def _split(api_version: str) -> tuple[str, str]:
    group, _, version = api_version.rpartition("/")
    return group, version


class Catalogue:
    """All kinds served now; grows and shrinks with CustomResourceDefinitions."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str], Kind] = {}
        for line in _BUILT_IN.strip().splitlines():
            api_version, plural, kind, scope, short, subresources = line.split()
            self._add(
                Kind(
                    *_split(api_version),
                    plural,
                    kind,
                    scope == "n",
                    _names(short),
                    _names(subresources),
                )
            )
        for line in _VIRTUAL.strip().splitlines():
            api_version, plural, kind, scope, verbs = line.split()
            self._add(Kind(*_split(api_version), plural, kind, scope == "n", verbs=_names(verbs)))

    def _add(self, kind: Kind) -> None:
        self._kinds[(kind.group, kind.version, kind.plural)] = kind

    def define(self, crd: dict[str, Any]) -> None:
        """Serve what a CustomResourceDefinition describes."""
        spec = crd["spec"]
        for version in spec["versions"]:
            if version.get("served", True):
                names = spec["names"]
                self._add(
                    Kind(
                        spec["group"],
                        version["name"],
                        names["plural"],
                        names["kind"],
                        spec.get("scope") == "Namespaced",
                        tuple(names.get("shortNames") or ()),
                        tuple(version.get("subresources") or ()),
                        custom=True,
                        columns=tuple(version.get("additionalPrinterColumns") or ()),
                        schema=(version.get("schema") or {}).get("openAPIV3Schema") or {},
                    )
                )

    def forget(self, group: str, plural: str) -> None:
        for key in [k for k in self._kinds if (k[0], k[2]) == (group, plural)]:
            del self._kinds[key]

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        return self._kinds.get((group, version, plural))

    def of(self, plural: str, group: str = "") -> Kind:
        """The kind of a table; KeyError where none is served."""
        for kind in self._kinds.values():
            if kind.table == (group, plural):
                return kind
        raise KeyError(f"no kind is served for {plural}.{group}")

    def for_object(self, obj: dict[str, Any]) -> Kind:
        """The kind of a manifest; ValueError where the API does not serve it."""
        asked = (obj.get("apiVersion"), obj.get("kind"))
        for kind in self._kinds.values():
            if (kind.api_version, kind.kind) == asked:
                return kind
        raise ValueError(f"the practice API serves no kind {asked[1]!r} in {asked[0]!r}")

    def __iter__(self) -> Iterator[Kind]:
        return iter(list(self._kinds.values()))

    def groups(self) -> dict[str, list[str]]:
        """Group to versions, the preferred one first; the core group is ''."""
        found: dict[str, list[str]] = {}
        for kind in self:
            versions = found.setdefault(kind.group, [])
            if kind.version not in versions:
                versions.append(kind.version)
        return found

    def group_document(self, group: str) -> dict[str, Any]:
        versions = [
            {"groupVersion": f"{group}/{version}", "version": version}
            for version in self.groups()[group]
        ]
        return {
            "kind": "APIGroup",
            "apiVersion": "v1",
            "name": group,
            "versions": versions,
            "preferredVersion": versions[0],
        }

    def resource_list(self, group: str, version: str) -> dict[str, Any]:
        """The APIResourceList of one group version."""
        resources: list[dict[str, Any]] = []
        for kind in self:
            if (kind.group, kind.version) != (group, version):
                continue
            shown = kind.kind in _ALL and not kind.custom
            resources.append(
                {
                    "name": kind.plural,
                    "singularName": kind.kind.lower(),
                    "namespaced": kind.namespaced,
                    "kind": kind.kind,
                    "verbs": list(kind.verbs),
                    "shortNames": list(kind.short),
                    "categories": ["all"] if shown else [],
                }
            )
            resources += [_subresource(kind, name) for name in kind.subresources]
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/{version}" if group else version,
            "resources": resources,
        }


_SUBRESOURCE_VERBS = {
    "log": ["get"],
    "proxy": ["get"],
    "eviction": ["create"],
    "exec": ["create", "get"],
    "token": ["create"],
}


def _subresource(kind: Kind, name: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": f"{kind.plural}/{name}",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": _SUBRESOURCE_VERBS.get(name, ["get", "patch", "update"]),
    }
    if name == "scale":
        document |= {"kind": "Scale", "group": "autoscaling", "version": "v1"}
    if name == "eviction":
        document |= {"kind": "Eviction", "group": "policy", "version": "v1"}
    if name == "exec":
        document |= {"kind": "PodExecOptions"}
    if name == "token":
        document |= {"kind": "TokenRequest", "group": "authentication.k8s.io", "version": "v1"}
    return document


def custom_definitions() -> list[dict[str, Any]]:
    """The CustomResourceDefinitions of KServe and Knative Serving, without their schemas."""
    ready = '.status.conditions[?(@.type=="Ready")].status'
    definitions = []
    for line in _CUSTOM.strip().splitlines():
        group, version, plural, kind, scope, short = line.split()
        definitions.append(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": f"{plural}.{group}"},
                "spec": {
                    "group": group,
                    "scope": scope,
                    "names": {
                        "plural": plural,
                        "singular": kind.lower(),
                        "kind": kind,
                        "listKind": f"{kind}List",
                        "shortNames": list(_names(short)),
                    },
                    "versions": [
                        {
                            "name": version,
                            "served": True,
                            "storage": True,
                            "subresources": {"status": {}},
                            "schema": {
                                "openAPIV3Schema": {
                                    "type": "object",
                                    "x-kubernetes-preserve-unknown-fields": True,
                                }
                            },
                            "additionalPrinterColumns": [
                                {"name": "URL", "type": "string", "jsonPath": ".status.url"},
                                {"name": "Ready", "type": "string", "jsonPath": ready},
                            ]
                            if kind in ("InferenceService", "Service")
                            else [],
                        }
                    ],
                },
            }
        )
    return definitions
