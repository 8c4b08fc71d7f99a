"""Series as Prometheus' remote-write protocol has them: protobuf in a Snappy frame.

Source: prompb/remote.proto and prompb/types.proto; Snappy's format_description.txt.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from runbook_lib.practice.metrics.promql.values import Series
from runbook_lib.practice.protobuf import encode, varint

HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
_LITERAL = 60_000  # bytes in one literal; two bytes tell its length


def _timeseries(series: Series, around: dict[int, tuple[bytes, bytes]]) -> bytes:
    """`around` keeps what stands around the value of a sample; most series share their times."""
    labels = encode(
        (1, encode([(1, name), (2, value)])) for name, value in sorted(series.labels.items())
    )
    values = struct.pack(f"<{len(series.values)}d", *series.values)
    samples = []
    for index, time in enumerate(series.times):
        if time not in around:
            after = b"\x10" + varint(time)
            around[time] = b"\x12" + varint(9 + len(after)) + b"\x09", after
        before, after = around[time]
        samples.append(before + values[8 * index : 8 * index + 8] + after)
    return labels + b"".join(samples)


def _snappy(content: bytes) -> bytes:
    """A valid Snappy block that compresses nothing."""
    out = bytearray(varint(len(content)))
    for begin in range(0, len(content), _LITERAL):
        part = content[begin : begin + _LITERAL]
        out += bytes([61 << 2]) + struct.pack("<H", len(part) - 1) + part
    return bytes(out)


def body(series: Iterable[Series]) -> bytes:
    """A WriteRequest. The samples of each series must rise in time."""
    around: dict[int, tuple[bytes, bytes]] = {}
    return _snappy(encode((1, _timeseries(one, around)) for one in series))
