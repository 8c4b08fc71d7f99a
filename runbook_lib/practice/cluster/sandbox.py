"""Why a pod gets no network, in the words of the runtime and of the VPC's plugin."""

from __future__ import annotations

import hashlib

from runbook_lib.practice.cluster.nodes import NETWORK, annotation
from runbook_lib.practice.objects.selectors import condition, dig
from runbook_lib.practice.objects.store import Object, Store

_SANDBOX = (
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for "
    'sandbox "{}": plugin type="aws-cni" name="aws-cni" failed (add): add cmd: {}'
)
_NO_ADDRESS = "failed to assign an IP address to container"
_NO_PLUGIN = (
    "Error received from AddNetwork gRPC call: rpc error: code = Unavailable desc = connection "
    'error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:50051: connect: connection '
    'refused"'
)


def sandbox_problem(store: Store, pod: Object, node: Object) -> str:
    """From the node's annotation, or because its aws-node is not ready; '' where all is well."""
    if pod["spec"].get("hostNetwork"):
        return ""
    error = annotation(node, NETWORK)
    if error == "no-free-ips":
        error = _NO_ADDRESS
    plugin = store.find("daemonsets", "aws-node", "kube-system", "apps")
    if not error and any(
        dig(other, "spec.nodeName") == node["metadata"]["name"]
        and condition(other, "Ready") == "False"
        for other in (store.children(plugin, "pods") if plugin else ())
    ):
        error = _NO_PLUGIN
    sandbox = hashlib.sha256(pod["metadata"]["uid"].encode()).hexdigest()
    return _SANDBOX.format(sandbox, error) if error else ""
