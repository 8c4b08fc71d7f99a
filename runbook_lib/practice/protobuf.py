"""Protobuf's wire format: fields by their numbers, without the groups that proto3 has dropped.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

Field = tuple[int, int | float | str | bytes]
Message = dict[int, list[int | bytes]]

VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5
_64_BITS = (1 << 64) - 1


def encode(fields: Iterable[Field]) -> bytes:
    """A message of these fields, by number; a message in it is given as its bytes.

    A float is written as a double, and a negative integer as an int64.
    """
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3 | VARINT) + varint(value)
        elif isinstance(value, float):
            out += varint(number << 3 | EIGHT_BYTES) + struct.pack("<d", value)
        else:
            raw = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | LENGTH) + varint(len(raw)) + raw
    return bytes(out)


def fields(raw: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """(number, wire type, value) of each field on the wire; all but varints are bytes.

    Raises ValueError for bytes that are no message.
    """
    at = 0
    while at < len(raw):
        key, at = _read(raw, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise ValueError("no field has the number 0")
        if kind == VARINT:
            value, at = _read(raw, at)
            yield number, kind, value
            continue
        if kind == LENGTH:
            length, at = _read(raw, at)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            length = 8 if kind == EIGHT_BYTES else 4
        else:
            raise ValueError(f"no wire type has the number {kind}")
        if at + length > len(raw):
            raise ValueError("a message ends in the middle of a field")
        yield number, kind, raw[at : at + length]
        at += length


def decode(raw: bytes) -> Message:
    """The fields of a message by number, each with all its values. Raises ValueError."""
    found: Message = {}
    for number, _, value in fields(raw):
        found.setdefault(number, []).append(value)
    return found


def signed(number: int) -> int:
    """The integer that a varint of an int32 or int64 stands for."""
    return number - _64_BITS - 1 if number >> 63 else number


def text(message: Message, number: int) -> str:
    """A string field; '' where it is absent. Raises ValueError."""
    found = message.get(number, [b""])[-1]
    if isinstance(found, int):
        raise ValueError(f"field {number} is no string")
    return found.decode()


def whole(message: Message, number: int) -> int:
    """An integer field; 0 where it is absent. Raises ValueError."""
    found = message.get(number, [0])[-1]
    if not isinstance(found, int):
        raise ValueError(f"field {number} is no integer")
    return found


def messages(message: Message, number: int) -> list[Message]:
    """The messages of a repeated field. Raises ValueError."""
    found = []
    for one in message.get(number, []):
        if isinstance(one, int):
            raise ValueError(f"field {number} is no message")
        found.append(decode(one))
    return found


def varint(number: int) -> bytes:
    """A number of up to 64 bits; a negative one as its two's complement."""
    number &= _64_BITS
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read(raw: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(raw):
            raise ValueError("a message ends in the middle of a number")
        byte = raw[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError("a number has more than ten bytes")
