"""One key is spelt as Feast spells it, and as whole columns are."""

from __future__ import annotations

import pyarrow as pa
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.value_type import ValueType

from feature_repo.stores.wire.entity_keys import encode_entity_keys, entity_key_serializer


@pytest.mark.parametrize(
    ("value_type", "value", "message"),
    [
        (ValueType.STRING, "7590-VHVEG", {"string_val": "7590-VHVEG"}),
        (ValueType.STRING, "Žoë 😀" * 50, {"string_val": "Žoë 😀" * 50}),
        (ValueType.STRING, "", {"string_val": ""}),
        (ValueType.INT64, -(2**63), {"int64_val": -(2**63)}),
    ],
)
def test_a_key_is_spelt_as_feast_spells_it(value_type, value, message):
    kind, spell = entity_key_serializer("customer_id", value_type)
    assert type(value) is kind
    key = EntityKey(join_keys=["customer_id"], entity_values=[Value(**message)])
    assert spell(value) == serialize_entity_key(key, 3)
    column = pa.array([value], pa.string() if kind is str else pa.int64())
    assert encode_entity_keys({"customer_id": column}, {"customer_id": value_type}).to_pylist() == [spell(value)]


def test_other_types_are_feasts_to_spell():
    assert entity_key_serializer("customer_id", ValueType.INT32) is None
