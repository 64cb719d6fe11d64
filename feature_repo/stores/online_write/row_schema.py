"""Schema of online rows: which offline columns become which values of the views of one source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from feast import Entity, FeatureView
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.value_type import ValueType

from feature_repo.stores.wire.entity_keys import encode_entity_keys
from feature_repo.stores.wire.value_encoder import encode_values, microseconds
from feature_repo.stores.wire.varint import Ints

_NO_ENTITY: Final[bytes] = serialize_entity_key(
    EntityKey(join_keys=[DUMMY_ENTITY_ID], entity_values=[Value(string_val=DUMMY_ENTITY_VAL)]),
    entity_key_serialization_version=3,
)


@dataclass(frozen=True)
class SourceColumn:
    """An offline column, and the Feast type of its values online."""

    source: str
    value_type: ValueType


@dataclass(frozen=True)
class OnlineRowSchema:
    """The schema of one key's row in several views of one source.

    ``keys``: join key -> column. ``views``: the view's online name -> feature -> column. ``event`` and ``created`` are
    the columns of the timestamps; ``created`` is None where the source has none.
    """

    keys: Mapping[str, SourceColumn]
    views: Mapping[str, Mapping[str, SourceColumn]]
    event: str
    created: str | None

    @classmethod
    def of(cls, views: Sequence[FeatureView], entities: Sequence[Entity], *, versioned: bool) -> OnlineRowSchema:
        """Return the schema of views that share their source and entities."""
        first = views[0]
        source = first.batch_source
        original = {online: column for column, online in (source.field_mapping or {}).items()}

        def column(name: str, value_type: ValueType) -> SourceColumn:
            return SourceColumn(original.get(name, name), value_type)

        types = {field.name: field.dtype.to_value_type() for field in first.entity_columns}
        return cls(
            keys={
                entity.join_key: column(entity.join_key, types[entity.join_key])
                for entity in entities
                if entity.join_key != DUMMY_ENTITY_ID
            },
            views={
                compute_versioned_name(view, versioned): {
                    feature.name: column(feature.name, feature.dtype.to_value_type()) for feature in view.features
                }
                for view in views
            },
            event=original.get(source.timestamp_field, source.timestamp_field),
            created=original.get(source.created_timestamp_column, source.created_timestamp_column) or None,
        )

    @property
    def key_columns(self) -> list[str]:
        """The join keys' columns in the source."""
        return [column.source for column in self.keys.values()]

    @property
    def feature_columns(self) -> list[str]:
        """The features' columns in the source, each once, without keys and timestamps."""
        named = {column.source: None for view in self.views.values() for column in view.values()}
        others = {*self.key_columns, self.event, self.created}
        return [name for name in named if name not in others]

    def entity_keys(self, rows: pa.RecordBatch, suffix: bytes = b"") -> pa.Array:
        """Return the rows' serialized entity keys (large_binary); without entities Feast's dummy key."""
        if not self.keys:
            return pa.array([_NO_ENTITY + suffix] * len(rows), pa.large_binary())
        columns = {name: rows.column(column.source) for name, column in self.keys.items()}
        return encode_entity_keys(columns, {name: column.value_type for name, column in self.keys.items()}, suffix)

    def values(self, rows: pa.RecordBatch) -> dict[str, dict[str, pa.Array]]:
        """Return view -> feature -> serialized values."""
        return {
            view: {name: encode_values(rows.column(c.source), c.value_type) for name, c in features.items()}
            for view, features in self.views.items()
        }

    def events_us(self, rows: pa.RecordBatch) -> Ints:
        """Return the rows' event timestamps (UTC microseconds since 1970)."""
        return microseconds(rows.column(self.event))
