from datetime import timedelta

import pyarrow as pa
from feast import Entity, FeatureView, Field, FileSource
from feast.types import Int64, String
from feast.value_type import ValueType

from feature_repo.stores.online_write.row_schema import OnlineRowSchema, SourceColumn
from tests.support.materialisation_store import NOON


def test_columns_keep_the_names_of_their_source():
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    source = FileSource(
        path="x.parquet", timestamp_field="event", field_mapping={"cust": "customer_id", "n_raw": "n", "at": "event"}
    )
    views = [
        FeatureView(
            name=name,
            entities=[customer],
            source=source,
            ttl=timedelta(days=1),
            schema=[Field(name="customer_id", dtype=String), Field(name="n", dtype=Int64)],
        )
        for name in "vw"
    ]
    shape = OnlineRowSchema.of(views, [customer], versioned=False)
    number = SourceColumn("n_raw", ValueType.INT64)
    assert shape.views == {"v": {"n": number}, "w": {"n": number}}
    assert (shape.key_columns, shape.feature_columns, shape.event, shape.created) == (["cust"], ["n_raw"], "at", None)
    rows = pa.RecordBatch.from_pydict({"cust": ["a"], "n_raw": [1], "at": pa.array([NOON], pa.timestamp("us", "UTC"))})
    assert shape.events_us(rows).tolist() == [int(NOON.timestamp() * 1e6)]
    assert shape.entity_keys(rows).to_pylist()[0].endswith(b"a")
