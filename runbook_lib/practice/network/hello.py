"""Whom a client asks for, read from its first bytes before they are taken off the socket."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from dataclasses import dataclass

HANDSHAKE_RECORD = 0x16
CLIENT_HELLO = 0x01
SERVER_NAME = 0
POLL_SECONDS = 0.01
PEEKED_BYTES = 16384 + 5  # one TLS record; requests have their Host in less


@dataclass(frozen=True)
class Hello:
    """A client's first bytes, whether they are TLS, and the host in them (SNI or Host)."""

    head: bytes
    tls: bool
    host: str | None


async def read_hello(connection: socket.socket) -> Hello | None:
    """Wait for a whole ClientHello or request head; None when the client leaves before.

    `connection` does not block. Nothing is consumed.
    """
    loop = asyncio.get_running_loop()
    seen = 0
    while True:
        ready = loop.create_future()
        loop.add_reader(connection, ready.set_result, None)
        try:
            await ready
        finally:
            loop.remove_reader(connection)
        try:
            head = connection.recv(PEEKED_BYTES, socket.MSG_PEEK)
        except ConnectionError:
            return None
        if not head:
            return None
        if (hello := parse(head)) or len(head) == PEEKED_BYTES:
            return hello
        if len(head) == seen:  # readable still, for what was seen before: or the client left
            await asyncio.sleep(POLL_SECONDS)
        seen = len(head)


def parse(head: bytes) -> Hello | None:
    """None while the ClientHello (RFC 8446, 4.1.2) or the request head is not whole."""
    if head[0] != HANDSHAKE_RECORD:
        found = re.search(rb"(?im)^host:[ \t]*([^\s:]+)[^\n]*\n", head)
        return (
            Hello(head, False, found[1].decode("ascii", "replace").lower())
            if found
            else _ended(head)
        )
    if len(head) < 5 or len(head) < 5 + struct.unpack_from(">H", head, 3)[0]:
        return None
    try:
        return Hello(head, True, _server_name(head[5:]))
    except (struct.error, IndexError):
        return Hello(head, True, None)  # OpenSSL says what is wrong with it


def _ended(head: bytes) -> Hello | None:
    return Hello(head, False, None) if b"\r\n\r\n" in head else None


def _server_name(hello: bytes) -> str | None:
    """RFC 6066, 3: the first host name of the server_name extension."""
    if hello[0] != CLIENT_HELLO:
        return None
    at = 4 + 2 + 32  # type and length, version, random
    at += 1 + hello[at]  # session id
    at += 2 + struct.unpack_from(">H", hello, at)[0]  # cipher suites
    at += 1 + hello[at]  # compression methods
    end = at + 2 + struct.unpack_from(">H", hello, at)[0]
    at += 2
    while at + 4 <= end:
        kind, length = struct.unpack_from(">HH", hello, at)
        if kind == SERVER_NAME:
            (name_length,) = struct.unpack_from(">H", hello, at + 4 + 3)
            return hello[at + 4 + 5 : at + 4 + 5 + name_length].decode("ascii", "replace").lower()
        at += 4 + length
    return None
