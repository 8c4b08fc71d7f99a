"""The name server through dnspython, and dig where it is: every answer seen, and healed."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from practice.documented import documented, offered
from practice.hosted import Hosted

from runbook_lib.practice.network.nameserver import NameServer
from runbook_lib.practice.network.zone import Record

MLFLOW = "mlflow.mlops-platform.com"
API = "api.mlops-platform.com"
APEX = "mlops-platform.com"
SERVICE = "mlflow.mlops-platform.svc.cluster.local"
SERVICES: dict[str, list[str]] = {
    SERVICE: ["127.0.0.1"],
    "headless.mlops-platform.svc.cluster.local": [],
    "database.mlops-platform.svc.cluster.local": [MLFLOW],
    "mlops-platform.svc.cluster.local": [],
}


@pytest.fixture(scope="module")
def hosted() -> Iterator[Hosted]:
    with Hosted(NameServer(services=SERVICES.get)) as running:
        yield running


@pytest.fixture
def server(hosted: Hosted) -> Iterator[Hosted]:
    """Healed after each test, and healthy then."""
    yield hosted
    hosted.do("start")
    hosted.do("heal")
    for name in (MLFLOW, API, APEX, SERVICE):
        assert addresses(hosted, name) == ["127.0.0.1"]


def of(hosted: Hosted) -> NameServer:
    assert isinstance(hosted.system, NameServer)
    return hosted.system


def resolver(hosted: Hosted, seconds: float = 2) -> dns.resolver.Resolver:
    """An ordinary stub resolver."""
    made = dns.resolver.Resolver(configure=False)
    made.nameservers = ["127.0.0.1"]
    made.port = of(hosted).port
    made.timeout = made.lifetime = seconds
    return made


def addresses(hosted: Hosted, name: str, seconds: float = 2) -> list[str]:
    return [one.address for one in resolver(hosted, seconds).resolve(name, "A")]


def asked(hosted: Hosted, name: str, type_: str = "A", **query: Any) -> dns.message.Message:
    """One message over UDP and its answer as it is, as dig shows it."""
    message = dns.message.make_query(name, type_, **query)
    return dns.query.udp(message, "127.0.0.1", 2, of(hosted).port)


def flags(answer: dns.message.Message) -> set[str]:
    return set(dns.flags.to_text(answer.flags).split())


def negative(answer: dns.message.Message) -> tuple[str, int, int]:
    """The zone, the time to live and the minimum of the SOA in the authority section."""
    (soa,) = answer.authority
    assert soa.rdtype == dns.rdatatype.SOA
    return str(soa.name), soa.ttl, soa[0].minimum


def test_an_alias_answers_with_the_load_balancers_addresses(server: Hosted) -> None:
    # As dig asks: it would like authenticated data, and must not be told that it is.
    answer = asked(server, MLFLOW, flags=dns.flags.RD | dns.flags.AD)
    assert flags(answer) == {"QR", "AA", "RD", "RA"}
    assert answer.answer[0].to_text() == f"{MLFLOW}. 60 IN A 127.0.0.1"
    balancer = asked(server, of(server).load_balancer)
    assert flags(balancer) == {"QR", "RD", "RA"}, "not ours: known by recursion"
    assert balancer.answer[0][0].to_text() == "127.0.0.1"


def test_the_zone_says_who_answers_for_it(server: Hosted) -> None:
    servers = asked(server, APEX, "NS").answer[0]
    assert len(servers) == 3
    assert servers.ttl == 172800
    soa = asked(server, APEX, "SOA").answer[0]
    assert (soa.ttl, soa[0].rname.to_text()) == (900, "awsdns-hostmaster.amazon.com.")


def test_absence_is_said_as_rfc_2308_asks(server: Hosted) -> None:
    unknown = asked(server, f"nobody.{APEX}")
    assert unknown.rcode() == dns.rcode.NXDOMAIN
    assert "AA" in flags(unknown)
    assert negative(unknown) == (f"{APEX}.", 900, 86400)

    no_such_type = asked(server, MLFLOW, "AAAA")
    assert (no_such_type.rcode(), no_such_type.answer) == (dns.rcode.NOERROR, [])
    assert negative(no_such_type) == (f"{APEX}.", 900, 86400)

    server.do("record", name=f"a.b.{APEX}", type="A", values=["127.0.0.1"])
    assert asked(server, f"b.{APEX}").rcode() == dns.rcode.NOERROR, "an empty non-terminal"


def test_services_answer_below_cluster_local(server: Hosted) -> None:
    answer = asked(server, SERVICE.upper())
    assert answer.answer[0][0].to_text() == "127.0.0.1"
    assert answer.answer[0].ttl == 5
    gone = asked(server, "gone.mlops-platform.svc.cluster.local")
    assert gone.rcode() == dns.rcode.NXDOMAIN
    assert negative(gone) == ("cluster.local.", 5, 5)
    headless = asked(server, "headless.mlops-platform.svc.cluster.local")
    assert (headless.rcode(), headless.answer) == (dns.rcode.NOERROR, [])
    assert asked(server, "svc.cluster.local").rcode() == dns.rcode.NOERROR
    external = resolver(server).resolve("database.mlops-platform.svc.cluster.local")
    assert str(external.canonical_name) == f"{MLFLOW}."


def test_it_reaches_nobody_outside(server: Hosted) -> None:
    assert asked(server, "example.com").rcode() == dns.rcode.SERVFAIL


def test_what_is_not_served_is_refused(server: Hosted) -> None:
    for type_ in ("ANY", "SRV", "PTR"):
        assert asked(server, MLFLOW, type_).rcode() == dns.rcode.NOTIMP
    assert asked(server, MLFLOW, rdclass="CH").rcode() == dns.rcode.REFUSED


def test_records_change_and_vanish(server: Hosted) -> None:
    server.do("record", name=MLFLOW, type="A", values=["127.0.0.9", "127.0.0.8"], ttl=30)
    answer = asked(server, MLFLOW).answer[0]
    assert ({one.to_text() for one in answer}, answer.ttl) == ({"127.0.0.9", "127.0.0.8"}, 30)
    server.do("record", name=MLFLOW, type="TXT", values=["beside it"])
    assert asked(server, MLFLOW, "TXT").answer[0][0].to_text() == '"beside it"'
    assert addresses(server, MLFLOW)
    server.do("record", name=MLFLOW, type="CNAME", values=[API])
    assert [rrset.to_text() for rrset in asked(server, MLFLOW).answer] == [
        f"{MLFLOW}. 300 IN CNAME {API}.",
        f"{API}. 60 IN A 127.0.0.1",
    ]
    assert asked(server, MLFLOW, "TXT").rcode() == dns.rcode.NOERROR, "nothing beside a CNAME"
    server.do("record", name=MLFLOW, type="CNAME", values=[])
    with pytest.raises(dns.resolver.NXDOMAIN):
        addresses(server, MLFLOW)


def test_an_alias_of_what_is_gone_has_no_answer(server: Hosted) -> None:
    server.do("record", name=of(server).load_balancer, type="A", values=[])
    with pytest.raises(dns.resolver.NoAnswer):
        addresses(server, MLFLOW)
    with pytest.raises(dns.resolver.NXDOMAIN):
        addresses(server, of(server).load_balancer)


# What dnspython raises, and the rcode and flags on the wire.
KINDS: dict[str, tuple[type[Exception], int, set[str]]] = {
    "nxdomain": (dns.resolver.NXDOMAIN, dns.rcode.NXDOMAIN, {"QR", "AA", "RD", "RA"}),
    "nodata": (dns.resolver.NoAnswer, dns.rcode.NOERROR, {"QR", "AA", "RD", "RA"}),
    "servfail": (dns.resolver.NoNameservers, dns.rcode.SERVFAIL, {"QR", "RD", "RA"}),
    "refused": (dns.resolver.NoNameservers, dns.rcode.REFUSED, {"QR", "RD", "RA"}),
    "lame": (dns.resolver.NoAnswer, dns.rcode.NOERROR, {"QR", "RD"}),
    "loop": (dns.resolver.NoNameservers, dns.rcode.NOERROR, {"QR", "AA", "RD", "RA"}),
    "dangling": (dns.resolver.NXDOMAIN, dns.rcode.NXDOMAIN, {"QR", "AA", "RD", "RA"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_gets_no_address(server: Hosted, kind: str) -> None:
    error, rcode, seen = KINDS[kind]
    server.do("answer", name=MLFLOW, kind=kind)
    with pytest.raises(error):
        addresses(server, MLFLOW)
    answer = asked(server, MLFLOW)
    assert (answer.rcode(), flags(answer)) == (rcode, seen)
    assert addresses(server, API) == ["127.0.0.1"], "the other name is as before"


def test_negative_answers_of_faults_carry_the_zone(server: Hosted) -> None:
    for kind in ("nxdomain", "nodata"):
        server.do("answer", name=MLFLOW, kind=kind)
        assert negative(asked(server, MLFLOW)) == (f"{APEX}.", 900, 86400)


def test_a_dangling_name_shows_where_it_points(server: Hosted) -> None:
    server.do("answer", name=MLFLOW, kind="dangling")
    answer = asked(server, MLFLOW)
    (cname,) = answer.answer
    assert cname.rdtype == dns.rdatatype.CNAME
    assert str(cname[0].target).startswith("k8s-removed-")
    assert negative(answer)[0] == "us-east-1.elb.amazonaws.com."


def test_a_loop_shows_both_names(server: Hosted) -> None:
    server.do("answer", name=MLFLOW, kind="loop")
    names = [str(rrset.name) for rrset in asked(server, MLFLOW).answer]
    assert names == [f"{MLFLOW}.", f"loop.{MLFLOW}."]


def test_silence(server: Hosted) -> None:
    server.do("answer", name=MLFLOW, kind="timeout")
    with pytest.raises(dns.resolver.LifetimeTimeout):
        addresses(server, MLFLOW, seconds=0.3)


def test_a_slow_answer_comes(server: Hosted) -> None:
    server.do("answer", name=MLFLOW, kind="slow", seconds=0.4)
    with pytest.raises(dns.resolver.LifetimeTimeout):
        addresses(server, MLFLOW, seconds=0.1)
    assert addresses(server, MLFLOW) == ["127.0.0.1"]
    assert addresses(server, API, seconds=0.3) == ["127.0.0.1"], "others need not wait for it"


def test_a_truncated_answer_is_whole_over_tcp(server: Hosted) -> None:
    server.do("answer", name=MLFLOW, kind="truncated")
    cut = asked(server, MLFLOW)
    assert "TC" in flags(cut)
    assert cut.answer == []
    assert addresses(server, MLFLOW) == ["127.0.0.1"]


@pytest.mark.parametrize("state", ["closed", "filtered"])
def test_a_truncated_answer_is_none_where_tcp_is_barred(server: Hosted, state: str) -> None:
    server.do("answer", name=MLFLOW, kind="truncated")
    server.do("tcp", state=state)
    with pytest.raises((dns.resolver.NoNameservers, dns.resolver.LifetimeTimeout)):
        addresses(server, MLFLOW, seconds=0.3)
    assert addresses(server, API) == ["127.0.0.1"], "UDP stays"


def test_what_does_not_fit_is_truncated(server: Hosted) -> None:
    many = [f"127.0.1.{n}" for n in range(60)]
    server.do("record", name=MLFLOW, type="A", values=many)
    assert "TC" in flags(asked(server, MLFLOW, use_edns=False))
    assert "TC" not in flags(asked(server, MLFLOW, use_edns=0, payload=1232))
    made = resolver(server)
    made.use_edns(-1)
    assert len(made.resolve(MLFLOW)) == 60


def test_wrong_and_stale_answers(server: Hosted) -> None:
    server.do("answer", name=MLFLOW, kind="wrong")
    assert addresses(server, MLFLOW) == ["127.0.0.2"]
    server.do("answer", name=MLFLOW, kind="stale", addresses=["127.0.0.7"])
    answer = asked(server, MLFLOW)
    assert answer.answer[0].to_text() == f"{MLFLOW}. 86400 IN A 127.0.0.7"
    assert "AA" not in flags(answer)


def test_a_whole_zone_fails_at_once(server: Hosted) -> None:
    server.do("answer", name="*.cluster.local", kind="servfail")
    with pytest.raises(dns.resolver.NoNameservers):
        addresses(server, SERVICE)
    assert addresses(server, MLFLOW) == ["127.0.0.1"]
    server.do("answer", name="*", kind="refused")
    assert asked(server, "example.com").rcode() == dns.rcode.REFUSED


def test_the_zone_is_asked_anew(hosted: Hosted) -> None:
    """As Route 53's records change, so does the answer."""
    records = [Record(MLFLOW, "ALIAS", (of(hosted).load_balancer,))]
    with Hosted(NameServer(zone=lambda: records)) as server:
        assert addresses(server, MLFLOW) == ["127.0.0.1"]
        records[0] = Record(MLFLOW, "CNAME", ("gone.us-east-1.elb.amazonaws.com",))
        with pytest.raises(dns.resolver.NXDOMAIN):
            addresses(server, MLFLOW)


def test_a_zone_that_no_server_could_load(hosted: Hosted) -> None:
    def zone() -> list[Record]:
        return [Record(MLFLOW, "A", ("no address",))]

    with Hosted(NameServer(zone=zone)) as server, pytest.raises(dns.resolver.NoNameservers):
        addresses(server, MLFLOW)


def test_it_keeps_its_port_over_a_stop(server: Hosted) -> None:
    port = of(server).port
    with socket.create_connection(("127.0.0.1", port), 2) as held:
        server.do("stop")
        with contextlib.suppress(ConnectionResetError):  # where it was not accepted yet
            assert held.recv(1) == b""
    assert not of(server).running
    with pytest.raises(dns.resolver.LifetimeTimeout):
        addresses(server, MLFLOW, seconds=0.2)
    server.do("start")
    assert (of(server).running, of(server).port) == (True, port)


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("record", {"name": "example.com", "type": "A", "values": ["127.0.0.1"]}),
        ("record", {"name": MLFLOW, "type": "MX", "values": ["10 mail"]}),
        ("record", {"name": MLFLOW, "type": "MX", "values": []}),
        ("record", {"name": MLFLOW, "type": "A", "values": ["somewhere"]}),
        ("record", {"name": MLFLOW, "type": "CNAME", "values": ["a.example", "b.example"]}),
        ("record", {"name": APEX, "type": "CNAME", "values": [MLFLOW]}),
        ("record", {"name": MLFLOW, "type": "CNAME", "values": ["a" * 64 + ".example"]}),
        ("record", {"name": MLFLOW, "type": "TXT", "values": ["a" * 256]}),
        ("record", {"name": f"*.{APEX}", "type": "A", "values": ["127.0.0.1"]}),
        ("tcp", {"state": "ajar"}),
        ("answer", {"name": MLFLOW, "kind": "shrug"}),
        ("answer", {"name": "*.cluster.local", "kind": "loop"}),
        ("answer", {"name": MLFLOW, "kind": "nxdomain", "seconds": 2}),
        ("answer", {"name": MLFLOW, "kind": "nxdomain", "addresses": ["127.0.0.1"]}),
        ("answer", {"name": "*.example.com", "kind": "nxdomain"}),
    ],
)
def test_what_cannot_be_asked_is_refused(
    server: Hosted, verb: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError):
        server.do(verb, **arguments)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(noise=st.binary(max_size=80), header=st.booleans())
def test_it_survives_noise(server: Hosted, noise: bytes, header: bool) -> None:
    """No message ends it; one with a header gets an answer or none, never an exception."""
    message = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + noise if header else noise
    server.run(lambda: of(server)._reply(message, tcp=False))


@pytest.mark.skipif(not shutil.which("dig"), reason="dig is not installed")
def test_dig_agrees(server: Hosted) -> None:
    def dig(*arguments: str) -> str:
        return subprocess.run(
            ["dig", "@127.0.0.1", "-p", str(of(server).port), "+tries=1", "+time=2", *arguments],
            capture_output=True,
            text=True,
        ).stdout

    assert dig("+short", MLFLOW) == "127.0.0.1\n"
    assert "status: NXDOMAIN" in dig(f"nobody.{APEX}")
    server.do("answer", name=MLFLOW, kind="truncated")
    assert "Truncated, retrying in TCP mode" in dig(MLFLOW)


def test_the_document_names_every_verb(server: Hosted) -> None:
    assert documented("practice-network.md", "Verbs of the name server") == offered(
        server.system.verbs()
    )
