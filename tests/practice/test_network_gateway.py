"""The load balancer through ordinary TLS and HTTP clients: every fault seen, and healed."""

from __future__ import annotations

import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from practice.documented import documented, offered
from practice.hosted import Hosted
from practice.tlsclients import (
    API,
    MLFLOW,
    Upstream,
    connection,
    get,
    of,
    presented,
    trusting,
    verified,
)

from runbook_lib.practice.network.gateway import Gateway
from runbook_lib.practice.network.nameserver import NameServer


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, str | None]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield {MLFLOW: f"http://127.0.0.1:{server.server_port}"}
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def hosted(
    tmp_path_factory: pytest.TempPathFactory, upstreams: dict[str, str | None]
) -> Iterator[Hosted]:
    folder = tmp_path_factory.mktemp("gateway")
    with Hosted(Gateway(folder, upstreams.get, timeout_seconds=0.3)) as running:
        yield running


@pytest.fixture
def gateway(hosted: Hosted) -> Iterator[Hosted]:
    """Healed after each test, and healthy then."""
    yield hosted
    hosted.do("start")
    hosted.do("heal")
    for host in (MLFLOW, API):
        assert verified(hosted, host)["subject"]
    assert get(hosted, "/").status_code == 200


def test_requests_arrive_as_they_were_sent(gateway: Hosted) -> None:
    answer = get(gateway, "/a%2F%41b?x=%20y", method="POST", content=b"body")
    assert (answer.status_code, answer.content) == (201, b"body")
    assert answer.headers["X-Seen"] == f"POST /a%2F%41b?x=%20y {MLFLOW}"
    assert answer.headers["X-Proto"] == "https"
    assert answer.headers.get_list("Set-Cookie") == ["a=1", "b=2"]


def test_more_than_a_megabyte_goes_through(gateway: Hosted) -> None:
    body = bytes(3_000_000)
    assert get(gateway, "/", method="POST", content=body).content == body


def test_the_load_balancers_own_answers(gateway: Hosted, upstreams: dict[str, str | None]) -> None:
    absent = get(gateway, "/", API)
    assert absent.status_code == 503
    assert "<h1>503 Service Temporarily Unavailable</h1>" in absent.text
    assert absent.headers["Server"] == "awselb/2.0"

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        upstreams[API] = f"http://127.0.0.1:{unused.getsockname()[1]}"
        refused = get(gateway, "/", API)
    assert refused.status_code == 502
    assert "<h1>502 Bad Gateway</h1>" in refused.text
    del upstreams[API]

    late = get(gateway, "/slow")
    assert late.status_code == 504
    assert "<h1>504 Gateway Time-out</h1>" in late.text

    assert get(gateway, "/", MLFLOW, headers={"Host": "else.mlops-platform.com"}).status_code == 404


def test_an_ordinary_client_finds_it_by_name(gateway: Hosted) -> None:
    """Name server, TCP, TLS, HTTP: each by the name that the platform's users type."""
    import dns.resolver

    with Hosted(NameServer()) as names:
        assert isinstance(names.system, NameServer)
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], names.system.port
        (address,) = resolver.resolve(MLFLOW, "A")
    port = int(of(gateway).address.split(":")[1])
    with (
        socket.create_connection((address.address, port), 3) as plain,
        trusting(gateway).wrap_socket(plain, server_hostname=MLFLOW) as tls,
    ):
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {MLFLOW}\r\n\r\n".encode())
        assert tls.recv(4096).startswith(b"HTTP/1.1 200 OK")


# OpenSSL's verification codes, and what X509_verify_cert_error_string says of them.
REFUSED = {
    "expired": (10, "certificate has expired"),
    "not_yet_valid": (9, "certificate is not yet valid"),
    "name_mismatch": (62, "Hostname mismatch"),
    "incomplete_chain": (20, "unable to get local issuer certificate"),
    "self_signed": (18, "self-signed certificate"),
    "unknown_ca": (20, "unable to get local issuer certificate"),
    "default_certificate": (18, "self-signed certificate"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_client_refuses_the_certificate(gateway: Hosted, fault: str) -> None:
    gateway.do("certificate", host=MLFLOW, fault=fault)
    with pytest.raises(ssl.SSLCertVerificationError) as refusal:
        verified(gateway)
    code, words = REFUSED[fault]
    assert refusal.value.verify_code == code
    assert words in refusal.value.verify_message
    assert verified(gateway, API), "the other host is as before"
    gateway.do("certificate", host=MLFLOW, fault="renewed")
    assert verified(gateway)


def test_faults_differ_in_what_is_presented(gateway: Hosted) -> None:
    """Missing intermediate and foreign authority have one code; the issuer tells them apart."""
    issuers = {}
    for fault in ("incomplete_chain", "unknown_ca", "default_certificate"):
        gateway.do("certificate", host=MLFLOW, fault=fault)
        issuers[fault] = presented(gateway).issuer.rfc4514_string()
    assert "O=MLOps Platform" in issuers["incomplete_chain"]
    assert "O=Elsewhere" in issuers["unknown_ca"]
    assert "Kubernetes Ingress Controller Fake Certificate" in issuers["default_certificate"]


def test_it_expires_soon(gateway: Hosted) -> None:
    gateway.do("certificate", host=MLFLOW, fault="expires_in", days=6.5)
    left = ssl.cert_time_to_seconds(verified(gateway)["notAfter"]) - time.time()
    assert 6 * 86400 < left < 7 * 86400


def test_a_revoked_certificate_is_on_the_list(gateway: Hosted) -> None:
    def looking_at_the_list() -> ssl.SSLContext:
        context = trusting(gateway)
        context.load_verify_locations(str(of(gateway).crl_file))
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        return context

    verified(gateway, context=looking_at_the_list())
    gateway.do("certificate", host=MLFLOW, fault="revoked")
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
        verified(gateway, context=looking_at_the_list())
    verified(gateway)  # most clients look at no list
    gateway.do("heal")
    verified(gateway, context=looking_at_the_list())


def test_old_protocols_are_refused_by_a_client_of_today(gateway: Hosted) -> None:
    gateway.do("certificate", host=MLFLOW, fault="old_protocol")
    with pytest.raises(ssl.SSLError, match=r"PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL"):
        verified(gateway)
    old = trusting(gateway)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = ssl.TLSVersion.TLSv1
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with connection(gateway) as plain, old.wrap_socket(plain, server_hostname=MLFLOW) as tls:
        assert tls.version() == "TLSv1.1"


HANDSHAKES: dict[str, tuple[type[OSError], str]] = {
    "closes": (ssl.SSLEOFError, "UNEXPECTED_EOF|EOF occurred"),
    "resets": (ConnectionResetError, "reset by peer"),
    "plain_http": (ssl.SSLError, "WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE"),
    "hangs": (TimeoutError, "timed out"),
}


@pytest.mark.parametrize("fault", HANDSHAKES)
def test_the_handshake_fails(gateway: Hosted, fault: str) -> None:
    gateway.do("handshake", host=MLFLOW, fault=fault)
    error, words = HANDSHAKES[fault]
    with pytest.raises(error, match=words):
        verified(gateway, seconds=0.3)
    assert verified(gateway, API), "the other host is as before"
    gateway.do("heal")
    assert verified(gateway)


def test_no_shared_cipher(gateway: Hosted) -> None:
    gateway.do("certificate", host=MLFLOW, fault="no_shared_cipher")
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        verified(gateway)


def test_plain_http_on_the_tls_port(gateway: Hosted) -> None:
    def ask() -> httpx.Response:
        url = f"http://{of(gateway).address}/"
        return httpx.get(url, headers={"Host": MLFLOW}, trust_env=False)

    assert ask().status_code == 400
    gateway.do("handshake", host=MLFLOW, fault="plain_http")
    assert ask().status_code == 200


def test_a_client_that_names_nobody_gets_the_default_certificate(gateway: Hosted) -> None:
    context = trusting(gateway)
    context.check_hostname = False
    with connection(gateway) as plain, context.wrap_socket(plain) as tls:
        certificate: Any = tls.getpeercert()
    assert certificate["subjectAltName"] == (("DNS", MLFLOW),)


def test_a_hello_in_pieces_is_waited_for(gateway: Hosted) -> None:
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(gateway).wrap_bio(into, out, server_hostname=API)
    with connection(gateway) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = out.read()
        for at in range(0, len(hello), 100):
            plain.sendall(hello[at : at + 100])
        while True:
            into.write(plain.recv(65536))
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                plain.sendall(out.read())
    certificate: Any = tls.getpeercert()
    assert certificate["subjectAltName"] == (("DNS", API),)


def test_http_redirects_to_where_https_is(gateway: Hosted) -> None:
    url = f"http://{of(gateway).http_address}/path?a=b"
    port = of(gateway).address.split(":")[1]
    answer = httpx.get(url, headers={"Host": MLFLOW}, trust_env=False)
    assert answer.status_code == 301
    assert answer.headers["Location"] == f"https://{MLFLOW}:{port}/path?a=b"

    gateway.do("listener", scheme="http", state="closed")
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)
    assert get(gateway, "/").status_code == 200
    gateway.do("heal")
    assert httpx.get(url, trust_env=False).status_code == 301


def test_a_missing_listener_refuses(gateway: Hosted) -> None:
    gateway.do("listener", scheme="https", state="closed")
    with pytest.raises(ConnectionRefusedError):
        verified(gateway)
    gateway.do("stop")
    gateway.do("start")  # a restart mends nothing
    with pytest.raises(ConnectionRefusedError):
        verified(gateway)


def test_a_filtered_listener_stays_silent(gateway: Hosted) -> None:
    gateway.do("listener", scheme="https", state="filtered")
    with pytest.raises(TimeoutError):
        connection(gateway, seconds=0.3)


def test_it_keeps_its_port_and_certificates_over_a_stop(gateway: Hosted) -> None:
    address, serial = of(gateway).address, presented(gateway).serial_number
    gateway.do("stop")
    assert not of(gateway).running
    with pytest.raises(ConnectionRefusedError):
        connection(gateway)
    gateway.do("start")
    assert of(gateway).running
    assert (of(gateway).address, presented(gateway).serial_number) == (address, serial)


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("certificate", {"host": "else.example", "fault": "expired"}),
        ("certificate", {"host": MLFLOW, "fault": "rusty"}),
        ("certificate", {"host": MLFLOW, "fault": "self_signed", "days": 3}),
        ("certificate", {"host": MLFLOW, "fault": "expires_in", "days": -1}),
        ("handshake", {"host": MLFLOW, "fault": "limp"}),
        ("listener", {"scheme": "ftp", "state": "closed"}),
        ("listener", {"scheme": "http", "state": "ajar"}),
    ],
)
def test_what_cannot_be_asked_is_refused(
    gateway: Hosted, verb: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError):
        gateway.do(verb, **arguments)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_agrees(gateway: Hosted) -> None:
    def curl() -> subprocess.CompletedProcess[str]:
        address, port = of(gateway).address.split(":")
        return subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--max-time", "5", "--noproxy", "*"),
                *("--cacert", str(of(gateway).ca_file)),
                *("--resolve", f"{MLFLOW}:{port}:{address}", f"https://{MLFLOW}:{port}/"),
                *("--output", "/dev/null", "--write-out", "%{http_code}"),
            ],
            capture_output=True,
            text=True,
        )

    assert curl().stdout == "200"
    gateway.do("certificate", host=MLFLOW, fault="expired")
    seen = curl()
    assert seen.returncode == 60
    assert "certificate has expired" in seen.stderr


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_openssl_sees_the_chain(gateway: Hosted) -> None:
    def s_client() -> str:
        return subprocess.run(
            [
                *("openssl", "s_client", "-connect", of(gateway).address, "-servername", MLFLOW),
                *("-CAfile", str(of(gateway).ca_file), "-showcerts"),
            ],
            input="",
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout

    whole = s_client()
    assert "Verify return code: 0 (ok)" in whole
    assert whole.count("BEGIN CERTIFICATE") == 2
    gateway.do("certificate", host=MLFLOW, fault="incomplete_chain")
    cut = s_client()
    assert "unable to verify the first certificate" in cut
    assert cut.count("BEGIN CERTIFICATE") == 1


def test_the_document_names_every_verb(gateway: Hosted) -> None:
    assert documented("practice-network.md", "Verbs of the gateway") == offered(
        gateway.system.verbs()
    )
