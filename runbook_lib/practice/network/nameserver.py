"""The platform's name server, over UDP and TCP on one port, with every answer that can be had."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.network.listener import ADDRESS, ELSEWHERE, Listener
from runbook_lib.practice.network.wire import answered, parsed, refusal
from runbook_lib.practice.network.zone import (
    ALIAS_TTL,
    CLUSTER,
    PLATFORM,
    TYPES,
    Answer,
    Record,
    is_name,
    replaced,
    resolve,
    service_records,
    zone_of,
)
from runbook_lib.practice.system import System

if TYPE_CHECKING:
    from dnslib import DNSRecord  # type: ignore[import-untyped]

LOG = logging.getLogger(__name__)
LOAD_BALANCER = "k8s-mlopsplatform-6d1c0c5a4e-1201348745.us-east-1.elb.amazonaws.com"
FORMER = "127.0.0.3"
STALE_TTL = 86400
SLOW_SECONDS = 3.0
IDLE_SECONDS = 10.0
PORT_ATTEMPTS = 20
KINDS = (
    *("nxdomain", "nodata", "servfail", "refused", "timeout", "truncated"),
    *("wrong", "loop", "dangling", "stale", "slow", "lame"),
)
# Kinds that are made of records, so of one name each.
OF_ONE_NAME = ("wrong", "loop", "dangling", "stale")


@dataclass(frozen=True)
class Fault:
    """How questions for a name are answered; `seconds` of delay where it is slow."""

    kind: str
    seconds: float = 0.0


class NameServer(System):
    """Answers for mlops-platform.com, cluster.local and the load balancer's own name.

    `load_balancer` is the name that the hosts' alias records point to; it may be set later. `zone`
    gives the records of mlops-platform.com (default: its NS, and aliases of the apex, mlflow and
    api);
    `services` gives the addresses of a full name below cluster.local: empty where the name has
    none, None where there is no such name. Both are asked in the event loop for every question,
    so that what changes there changes here. `sources` has both for the platform's own state.
    """

    def __init__(
        self,
        load_balancer: str = LOAD_BALANCER,
        *,
        zone: Callable[[], Iterable[Record]] | None = None,
        services: Callable[[str], list[str] | None] | None = None,
    ) -> None:
        self.load_balancer = load_balancer.lower()
        self.port = 0
        self._zone = zone or self._hosts
        self._services = services or (lambda _: None)
        self._overridden: dict[str, list[Record]] = {}
        self._faults: dict[str, Fault] = {}
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp = Listener(self._on_connection)
        self._tcp_state = "open"
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Where it answers, as `host:port`."""
        return f"{ADDRESS}:{self.port}"

    # life

    @property
    def running(self) -> bool:
        return self._udp is not None

    async def start(self) -> None:
        attempts = 1 if self.port else PORT_ATTEMPTS
        while not self.running:
            attempts -= 1
            try:
                await self._listen()
            except OSError:  # UDP's port is taken for TCP
                if not attempts:
                    raise

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        udp, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._on_datagram), local_addr=(ADDRESS, self.port)
        )
        self._tcp.port = udp.get_extra_info("sockname")[1]
        try:
            await self._tcp.become(self._tcp_state)
        except OSError:
            udp.close()
            raise
        self._udp, self.port = udp, self._tcp.port

    async def stop(self) -> None:
        if self._udp:
            self._udp.close()
            self._udp = None
        await self._tcp.become("closed")
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def heal(self) -> None:
        self._overridden.clear()
        self._faults.clear()
        await self.tcp("open")

    # verbs

    def verbs(self) -> Mapping[str, Callable[..., Any]]:
        return {"record": self.record, "answer": self.answer, "tcp": self.tcp}

    async def record(self, name: str, type: str, values: list[str], ttl: int = 300) -> None:
        """Set a name's values of one type (A, AAAA, ALIAS, CNAME, NS, TXT); none deletes them."""
        name = self._inside(name)
        records = self._at(name) or []
        if values:
            new = replaced(records, Record(name, type, tuple(values), ttl))
        elif type in TYPES:
            new = [record for record in records if record.type != type]
        else:
            raise ValueError(f"{type!r} is none of {', '.join(TYPES)}")
        self._overridden[name] = new

    async def answer(
        self,
        name: str,
        kind: str,
        seconds: float | None = None,
        addresses: list[str] | None = None,
    ) -> None:
        """Answer questions for a name in another way (see KINDS) until healed.

        `name` may be `*.suffix` or `*` but for wrong, loop, dangling and stale. `seconds` is the
        delay of slow; `addresses` are those of wrong and stale.
        """
        if kind not in KINDS:
            raise ValueError(f"there is no answer {kind!r}; there are {', '.join(KINDS)}")
        if seconds is not None and (kind != "slow" or seconds <= 0):
            raise ValueError("seconds are a positive number for slow only")
        if addresses is not None and (kind not in ("wrong", "stale") or not addresses):
            raise ValueError("addresses are for wrong and stale only")
        if kind in OF_ONE_NAME:
            name = self._inside(name)
            self._overridden.update(_made_of_records(name, kind, addresses))
        elif name != "*":
            name = ("*." if name.startswith("*.") else "") + self._inside(name.removeprefix("*."))
        self._faults[name] = Fault(kind, seconds or SLOW_SECONDS)

    async def tcp(self, state: str) -> None:
        """Let TCP be open, closed (refused) or filtered (dropped); UDP stays."""
        await self._tcp.become(state)
        self._tcp_state = state

    def _inside(self, name: str) -> str:
        name = name.rstrip(".").lower()
        if not is_name(name) or zone_of(name) is None:
            raise ValueError(f"{name!r} is not a name of the platform")
        return name

    # what it knows

    def _hosts(self) -> Iterable[Record]:
        servers = [f"ns-{n}.awsdns-0{n}.{tld}" for n, tld in enumerate(("com", "net", "org"), 1)]
        yield Record(PLATFORM.apex, "NS", tuple(servers), 172800)
        for name in (PLATFORM.apex, f"mlflow.{PLATFORM.apex}", f"api.{PLATFORM.apex}"):
            yield Record(name, "ALIAS", (self.load_balancer,))

    def _base(self) -> Iterable[Record]:
        yield from self._zone()
        yield Record(self.load_balancer, "A", (ADDRESS,), 60)

    def _at(self, name: str) -> list[Record] | None:
        """A name's records; none for a name that has only others below it, None for no name."""
        if name in self._overridden:
            found = self._overridden[name]
        elif name.endswith("." + CLUSTER.apex):
            addresses = self._services(name)
            if addresses is not None:
                return service_records(name, addresses)
            found = []
        else:
            found = [record for record in self._base() if record.name == name]
        return found if found or self._has_below(name) else None

    def _has_below(self, name: str) -> bool:
        if name == f"svc.{CLUSTER.apex}" or ((zone := zone_of(name)) and zone.apex == name):
            return True
        names = {r.name for r in self._base() if r.name not in self._overridden}
        names |= {one for one, records in self._overridden.items() if records}
        return any(one.endswith("." + name) for one in names)

    def _fault_of(self, name: str) -> Fault | None:
        labels = name.split(".")
        suffixes = ["*." + ".".join(labels[at:]) for at in range(1, len(labels))]
        patterns = [name, *suffixes, "*"]
        return next((self._faults[one] for one in patterns if one in self._faults), None)

    async def _reply(self, message: bytes, *, tcp: bool) -> bytes | None:
        """The answer to one message; None for silence."""
        request = parsed(message)
        if request is None:
            return None
        if refused := refusal(request):
            return refused
        name = str(request.q.qname).rstrip(".").lower()
        fault = self._fault_of(name) or Fault("")
        if fault.kind == "timeout":
            return None
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        return self._answered(request, name, fault.kind, tcp=tcp)

    def _answered(self, request: DNSRecord, name: str, kind: str, *, tcp: bool) -> bytes:
        from dnslib import QTYPE

        if kind == "lame":
            return answered(request, Answer(), tcp=tcp, lame=True)
        zone = zone_of(name)
        ours = zone is not None and zone.authoritative
        if kind in ("servfail", "refused"):
            return answered(request, Answer(kind.upper()), tcp=tcp)
        if kind in ("nxdomain", "nodata"):
            rcode = "NXDOMAIN" if kind == "nxdomain" else "NOERROR"
            return answered(request, Answer(rcode, absent=zone, authoritative=ours), tcp=tcp)
        try:
            found = resolve(name, QTYPE.get(request.q.qtype), self._at)
        except ValueError as error:  # a record that no server could load
            LOG.warning("no answer for %s: %s", name, error)
            found = Answer("SERVFAIL")
        if kind == "stale":  # out of a cache
            found.authoritative = False
        return answered(request, found, tcp=tcp, truncated=kind == "truncated")

    # connections

    def _on_datagram(self, message: bytes, sender: tuple[str, int]) -> None:
        async def respond() -> None:
            reply = await self._reply(message, tcp=False)
            if reply and self._udp:
                self._udp.sendto(reply, sender)

        task = asyncio.create_task(respond())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _on_connection(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            async with asyncio.timeout(IDLE_SECONDS):
                (length,) = struct.unpack(">H", await _read(connection, 2))
                message = await _read(connection, length)
            if reply := await self._reply(message, tcp=True):
                await loop.sock_sendall(connection, struct.pack(">H", len(reply)) + reply)


async def _read(connection: socket.socket, number: int) -> bytes:
    """So many bytes. Raises ConnectionAbortedError when the client leaves before."""
    loop = asyncio.get_running_loop()
    read = b""
    while len(read) < number:
        part = await loop.sock_recv(connection, number - len(read))
        if not part:
            raise ConnectionAbortedError("the client left")
        read += part
    return read


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes, tuple[str, int]], None]) -> None:
        self.datagram_received = received  # type: ignore[method-assign, assignment]


def _made_of_records(name: str, kind: str, addresses: list[str] | None) -> dict[str, list[Record]]:
    if kind == "loop":
        other = f"loop.{name}"
        return {
            name: [Record(name, "CNAME", (other,))],
            other: [Record(other, "CNAME", (name,))],
        }
    if kind == "dangling":
        gone = "k8s-removed-0000000000.us-east-1.elb.amazonaws.com"
        return {name: [Record(name, "CNAME", (gone,))]}
    if kind == "stale":
        return {name: [Record(name, "A", tuple(addresses or (FORMER,)), STALE_TTL)]}
    return {name: [Record(name, "A", tuple(addresses or (ELSEWHERE,)), ALIAS_TTL)]}
