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

from runbook_lib.practice.protobuf import decode, encode, fields, signed, whole

Value = int | float | str | bool | datetime.datetime | None

# feast.types.ValueType
STRING, INT64 = 2, 4
# Numbers of the message's fields.
_STRING, _INT64, _DOUBLE, _BOOL, _TIME = 2, 4, 5, 7, 8
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
            return encode([(_BOOL, value)])
        case int():
            return encode([(_INT64, value)])
        case float():
            return encode([(_DOUBLE, value)])
        case str():
            return encode([(_STRING, value)])
        case datetime.datetime():
            return encode([(_TIME, int(value.timestamp()))])
    raise ValueError(f"no feature value: {value!r}")


def decode_value(message: bytes) -> Value:
    """The value of a `feast.types.Value`; times are aware, in UTC.

    Raises ValueError for bytes that are none, and for lists, maps and sets.
    """
    if not message:
        return None
    number, kind, value = next(fields(message))
    match number, kind, value:
        case 19, 0, int():  # null_val
            return None
        case ((3 | 4), 0, int()):  # int32_val, int64_val
            return signed(value)
        case 7, 0, int():  # bool_val
            return bool(value)
        case 8, 0, int():  # unix_timestamp_val
            return _time(signed(value))
        case 5, 1, bytes():  # double_val
            return float(struct.unpack("<d", value)[0])
        case 6, 5, bytes():  # float_val
            return float(struct.unpack("<f", value)[0])
        case 2, 2, bytes():  # string_val
            return value.decode()
    raise ValueError(f"feature values of field {number} are not supported")


def encode_timestamp(when: datetime.datetime) -> bytes:
    """`google.protobuf.Timestamp`, to the second, as Feast writes it."""
    seconds = int(when.timestamp())
    return encode([(1, seconds)]) if seconds else b""


def decode_timestamp(message: bytes) -> datetime.datetime:
    """The time of a `google.protobuf.Timestamp`, aware, in UTC."""
    found = decode(message)
    seconds, nanoseconds = (signed(whole(found, number)) for number in (1, 2))
    return _time(seconds) + datetime.timedelta(microseconds=nanoseconds // 1000)


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


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
