"""Query of historical features: groups views into joins, names the columns, builds the result table."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast.errors import RequestDataNotFoundInEntityDfException
from feast.feature_view import DUMMY_ENTITY_ID, FeatureView
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView

from feature_repo.files.duckdb_session import Limits, session
from feature_repo.stores.point_in_time.asof_join import Times, find_matches, plan_scan
from feature_repo.stores.point_in_time.entity_df import ENTITY_TIMESTAMP, EntityFrame, EntityRowsError, sql_type
from feature_repo.stores.point_in_time.latest_known_rows import Ints
from feature_repo.stores.point_in_time.parquet_source import ParquetDataset, SourceColumnError
from feature_repo.stores.point_in_time.retrieval_job import AsofRetrievalJob, one_table

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RequestedView:
    """Requested features of one view: (name in the result, source column), and the maximum age of a value."""

    view: str
    columns: tuple[tuple[str, str], ...]
    ttl_us: int | None


@dataclass
class ViewJoin:
    """One search of one source, shared by all views with the same files, times and keys."""

    parts: ParquetDataset
    times: Times
    keys: tuple[tuple[str, str], ...]
    """(entity column, source column)."""
    views: list[RequestedView]

    @property
    def ttl_us(self) -> int | None:
        """The greatest age that one of the views allows, microseconds; None if one has no limit."""
        ages = [view.ttl_us for view in self.views]
        return None if None in ages else max(age for age in ages if age is not None)


class HistoricalQuery:
    """One request for historical features; the files are listed once, at construction."""

    def __init__(
        self,
        limits: Limits,
        registry: BaseRegistry,
        project: str,
        feature_views: Sequence[FeatureView],
        feature_refs: Sequence[str],
        full_feature_names: bool,  # noqa: FBT001 - Feast's own flag
    ) -> None:
        self._limits = limits
        self._refs = list(feature_refs)
        self._full = full_feature_names
        self._on_demand = OnDemandFeatureView.get_requested_odfvs(self._refs, project, registry)
        self._joins = _joins(limits, feature_views, self._refs, full=full_feature_names)

    def at(self, entity_df: Any) -> AsofRetrievalJob:
        """Return the job for the features of each entity row at its instant."""
        entities = EntityFrame.from_any(entity_df, self._limits)
        self._refuse(entities)
        return self._job(entities, None)

    def over(self, start: datetime | None, end: datetime | None) -> AsofRetrievalJob:
        """Return the job for every key with a value from [start, end], as of end.

        The default end is now, the default start the greatest TTL before the end.
        """
        end = end or datetime.now(UTC)
        ages = [join.ttl_us for join in self._joins]
        if start is None:
            if not ages or None in ages:
                raise EntityRowsError("without entity rows a start_date is needed", "a view's values never expire")
            start = end - timedelta(microseconds=max(age for age in ages if age is not None))
        from_us, until_us = (int(pa.scalar(at, pa.timestamp("us", "UTC")).value) for at in (start, end))
        with session(self._limits) as connection:
            keys = _keys_between(connection, self._joins, from_us, until_us)
        instants = pa.array(np.full(len(keys), until_us, dtype=np.int64)).cast(pa.timestamp("us", "UTC"))
        entities = EntityFrame(keys.append_column(ENTITY_TIMESTAMP, instants), ENTITY_TIMESTAMP)
        self._refuse(entities)
        return self._job(entities, from_us)

    def _job(self, entities: EntityFrame, from_us: int | None) -> AsofRetrievalJob:
        column = entities.table.column(entities.observed_at)
        bounds = pc.min_max(column).as_py() if len(entities.table) else {"min": None, "max": None}
        metadata = RetrievalMetadata(
            features=self._refs,
            keys=[name for name in entities.table.column_names if name != entities.observed_at],
            min_event_timestamp=_aware(bounds["min"]),
            max_event_timestamp=_aware(bounds["max"]),
        )
        return AsofRetrievalJob(
            self._limits.home,
            lambda: self._schema(entities),
            one_table(lambda: self._run(entities, from_us)),
            metadata,
            self._on_demand,
            self._full,
        )

    def _schema(self, entities: EntityFrame) -> pa.Schema:
        schema = entities.table.schema
        for join in self._joins:
            for view in join.views:
                for name, column in view.columns:
                    schema = schema.append(pa.field(name, join.parts.schema.field(column).type))
        return schema

    def _run(self, entities: EntityFrame, from_us: int | None) -> pa.Table:
        columns: dict[str, Any] = {}
        observed = entities.observed_us()
        for join in self._joins:
            columns |= _joined(join, entities, observed, from_us, self._limits)
        schema = self._schema(entities)
        rest = [columns[name] for name in schema.names[len(entities.table.schema) :]]
        return pa.table([*entities.table.columns, *rest], schema=schema)

    def _refuse(self, entities: EntityFrame) -> None:
        """Raise for a column name that would occur twice, and for missing request data."""
        names = [name for join in self._joins for view in join.views for name, _ in view.columns]
        computed = [
            f"{view.projection.name_to_use()}__{feature.name}" if self._full else feature.name
            for view in self._on_demand
            for feature in view.projection.features
            if f"{view.projection.name_to_use()}:{feature.name}" in self._refs
        ]
        taken = set(entities.table.column_names)
        clash = sorted({name for name in (*names, *computed) if name in taken})
        if clash:
            raise EntityRowsError(
                f"the entity rows have a column called like a feature: {', '.join(clash)}",
                "rename the column, or ask with full_feature_names=True",
            )
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise EntityRowsError(
                f"two views have a feature called {', '.join(doubled)}", "ask with full_feature_names=True"
            )
        for view in self._on_demand:
            for name in view.get_request_data_schema():
                if name not in taken:
                    raise RequestDataNotFoundInEntityDfException(feature_name=name, feature_view_name=view.name)


def _joins(limits: Limits, views: Sequence[FeatureView], refs: Sequence[str], *, full: bool) -> list[ViewJoin]:
    joins: dict[Any, ViewJoin] = {}
    listed: dict[tuple[str, str], ParquetDataset] = {}
    for view in views:
        source = view.batch_source
        if source is None:
            raise SourceColumnError(f"view {view.name} has no batch source", "it can't be asked for the past")
        name = view.projection.name_to_use()
        stored = {new: old for old, new in source.field_mapping.items()}
        wanted = list(dict.fromkeys(ref.split(":", 1)[1] for ref in refs if ref.split(":", 1)[0] == name))
        prefix = f"{view.projection.name_alias or view.name}__" if full else ""
        renamed = view.projection.join_key_map or {}
        keys = tuple(
            (renamed.get(entity.name, entity.name), stored.get(entity.name, entity.name))
            for entity in view.entity_columns
            if entity.name != DUMMY_ENTITY_ID
        )
        at = (source.name, str(getattr(source, "path", "")))
        if at not in listed:
            listed[at] = ParquetDataset.open(limits.home, source)
        parts = listed[at]
        columns = tuple((prefix + feature, stored.get(feature, feature)) for feature in wanted)
        missing = [column for _, column in columns if parts.schema.get_field_index(column) < 0]
        if missing:
            raise SourceColumnError(
                f"source {source.name} has no column {', '.join(missing)}", f"view {view.name} needs it"
            )
        ttl_us = view.ttl // timedelta(microseconds=1) if view.ttl else None
        times = Times(
            stored.get(source.timestamp_field, source.timestamp_field),
            stored.get(source.created_timestamp_column, source.created_timestamp_column) or None,
        )
        join = joins.setdefault((at, times, keys), ViewJoin(parts, times, keys, []))
        join.views.append(RequestedView(name, columns, ttl_us or None))
    return list(joins.values())


def _typed_keys(join: ViewJoin) -> list[tuple[str, pa.DataType]]:
    typed = []
    for entity, column in join.keys:
        index = join.parts.schema.get_field_index(column)
        if index < 0:
            raise SourceColumnError(f"source {join.parts.name} has no column {column}", "it is a join key of the view")
        typed.append((entity, join.parts.schema.field(index).type))
    return typed


def _joined(
    join: ViewJoin,
    entities: EntityFrame,
    observed: Ints,
    from_us: int | None,
    limits: Limits,
) -> dict[str, Any]:
    probes, kinds = entities.probes(_typed_keys(join), observed)
    keys = [(column, kind) for (_, column), kind in zip(join.keys, kinds, strict=True)]
    least, most = (int(observed.min()), int(observed.max())) if len(observed) else (0, 0)
    oldest = from_us if join.ttl_us is None else max(least - join.ttl_us, from_us or least - join.ttl_us)
    parts, asked = plan_scan(join.parts, join.times, keys, (oldest, most), most)
    place, event = find_matches(parts, asked, probes, limits)
    if join.times.created and len(place) and not (place >= 0).any():
        _tell_hindsight(join, keys, (oldest, most), probes, limits)
    del probes
    if from_us is not None:
        place = np.where(event >= from_us, place, -1)
    # Views with the same TTL share one read of the files.
    answers: dict[str, Any] = {}
    for ttl_us in {view.ttl_us for view in join.views}:
        alive = place if ttl_us is None else np.where(event >= observed - ttl_us, place, -1)
        columns = [pair for view in join.views if view.ttl_us == ttl_us for pair in view.columns]
        source_columns = list(dict.fromkeys(column for _, column in columns))
        taken = parts.take(alive, source_columns, limits.threads)
        answers |= {name: taken.column(column) for name, column in columns}
    return answers


def _tell_hindsight(
    join: ViewJoin, keys: list[tuple[str, str]], window_us: tuple[int | None, int], probes: pa.Table, limits: Limits
) -> None:
    """Log a warning if no entity row has a value only because all were created after the rows' instants.

    Feast does not pass ``filter_by_created_timestamp=False`` on, so it can't be refused here.
    """
    parts, anyhow = plan_scan(join.parts, Times(join.times.event, None), keys, window_us, None)
    found, _ = find_matches(parts, anyhow, probes, limits)
    if (found >= 0).any():
        _log.warning(
            "%s: values of %d of %d entity rows were created after the rows' instants and are left out: they were not "
            "known then (filter_by_created_timestamp is always on)",
            join.parts.name,
            int((found >= 0).sum()),
            len(found),
        )


def _keys_between(
    connection: duckdb.DuckDBPyConnection, joins: Sequence[ViewJoin], from_us: int, until_us: int
) -> pa.Table:
    """Return the distinct keys with an event in the window, known at its end, ordered: one row per key."""
    names = list(dict.fromkeys(entity for join in joins for entity, _ in join.keys))
    if any({entity for entity, _ in join.keys} != set(names) for join in joins):
        raise EntityRowsError(
            "without entity rows all views must have the same join keys", "give entity rows, or ask view by view"
        )
    selects = []
    for join in joins:
        typed = [(column, sql_type(kind)) for (_, kind), (_, column) in zip(_typed_keys(join), join.keys, strict=True)]
        _, asked = plan_scan(join.parts, join.times, typed, (from_us, until_us), until_us)
        if asked.files:
            order = [entity for entity, _ in join.keys]
            listed = ", ".join(f'k{order.index(name)} AS "{name}"' for name in names)
            whole = " AND ".join([f"k{number} IS NOT NULL" for number in range(len(names))] or ["true"])
            selects.append(f"SELECT {listed} FROM ({asked.sql()}) WHERE {whole}")  # noqa: S608 - quoted
    if not selects or not names:
        kinds = dict(_typed_keys(joins[0])) if joins else {}
        return pa.table({name: pa.array([], kinds[name]) for name in names})
    quoted = ", ".join(f'"{name}"' for name in names)
    union = " UNION ".join(selects)
    return connection.execute(f"SELECT DISTINCT {quoted} FROM ({union}) ORDER BY ALL").fetch_arrow_table()  # noqa: S608


def _aware(instant: datetime | None) -> datetime | None:
    return instant.replace(tzinfo=UTC) if instant is not None and instant.tzinfo is None else instant
