"""What a client says in its first TLS message, read from its bytes."""

from __future__ import annotations

import struct

from practice.tlsclients import API

from runbook_lib.practice.network.hello import Hello, parse


def client_hello(*extensions: tuple[int, bytes]) -> bytes:
    """A TLS record with a ClientHello, as RFC 8446 draws it."""
    listed = b"".join(struct.pack(">HH", kind, len(data)) + data for kind, data in extensions)
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    body += struct.pack(">H", len(listed)) + listed
    return struct.pack(">BHHBBH", 22, 0x0301, len(body) + 4, 1, 0, len(body)) + body


def test_whom_a_client_names() -> None:
    name = API.upper().encode()
    server_name = (0, struct.pack(">HBH", len(name) + 3, 0, len(name)) + name)
    alpn = (16, b"\x00\x09\x08http/1.1")
    hello = client_hello(alpn, server_name)
    assert parse(hello) == Hello(hello, True, API)
    assert not any(parse(hello[:length]) for length in range(1, len(hello)))
    nameless = client_hello(alpn)
    assert parse(nameless) == Hello(nameless, True, None)
    broken = hello[:40] + b"\xff" * (len(hello) - 40)
    assert parse(broken) == Hello(broken, True, None)
    request = f"GET / HTTP/1.1\r\nhost: {API}:443\r\n\r\n".encode()
    assert parse(request) == Hello(request, False, API)
    assert not any(parse(request[:length]) for length in range(1, request.index(b"443")))
