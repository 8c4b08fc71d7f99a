"""The kinds that the practice API serves, and the discovery documents made from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from runbook_lib.practice.objects import data

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

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

    def head(self, suffix: str = "") -> dict[str, str]:
        """What an object of this kind begins with, or with "List" a list of such objects."""
        return {"kind": self.kind + suffix, "apiVersion": self.api_version}

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
        stored, _, answered = "\n".join(data.lines("kinds.txt")).partition("---")
        for line in stored.split("\n"):
            if line:
                api_version, plural, kind, scope, short, below = line.split()
                names = (_names(short), _names(below))
                self._add(Kind(*_split(api_version), plural, kind, scope == "n", *names))
        for line in answered.strip().splitlines():
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


def _subresource(kind: Kind, name: str) -> dict[str, Any]:
    return {
        "name": f"{kind.plural}/{name}",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": ["get", "patch", "update"],
        **data.table("fields")["subresources"].get(name, {}),
    }
