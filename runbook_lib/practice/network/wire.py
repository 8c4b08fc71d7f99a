"""DNS messages in and out: flags, sections, sizes (RFC 1035, 2308, 6891, 8482)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook_lib.practice.network.zone import Answer, Record, Zone

if TYPE_CHECKING:
    from dnslib import RR, DNSRecord  # type: ignore[import-untyped]

UDP_BYTES = 512  # for a client that does not say how much it takes
EDNS_BYTES = 1232


def parsed(message: bytes) -> DNSRecord | None:
    """A question; None for what is none and gets no answer."""
    from dnslib import DNSError, DNSRecord

    try:
        request = DNSRecord.parse(message)
    except DNSError:
        return None
    return None if request.header.qr else request


def refusal(request: DNSRecord) -> bytes | None:
    """The answer to what is not served: other than one question of class IN for a type."""
    from dnslib import CLASS, OPCODE, QTYPE

    if request.header.opcode != OPCODE.QUERY:
        rcode = "NOTIMP"
    elif len(request.questions) != 1:
        rcode = "FORMERR"
    elif request.q.qclass != CLASS.IN:
        rcode = "REFUSED"
    elif request.q.qtype in (QTYPE.ANY, QTYPE.AXFR, QTYPE.IXFR, QTYPE.SRV, QTYPE.PTR):
        rcode = "NOTIMP"
    else:
        return None
    return answered(request, Answer(rcode), tcp=True)


def answered(
    request: DNSRecord, answer: Answer, *, tcp: bool, truncated: bool = False, lame: bool = False
) -> bytes:
    """The reply's bytes.

    Over UDP what is larger than the client takes is cut, and so is a `truncated` one of any size:
    the client must ask again over TCP. `lame`: of a server that the zone is delegated to without
    its knowledge, which points upward.
    """
    from dnslib import EDNS0, NS, QTYPE, RCODE, RR

    reply = request.reply(ra=0 if lame else 1, aa=int(answer.authoritative))
    reply.header.rcode = getattr(RCODE, answer.rcode)
    reply.header.ad = 0  # as asked for by dig, and not ours to promise
    for record in answer.records:
        reply.add_answer(*_resource_records(record))
    if answer.soa:
        reply.add_answer(_start_of_authority(answer.soa, answer.soa.ttl))
    if answer.absent:
        reply.add_auth(_start_of_authority(answer.absent, answer.absent.negative_ttl))
    if lame:
        for letter in "abc":
            server = NS(f"{letter}.root-servers.net")
            reply.add_auth(RR(".", QTYPE.NS, ttl=518400, rdata=server))
    limit = UDP_BYTES
    for option in request.ar:
        if option.rtype == QTYPE.OPT:  # its class is the size that the client takes
            limit = max(UDP_BYTES, min(option.rclass, EDNS_BYTES))
            reply.add_ar(EDNS0(udp_len=EDNS_BYTES))
    packed: bytes = reply.pack()
    if not tcp and (truncated or len(packed) > limit):
        reply.rr, reply.auth, reply.header.tc = [], [], 1
        packed = reply.pack()
    return packed


def _resource_records(record: Record) -> list[RR]:
    import dnslib

    data = getattr(dnslib, record.type)
    kind = getattr(dnslib.QTYPE, record.type)
    return [
        dnslib.RR(record.name, kind, ttl=record.ttl, rdata=data(value)) for value in record.values
    ]


def _start_of_authority(zone: Zone, ttl: int) -> RR:
    import dnslib

    data = dnslib.SOA(zone.primary, zone.mailbox, zone.times)
    return dnslib.RR(zone.apex, dnslib.QTYPE.SOA, ttl=ttl, rdata=data)
