"""As much of protobuf's wire format as Feast's registry needs: varints and length-delimited.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterable

Field = tuple[int, int | str | bytes]
Message = dict[int, list[int | bytes]]

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


def encode(fields: Iterable[Field]) -> bytes:
    """A message of these fields, by number; a message in it is given as its bytes."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3 | _VARINT) + _varint(value)
        else:
            raw = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | _LENGTH) + _varint(len(raw)) + raw
    return bytes(out)


def decode(raw: bytes) -> Message:
    """The fields of a message by number, each with all its values. Raises ValueError."""
    found: Message = {}
    at = 0
    while at < len(raw):
        key, at = _read(raw, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise ValueError("no field has the number 0")
        if kind == _VARINT:
            value, at = _read(raw, at)
            found.setdefault(number, []).append(value)
            continue
        if kind == _LENGTH:
            length, at = _read(raw, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"no wire type has the number {kind}")
        if at + length > len(raw):
            raise ValueError("a message ends in the middle of a field")
        found.setdefault(number, []).append(raw[at : at + length])
        at += length
    return found


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


def _varint(number: int) -> bytes:
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
