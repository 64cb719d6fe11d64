"""Feast's monitoring (`feast monitor run`) on a home: input and results are below the home."""

from __future__ import annotations

import fcntl
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast.data_source import DataSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore
from feast.monitoring.metrics_calculator import MetricsCalculator
from feast.monitoring.monitoring_utils import MONITORING_DIR, monitoring_parquet_meta
from feast.repo_config import RepoConfig

from feature_repo.files.atomic_writes import storage_errors, temporary_folder
from feature_repo.files.duckdb_session import Limits
from feature_repo.files.regular_files import open_lock
from feature_repo.stores.point_in_time.latest_known_rows import Ints
from feature_repo.stores.point_in_time.parquet_source import (
    OfflineTableEmptyError,
    ParquetDataset,
    SourceColumnError,
    micros,
)

_ENDLESS: Final = int(np.iinfo(np.int64).max)


class FeatureMetricsStore(DuckDBOfflineStore):
    """Offline store methods of Feast's monitoring: metrics of a source, and storage of the results.

    Feast's DuckDB store looks for both below feature_repo. Results are Feast's own Parquet files, in
    ``<home>/feast_monitoring``; each write of them appears whole, and concurrent runs lose nothing.
    """

    @staticmethod
    def compute_monitoring_metrics(
        config: RepoConfig,
        data_source: DataSource,
        feature_columns: list[tuple[str, str]],
        timestamp_field: str,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        histogram_bins: int = 20,
        top_n: int = 10,
    ) -> list[dict[str, Any]]:
        """Return Feast's metrics of each (feature, "numeric" or "categorical") over event times [start, end].

        One column is in memory at a time. NaN and infinities count as nulls. A list counts as one row, its elements as
        the values. A source without a file has no metrics, which is no error.

        Raises
        ------
        SourceColumnError
            If the source lacks a column, or this store can't read it.
        """
        from_us = micros(start_date) if start_date else None
        until_us = micros(end_date) if end_date else _ENDLESS
        stored = {new: old for old, new in data_source.field_mapping.items()}
        event = stored.get(timestamp_field, timestamp_field)
        parts = _listed(config, data_source)
        if parts is None:
            return []
        parts = parts.within(event, from_us, until_us)
        places = parts.between(event, from_us, until_us)
        calculator = MetricsCalculator(histogram_bins, top_n)
        found = []
        for name, kind in feature_columns:
            column = _column(parts, places, stored.get(name, name))
            figures = calculator.compute_all(pa.table({name: _values(column)}), [(name, kind)])
            rows = {"row_count": len(column), "null_count": column.null_count}
            if pa.types.is_list(column.type):
                figures = [each | rows | {"null_rate": column.null_count / max(len(column), 1)} for each in figures]
            found += figures
        return found

    @staticmethod
    def get_monitoring_max_timestamp(
        config: RepoConfig, data_source: DataSource, timestamp_field: str
    ) -> datetime | None:
        """Return the newest event timestamp, UTC; None where the source has no file or no instant."""
        stored = {new: old for old, new in data_source.field_mapping.items()}
        event = stored.get(timestamp_field, timestamp_field)
        parts = _listed(config, data_source)
        if parts is None:
            return None
        column = _column(parts, parts.between(event, None, _ENDLESS), event)
        newest = pc.max(column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False)).as_py()
        return newest.replace(tzinfo=newest.tzinfo or UTC) if newest else None

    @staticmethod
    def ensure_monitoring_tables(config: RepoConfig) -> None:
        """Create the files of the results, empty, where they are missing."""
        with _results(config, ["feature", "feature_view", "feature_service", "job"]) as aside:
            DuckDBOfflineStore.ensure_monitoring_tables(aside)

    @staticmethod
    def save_monitoring_metrics(config: RepoConfig, metric_type: str, metrics: list[dict[str, Any]]) -> None:
        """Store results; a result replaces the previous one of the same feature, date and granularity."""
        with _results(config, [metric_type]) as aside, warnings.catch_warnings():
            # Feast concatenates an empty frame and a full one at each first result.
            warnings.filterwarnings("ignore", "The behavior of DataFrame concatenation", FutureWarning)
            DuckDBOfflineStore.save_monitoring_metrics(aside, metric_type, metrics)

    @staticmethod
    def query_monitoring_metrics(config: RepoConfig, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """Return results as Feast's store reads them."""
        below = _below(config, Limits.of(config).home)
        found: list[dict[str, Any]] = DuckDBOfflineStore.query_monitoring_metrics(below, *args, **kwargs)
        return found

    @staticmethod
    def clear_monitoring_baseline(config: RepoConfig, *args: Any, **kwargs: Any) -> None:
        """Remove the mark of a baseline from results."""
        with _results(config, ["feature"]) as aside:
            DuckDBOfflineStore.clear_monitoring_baseline(aside, *args, **kwargs)


def _listed(config: RepoConfig, source: DataSource) -> ParquetDataset | None:
    try:
        return ParquetDataset.open(Limits.of(config).home, source)
    except OfflineTableEmptyError:
        return None


def _column(parts: ParquetDataset, places: Ints, name: str) -> pa.ChunkedArray:
    if parts.schema.get_field_index(name) < 0:
        raise SourceColumnError(f"source {parts.name} has no column {name}", "see the view's schema")
    schema = pa.schema([parts.schema.field(name)])
    return pa.Table.from_batches(list(parts.batches(places, [name])), schema).column(0)


def _values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the values to count: the elements of lists; numbers that are not finite become null."""
    while pa.types.is_list(column.type):
        column = pc.list_flatten(column)
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
    return column


def _below(config: RepoConfig, folder: Path) -> RepoConfig:
    """Return the configuration with another repository folder, below which Feast keeps its results."""
    return config.model_copy(update={"repo_path": folder})


@contextmanager
def _results(config: RepoConfig, metric_types: Sequence[str]) -> Iterator[RepoConfig]:
    """Yield a configuration that writes to a copy of these results, which replaces them at the end.

    Feast rewrites the files in place: a killed run would leave a damaged file, and every later run would fail.
    """
    results = Limits.of(config).home / MONITORING_DIR
    names = [monitoring_parquet_meta(metric_type)[0] for metric_type in metric_types]
    with storage_errors():
        results.mkdir(parents=True, exist_ok=True)
        with open_lock(results / ".lock") as lock, temporary_folder(results) as aside:
            fcntl.flock(lock, fcntl.LOCK_EX)
            copies = aside / MONITORING_DIR
            copies.mkdir()
            for name in names:
                if (results / name).is_file():
                    shutil.copyfile(results / name, copies / name)
            yield _below(config, aside)
            for name in names:
                if (copies / name).is_file():
                    (copies / name).replace(results / name)
