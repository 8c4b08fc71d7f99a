"""Records, zones, and what follows from them for a question (RFC 1034, 2308, 6604)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field

TYPES = ("A", "AAAA", "ALIAS", "CNAME", "NS", "TXT")
# As Route 53 answers for a load balancer's alias, and CoreDNS for a Service.
ALIAS_TTL = 60
SERVICE_TTL = 5
MAX_CHAIN = 8


def is_name(text: str) -> bool:
    """Whether it has the length and the letters of a host name (RFC 1035, 2.3)."""
    labels = text.rstrip(".").split(".")
    return len(text) <= 253 and all(re.fullmatch(r"[\w-]{1,63}", one, re.ASCII) for one in labels)


@dataclass(frozen=True)
class Record:
    """One name's values of one type; names are lower case without the last dot.

    `ALIAS` is Route 53's: it has one name as its value and is answered with that name's
    addresses, as if they were its own. `ttl` is in seconds.
    """

    name: str
    type: str
    values: tuple[str, ...]
    ttl: int = 300

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise ValueError(f"{self.type!r} is none of {', '.join(TYPES)}")
        if self.type in ("ALIAS", "CNAME") and len(self.values) != 1:
            raise ValueError(f"{self.type} of {self.name} needs exactly one value")
        if not self.values or not all(self.values) or self.ttl < 0:
            raise ValueError(f"{self.type} of {self.name} needs values and a time to live")
        if self.type in ("A", "AAAA"):
            kind = ipaddress.IPv4Address if self.type == "A" else ipaddress.IPv6Address
            for value in self.values:
                kind(value)  # AddressValueError is a ValueError
        elif self.type == "TXT":
            if any(len(value.encode()) > 255 for value in self.values):
                raise ValueError(f"TXT of {self.name} is longer than 255 bytes")
        elif not all(map(is_name, (self.name, *self.values))):
            raise ValueError(f"{self.type} of {self.name} needs host names")


@dataclass(frozen=True)
class Zone:
    """A zone's start of authority; `authoritative`: ours, else known by recursion."""

    apex: str
    primary: str
    mailbox: str
    times: tuple[int, int, int, int, int]  # serial, refresh, retry, expire, minimum
    ttl: int
    authoritative: bool = True

    @property
    def negative_ttl(self) -> int:
        """Seconds that an absence may be remembered (RFC 2308, 5)."""
        return min(self.ttl, self.times[4])


PLATFORM = Zone(
    "mlops-platform.com",
    "ns-1.awsdns-00.com",
    "awsdns-hostmaster.amazon.com",
    (1, 7200, 900, 1209600, 86400),
    900,
)
CLUSTER = Zone(
    "cluster.local",
    "ns.dns.cluster.local",
    "hostmaster.cluster.local",
    (1, 7200, 1800, 86400, 5),
    5,
)
ZONES = (
    PLATFORM,
    CLUSTER,
    *(
        Zone(
            f"us-east-1.{service}.amazonaws.com",
            "ns-1119.awsdns-11.org",
            "awsdns-hostmaster.amazon.com",
            (1, 7200, 900, 1209600, 60),
            60,
            authoritative=False,
        )
        for service in ("elb", "rds")
    ),
)


@dataclass
class Answer:
    """What a name server knows about one question.

    `records` are in the order of the chain; `absent` is the zone that says that there is no
    more (its SOA goes into the authority section).
    """

    rcode: str = "NOERROR"
    records: list[Record] = field(default_factory=list)
    absent: Zone | None = None
    soa: Zone | None = None
    authoritative: bool = False


def zone_of(name: str) -> Zone | None:
    """The zone that a name lies in; None outside the platform."""
    return next((z for z in ZONES if name == z.apex or name.endswith("." + z.apex)), None)


def resolve(name: str, type_: str, at: Callable[[str], list[Record] | None]) -> Answer:
    """The answer to a question; `at` gives a name's records, None where it does not exist.

    A chain that leaves the platform's zones ends in SERVFAIL, as of a resolver that reaches
    nobody; one that bites its tail ends where it does, as BIND answers it.
    """
    first = zone_of(name)
    answer = Answer(authoritative=first is not None and first.authoritative)
    visited: set[str] = set()
    while name not in visited and len(visited) < MAX_CHAIN:
        visited.add(name)
        zone = zone_of(name)
        if zone is None:
            return Answer("SERVFAIL")
        records = at(name)
        if records is None:
            answer.rcode, answer.absent = "NXDOMAIN", zone
            return answer
        if type_ == "SOA" and name == zone.apex:
            answer.soa = zone
            return answer
        by_type = {record.type: record for record in records}
        if type_ in by_type:
            answer.records.append(by_type[type_])
            return answer
        if "CNAME" not in by_type:
            aliased = _aliased(by_type["ALIAS"], type_, at) if "ALIAS" in by_type else None
            if aliased:
                answer.records.append(aliased)
            else:
                answer.absent = zone
            return answer
        answer.records.append(by_type["CNAME"])
        name = by_type["CNAME"].values[0].rstrip(".").lower()
    return answer


def _aliased(alias: Record, type_: str, at: Callable[[str], list[Record] | None]) -> Record | None:
    target = alias.values[0].rstrip(".").lower()
    for record in at(target) or []:
        if record.type == type_ and type_ in ("A", "AAAA"):
            return Record(alias.name, type_, record.values, ALIAS_TTL)
    return None


def replaced(records: list[Record], new: Record) -> list[Record]:
    """A name's records with one type set anew; those that cannot stand beside it go.

    Raises ValueError for a CNAME at a zone's apex, as Route 53 does.
    """
    zone = zone_of(new.name)
    if zone is not None and new.name == zone.apex and new.type == "CNAME":
        raise ValueError(f"RRSet of type CNAME with DNS name {new.name}. is not permitted at apex")
    addresses = {"A", "AAAA"}
    gone = {new.type, "CNAME"}
    if new.type == "CNAME":
        gone = set(TYPES)
    elif new.type == "ALIAS":
        gone |= addresses
    elif new.type in addresses:
        gone.add("ALIAS")
    return [*(record for record in records if record.type not in gone), new]


def service_records(name: str, addresses: list[str]) -> list[Record]:
    """What CoreDNS says of a Service: its addresses, or the other name of an ExternalName."""
    by_type: dict[str, list[str]] = {}
    for address in addresses:
        try:
            kind = "A" if ipaddress.ip_address(address).version == 4 else "AAAA"
        except ValueError:
            kind = "CNAME"
        by_type.setdefault(kind, []).append(address)
    return [Record(name, kind, tuple(values), SERVICE_TTL) for kind, values in by_type.items()]
