"""The stand-in for the AWS Load Balancer Controller: it gives Ingresses of its class an address.

What AWS would refuse is told by an annotation on the Ingress, as the controller words it.
"""

from __future__ import annotations

import json

from runbook_lib.practice.cluster.events import Recorder
from runbook_lib.practice.cluster.objects import is_running
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store

ERROR = "practice.runbook/load-balancer"
HOSTNAME = "practice.runbook/load-balancer-hostname"  # on the IngressClass

_ALB = "alb.ingress.kubernetes.io"
_CONTROLLER = "ingress.k8s.aws/alb"
# What the annotation may say beside the text of a failed deployment: reason and text.
_REFUSALS = {
    "subnet-tags": (
        "FailedBuildModel",
        "Failed build model due to couldn't auto-discover subnets: unable to resolve at least one "
        "subnet (0 match VPC and tags: [kubernetes.io/role/elb])",
    ),
    "certificate-not-found": (
        "FailedDeployModel",
        "Failed deploy model due to operation error Elastic Load Balancing v2: CreateListener, "
        "https response error StatusCode: 400, CertificateNotFound: Certificate '{certificate}' "
        "not found",
    ),
    "access-denied": (
        "FailedDeployModel",
        "Failed deploy model due to operation error Elastic Load Balancing v2: "
        "DescribeLoadBalancers, https response error StatusCode: 403, api error AccessDenied: "
        "User: arn:aws:sts::123456789012:assumed-role/eks-load-balancer-role/session is not "
        "authorized to perform: elasticloadbalancing:DescribeLoadBalancers",
    ),
}


class LoadBalancers:
    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store = store
        self._recorder = recorder
        self._told: dict[str, str] = {}  # uid of the Ingress to what was said of it last

    def sync(self) -> None:
        ingresses = self._store.all("ingresses", "networking.k8s.io")
        if ingresses and is_running(self._store, "kube-system", "aws-load-balancer-controller"):
            for ingress in ingresses:
                self._sync(ingress)

    def _sync(self, ingress: Object) -> None:
        name = dig(ingress, "spec.ingressClassName", "")
        class_ = self._store.find("ingressclasses", name, "", "networking.k8s.io")
        if dig(class_, "spec.controller") != _CONTROLLER:
            return  # not ours: nobody says anything
        reason, message = self._refusal(ingress)
        if reason:
            self._tell(ingress, "Warning", reason, message)
            return
        hostname = dig(class_, "metadata.annotations", {}).get(HOSTNAME)
        addresses = dig(ingress, "status.loadBalancer.ingress", [])
        if not addresses and hostname:
            status = {"loadBalancer": {"ingress": [{"hostname": hostname}]}}
            kind = self._store.catalogue.of("ingresses", "networking.k8s.io")
            self._store.edit(kind, ingress, lambda new: new.update(status=status))
        if not addresses or ingress["metadata"]["uid"] in self._told:
            self._tell(ingress, "Normal", "SuccessfullyReconciled", "Successfully reconciled")

    def _tell(self, ingress: Object, type_: str, reason: str, message: str) -> None:
        uid = ingress["metadata"]["uid"]
        if self._told.get(uid) == message:
            return
        self._told[uid] = message
        self._recorder.record(ingress, type_, reason, message, component="ingress")

    def _refusal(self, ingress: Object) -> tuple[str, str]:
        """(reason, message) why there is no load balancer for it; empty where there is."""
        annotations = ingress["metadata"].get("annotations") or {}
        certificate = annotations.get(f"{_ALB}/certificate-arn", "")
        if said := annotations.get(ERROR):
            known = _REFUSALS.get(said, ("FailedDeployModel", f"Failed deploy model due to {said}"))
            return known[0], known[1].format(certificate=certificate)
        where = f"{ingress['metadata']['namespace']}/{ingress['metadata']['name']}"
        listened = json.loads(annotations.get(f"{_ALB}/listen-ports", '[{"HTTP": 80}]'))
        hosts = [rule.get("host", "*") for rule in dig(ingress, "spec.rules", [])]
        if not certificate and any("HTTPS" in one for one in listened):
            why = f"ingress: {where}: no certificate found for host: {(hosts or ['*'])[0]}"
            return "FailedBuildModel", f"Failed build model due to {why}"
        if annotations.get(f"{_ALB}/target-type", "instance") == "instance":
            for rule in dig(ingress, "spec.rules", []):
                for path in dig(rule, "http.paths", []):
                    service = dig(path, "backend.service.name", "")
                    found = self._store.find("services", service, ingress["metadata"]["namespace"])
                    if dig(found, "spec.type") == "ClusterIP":
                        full = f"{ingress['metadata']['namespace']}/{service}"
                        why = (
                            f"ingress: {where}: service {full} must be of either NodePort or "
                            "LoadBalancer when targetType is instance"
                        )
                        return "FailedBuildModel", f"Failed build model due to {why}"
        return "", ""
