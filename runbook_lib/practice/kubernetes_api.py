"""One practice cluster: the Kubernetes API and what works behind it.

The API keeps objects; the controllers make a change show its effect and stand in for nodes and
containers. How those behave is read from annotations (`cluster.containers`, `cluster.nodes`), so
that any client can break and mend it; only who directs the practice is shown them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aiohttp import web

from runbook_lib.practice.cluster.authenticator import signing_key
from runbook_lib.practice.cluster.collector import Collector
from runbook_lib.practice.cluster.controllers import Controllers
from runbook_lib.practice.cluster.groups import NodeGroups
from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.cluster.kubelets import ClusterKubelets
from runbook_lib.practice.cluster.metricsserver import MetricsServer
from runbook_lib.practice.cluster.nodes import defaults, switch_off
from runbook_lib.practice.kubernetes.audit import Audit
from runbook_lib.practice.kubernetes.identity import Identities, User, user
from runbook_lib.practice.kubernetes.kubelets import Behind
from runbook_lib.practice.kubernetes.server import Server, application
from runbook_lib.practice.kubernetes.writes import established
from runbook_lib.practice.kubernetes_faults import Faults
from runbook_lib.practice.network.listener import Listener
from runbook_lib.practice.objects.admission import apply_defaults
from runbook_lib.practice.objects.data import first_objects
from runbook_lib.practice.objects.resources import Catalogue
from runbook_lib.practice.objects.store import Change, Store, copy_of, stamp
from runbook_lib.practice.wait import lasting

_LOG = logging.getLogger(__name__)
_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_SETTLE_SECONDS = 0.01  # several writes in a row are looked at together
_IDLE_SECONDS = 5.0
_PRUNE_SECONDS = 60.0
_HEAD_BYTES = 2**20  # of a request, as Go's server takes it


async def _nobody(connection: socket.socket) -> None:
    """Serves what comes to a port whose packets are dropped: nothing does."""
    connection.close()


class KubernetesApi:
    """One practice cluster. Use it from the event loop that started it, and from no other thread.

    `state` is a folder for its certificate authority; `token` is its administrator's;
    `time_scale` shortens the waits of the stand-ins (0.01: a back-off of 5 minutes lasts 3 s).
    """

    def __init__(self, state: Path, token: str, *, time_scale: float = 1.0) -> None:
        self.url = ""
        self.ca_file = state / "kubernetes-ca.pem"
        self._state = state
        self._token = token
        self._store = Store(Catalogue())
        self._controllers = Controllers(self._store, time_scale)
        self.kubelets = ClusterKubelets(self._store, self._controllers.kubelet)
        self.audit_file = state / "audit.jsonl"
        self._audit = Audit(self.audit_file)
        self.director_token = secrets.token_urlsafe(32)
        self._identities = Identities(self._store, token, self.director_token)
        self._faults = Faults()
        self._server = Server(
            self._store, self._behind(), self._identities, self._audit, self._faults
        )
        self._tls: ssl.SSLContext | None = None  # one authority for life
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None  # None where packets are dropped before it
        self._barrier = Listener(_nobody)
        self._control: asyncio.Task[None] | None = None
        self._work = asyncio.Event()
        self._store.listeners.append(self._notice)
        self.restore([])

    def _behind(self) -> Behind:
        kubelet = self._controllers.kubelet
        metrics = MetricsServer(self._store, kubelet)
        return Behind(self.kubelets, metrics, Collector(self._store, kubelet))

    # what lives inside of the cluster looks at these

    @property
    def store(self) -> Store:
        """All objects; who is no part of the cluster only reads them."""
        return self._store

    @property
    def kubelet(self) -> Kubelet:
        """The stand-in for all kubelets."""
        return self._controllers.kubelet

    # life

    async def start(self, port: int = 0) -> None:
        """Serve on 127.0.0.1; port 0 takes a free one. OSError where the port is taken.

        May be called again after `stop`: objects and certificates are still the same.
        """
        self._store.closed = False
        self._tls = self._tls or await asyncio.to_thread(self._make_certificates)
        app = application(self._server)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=0.2,
            max_line_size=_HEAD_BYTES,  # commands and selectors are sent in it
            max_field_size=_HEAD_BYTES,
        )
        await self._runner.setup()
        await self._listen(port)
        taken = self._runner.addresses[0][1]
        self.url = f"https://127.0.0.1:{taken}"
        self._control = lasting(self._run())

    async def _listen(self, port: int) -> None:
        assert self._runner
        self._site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=self._tls)
        await self._site.start()

    async def let_in(self, allowed: bool) -> None:
        """Whether packets from outside reach the API; the cluster lives on where none do.

        They are dropped, so that clients time out; outside of Linux connections are refused.
        """
        if self._runner is None or allowed == (self._site is not None):
            return
        if self._site is not None:
            self._barrier.port = self._runner.addresses[0][1]
            site, self._site = self._site, None
            await site.stop()
            self._drop_connections()
            await self._barrier.become("filtered" if sys.platform == "linux" else "closed")
        else:
            await self._barrier.become("closed")
            await self._listen(self._barrier.port)

    async def stop(self) -> None:
        """End watches and controllers, and close the port; harmless when not started."""
        self._store.closed = True
        self._store.wake()
        if self._control is not None:
            self._control.cancel()
            await asyncio.gather(self._control, return_exceptions=True)
            self._control = None
        if self._runner is not None:
            self._drop_connections()
            await self._runner.cleanup()
            self._runner = self._site = None
        await self._barrier.become("closed")
        self._audit.close()

    def _drop_connections(self) -> None:
        assert self._runner
        for connection in self._runner.server.connections if self._runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()  # a TLS farewell would outlive us

    def _make_certificates(self) -> ssl.SSLContext:
        # Only the practice platform has these packages.
        import trustme

        authority = trustme.CA(organization_name="practice platform")
        authority.cert_pem.write_to_path(str(self.ca_file))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
        return context

    def write_kubeconfig(self, path: Path) -> None:
        """Write a kubeconfig that only its owner can read; it holds the token."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file.resolve())}
        context = {"cluster": "practice", "user": "practice", "namespace": "default"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "practice", "cluster": cluster}],
            "users": [{"name": "practice", "user": {"token": self._token}}],
            "contexts": [{"name": "practice", "context": context}],
            "current-context": "practice",
        }
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.fchmod(handle, 0o600)  # it may have been there before
        with os.fdopen(handle, "w") as file:
            json.dump(config, file, indent=2)  # JSON is YAML

    # contents

    def restore(self, objects: Iterable[dict[str, Any]]) -> None:
        """Hold what a new cluster has and these objects, and nothing else.

        The cluster is as old as the oldest of them.
        """
        self._store.remove_all()
        given = list(objects)
        ages = [one["metadata"].get("creationTimestamp", stamp()) for one in given]
        born = min(ages, default=stamp())
        names = [{"kind": "Namespace", "metadata": {"name": name}} for name in _NAMESPACES]
        for first in (*names, *first_objects()):
            meta = {**first["metadata"], "creationTimestamp": born}
            self.load([{"apiVersion": "v1", **first, "metadata": meta}])
        self.load(given)

    def load(self, objects: Iterable[dict[str, Any]]) -> None:
        """Put objects into the store as a backup of etcd would: times and status are kept.

        Existing objects of the same name are replaced. ValueError for a kind that is not served.
        """
        for given in objects:
            kind = self._store.catalogue.for_object(given)
            obj = copy_of(given)
            meta = obj["metadata"]
            if kind.namespaced:
                meta.setdefault("namespace", "default")
            meta.pop("resourceVersion", None)
            restored = "status" in obj
            apply_defaults(kind, obj)
            if kind.kind == "Node":
                defaults(obj)
            if kind.kind == "CustomResourceDefinition":
                obj.setdefault("status", established(obj))
            if kind.kind == "Pod" and not restored and "creationTimestamp" in meta:
                obj["status"]["startTime"] = meta["creationTimestamp"]
            self._store.encoded(kind, self._store.add(kind, obj, replace=True))

    def add_user(self, name: str, groups: Iterable[str] = ()) -> str:
        """Take a new bearer token for a user of these groups; the token."""
        return self._identities.register(name, list(groups))

    def take_aws_keys(self, groups_of: Callable[[str], tuple[str, list[str]] | None]) -> None:
        """Take tokens of `aws eks get-token`: who an access key's are, name and groups, or None."""

        def find(token: str) -> User | None:
            key = signing_key(token)
            found = groups_of(key) if key else None
            return user(found[0], tuple(found[1])) if found else None

        self._identities.webhook = find

    def forget_users(self) -> None:
        """Refuse the tokens of all added users from now on."""
        self._identities.forget_users()

    @property
    def tokens(self) -> list[str]:
        """Every bearer token that was ever taken or handed out."""
        return self._identities.handed_out

    def set_fault(self, fault: dict[str, Any] | None) -> None:
        """Fail requests on purpose until called with None: `Faults.set`."""
        self._faults.set(fault)

    # the controllers

    @property
    def node_groups(self) -> NodeGroups:
        """The stand-in for the cluster autoscaler, which goes by what the cloud says."""
        return self._controllers.groups

    def switch_off(self, machines: frozenset[str]) -> None:
        """Let the kubelets of these machines, by their ids, not run, and those of all others."""
        switch_off(self._store, machines)

    def _notice(self, change: Change) -> None:
        if change.kind.kind not in ("Lease", "Event"):
            self._work.set()

    async def _run(self) -> None:
        """Let the controllers work until cancelled."""
        pruned = time.time()
        due: float | None = 0.0
        while True:
            wait = _IDLE_SECONDS if due is None else min(_IDLE_SECONDS, due - time.time())
            if wait > 0 and not self._work.is_set():
                # Not wait_for: in Python 3.11 it may swallow the cancellation of `stop`.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._work.wait()
            await asyncio.sleep(_SETTLE_SECONDS)
            now = time.time()
            changed = self._work.is_set()
            self._work.clear()
            try:
                due = self._controllers.reconcile(now, changed=changed)
                if now - pruned > _PRUNE_SECONDS:
                    pruned = now
                    self._controllers.prune(now)
            except Exception:  # noqa: BLE001 - the seam: one bad object must not end all controllers
                _LOG.exception("a controller of the practice cluster failed")
                due = now + 1
