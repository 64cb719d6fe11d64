"""Feast's DuckDB offline store, with a home to find its files in and no hindsight.

Two things differ from the class it derives from. A source's path is relative to the store's ``home``, so that the
registry holds no machine's path and a container may mount the data anywhere. And a training row never sees a value
that arrived after it was observed: Feast filters by the created timestamp only when asked to, here it always does.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import ibis
import pandas as pd
import pyarrow as pa
from feast.data_source import DataSource
from feast.feature_view import FeatureView
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.ibis import (
    get_historical_features_ibis,
    pull_all_from_table_or_query_ibis,
    pull_latest_from_table_or_query_ibis,
)
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig

from configs.errors import ChurnError

Reader = Callable[[DataSource, str], ibis.Table]


class OfflineTableEmptyError(ChurnError):
    """A feature source has no file yet."""

    error = "offline_table_empty"


class OfflineTableAppendOnlyError(ChurnError):
    """Somebody wrote to the offline table through Feast (`feast push`, a saved data set)."""

    error = "offline_table_append_only"


class HomeOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """Configuration: ``home`` is the data folder, absolute or relative to feature_store.yaml."""

    type: Literal["feature_repo.stores.offline.HomeOfflineStore"] = "feature_repo.stores.offline.HomeOfflineStore"
    home: str


def _reader(config: RepoConfig) -> Reader:
    home = Path(str(config.repo_path)) / config.offline_store.home

    def read(source: DataSource, _repo_path: str) -> ibis.Table:
        if not isinstance(source, FileSource):
            raise TypeError(f"source {source.name} is a {type(source).__name__}; this store reads Parquet FileSources")
        pattern = Path(source.path)
        files = (
            sorted(home.glob(str(pattern))) if not pattern.is_absolute() else sorted(pattern.parent.glob(pattern.name))
        )
        if not files:
            raise OfflineTableEmptyError(
                f"feature source {source.name} has no rows below {home}", "run: churn ingest, then churn build-features"
            )
        # The list is taken once, so that all of a query's parts come from one moment.
        return ibis.read_parquet([str(file) for file in files], union_by_name=True)

    return read


def _refuse_write(_table: pa.Table, source: DataSource, *_rest: Any) -> None:
    # Feast would rewrite a Parquet file in place, which a reader can see half-written.
    raise OfflineTableAppendOnlyError(f"{source.name} is append-only", "rows reach it through churn build-features")


class HomeOfflineStore(DuckDBOfflineStore):
    """The point-in-time join of DuckDB over ``<home>/<source path>``."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,  # noqa: FBT001, FBT002 - the signature is Feast's
        filter_by_created_timestamp: bool = True,  # noqa: ARG004, FBT001, FBT002 - always on: no hindsight
    ) -> RetrievalJob:
        """Join features to the rows of ``entity_df`` as they were known at each row's event timestamp."""
        return get_historical_features_ibis(
            config=config,
            feature_views=feature_views,
            feature_refs=feature_refs,
            entity_df=entity_df,
            registry=registry,
            project=project,
            full_feature_names=full_feature_names,
            data_source_reader=_reader(config),
            data_source_writer=_refuse_write,
            staging_location=None,
            staging_location_endpoint_override=None,
            filter_by_created_timestamp=True,
        )

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
    ) -> RetrievalJob:
        """Return the newest row a key in [start_date, end_date]: what materialisation writes online."""
        return pull_latest_from_table_or_query_ibis(
            config=config,
            data_source=data_source,
            join_key_columns=join_key_columns,
            feature_name_columns=feature_name_columns,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            start_date=start_date,
            end_date=end_date,
            data_source_reader=_reader(config),
            data_source_writer=_refuse_write,
        )

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
    ) -> RetrievalJob:
        """Return every row in [start_date, end_date]."""
        return pull_all_from_table_or_query_ibis(
            config=config,
            data_source=data_source,
            join_key_columns=join_key_columns,
            feature_name_columns=feature_name_columns,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            start_date=start_date,
            end_date=end_date,
            data_source_reader=_reader(config),
            data_source_writer=_refuse_write,
        )

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,  # noqa: ARG004 - the signature is Feast's
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,  # noqa: ARG004
    ) -> None:
        """Refuse: see :class:`OfflineTableAppendOnlyError`."""
        _refuse_write(table, feature_view.batch_source)

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> list[tuple[str, str]]:
        """Return (column, Arrow type) of a source; Feast's own looks for the path below feature_repo."""
        schema = _reader(config)(data_source, "").schema().to_pyarrow()
        return [(column.name, str(column.type)) for column in schema]

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Accept any relative path: `feast apply` comes before the first data on a new clone."""
        if isinstance(data_source, FileSource) and not Path(data_source.path).is_absolute():
            return
        super().validate_data_source(config, data_source)
