"""Deletion: preconditions, finalizers, owners, collections, namespaces."""

from __future__ import annotations

import pytest
from contract.cluster import Space, refused
from contract.objects import config_map, owned_by, pod, service

from runbook_lib.practice.wait import until

SECONDS = 60.0


def test_a_deletion_answers_what_was_deleted(space: Space, cm: str) -> None:
    uid = space.config_maps.read(cm)["metadata"]["uid"]
    answer = space.config_maps.delete(cm)
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert answer["details"] == {"name": cm, "kind": "configmaps", "uid": uid}


def test_the_deletion_of_a_service_answers_the_service(space: Space, name: str) -> None:
    """As of accounts, claims, quotas and pods: the official client expects that kind of object."""
    uid = space.services.create(service(name))["metadata"]["uid"]
    answer = space.services.delete(name)
    assert (answer["kind"], answer["metadata"]["uid"]) == ("Service", uid)


def test_deleting_what_is_not_there_is_not_found(space: Space, name: str) -> None:
    with refused(404, "NotFound"):
        space.config_maps.delete(name)


@pytest.mark.parametrize("field", ["uid", "resourceVersion"])
def test_a_precondition_that_does_not_hold_is_a_conflict(space: Space, cm: str, field: str) -> None:
    with refused(409, "Conflict"):
        space.config_maps.delete(cm, preconditions={field: "12345"})
    assert space.config_maps.has(cm)


def test_a_finalizer_holds_an_object_until_it_is_removed(space: Space, name: str) -> None:
    space.config_maps.create(config_map(name, finalizers=["example.com/hold"]))
    space.config_maps.delete(name)
    assert space.config_maps.read(name)["metadata"]["deletionTimestamp"]
    space.config_maps.patch(name, {"metadata": {"finalizers": None}})
    assert not space.config_maps.has(name)


def test_an_object_that_is_going_takes_no_new_finalizers(space: Space, name: str) -> None:
    space.config_maps.create(config_map(name, finalizers=["example.com/hold"]))
    space.config_maps.delete(name)
    with refused(422, "Invalid"):
        more = ["example.com/hold", "example.com/more"]
        space.config_maps.patch(name, {"metadata": {"finalizers": more}})
    space.config_maps.patch(name, {"metadata": {"finalizers": None}})


def test_a_collection_is_deleted_by_its_selector(space: Space, cm: str, name: str) -> None:
    for number in range(2):
        space.config_maps.create(config_map(f"{name}-{number}", labels={"gone": name}))
    space.cluster.do("DELETE", space.config_maps.path, labelSelector=f"gone={name}")
    assert space.config_maps.names(labelSelector=f"gone={name}") == []
    assert space.config_maps.has(cm)


def test_a_pod_without_a_node_goes_at_once(space: Space, name: str) -> None:
    space.pods.create(pod(name))
    assert space.pods.delete(name)["kind"] == "Pod"
    assert not space.pods.has(name)


@pytest.mark.needs_controllers
def test_what_an_object_owns_goes_after_it(space: Space, cm: str) -> None:
    owner = space.config_maps.read(cm)
    space.config_maps.create(config_map(f"{cm}-owned", ownerReferences=owned_by(owner)))
    space.config_maps.delete(cm, propagationPolicy="Background")
    until(lambda: not space.config_maps.has(f"{cm}-owned"), SECONDS, "the owned object goes")


@pytest.mark.needs_controllers
def test_orphans_stay_and_forget_their_owner(space: Space, cm: str) -> None:
    owner = space.config_maps.read(cm)
    space.config_maps.create(config_map(f"{cm}-owned", ownerReferences=owned_by(owner)))
    space.config_maps.delete(cm, propagationPolicy="Orphan")
    until(lambda: not space.config_maps.has(cm), SECONDS, "the owner goes")
    assert "ownerReferences" not in space.config_maps.read(f"{cm}-owned")["metadata"]


@pytest.mark.needs_controllers
def test_in_the_foreground_an_owner_goes_after_what_it_owns(space: Space, cm: str) -> None:
    reference = owned_by(space.config_maps.read(cm), blockOwnerDeletion=True)
    held = config_map(f"{cm}-owned", ownerReferences=reference, finalizers=["example.com/hold"])
    space.config_maps.create(held)
    space.config_maps.delete(cm, propagationPolicy="Foreground")
    meta = space.config_maps.read(cm)["metadata"]
    assert meta["deletionTimestamp"] and meta["finalizers"] == ["foregroundDeletion"]
    owned = space.config_maps.read
    until(
        lambda: "deletionTimestamp" in owned(f"{cm}-owned")["metadata"], SECONDS, "the owned goes"
    )
    assert space.config_maps.has(cm)
    space.config_maps.patch(f"{cm}-owned", {"metadata": {"finalizers": None}})
    until(lambda: not space.config_maps.has(cm), SECONDS, "the owner goes")


@pytest.mark.needs_controllers
def test_an_object_with_another_owner_stays(space: Space, cm: str) -> None:
    first = space.config_maps.read(cm)
    second = space.config_maps.create(config_map(f"{cm}-second"))
    both = [*owned_by({**first, "apiVersion": "v1", "kind": "ConfigMap"}), *owned_by(second)]
    space.config_maps.create(config_map(f"{cm}-owned", ownerReferences=both))
    space.config_maps.delete(cm)
    owned = space.config_maps.read
    until(
        lambda: len(owned(f"{cm}-owned")["metadata"]["ownerReferences"]) == 1,
        SECONDS,
        "the reference to the owner that is gone goes",
    )


@pytest.mark.needs_controllers
def test_a_namespace_that_is_going_takes_nothing_new_and_takes_all_with_it(
    space: Space, name: str
) -> None:
    namespaces = space.cluster.of("v1", "namespaces")
    doomed = f"{space.name}-{name}"
    namespaces.create({"metadata": {"name": doomed}})
    inside = space.cluster.of("v1", "configmaps", doomed)
    inside.create(config_map("held", finalizers=["example.com/hold"]))
    namespaces.delete(doomed)
    assert namespaces.read(doomed)["status"]["phase"] == "Terminating"
    with refused(403, "Forbidden") as status:
        inside.create(config_map("late"))
    assert status["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    until(
        lambda: "deletionTimestamp" in inside.read("held")["metadata"], SECONDS, "its object goes"
    )
    inside.patch("held", {"metadata": {"finalizers": None}})
    until(lambda: not namespaces.has(doomed), SECONDS, "the namespace goes")
