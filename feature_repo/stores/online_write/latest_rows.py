"""Reader, in batches, of the latest row per key that was known at an instant."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from feast.data_source import DataSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob
from feast.repo_config import RepoConfig

from feature_repo.stores.online_write.row_schema import OnlineRowSchema
from feature_repo.stores.wire.value_encoder import microseconds

_log = logging.getLogger(__name__)
_PLACE: Final = "__place"
_ALWAYS: Final = int(np.iinfo(np.int64).min)


@dataclass(frozen=True)
class LatestRows:
    """The latest row per key with an event timestamp in [start, end], as known at ``end``.

    Latest is by event timestamp, then created timestamp. A row that was created after ``end`` was not known then, and
    its key gets the latest row that was. If the offline store's own "latest" is such a row, the key's history is read
    too.
    """

    config: RepoConfig
    store: OfflineStore
    source: DataSource
    shape: OnlineRowSchema
    start: datetime
    end: datetime
    batch_rows: int

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield one row per key, at most ``batch_rows`` at once."""
        hidden: list[pa.RecordBatch] = []
        now, arrived = datetime.now(UTC), 0
        for rows in self._read(self.store.pull_latest_from_table_or_query):
            known = self._known(rows, self.end)
            if known.all():
                yield rows
                continue
            arrived += int((~known & self._known(rows, now)).sum())
            hidden.append(rows.filter(pa.array(~known)).select(self.shape.key_columns))
            if known.any():
                yield rows.filter(pa.array(known))
        if arrived:
            # Rows created later than now (a delivery lag) are not reported: a later run includes them by itself.
            _log.warning(
                "%s: the latest rows of %d keys were created after %s and were not known then; to have them, "
                "materialise up to a later end",
                self.source.name,
                arrived,
                self.end,
            )
        if hidden:
            yield from self._before(pa.Table.from_batches(hidden))

    def _before(self, keys: pa.Table) -> Iterator[pa.RecordBatch]:
        """Yield the latest known rows of the keys whose latest row was not known yet."""
        columns = self.shape.key_columns
        histories = []
        for rows in self._read(self.store.pull_all_from_table_or_query):
            known = rows.filter(pa.array(self._known(rows, self.end)))
            if not columns:  # a view without entities has one key
                histories.append(known)
                continue
            place = pa.array(np.arange(len(known)))
            asked = pa.table({**{name: known.column(name) for name in columns}, _PLACE: place})
            found = asked.join(keys.cast(asked.select(columns).schema), columns, join_type="left semi")
            histories.append(known.take(found.column(_PLACE).combine_chunks()))
        history = pa.Table.from_batches(histories) if histories else None
        if not history:
            return
        order = [(self.shape.event, "ascending")]
        if self.shape.created:
            order.append((self.shape.created, "ascending"))
        history = history.sort_by(order)
        if not columns:
            yield from history.slice(len(history) - 1).combine_chunks().to_batches()
            return
        placed = history.select(columns).append_column(_PLACE, pa.array(np.arange(len(history))))
        last = placed.group_by(columns).aggregate([(_PLACE, "max")]).column(f"{_PLACE}_max")
        yield from history.take(last).combine_chunks().to_batches(max_chunksize=self.batch_rows)

    def _known(self, rows: pa.RecordBatch, at: datetime) -> npt.NDArray[np.bool_]:
        if not self.shape.created:
            return np.ones(len(rows), bool)
        created = rows.column(self.shape.created)
        created_us = microseconds(pc.fill_null(created, pa.scalar(_ALWAYS // 10**9, pa.int64()).cast(created.type)))
        return created_us <= _microseconds(at)

    def _read(self, pull: Any) -> Iterator[pa.RecordBatch]:
        job: RetrievalJob = pull(
            config=self.config,
            data_source=self.source,
            join_key_columns=self.shape.key_columns,
            feature_name_columns=self.shape.feature_columns,
            timestamp_field=self.shape.event,
            created_timestamp_column=self.shape.created,
            start_date=self.start,
            end_date=self.end,
        )
        reader = (
            job.to_reader(self.batch_rows)
            if hasattr(job, "to_reader")
            else job.to_arrow().to_reader(max_chunksize=self.batch_rows)
        )
        for rows in reader:
            for first in range(0, len(rows), self.batch_rows):
                yield rows.slice(first, self.batch_rows)


def _microseconds(instant: datetime) -> int:
    return int(microseconds(pa.array([instant], pa.timestamp("us", "UTC")))[0])
