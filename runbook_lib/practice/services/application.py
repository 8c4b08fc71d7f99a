"""What every application of the platform shares: a front, a way to a pod, and traces.

A request reaches a container through `routing`, meets the rules that were set for the system or
for its pod, and is answered with that container's environment. It leaves a line in the
container's log and is counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.metrics.samples import Sample
from runbook_lib.practice.objects.store import Change, Object, Store
from runbook_lib.practice.services.counters import Counters
from runbook_lib.practice.services.exchange import Answer, Call, Front, respond
from runbook_lib.practice.services.pool import Pool
from runbook_lib.practice.services.routing import (
    Backend,
    GatewayError,
    Target,
    named,
    targets,
    through_ingress,
)
from runbook_lib.practice.services.rules import Raised, Rule, rules_of
from runbook_lib.practice.services.saturation import held_seconds
from runbook_lib.practice.services.traffic import Traffic
from runbook_lib.practice.system import System
from runbook_lib.practice.wait import lasting

if TYPE_CHECKING:
    from aiohttp import web

_LOG = logging.getLogger(__name__)
_BEGIN_SECONDS = 0.02
_CLIENT = "10.0.1.41"  # the load balancer's address, as the applications see it


class Application(System):
    """One application behind its Service. `host` is its name outside of the cluster, if any."""

    def __init__(
        self, store: Store, kubelet: Kubelet, *, app: str, backend: Backend, host: str = ""
    ) -> None:
        self.app = app
        self.backend = backend
        self.host = host
        self._store = store
        self._kubelet = kubelet
        self._front = Front(self._handle)
        self._counters = Counters()
        self._rules: list[Rule] = []
        self._turn = 0
        self._pools: dict[tuple[str, str], Pool] = {}
        self._begun: dict[tuple[str, str], str] = {}  # (namespace, pod) to the container's id
        self._changed: set[tuple[str, str]] = set()
        self._wake = asyncio.Event()
        self._traffic = Traffic(self.usual_request, self.saw)
        self._tasks: list[asyncio.Task[None]] = []
        store.listeners.append(self._notice)

    # what an application is

    @abstractmethod
    async def answer(self, call: Call) -> Answer:
        """What the container answers. Raises Raised where its code fails."""

    def failed(self, error: Raised) -> Answer:
        """What it answers when its own code raises: Starlette's 500."""
        return Answer(500, "Internal Server Error", "text/plain; charset=utf-8")

    async def container_started(self, pod: Object, env: Mapping[str, str]) -> None:
        """A container of the application has begun to run; what it checks at that moment."""

    def app_of(self, pod: Object) -> str:
        """What the label `app` of a pod's series says."""
        return self.app

    def gateway_answer(self, error: GatewayError) -> Answer:
        """What whoever stands before the application answers in its place."""
        return Answer(error.status, error.body, error.headers["Content-Type"], error.headers)

    def route_of(self, path: str) -> str:
        """The route to count a path under, so that series stay few."""
        return path

    def usual_request(self, number: int) -> tuple[str, str, dict[str, str], Any]:
        """Method, path, headers and JSON body of the number-th request of a quiet hour."""
        return "GET", "/health", {}, None

    def saw(self, path: str, body: bytes) -> None:
        """What a request of the quiet hour was answered; empty where no answer came."""

    # life

    @property
    def url(self) -> str:
        return self._front.url

    @property
    def running(self) -> bool:
        return self._front.listening

    async def start(self) -> None:
        if self.running:
            return
        await self._front.start()
        self._changed |= {
            (pod["metadata"]["namespace"], pod["metadata"]["name"])
            for pod in self._store.all("pods")
            if self._is_mine(pod)
        }
        self._wake.set()
        self._tasks = [
            lasting(self._follow_pods()),
            lasting(self._traffic.run(lambda: self.url)),
        ]

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._front.stop()
        await self._close_pools()

    async def heal(self) -> None:
        self._rules = []
        # Answers to requests of before go to the old ones.
        self._counters = Counters()
        self._traffic.calm()
        await self._close_pools()

    async def _close_pools(self) -> None:
        while self._pools:
            await self._pools.popitem()[1].close()

    # verbs

    def verbs(self) -> Mapping[str, Callable[..., Any]]:
        return {
            "behave": self.behave,
            "raise_error": self.raise_error,
            "slow": self.slow,
            "traffic": self.traffic,
        }

    def behave(self, status: int, body: str = "", delay: float = 0.0, path: str = "/") -> None:
        """Every container answers so, `delay` seconds later, where the path begins with `path`."""
        self._rules = [*self._rules, Rule(path, status, body, delay)]

    def raise_error(self, path: str, exception: str, message: str = "") -> None:
        """The application's code raises there: 500, and a traceback in the container's log."""
        if not exception:
            raise ValueError("an exception has a name")
        self._rules = [*self._rules, Rule(path, exception=exception, message=message)]

    def slow(self, seconds: float, path: str = "/") -> None:
        """The application's own code takes so much longer there."""
        self._rules = [*self._rules, Rule(path, delay=seconds)]

    def traffic(self, rate: float, path: str = "") -> None:
        """So many requests a second come in, of the usual kind or as GET of one path."""
        self._traffic.change(rate, path)

    # what Prometheus scrapes

    @property
    def job(self) -> str:
        return self.app

    def collect(self) -> Iterable[Sample]:
        """The samples of this moment. Raises ConnectionRefusedError while it is stopped."""
        if not self.running:
            raise ConnectionRefusedError(f"{self.app} does not answer")
        return self._counters.collect()

    # the way of a request

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        began, counters = time.monotonic(), self._counters
        chosen: list[Target] = []
        try:
            given = await self._through(request, chosen)
        except GatewayError as error:
            given = self.gateway_answer(error)
        if chosen:
            pod = chosen[0].pod
            where = (pod["metadata"]["namespace"], pod["metadata"]["name"])
            route, seconds = self.route_of(request.path), time.monotonic() - began
            what = (self.app_of(pod), request.method, route, given.status)
            counters.observe(where, *what, seconds)
        return respond(given)

    async def _through(self, request: web.Request, chosen: list[Target]) -> Answer:
        backend = self.backend_of(request)
        body = await request.read()
        limit = asyncio.timeout(backend.timeout)
        try:
            async with limit:
                target = await self.choose(backend, request)
                chosen.append(target)
                return await self._in_container(target, request, body)
        except TimeoutError:
            if not limit.expired():
                raise
            raise GatewayError(504) from None

    def backend_of(self, request: web.Request) -> Backend:
        """Where a request goes: by Ingress for a name outside of the cluster, else straight."""
        host, path = request.headers.get("Host", ""), request.path
        if self.host and host.partition(":")[0] == self.host:
            return through_ingress(self._store, self.host, path)
        return named(self._store, host, self.backend.namespace) or self.backend

    async def choose(self, backend: Backend, request: web.Request) -> Target:
        """One of the containers behind a Service, in turn. Raises GatewayError."""
        return self.next_of(await self.serving(backend))

    def next_of(self, ready: list[Target]) -> Target:
        """The one whose turn it is."""
        self._turn += 1
        return ready[self._turn % len(ready)]

    async def serving(self, backend: Backend) -> list[Target]:
        """The ready containers that have begun; one that still begins takes no connection yet.

        Raises GatewayError.
        """
        while True:
            found = targets(self._store, backend)
            begun = [one for one in found if self._has_begun(one)]
            if begun:
                return begun
            await asyncio.sleep(_BEGIN_SECONDS)

    def _has_begun(self, target: Target) -> bool:
        key = (target.pod["metadata"]["namespace"], target.name)
        return self._begun.get(key) == _container_id(target.pod, target.container)

    async def _in_container(self, target: Target, request: web.Request, body: bytes) -> Answer:
        env = self._kubelet.environment(target.pod, target.container)
        if env is None:  # it has ended a moment ago
            raise GatewayError(502)

        def log(line: str) -> None:
            self._kubelet.append_log(target.pod, target.container, line)

        headers = self._seen_headers(request)
        call = Call(request.method, request.path, request.query, headers, body, target, env, log)
        given = await self._given(call)
        log(self.access_line(call, request.path_qs, given.status))
        return given

    async def _given(self, call: Call) -> Answer:
        target = call.target
        await asyncio.sleep(held_seconds(self._kubelet, target.pod, target.container))
        try:
            return await self._obey(call) or await self.answer(call)
        except Raised as error:
            for line in self.error_lines(call, error):
                call.log(line)
            return self.failed(error)

    async def probed(self, target: Target, path: str) -> int:
        """The status of a health check from outside, which leaves no trace. Raises GatewayError."""
        env = self._kubelet.environment(target.pod, target.container)
        if env is None:
            raise GatewayError(502)
        headers = {"User-Agent": "ELB-HealthChecker/2.0"}
        call = Call("GET", path, {}, headers, b"", target, env, lambda line: None)
        return (await self._given(call)).status

    def _seen_headers(self, request: web.Request) -> Mapping[str, str]:
        """The headers as the container sees them: our own address stands for a port-forward."""
        headers = request.headers.copy()
        if headers.get("Host") == f"127.0.0.1:{self._front.port}":
            headers["Host"] = f"localhost:{self.backend.port}"
        return headers

    async def _obey(self, call: Call) -> Answer | None:
        """What the rules make of a request; None where it goes on to the application."""
        try:
            carried = rules_of(call.target.pod)
        except (ValueError, TypeError) as error:
            call.log(f"the pod's rules cannot be read: {error}")
            carried = []
        for rule in [*self._rules, *carried]:
            if not call.path.startswith(rule.path):
                continue
            await asyncio.sleep(rule.delay)
            if rule.exception:
                raise Raised(rule.exception, rule.message, self.frames(call))
            if rule.status is not None:
                is_json = rule.body.lstrip().startswith(("{", "["))
                kind = "application/json" if is_json else "text/plain; charset=utf-8"
                return Answer(rule.status, rule.body, kind)
        return None

    def frames(self, call: Call) -> tuple[tuple[str, int, str], ...]:
        """Where the application's code was when it failed."""
        name = call.path.strip("/").replace("/", "_").replace("-", "_") or "root"
        return (("/app/main.py", 88, "dispatch"), (f"/app/routes/{self.app}.py", 41, name))

    def error_lines(self, call: Call, error: Raised) -> Iterable[str]:
        """What the application logs of an exception: uvicorn's words."""
        return ("ERROR:    Exception in ASGI application", *error.traceback)

    def access_line(self, call: Call, path: str, status: int) -> str:
        """The line of its access log: uvicorn's."""
        return f'INFO:     {_CLIENT}:0 - "{call.method} {path} HTTP/1.1" {_worded(status)}'

    # what it knows of its pods

    def pool(self, call: Call, made: Callable[[], Pool]) -> Pool:
        """The pool of the container that a call is in."""
        meta = call.target.pod["metadata"]
        key = (meta["uid"], _container_id(call.target.pod, call.target.container))
        if key not in self._pools:
            self._pools[key] = made()
        return self._pools[key]

    def container_of(self, pod: Object) -> str:
        """The name of the application's container in a pod; '' where the pod is none of its."""
        names = [one["name"] for one in pod["spec"]["containers"]]
        return self.app if self.app in names else ""

    def _is_mine(self, pod: Object) -> bool:
        return pod["metadata"]["namespace"] == self.backend.namespace and bool(
            self.container_of(pod)
        )

    def _notice(self, change: Change) -> None:
        if change.kind.table == ("", "pods") and self._is_mine(change.obj):
            meta = change.obj["metadata"]
            self._changed.add((meta["namespace"], meta["name"]))
            self._wake.set()

    async def _follow_pods(self) -> None:
        """Let new containers begin, and forget those that are gone."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, set()
            async with asyncio.TaskGroup() as together:
                for namespace, name in changed:
                    together.create_task(self._follow(namespace, name))

    async def _follow(self, namespace: str, name: str) -> None:
        pod = self._store.find("pods", name, namespace)
        container = self.container_of(pod) if pod else ""
        env = self._kubelet.environment(pod, container) if pod else None
        if pod is None or env is None:
            self._begun.pop((namespace, name), None)
        if pod is None:
            self._counters.forget((namespace, name))
        await self._close_pools_of_the_gone()
        if pod is None or env is None:
            return
        identity = _container_id(pod, container)
        if self._begun.get((namespace, name)) == identity:
            return
        try:
            await self.container_started(pod, env)
        except Exception:  # noqa: BLE001 - the seam: one odd pod must not keep all others waiting
            _LOG.exception("%s/%s could not begin", namespace, name)
            return  # it takes no request: what we could not start is not taken for well
        if self._kubelet.environment(pod, container) is env:  # it did not end meanwhile
            self._begun[namespace, name] = identity

    async def _close_pools_of_the_gone(self) -> None:
        alive = {
            (pod["metadata"]["uid"], _container_id(pod, self.container_of(pod)))
            for pod in self._store.all("pods")
            if self._is_mine(pod)
        }
        for key in [key for key in self._pools if key not in alive]:
            await self._pools.pop(key).close()


def _container_id(pod: Object, container: str) -> str:
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        if status["name"] == container:
            return str(status.get("containerID", ""))
    return ""


def _worded(status: int) -> str:
    known = status in list(HTTPStatus)
    return f"{status} {HTTPStatus(status).phrase}" if known else str(status)
