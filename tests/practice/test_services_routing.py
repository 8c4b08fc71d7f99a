"""Which container a request reaches, decided from stored objects alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runbook_lib.practice.objects.resources import Catalogue
from runbook_lib.practice.objects.store import Store
from runbook_lib.practice.services.routing import (
    ACTION,
    ATTRIBUTES,
    Backend,
    GatewayError,
    named,
    targets,
    through_ingress,
)

SHOP = "shop"


def stored(*objects: tuple[str, str, dict[str, Any]]) -> Store:
    """A store with objects, each given as plural, group and content."""
    store = Store(Catalogue())
    for plural, group, content in objects:
        content["metadata"].setdefault("namespace", SHOP)
        store.add(store.catalogue.of(plural, group), content)
    return store


def pod(name: str, port: int = 8000) -> tuple[str, str, dict[str, Any]]:
    containers = [{"name": "proxy"}, {"name": "app", "ports": [{"containerPort": port}]}]
    return "pods", "", {"metadata": {"name": name}, "spec": {"containers": containers}}


def service(**port: Any) -> tuple[str, str, dict[str, Any]]:
    spec = {"ports": [{"name": "http", "port": 80, **port}]}
    return "services", "", {"metadata": {"name": "web"}, "spec": spec}


def slice_(ready: dict[str, Any], port: int = 8000) -> tuple[str, str, dict[str, Any]]:
    """Endpoints by the pod's name and whether it is ready; None leaves the condition out."""
    endpoints = [
        {
            "targetRef": {"kind": "Pod", "name": name},
            "conditions": {} if value is None else {"ready": value},
        }
        for name, value in ready.items()
    ]
    meta = {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}
    content = {"metadata": meta, "ports": [{"name": "http", "port": port}], "endpoints": endpoints}
    return "endpointslices", "discovery.k8s.io", content


def ingress(name: str, host: str, *paths: tuple[str, str, str], **more: Any) -> Any:
    rules = [
        {
            "host": host,
            "http": {
                "paths": [
                    {
                        "path": path,
                        "pathType": kind,
                        "backend": {"service": {"name": backend, "port": {"number": 80}}},
                    }
                    for path, kind, backend in paths
                ]
            },
        }
    ]
    meta = {"name": name, "annotations": more.pop("annotations", {})}
    return "ingresses", "networking.k8s.io", {"metadata": meta, "spec": {"rules": rules, **more}}


WEB = Backend(SHOP, "web", 80)


def test_only_ready_endpoints_are_targets() -> None:
    """A condition that is absent means ready, as the API says."""
    store = stored(
        service(), slice_({"a": True, "b": False, "c": None}), *(pod(name) for name in "abc")
    )
    assert [one.name for one in targets(store, WEB)] == ["a", "c"]
    assert {one.container for one in targets(store, WEB)} == {"app"}
    assert targets(store, Backend(SHOP, "web", "http")) == targets(store, WEB)


@pytest.mark.parametrize(
    ("objects", "backend", "status"),
    [
        ([], WEB, 503),
        ([service()], Backend(SHOP, "web", 81), 503),
        ([service()], WEB, 503),
        ([service(), slice_({"a": False}), pod("a")], WEB, 503),
        ([service(), slice_({"a": True}, port=9999), pod("a")], WEB, 502),
        ([service(), slice_({"gone": True})], WEB, 502),
    ],
)
def test_what_is_broken_on_the_way(objects: list[Any], backend: Backend, status: int) -> None:
    with pytest.raises(GatewayError) as error:
        targets(stored(*objects), backend)
    assert error.value.status == status


def test_the_most_specific_path_of_the_host_wins() -> None:
    store = stored(
        ingress("one", "a.example", ("/", "Prefix", "root"), ("/api", "Prefix", "api")),
        ingress("two", "a.example", ("/api", "Exact", "exact")),
        ingress("three", "*.b.example", ("/", "Prefix", "wild")),
    )

    def found(host: str, path: str) -> str:
        return through_ingress(store, host, path).service

    assert found("a.example", "/x") == "root"
    assert found("a.example", "/api/x") == "api"
    assert found("a.example", "/apix") == "root"
    assert found("a.example", "/api") == "exact"
    assert found("x.b.example", "/") == "wild"
    for host in ("b.example", "y.x.b.example", "c.example"):
        with pytest.raises(GatewayError) as error:
            found(host, "/")
        assert (error.value.status, error.value.body) == (404, "")


def test_the_load_balancer_answers_itself() -> None:
    """A rule whose backend is an annotated action of the load balancer controller."""
    action = {
        "type": "fixed-response",
        "fixedResponseConfig": {"statusCode": "403", "messageBody": "internal"},
    }
    path = {
        "path": "/health",
        "pathType": "Exact",
        "backend": {"service": {"name": "closed", "port": {"name": "use-annotation"}}},
    }
    content = {
        "metadata": {"name": "web", "annotations": {f"{ACTION}closed": json.dumps(action)}},
        "spec": {"rules": [{"host": "shop.example", "http": {"paths": [path]}}]},
    }
    store = stored(("ingresses", "networking.k8s.io", content))
    with pytest.raises(GatewayError) as told:
        through_ingress(store, "shop.example", "/health")
    assert (told.value.status, told.value.body) == (403, "internal")


def test_default_backend_and_patience() -> None:
    patient = {ATTRIBUTES: "deletion_protection.enabled=true, idle_timeout.timeout_seconds=7"}
    backend = {"service": {"name": "web", "port": {"name": "http"}}}
    store = stored(ingress("one", "a.example", annotations=patient, defaultBackend=backend))
    assert through_ingress(store, "other.example", "/") == Backend(SHOP, "web", "http", 7.0)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("web", 80),
        ("web:8080", 8080),
        ("web.shop", 80),
        ("web.shop.svc", 80),
        ("web.shop.svc.cluster.local:81", 81),
    ],
)
def test_names_in_the_cluster(host: str, port: int) -> None:
    assert named(stored(service()), host, SHOP) == Backend(SHOP, "web", port)


@pytest.mark.parametrize("host", ["nope", "web.other", "web.shop.example.com", "127.0.0.1:80", ""])
def test_names_that_mean_no_service(host: str) -> None:
    assert named(stored(service()), host, SHOP) is None
