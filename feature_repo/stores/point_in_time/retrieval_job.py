"""Feast's retrieval jobs over the offline tables: made with the request, run when the result is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage

from feature_repo.files.atomic_writes import remove, storage_errors, sync_folder, temporary_file
from feature_repo.files.parquet_tables import TableAppendOnlyError, before_wildcard, folder_of
from feature_repo.stores.point_in_time.parquet_source import readable


class AsofRetrievalJob(RetrievalJob):
    """Result of a query, as a table or as a stream of record batches.

    Parameters
    ----------
    schema
        The columns of the result, before on-demand views.
    batches
        Runs the query and yields its result. Called once per read of the job.
    """

    def __init__(
        self,
        home: Path,
        schema: Callable[[], pa.Schema],
        batches: Callable[[], Iterator[pa.RecordBatch]],
        metadata: RetrievalMetadata | None = None,
        on_demand: list[OnDemandFeatureView] | None = None,
        full_feature_names: bool = False,  # noqa: FBT001, FBT002 - Feast's own flag
    ) -> None:
        super().__init__()
        self._home = home
        self._schema = schema
        self._batches = batches
        self._metadata = metadata
        self._on_demand = on_demand or []
        self._full_feature_names = full_feature_names

    @property
    def full_feature_names(self) -> bool:
        """Whether features are named ``view__feature``."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[Any]:
        """The views that Feast computes on the result, each on its declared columns."""
        return [DeclaredColumnsView(view) for view in self._on_demand]

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """The request, for saved data sets; None for whole tables."""
        return self._metadata

    def to_reader(self, rows_per_batch: int = 65_536) -> pa.RecordBatchReader:
        """Return a stream of batches of at most ``rows_per_batch`` rows, without on-demand views.

        Of a whole table only a few row groups are in memory at a time.
        """
        return pa.RecordBatchReader.from_batches(self._schema(), self._cut(rows_per_batch))

    def with_constant(self, name: str, text: str) -> AsofRetrievalJob:
        """Return the job of a whole table with an additional column, the same text in each row."""

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in self._batches():
                yield batch.append_column(name, pa.array([text] * len(batch), pa.string()))

        return AsofRetrievalJob(self._home, lambda: self._schema().append(pa.field(name, pa.string())), batches)

    def _cut(self, rows: int) -> Iterator[pa.RecordBatch]:
        for batch in self._batches():
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002 - Feast's signature
        return pa.Table.from_batches(list(self._batches()), self._schema())

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        frame: pd.DataFrame = self._to_arrow_internal(timeout).to_pandas()
        return frame

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:  # noqa: ARG002, FBT001, FBT002 - Feast's signature
        """Write the result, including on-demand views, as one Parquet file that appears whole.

        Raises
        ------
        SavedDatasetLocationAlreadyExists
            If something is there and ``allow_overwrite`` is off.
        TableAppendOnlyError
            If ``storage`` is no SavedDatasetFileStorage, or its path is a pattern.
        """
        if not isinstance(storage, SavedDatasetFileStorage):
            raise TableAppendOnlyError(
                f"a data set can't be saved to a {type(storage).__name__}", "use SavedDatasetFileStorage"
            )
        uri = readable(storage.to_data_source()).path
        place = self._home / uri
        if before_wildcard(self._home, place) is not None:
            # A pattern denotes a table that others append to: its parts may not be replaced.
            raise TableAppendOnlyError(f"a data set can't be saved to the pattern {uri}", "give a folder or a file")
        if not allow_overwrite and (place.is_file() or (place.is_dir() and any(place.iterdir()))):
            raise SavedDatasetLocationAlreadyExists(location=uri)
        target = place if place.suffix == ".parquet" else folder_of(place, self._home) / "part-0.parquet"
        _replace(target, self.to_arrow())


def _replace(target: Path, table: pa.Table) -> None:
    with storage_errors():
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(target.parent) as temporary:
            pq.write_table(table, temporary, compression="zstd")
            temporary.replace(target)
        for other in target.parent.glob("*.parquet") if target.name == "part-0.parquet" else ():
            if other != target:
                remove(other)
        sync_folder(target.parent)


def one_table(table: Callable[[], pa.Table]) -> Callable[[], Iterator[pa.RecordBatch]]:
    """Return a function that yields the batches of a table, which is computed when they are read."""

    def batches() -> Iterator[Any]:
        yield from table().to_batches()

    return batches


class DeclaredColumnsView:
    """Wrapper of an on-demand view that passes only the declared columns to the view's function.

    Feast's retrieval job turns every column of the result into Python lists for each view. A view that reads an
    undeclared column gets all columns, as in Feast.
    """

    def __init__(self, view: OnDemandFeatureView) -> None:
        self._view = view

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of the wrapped view."""
        return getattr(self._view, name)

    def transform_arrow(self, table: pa.Table, full_feature_names: bool = False) -> pa.Table:  # noqa: FBT001, FBT002 - Feast's signature
        """Return the view's own columns, n rows."""
        wanted = declared_columns(self._view)
        columns = [name for name in table.column_names if name in wanted]
        try:
            return self._view.transform_arrow(table.select(columns) if columns else table, full_feature_names)
        except KeyError:  # the function reads more than it declares
            return self._view.transform_arrow(table, full_feature_names)


def declared_columns(view: OnDemandFeatureView) -> set[str]:
    """Return the names that a view's inputs may have in a result.

    These are request data, features, and features with their view.
    """
    names = set(view.get_request_data_schema())
    for projection in view.source_feature_view_projections.values():
        for feature in projection.features:
            names |= {feature.name, f"{projection.name}__{feature.name}"}
    return names
