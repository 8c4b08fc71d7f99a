"""How Feast keeps features in Redis: the bytes of keys, fields and values.

A hash for each entity: its key is the entity key in Feast's serialization of version 3 and the
project's name; its fields are the murmur3 hash of `view:feature`, with the value as the protobuf
message `feast.types.Value`, and `_ts:view`, with a `google.protobuf.Timestamp`. See Feast's
`docs/specs/online_store_format.md`, `infra/key_encoding_utils.py` and
`infra/online_stores/helpers.py`.
"""

from __future__ import annotations

import datetime
import struct
from collections.abc import Sequence

Value = int | float | str | bool | datetime.datetime | None

# feast.types.ValueType
STRING, INT64 = 2, 4
# Numbers of the message's fields, and protobuf's wire types.
_STRING, _INT64, _DOUBLE, _BOOL, _TIME = 2, 4, 5, 7, 8
_VARINT, _EIGHT_BYTES, _LENGTH = 0, 1, 2
_64_BITS = (1 << 64) - 1
_32_BITS = (1 << 32) - 1


def entity_key(project: str, join_keys: Sequence[str], values: Sequence[int | str]) -> bytes:
    """The key of an entity's hash. Raises ValueError for a value that is neither int nor str."""
    pairs = sorted(zip(join_keys, values, strict=True))
    parts = [_entity_value(name) for name, _ in pairs]
    parts += [_entity_value(value) for _, value in pairs]
    return b"".join([struct.pack("<I", len(pairs)), *parts, _utf8(project)])


def feature_field(view: str, feature: str) -> bytes:
    """The field of a feature's value."""
    return struct.pack("<I", murmur3(_utf8(f"{view}:{feature}")))


def timestamp_field(view: str) -> bytes:
    """The field of the time at which a view's features were true."""
    return _utf8(f"_ts:{view}")


def encode_value(value: Value) -> bytes:
    """`feast.types.Value`; None is Feast's null, a message without a field."""
    match value:
        case None:
            return b""
        case bool():
            return _tag(_BOOL, _VARINT) + _varint(int(value))
        case int():
            return _tag(_INT64, _VARINT) + _varint(value)
        case float():
            return _tag(_DOUBLE, _EIGHT_BYTES) + struct.pack("<d", value)
        case str():
            return _tag(_STRING, _LENGTH) + _varint(len(_utf8(value))) + _utf8(value)
        case datetime.datetime():
            return _tag(_TIME, _VARINT) + _varint(int(value.timestamp()))
    raise ValueError(f"no feature value: {value!r}")


def decode_value(message: bytes) -> Value:
    """The value of a `feast.types.Value`; times are aware, in UTC.

    Raises ValueError for bytes that are none, and for lists, maps and sets.
    """
    if not message:
        return None
    key, at = _read_varint(message, 0)
    match key >> 3, key & 7:
        case (19, 0):  # null_val
            return None
        case (3 | 4, 0):  # int32_val, int64_val
            return _signed(_read_varint(message, at)[0])
        case (7, 0):  # bool_val
            return bool(_read_varint(message, at)[0])
        case (8, 0):  # unix_timestamp_val
            return _time(_signed(_read_varint(message, at)[0]))
        case (5, 1):  # double_val
            return float(_unpack("<d", message, at))
        case (6, 5):  # float_val
            return float(_unpack("<f", message, at))
        case (2, 2):  # string_val
            length, at = _read_varint(message, at)
            return message[at : at + length].decode()
    raise ValueError(f"feature values of field {key >> 3} are not supported")


def encode_timestamp(when: datetime.datetime) -> bytes:
    """`google.protobuf.Timestamp`, to the second, as Feast writes it."""
    seconds = int(when.timestamp())
    return _tag(1, _VARINT) + _varint(seconds) if seconds else b""


def decode_timestamp(message: bytes) -> datetime.datetime:
    """The time of a `google.protobuf.Timestamp`, aware, in UTC."""
    fields, at = {1: 0, 2: 0}, 0
    while at < len(message):
        key, at = _read_varint(message, at)
        value, at = _read_varint(message, at)
        fields[key >> 3] = _signed(value)
    return _time(fields[1]) + datetime.timedelta(microseconds=fields[2] // 1000)


def murmur3(data: bytes) -> int:
    """MurmurHash3, x86, 32 bits, seed 0."""
    hashed = 0
    for (word,) in struct.iter_unpack("<I", data[: len(data) & ~3]):
        hashed = _rotate(hashed ^ _mixed(word), 13)
        hashed = (hashed * 5 + 0xE6546B64) & _32_BITS
    if tail := data[len(data) & ~3 :]:
        hashed ^= _mixed(int.from_bytes(tail, "little"))
    hashed ^= len(data)
    hashed = ((hashed ^ (hashed >> 16)) * 0x85EBCA6B) & _32_BITS
    hashed = ((hashed ^ (hashed >> 13)) * 0xC2B2AE35) & _32_BITS
    return hashed ^ (hashed >> 16)


def _mixed(word: int) -> int:
    return (_rotate((word * 0xCC9E2D51) & _32_BITS, 15) * 0x1B873593) & _32_BITS


def _rotate(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (32 - bits))) & _32_BITS


def _entity_value(value: int | str) -> bytes:
    if isinstance(value, str):
        raw = _utf8(value)
        return struct.pack("<II", STRING, len(raw)) + raw
    if isinstance(value, int) and not isinstance(value, bool):
        return struct.pack("<IIq", INT64, 8, value)
    raise ValueError(f"an entity is an int or a str, not {value!r}")


def _utf8(text: str) -> bytes:
    return text.encode()


def _tag(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(number: int) -> bytes:
    number &= _64_BITS
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("a protobuf message ends in the middle of a number")
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError("a protobuf number has more than ten bytes")


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _unpack(layout: str, message: bytes, at: int) -> float:
    try:
        value: float
        (value,) = struct.unpack_from(layout, message, at)
    except struct.error as error:
        raise ValueError(f"a protobuf message is too short: {error}") from None
    return value


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
