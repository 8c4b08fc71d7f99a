"""The bytes are those that Feast 0.67 writes (taken from it) and survive the way back."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook_lib.practice.redis import features

NOON = datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.UTC)


def test_entity_keys_are_feasts() -> None:
    assert features.entity_key("mlops", ["customer_id"], [1001]).hex() == (
        "01000000020000000b000000637573746f6d65725f69640400000008000000e9030000000000006d6c6f7073"
    )
    assert features.entity_key("mlops", ["store", "customer_id"], ["nyc", -7]).hex() == (
        "02000000020000000b000000637573746f6d65725f6964020000000500000073746f7265"
        "0400000008000000f9ffffffffffffff02000000030000006e79636d6c6f7073"
    )


@pytest.mark.parametrize(
    ("view", "feature", "expected"),
    [
        ("customer_features", "total_purchases", "c8579d23"),
        ("customer_features", "avg_order_value", "fa1789a4"),
        ("a", "b", "436844a2"),
    ],
)
def test_fields_are_feasts(view: str, feature: str, expected: str) -> None:
    assert features.feature_field(view, feature).hex() == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "2000"),
        (300, "20ac02"),
        (-1, "20ffffffffffffffffff01"),
        (12.5, "290000000000002940"),
        (0.0, "290000000000000000"),
        ("gold", "1204676f6c64"),
        ("", "1200"),
        (True, "3801"),
        (NOON, "4080e2cfaa06"),
        (None, ""),
    ],
)
def test_values_are_feasts(value: features.Value, expected: str) -> None:
    assert features.encode_value(value).hex() == expected
    assert features.decode_value(bytes.fromhex(expected)) == value


def test_values_that_feast_may_have_written_are_read() -> None:
    assert features.decode_value(bytes.fromhex("980100")) is None
    assert features.decode_value(bytes.fromhex("18fbffffffffffffffff01")) == -5
    assert features.decode_value(bytes.fromhex("350000c03f")) == 1.5


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text()))
def test_values_survive_the_way_back(value: features.Value) -> None:
    assert features.decode_value(features.encode_value(value)) == value


def test_timestamps_are_protobufs() -> None:
    assert features.encode_timestamp(NOON).hex() == "0880e2cfaa06"
    assert features.decode_timestamp(bytes.fromhex("0880e2cfaa06")) == NOON
    half = features.decode_timestamp(bytes.fromhex("0880e2cfaa061080cab5ee01"))
    assert half == NOON + datetime.timedelta(seconds=0.5)


@pytest.mark.parametrize("broken", ["20", "20ff", "2900", "5a00", "ffffffffffffffffffffff"])
def test_what_is_no_value_is_refused(broken: str) -> None:
    with pytest.raises(ValueError):
        features.decode_value(bytes.fromhex(broken))


def test_only_numbers_and_words_are_entities() -> None:
    with pytest.raises(ValueError, match="an int or a str"):
        features.entity_key("mlops", ["customer_id"], [1.5])  # type: ignore[list-item]
