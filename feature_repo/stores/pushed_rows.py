"""Rows as Feast hands them to an online store's own writer: by push, ``write_to_online_store`` and its local engine."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from feature_repo.stores.parts import micros

FeastRows = Sequence[tuple[EntityKey, dict[str, Value], datetime, datetime | None]]
_log = logging.getLogger(__name__)


class PushedRow(NamedTuple):
    """A row: serialized entity key, values, event and created timestamp (UTC microseconds since 1970)."""

    key: bytes
    values: Mapping[str, Value]
    event_us: int
    created_us: int | None


def pushed_rows(rows: FeastRows, key_version: int) -> list[PushedRow]:
    """Return the rows in their order; an instant without a zone is UTC, as Feast has it."""
    return [
        PushedRow(
            serialize_entity_key(key, entity_key_serialization_version=key_version),
            values,
            micros(event),
            None if created is None else micros(created),
        )
        for key, values, event, created in rows
    ]


def tell_kept(view: str, kept: int, of: int) -> None:
    """Log how many rows of a view were not written, if any, because the online store holds later ones."""
    if kept:
        _log.warning("%s: %d of %d rows not written, the online store holds a later event timestamp", view, kept, of)
