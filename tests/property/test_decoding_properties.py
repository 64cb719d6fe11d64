"""Whatever Feast's protobuf can write, the decoder reads as Feast's own conversion does; so do any bytes at all."""

from __future__ import annotations

import pytest
from feast.protos.feast.types.Value_pb2 import (
    BoolList,
    BytesList,
    DoubleList,
    FloatList,
    Int32List,
    Int64List,
    StringList,
    Value,
)
from feast.type_map import feast_value_type_to_python_type
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.stores.wire.value_decoder import decode

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
int32s, int64s = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
doubles, floats = st.floats(), st.floats(width=32)
fields = {
    "bool_val": st.booleans(),
    "int32_val": int32s,
    "int64_val": int64s | st.integers(-200, 200),
    "double_val": doubles,
    "float_val": floats,
    "string_val": texts,
    "bytes_val": st.binary(max_size=200),
    "unix_timestamp_val": st.integers(-(2**35), 2**35),
    "bool_list_val": st.builds(BoolList, val=st.lists(st.booleans())),
    "int32_list_val": st.builds(Int32List, val=st.lists(int32s)),
    "int64_list_val": st.builds(Int64List, val=st.lists(int64s | st.integers(0, 300), max_size=100)),
    "double_list_val": st.builds(DoubleList, val=st.lists(doubles)),
    "float_list_val": st.builds(FloatList, val=st.lists(floats)),
    "string_list_val": st.builds(StringList, val=st.lists(texts)),
    "bytes_list_val": st.builds(BytesList, val=st.lists(st.binary(max_size=20))),
}
values = st.just(Value()) | st.one_of(
    *(held.map(lambda found, name=name: Value(**{name: found})) for name, held in fields.items())
)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(values)
def test_every_value_is_what_feast_makes_of_it(value):
    # By its repr: NaN, -0.0, True and 1 are four things.
    assert repr(decode(value.SerializeToString())) == repr(feast_value_type_to_python_type(value))


def outcome(read):
    try:
        return repr(read())
    except (DecodeError, ValueError, OverflowError, OSError) as refused:
        return type(refused)


tags = st.sampled_from([b"\x20", b"\x38", b"\x29", b"\x35", b"\x12", b"\x72", b"\x72\x02\x0a", b"\x12\x01"])


@settings(max_examples=400, deadline=None)
@given(st.builds(bytes.__add__, tags, st.binary(max_size=14)))
def test_any_bytes_are_read_or_refused_as_protobuf_does(raw):
    assert outcome(lambda: decode(raw)) == outcome(lambda: feast_value_type_to_python_type(Value.FromString(raw)))
