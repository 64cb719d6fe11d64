import pyarrow as pa
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType

from feature_repo.stores.wire.entity_keys import encode_entity_keys

KEYS = {
    "a string": {"id": (pa.array(["a", "", "ä 😀", "x" * 300]), ValueType.STRING)},
    "bytes": {"id": (pa.array([b"a", b"\x00\xff"]), ValueType.BYTES)},
    "an int64": {"id": (pa.array([0, -1, 2**63 - 1]), ValueType.INT64)},
    "an int32": {"id": (pa.array([0, -1], pa.int32()), ValueType.INT32)},
    "a time": {"id": (pa.array([1, 2], pa.timestamp("s")), ValueType.UNIX_TIMESTAMP)},
    "two, not in order": {
        "site": (pa.array(["s1", "s2"]), ValueType.STRING),
        "customer": (pa.array([7, 8]), ValueType.INT64),
    },
}


def protos(columns):
    values = {
        name: python_values_to_proto_values(column.to_numpy(zero_copy_only=False), value_type)
        for name, (column, value_type) in columns.items()
    }
    return [EntityKey(join_keys=list(values), entity_values=row) for row in zip(*values.values(), strict=True)]


@pytest.mark.parametrize("columns", KEYS.values(), ids=KEYS)
def test_bytes_are_feasts(columns):
    arrays = {name: column for name, (column, _) in columns.items()}
    types = {name: value_type for name, (_, value_type) in columns.items()}
    expected = [serialize_entity_key(key, entity_key_serialization_version=3) for key in protos(columns)]
    assert encode_entity_keys(arrays, types).to_pylist() == expected
    assert encode_entity_keys(arrays, types, b"churn").to_pylist() == [
        _redis_key("churn", key) for key in protos(columns)
    ]
    second = {name: column.slice(1) for name, column in arrays.items()}
    assert encode_entity_keys(second, types).to_pylist() == expected[1:]


def test_a_null_key_is_refused():
    with pytest.raises(ValueError, match="entity key id is null in 1 rows"):
        encode_entity_keys({"id": pa.array(["a", None])}, {"id": ValueType.STRING})


def test_a_key_of_another_type_is_refused():
    with pytest.raises(ValueError, match="id is a DOUBLE"):
        encode_entity_keys({"id": pa.array([1.5])}, {"id": ValueType.DOUBLE})
