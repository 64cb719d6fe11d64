"""Stored bytes become the values that Feast gives for them, and the contract's types."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from feast.protos.feast.types.Value_pb2 import DoubleList, Int64List, Map, StringList, Value
from feast.type_map import feast_value_type_to_python_type
from feast.value_type import ValueType
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from feature_repo.contract import BY_NAME
from feature_repo.stores.wire.memo import BoundedCache
from feature_repo.stores.wire.value_decoder import contract_decoder, decode, decoder_of, instant_of

VALUES = [
    Value(),
    Value(bool_val=True),
    Value(bool_val=False),
    Value(int64_val=0),
    Value(int64_val=127),
    Value(int64_val=128),
    Value(int64_val=-1),
    Value(int64_val=2**63 - 1),
    Value(int64_val=-(2**63)),
    Value(int32_val=-5),
    Value(double_val=-0.0),
    Value(double_val=math.inf),
    Value(double_val=math.nan),
    Value(float_val=1e-45),
    Value(string_val=""),
    Value(string_val="ä 😀" * 60),
    Value(bytes_val=b"\xff\x00"),
    Value(unix_timestamp_val=1_700_000_000),
    Value(unix_timestamp_val=-(2**63)),
    Value(null_val=0),
    Value(int64_list_val=Int64List()),
    Value(int64_list_val=Int64List(val=[0, 127])),
    Value(int64_list_val=Int64List(val=[-1, 128, 2**63 - 1])),
    Value(double_list_val=DoubleList(val=[0.5])),
    Value(string_list_val=StringList(val=["", "a"])),
    Value(map_val=Map(val={"a": Value(int64_val=1)})),
]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_value_is_what_feast_makes_of_it(value):
    assert repr(decode(value.SerializeToString())) == repr(feast_value_type_to_python_type(value))


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x20\x80\x00", id="a number spelt longer than it need be"),
        pytest.param(b"\x20" + b"\xff" * 9 + b"\x01", id="ten bytes"),
        pytest.param(b"\x20\x05\x20\x07", id="the same field twice: the last counts"),
        pytest.param(b"\x20\x05\x38\x01", id="two fields of the one-of: the last counts"),
        pytest.param(b"\x38\x02", id="a flag that is neither 0 nor 1"),
        pytest.param(b"\x72\x02\x08\x05", id="a list that is not packed"),
        pytest.param(b"\x72\x06\x0a\x01\x05\x0a\x01\x06", id="a list in two pieces"),
        pytest.param(b"\x20\x05\xf8\x7f\x01", id="a field of a later version of Feast"),
    ],
)
def test_another_spelling_is_read_as_protobuf_reads_it(raw):
    assert repr(decode(raw)) == repr(feast_value_type_to_python_type(Value.FromString(raw)))


@pytest.mark.parametrize(
    "raw",
    [b"\x20", b"\x20" + b"\xff" * 11, b"\x29\x00", b"\x12\x05a", b"\x12\x01\xff", b"\x72\x03\x0a\x01\x80", b"\x07"],
)
def test_what_is_no_value_is_refused(raw):
    with pytest.raises(DecodeError):
        decode(raw)


def test_nothing_stored_is_none():
    assert decode(None) is None
    assert decode(b"") is None


def test_a_list_is_the_callers_own():
    memo = BoundedCache(decode)
    numbers = decoder_of(ValueType.INT64_LIST, memo)
    raw = Value(int64_list_val=Int64List(val=[1, 2])).SerializeToString()
    numbers(raw).append(3)
    assert numbers(raw) == [1, 2]
    assert decoder_of(ValueType.DOUBLE_LIST, memo)(None) is None
    assert numbers(None) is None
    assert decoder_of(ValueType.STRING, memo)(b"\x12\x01a") == memo[b"\x12\x01a"] == "a"


@pytest.mark.parametrize(
    ("feature", "value", "expected"),
    [
        ("tenure_months", Value(int64_val=3), 3),
        ("tenure_months", Value(double_val=3.0), 3),
        ("tenure_months", Value(), None),
        ("partner", Value(bool_val=True), True),
        ("partner", Value(int64_val=1), True),
        ("monthly_charges_usd", Value(double_val=math.nan), None),
        ("monthly_charges_usd", Value(int64_val=2), 2.0),
        ("contract_type", Value(string_val="One year"), "One year"),
        ("usage_on", Value(int64_list_val=Int64List(val=[20_000])), [20_000]),
    ],
)
def test_the_contracts_type_comes_out(feature, value, expected):
    found = contract_decoder(BY_NAME[feature])[value.SerializeToString()]
    assert (found, type(found)) == (expected, type(expected))


def test_a_float_that_holds_no_integer_is_refused():
    with pytest.raises(ValueError, match="tenure_months"):
        contract_decoder(BY_NAME["tenure_months"])[Value(double_val=0.5).SerializeToString()]


def test_an_event_timestamp_is_read_as_feast_reads_it():
    stamp = Timestamp(seconds=1_700_000_000, nanos=999_999_000).SerializeToString()
    assert instant_of(stamp) == datetime(2023, 11, 14, 22, 13, 20, 999_999, tzinfo=UTC)
    assert instant_of(b"") == datetime(1970, 1, 1, tzinfo=UTC)
