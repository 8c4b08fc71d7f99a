"""The cluster that the statements are about: one of yours, or the practice API of this package."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contract.cluster import Cluster, Refused, Resource, Space
from contract.objects import config_map, widget_definition

from runbook_lib.practice.wait import until

CONTROLLERS_SECONDS = 10.0  # a namespace gets its ServiceAccount `default` within this time
METRICS = "/apis/metrics.k8s.io/v1beta1"
REMOVAL_SECONDS = 180.0
CLUSTER_SCOPED = (
    ("rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    ("rbac.authorization.k8s.io/v1", "clusterroles"),
    ("apiextensions.k8s.io/v1", "customresourcedefinitions"),
    ("v1", "nodes"),
    ("v1", "namespaces"),
)
MARKERS = {
    "needs_nodes": "needs a ready node: a kubelet, or what stands in for it",
    "needs_controllers": "needs the controller manager",
    "needs_metrics": "needs the metrics API",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("contract", "the statements about the Kubernetes API")
    group.addoption("--kubeconfig", help="state them of this cluster, not of the practice API")
    group.addoption("--image", default="busybox:1.37", help="an image with sh that nodes can pull")


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}; skipped without")


@pytest.fixture(scope="session")
def kubeconfig(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    given = request.config.getoption("--kubeconfig", default=None)
    if given:
        yield Path(given)
        return
    from practice.conftest import NODES, Practice, deployment, node

    running = Practice(tmp_path_factory.mktemp("contract"))
    metrics = deployment("metrics-server")
    metrics["metadata"]["namespace"] = "kube-system"
    running.call(running.api.load, [*map(node, NODES), metrics])
    path = running.state / "kubeconfig"
    running.api.write_kubeconfig(path)
    running.until(lambda: running.raw("GET", METRICS)[0] == 200, "the metrics API answers")
    yield path
    running.stop()


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path) -> Cluster:
    from kubernetes import config

    return Cluster(config.new_client_from_config(str(kubeconfig), persist_config=False))


@pytest.fixture(scope="session")
def space(cluster: Cluster) -> Iterator[Space]:
    """A namespace with a random name; it goes, and everything in it, when the session ends."""
    name = f"contract-{uuid.uuid4().hex[:8]}"
    namespaces = cluster.of("v1", "namespaces")
    namespaces.create({"metadata": {"name": name}})
    made = Space(cluster, name)
    made.has_controllers = _gets_an_account(made)
    if not made.has_controllers:
        made.service_accounts.create({"metadata": {"name": "default"}})
    yield made
    _empty(made)
    namespaces.delete(name)
    if not made.has_controllers:
        body = namespaces.read(name) | {"spec": {"finalizers": []}}
        namespaces.replace(name, body, "finalize")
    until(lambda: not namespaces.has(name), REMOVAL_SECONDS, f"namespace {name} goes")


def _empty(space: Space) -> None:
    """Remove what a failed statement may have left, with its finalizers, which nobody would."""
    for resource in (space.config_maps, space.pods, space.deployments, space.jobs):
        for item in resource.list()["items"]:
            if item["metadata"].get("finalizers"):
                resource.patch(item["metadata"]["name"], {"metadata": {"finalizers": None}})
    for api_version, plural in CLUSTER_SCOPED:
        everywhere = space.cluster.of(api_version, plural)
        for name in everywhere.names():
            if space.name in name and name != space.name:
                _remove(everywhere, name)


def _gets_an_account(space: Space) -> bool:
    """Whether a controller manager is there: it gives every namespace an account."""
    try:
        until(lambda: space.service_accounts.has("default"), CONTROLLERS_SECONDS, "")
    except TimeoutError:
        return False
    return True


@pytest.fixture(scope="session")
def lacking(space: Space, request: pytest.FixtureRequest) -> dict[str, str]:
    """Markers whose need the cluster does not meet, each with what was looked for.

    The practice API meets all; where it does not, that is an error and nothing to skip.
    """
    found = {}
    if not space.has_controllers:
        found["needs_controllers"] = "a new namespace got no ServiceAccount"
    if not any(map(_is_ready, space.cluster.get("/api/v1/nodes")["items"])):
        found["needs_nodes"] = "no node is ready"
    answer = space.cluster.ask("GET", METRICS)
    if answer.status != 200:
        found["needs_metrics"] = f"the metrics API answers {answer.status}"
    is_ours = not request.config.getoption("--kubeconfig", default=None)
    assert not (is_ours and found), f"the practice API lacks {found}"
    return found


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@pytest.fixture(autouse=True)
def _skipped_where_a_need_is_not_met(
    request: pytest.FixtureRequest, lacking: dict[str, str]
) -> None:
    for marker, why in lacking.items():
        if request.node.get_closest_marker(marker):
            pytest.skip(f"{marker}: {why}")


@pytest.fixture
def name() -> str:
    """A name that nothing else has."""
    return f"it-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def cm(space: Space, name: str) -> Iterator[str]:
    """The name of a ConfigMap {"a": "1"}."""
    space.config_maps.create(config_map(name))
    yield name
    _remove(space.config_maps, name)


@pytest.fixture(scope="session")
def widgets(space: Space) -> Iterator[Resource]:
    """A custom kind, in a group named after the namespace."""
    group = f"{space.name}.example.com"
    crds = space.cluster.of("apiextensions.k8s.io/v1", "customresourcedefinitions")
    crds.create(widget_definition(group))
    made = space.of(f"{group}/v1", "widgets")
    until(lambda: space.cluster.ask("GET", made.path).status == 200, 30.0, "widgets are served")
    yield made
    _remove(crds, f"widgets.{group}")


def _remove(resource: Any, name: str) -> None:
    try:
        resource.delete(name)
    except Refused as refusal:
        if refusal.code != 404:
            raise


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest) -> str:
    """An image with a shell."""
    return str(request.config.getoption("--image", default="busybox:1.37"))
