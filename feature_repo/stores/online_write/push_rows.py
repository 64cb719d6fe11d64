"""Rows that Feast passes to an online store's own writer.

They come from a push, from ``write_to_online_store`` or from Feast's local engine.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from configs.errors import ChurnError
from feature_repo.stores.point_in_time.parquet_source import micros

_NO_ENTITY: Final = EntityKey(join_keys=[DUMMY_ENTITY_ID], entity_values=[Value(string_val=DUMMY_ENTITY_VAL)])
"""Online key of the one row of a view without entities; a push passes this row without a key."""
FeastRows = Sequence[tuple[EntityKey, dict[str, Value], datetime, datetime | None]]
_log = logging.getLogger(__name__)


class OnlineRowsError(ChurnError):
    """Rows for the online store do not fit it; nothing was written."""

    error = "online_rows_unfit"


class PushedRow(NamedTuple):
    """A row: serialized entity key, values, event and created timestamp (UTC microseconds since 1970)."""

    key: bytes
    values: Mapping[str, Value]
    event_us: int
    created_us: int | None


def pushed_rows(rows: FeastRows, key_version: int) -> list[PushedRow]:
    """Return the rows in their order; an instant without a zone is UTC, as in Feast.

    A null created timestamp is None. Raises OnlineRowsError for a null event timestamp: such a row could not be
    compared with a later one, and none would ever replace it.
    """
    # Feast turns a null into pandas' NaT, which equals no instant, itself included.
    if any(event != event for _, _, event, _ in rows):  # noqa: PLR0124
        raise OnlineRowsError("nulls in the event timestamp", "give each row its instant; nothing was written")
    return [
        PushedRow(
            serialize_entity_key(key if key.join_keys else _NO_ENTITY, entity_key_serialization_version=key_version),
            values,
            micros(event),
            None if created is None or created != created else micros(created),  # noqa: PLR0124
        )
        for key, values, event, created in rows
    ]


def tell_kept(view: str, kept: int, of: int) -> None:
    """Log how many rows of a view were not written, if any, because the online store holds later ones."""
    if kept:
        _log.warning("%s: %d of %d rows not written, the online store holds a later event timestamp", view, kept, of)
