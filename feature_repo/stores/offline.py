"""Feast offline store over append-only Parquet files, with an exact point-in-time join.

It differs from Feast's DuckDB store, whose configuration and file of monitoring results it takes over: a source's path
is relative to the store's ``home``, so that the registry holds no machine's path; a training row never gets a value
that arrived after it was observed, even if that is requested; rows keep their order and number; files are added, never
rewritten; a query stays within a memory limit. See docs/decisions/0012-point-in-time-join.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL, FeatureView
from feast.infra.offline_stores.duckdb import DuckDBOfflineStoreConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, FileSource
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig

from configs.errors import ChurnError
from feature_repo.files.duckdb_session import Limits, session
from feature_repo.files.parquet_tables import OfflineRowsError, append_part, cast_rows, content_name, folder_of
from feature_repo.stores.feast_patches.faults import install_patches
from feature_repo.stores.point_in_time.asof_join import Times, latest, plan_scan
from feature_repo.stores.point_in_time.entity_df import sql_type
from feature_repo.stores.point_in_time.feature_metrics import FeatureMetricsStore
from feature_repo.stores.point_in_time.historical_query import HistoricalQuery
from feature_repo.stores.point_in_time.latest_known_rows import Ints
from feature_repo.stores.point_in_time.parquet_source import (
    ParquetDataset,
    SourceColumnError,
    has_files,
    micros,
    readable,
)
from feature_repo.stores.point_in_time.retrieval_job import AsofRetrievalJob

_log = logging.getLogger(__name__)


class HindsightError(ChurnError):
    """The request is for values that had not arrived at the instant of the row."""

    error = "hindsight"


class AsofOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """Configuration of the offline store, section ``offline_store`` of feature_store.yaml.

    Parameters
    ----------
    home
        The data folder, absolute or relative to feature_store.yaml.
    memory_max_mb
        Memory of the whole process for one query, MiB; beyond it the query works in buckets and spills.
    threads
        DuckDB's threads for one query.

    Examples
    --------
    >>> from feature_repo.stores.offline import AsofOfflineStoreConfig
    >>> AsofOfflineStoreConfig(home="../data").memory_max_mb
    4096
    """

    type: Literal["feature_repo.stores.offline.AsofOfflineStore"] = "feature_repo.stores.offline.AsofOfflineStore"
    home: str
    memory_max_mb: int = 4096
    """Memory of the whole process for one query, MiB; beyond it the query works in buckets and spills."""
    threads: int = 2


class AsofOfflineStore(FeatureMetricsStore):
    """Offline store with a point-in-time join over ``<home>/<source path>``.

    Feast calls its methods; :func:`feature_repo.stores.historical_features.get_historical_features` shows a join.

    Examples
    --------
    A request for values that had not arrived is refused, not answered:

    >>> from feature_repo.stores.offline import AsofOfflineStore
    >>> AsofOfflineStore.get_historical_features(None, [], [], None, None, "churn", filter_by_created_timestamp=False)
    Traceback (most recent call last):
        ...
    feature_repo.stores.offline.HindsightError: filter_by_created_timestamp=False asks for values that ...
    """

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(  # noqa: PLR0913, PLR0917 - Feast's signature
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,  # noqa: FBT001, FBT002 - the signature is Feast's
        filter_by_created_timestamp: bool = True,  # noqa: FBT001, FBT002 - the signature is Feast's
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Join features to the entity rows as they were known at each row's event timestamp.

        Parameters
        ----------
        config, feature_views, feature_refs, registry, project, full_feature_names
            As Feast passes them.
        entity_df
            A pandas frame, an Arrow table, the path of a Parquet file or a SELECT. None: the rows are all keys that
            have a value with an event timestamp in [start_date, end_date], as of end_date.
        filter_by_created_timestamp
            Must be True.
        start_date, end_date
            Only without ``entity_df``; UTC if naive.

        Returns
        -------
        RetrievalJob
            Runs the join when it is read; the rows keep their order and number.

        Raises
        ------
        EntityRowsError, SourceColumnError, OfflineTableEmptyError
            If rows and views don't fit, or a source has no file.
        HindsightError
            For ``filter_by_created_timestamp=False``. Feast passes on only True: if the rule leaves out all values of
            a call with Feast's default False, the log reports it.
        """
        if not filter_by_created_timestamp:
            raise HindsightError(
                "filter_by_created_timestamp=False asks for values that were not known at the rows' instants",
                "leave it out: this offline store never gives them (docs/decisions/0012-point-in-time-join.md)",
            )
        query = HistoricalQuery(Limits.of(config), registry, project, feature_views, feature_refs, full_feature_names)
        if entity_df is None:
            return query.over(_utc(start_date), _utc(end_date))
        return query.at(entity_df)

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> AsofRetrievalJob:
        """Return per key the greatest row by (event, created, place) with event in [start_date, end_date].

        Materialisation writes these rows online. Rows without a key or a timestamp do not count. Without join keys it
        is the greatest row of all, along with Feast's column for "no entity".

        Returns
        -------
        AsofRetrievalJob
            ``to_reader`` streams the rows in constant memory, in the order of the files, not of the keys.

        Raises
        ------
        SourceColumnError, OfflineTableEmptyError
            When the job runs: if the source lacks a column, or has no file.
        """
        limits = Limits.of(config)
        times = Times(timestamp_field, created_timestamp_column or None)

        def listed() -> ParquetDataset:
            return ParquetDataset.open(limits.home, data_source).within(
                timestamp_field, micros(start_date), micros(end_date)
            )

        def places(kept: ParquetDataset) -> Ints:
            keys = [(name, _sql_type(kept, name)) for name in join_key_columns]
            _, asked = plan_scan(kept, times, keys, (micros(start_date), micros(end_date)), None)
            with session(limits) as connection:
                return latest(connection, asked)

        columns = [*join_key_columns, *feature_name_columns, timestamp_field, created_timestamp_column]
        job = _rows(limits, listed, columns, places)
        return job if join_key_columns else job.with_constant(DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> AsofRetrievalJob:
        """Return every row with event in [start_date, end_date], in the order of the files.

        As in Feast nothing is read before the job runs: a saved data set whose files are gone is still known. Without
        join keys the rows have Feast's column for "no entity" in addition.
        """
        limits = Limits.of(config)
        from_us = micros(start_date) if start_date else None
        until_us = micros(end_date) if end_date else int(np.iinfo(np.int64).max)

        def listed() -> ParquetDataset:
            return ParquetDataset.open(limits.home, data_source).within(timestamp_field, from_us, until_us)

        def places(kept: ParquetDataset) -> Ints:
            return kept.between(timestamp_field, from_us, until_us)

        columns = [*join_key_columns, *feature_name_columns, timestamp_field, created_timestamp_column]
        job = _rows(limits, listed, columns, places)
        return job if join_key_columns else job.with_constant(DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Append the rows as one immutable part, named after its content: a repeated write adds nothing.

        Parameters
        ----------
        config, feature_view
            As Feast passes them.
        table
            Rows with the source's columns; naive timestamps are UTC.
        progress
            Called with the number of rows.

        Raises
        ------
        OfflineRowsError
            If the rows don't have the source's columns and types, or lack a key or a timestamp.
        TableAppendOnlyError
            If the source is a single file.
        """
        source, limits = feature_view.batch_source, Limits.of(config)
        folder = folder_of(limits.home / readable(source).path, limits.home)
        stored = {new: old for old, new in source.field_mapping.items()}
        required = [stored.get(key, key) for key in feature_view.join_keys]
        required += [name for name in (source.timestamp_field, source.created_timestamp_column) if name]
        parts = ParquetDataset.open(limits.home, source)
        rows = cast_rows(_naive_as_utc(table, parts.schema), parts.schema, tuple(required))
        if len(rows):
            append_part(folder, content_name("push", rows), rows)
        if progress:
            progress(len(rows))

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Append logged features as immutable parts below the destination, in folders by ``partition_by``.

        Raises
        ------
        SourceColumnError
            If the destination is not one of files.
        OfflineRowsError
            If a column of ``partition_by`` is null in some rows; nothing is written.
        """
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise SourceColumnError(
                f"logs can't go to a {type(destination).__name__}", "give the service a FileLoggingDestination"
            )
        schema = source.get_schema(registry)
        table = pq.read_table(data) if isinstance(data, Path) else data
        rows = cast_rows(table, schema, (source.get_log_timestamp_column(),))
        home = Limits.of(config).home
        folder = folder_of(home / readable(destination.to_data_source()).path, home)
        by = list(destination.partition_by or [])
        unnamed = [name for name in by if rows.column(name).null_count]
        if unnamed:
            raise OfflineRowsError(
                f"{', '.join(unnamed)} names the folders of the log and is null in some rows",
                "give it a value in each row, or leave it out of partition_by; nothing was written",
            )
        for values in rows.select(by).group_by(by).aggregate([]).to_pylist() if by else [{}]:
            chosen = rows
            for name, value in values.items():
                chosen = chosen.filter(pc.equal(chosen.column(name), pa.scalar(value)))
            place = folder.joinpath(*(f"{name}={value}" for name, value in values.items()))
            if len(chosen):
                append_part(place, content_name("log", chosen), chosen.drop_columns(by))

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> list[tuple[str, str]]:
        """Return (column, Arrow type) of a source; Feast's own method resolves the path below feature_repo."""
        return _columns(data_source, config)

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:  # noqa: ARG002 - Feast's signature
        """Accept every source that this store can read, even without files.

        On a new clone `feast apply` runs before the first data exists.

        Raises
        ------
        SourceColumnError
            If the source does not consist of Parquet files on a disk.
        """
        path = readable(data_source).path
        if Path(path).is_absolute() and not has_files(Path(), data_source):
            # Below the home there may be no file yet; an absolute path is more likely mistyped.
            _log.warning("the path of source %s does not exist, or holds no Parquet file", data_source.name)


def _columns(source: DataSource, config: RepoConfig) -> list[tuple[str, str]]:
    return [(column.name, str(column.type)) for column in ParquetDataset.open(Limits.of(config).home, source).schema]


_FEASTS_COLUMNS: Final = FileSource.get_table_column_names_and_types


def _columns_of_source(source: FileSource, config: RepoConfig) -> Iterable[tuple[str, str]]:
    if isinstance(config.offline_store, AsofOfflineStoreConfig):
        return _columns(source, config)
    columns: Iterable[tuple[str, str]] = _FEASTS_COLUMNS(source, config)
    return columns


# Feast's inference and its offline server call the source's method, which knows only feature_repo and no pattern.
FileSource.get_table_column_names_and_types = _columns_of_source
install_patches()


def _rows(
    limits: Limits,
    listed: Callable[[], ParquetDataset],
    columns: list[str | None],
    places: Callable[[ParquetDataset], Ints],
) -> AsofRetrievalJob:
    """Return a job that lists a source's files when it first runs, and uses the same files from then on."""
    names = list(dict.fromkeys(name for name in columns if name))

    @cache
    def parts() -> ParquetDataset:
        found = listed()
        missing = [name for name in names if found.schema.get_field_index(name) < 0]
        if missing:
            raise SourceColumnError(f"source {found.name} has no column {', '.join(missing)}", "see the view's schema")
        return found

    return AsofRetrievalJob(
        limits.home,
        lambda: pa.schema([parts().schema.field(name) for name in names]),
        lambda: parts().batches(places(parts()), names),
    )


def _sql_type(parts: ParquetDataset, column: str) -> str:
    index = parts.schema.get_field_index(column)
    if index < 0:
        raise SourceColumnError(f"source {parts.name} has no column {column}", "it is a join key of the view")
    return sql_type(parts.schema.field(index).type)


def _naive_as_utc(table: pa.Table, schema: pa.Schema) -> pa.Table:
    for number, field in enumerate(table.schema):
        index = schema.get_field_index(field.name)
        wanted = schema.field(index).type if index >= 0 else field.type
        if pa.types.is_timestamp(field.type) and pa.types.is_timestamp(wanted) and wanted.tz and not field.type.tz:
            column = pc.assume_timezone(table.column(number), "UTC")
            table = table.set_column(number, field.name, column)
    return table


def _utc(instant: datetime | None) -> datetime | None:
    return instant.replace(tzinfo=UTC) if instant and instant.tzinfo is None else instant
