"""Why a node will not do for a pod: the scheduler's filters, in its order and its words."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from runbook_lib.practice.cluster.volumes import claims, delayed, in_zone
from runbook_lib.practice.objects.quantities import quantity
from runbook_lib.practice.objects.selectors import dig, matches
from runbook_lib.practice.objects.store import Object, Store

FINISHED = ("Succeeded", "Failed")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
Amounts = dict[str, float]


def requests(spec: Object) -> Amounts:
    """What a pod asks for: its containers together, or one init container if that is more."""
    total: Amounts = defaultdict(float)
    for container in spec.get("containers") or []:
        for name, amount in dig(container, "resources.requests", {}).items():
            total[name] += quantity(amount)
    for container in spec.get("initContainers") or []:
        for name, amount in dig(container, "resources.requests", {}).items():
            total[name] = max(total[name], quantity(amount))
    for name, amount in (spec.get("overhead") or {}).items():
        total[name] += quantity(amount)
    return dict(total)


def tolerates(tolerations: list[Object], taint: Object) -> bool:
    for toleration in tolerations:
        if toleration.get("effect") not in (None, "", taint["effect"]):
            continue
        if toleration.get("key") not in (None, "", taint["key"]):
            continue
        if toleration.get("operator", "Equal") == "Exists":
            return True
        if toleration.get("key") and toleration.get("value", "") == taint.get("value", ""):
            return True
    return False


@dataclass(frozen=True)
class Refusal:
    """Why one node will not do; `final`: whatever pods were evicted from it."""

    reasons: tuple[str, ...]
    final: bool


class Snapshot:
    """Nodes, the pods on them and what those take, as one round of scheduling sees them."""

    def __init__(self, store: Store, pods: list[Object]) -> None:
        self.store = store
        self.nodes = {node["metadata"]["name"]: node for node in store.all("nodes")}
        self.pods: dict[str, list[Object]] = {name: [] for name in self.nodes}
        self._averse: list[tuple[str, Object]] = []  # (node, pod) that keeps others away
        self.used: dict[str, Amounts] = defaultdict(lambda: defaultdict(float))
        # As by default: replicas of one owner spread over nodes before load is evened out.
        self.spread: Counter[tuple[str, str]] = Counter()
        for pod in pods:
            name = dig(pod, "spec.nodeName")
            self.spread[owner(pod), name] += 1
            if name in self.pods and dig(pod, "status.phase") not in FINISHED:
                self.place(pod, name)

    def place(self, pod: Object, node: str, sign: int = 1) -> None:
        """Count a pod in, or with sign -1 out."""
        if sign > 0:
            self.pods[node].append(pod)
            if dig(pod, f"spec.affinity.podAntiAffinity.{_REQUIRED}"):
                self._averse.append((node, pod))
        else:
            self.pods[node].remove(pod)
            self._averse = [one for one in self._averse if one[1] is not pod]
        for resource, amount in requests(pod["spec"]).items():
            self.used[node][resource] += sign * amount

    def refusal(self, pod: Object, node: Object) -> Refusal | None:
        """Why the node will not do, by the first filter that fails; None where it will."""
        if why := _unsuitable(node, pod):
            return Refusal((why,), True)
        name = node["metadata"]["name"]
        ports = _host_ports(pod)
        if ports and any(ports & _host_ports(other) for other in self.pods[name]):
            return Refusal(("node(s) didn't have free ports for the requested pod ports",), False)
        wanted, allocatable = requests(pod["spec"]), dig(node, "status.allocatable", {})
        if short := self._short_of(name, allocatable, wanted):
            never = any(n > quantity(allocatable.get(r, 0)) for r, n in wanted.items())
            return Refusal(tuple(short), never)
        if not in_zone(self.store, pod, node):
            return Refusal(("node(s) had volume node affinity conflict",), True)
        if dig(pod, "spec.topologySpreadConstraints") and not self._spreads(pod, node):
            return Refusal(("node(s) didn't match pod topology spread constraints",), False)
        return self._affinity(pod, node)

    def _short_of(self, node: str, allocatable: Object, wanted: Amounts) -> list[str]:
        short = []
        if len(self.pods[node]) + 1 > quantity(allocatable.get("pods", 110)):
            short.append("Too many pods")
        for resource, amount in wanted.items():
            free = quantity(allocatable.get(resource, 0)) - self.used[node].get(resource, 0)
            if amount and amount > free + 1e-9:
                short.append(f"Insufficient {resource}")
        return short

    def _affinity(self, pod: Object, node: Object) -> Refusal | None:
        for term in dig(pod, f"spec.affinity.podAffinity.{_REQUIRED}", []):
            near = self._near(term, pod, node)
            first = not any(_chosen(term, pod, p) for ps in self.pods.values() for p in ps)
            if not near and not (first and _chosen(term, pod, pod)):
                return Refusal(("node(s) didn't match pod affinity rules",), True)
        for term in dig(pod, f"spec.affinity.podAntiAffinity.{_REQUIRED}", []):
            if self._near(term, pod, node):
                return Refusal(("node(s) didn't match pod anti-affinity rules",), False)
        for name, other in self._averse:
            for term in dig(other, f"spec.affinity.podAntiAffinity.{_REQUIRED}", []):
                if _chosen(term, other, pod) and self._same(term, self.nodes[name], node):
                    why = "node(s) didn't satisfy existing pods anti-affinity rules"
                    return Refusal((why,), False)
        return None

    def _same(self, term: Object, one: Object, other: Object) -> bool:
        key = term["topologyKey"]
        value = (one["metadata"].get("labels") or {}).get(key)
        return value is not None and value == (other["metadata"].get("labels") or {}).get(key)

    def _near(self, term: Object, pod: Object, node: Object) -> bool:
        """Whether a pod that the term chooses stands in the node's topology."""
        return any(
            self._same(term, self.nodes[name], node) and _chosen(term, pod, other)
            for name, others in self.pods.items()
            for other in others
        )

    def _spreads(self, pod: Object, node: Object) -> bool:
        for constraint in pod["spec"]["topologySpreadConstraints"]:
            if constraint.get("whenUnsatisfiable", "DoNotSchedule") != "DoNotSchedule":
                continue
            key, counts = constraint["topologyKey"], Counter[str]()
            for name, one in self.nodes.items():
                if (value := (one["metadata"].get("labels") or {}).get(key)) is not None:
                    counts[value] += sum(_chosen(constraint, pod, p) for p in self.pods[name])
            here = (node["metadata"].get("labels") or {}).get(key)
            if here is None or counts[here] + 1 - min(counts.values()) > constraint["maxSkew"]:
                return False
        return True


def unbound(store: Store, pod: Object) -> str:
    """Why no node at all will do, because of the pod's claims; '' where they are no obstacle."""
    for name, claim in claims(store, pod):
        if claim is None:
            return f'persistentvolumeclaim "{name}" not found'
        if claim["metadata"].get("deletionTimestamp"):
            return f'persistentvolumeclaim "{name}" is being deleted'
        if not dig(claim, "spec.volumeName") and not delayed(store, claim):
            return "pod has unbound immediate PersistentVolumeClaims"
    return ""


def owner(pod: Object) -> str:
    """The uid of the pod's owner, or its own."""
    owners = pod["metadata"].get("ownerReferences") or [pod["metadata"]]
    return str(owners[0]["uid"])


def _chosen(term: Object, of: Object, pod: Object) -> bool:
    spaces = term.get("namespaces") or [of["metadata"]["namespace"]]
    if pod["metadata"]["namespace"] not in spaces and "namespaceSelector" not in term:
        return False
    return matches(term.get("labelSelector"), pod["metadata"].get("labels") or {})


def _host_ports(pod: Object) -> set[tuple[int, str]]:
    on_host = pod["spec"].get("hostNetwork")
    return {
        (port.get("hostPort") or port["containerPort"], port.get("protocol", "TCP"))
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or []
        if on_host or port.get("hostPort")
    }


def _unsuitable(node: Object, pod: Object) -> str:
    """What no eviction would help against."""
    spec, tolerations = pod["spec"], pod["spec"].get("tolerations") or []
    cordoned = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    if dig(node, "spec.unschedulable") and not tolerates(tolerations, cordoned):
        return "node(s) were unschedulable"
    for taint in dig(node, "spec.taints", []):
        if taint["effect"] != "PreferNoSchedule" and not tolerates(tolerations, taint):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    labels = node["metadata"].get("labels") or {}
    affinity = "node(s) didn't match Pod's node affinity/selector"
    if any(labels.get(k) != v for k, v in (spec.get("nodeSelector") or {}).items()):
        return affinity
    terms = dig(spec, f"affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms", [])
    if terms and not any(_node_term(term, node, labels) for term in terms):
        return affinity
    return ""


def _node_term(term: Object, node: Object, labels: dict[str, str]) -> bool:
    fields = {"matchExpressions": term.get("matchFields") or []}
    return matches(term, labels) and matches(fields, {"metadata.name": node["metadata"]["name"]})
