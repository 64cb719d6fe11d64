"""The Parquet files of one source, listed once: schema, statistics, and reads of single rows."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from configs.errors import ChurnError
from feature_repo.files.atomic_writes import TEMPORARY
from feature_repo.files.parquet_tables import before_wildcard
from feature_repo.files.regular_files import open_regular
from feature_repo.stores.point_in_time.latest_known_rows import Ints

if TYPE_CHECKING:
    from feast.data_source import DataSource
    from feast.infra.offline_stores.file_source import FileSource

_ROWS_AT_ONCE = 1 << 17
_ROWS_STREAMED = 1 << 15
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HIVE = re.compile(r"^([^=]+)=(.*)$")


class OfflineTableEmptyError(ChurnError):
    """A feature source has no file yet."""

    error = "offline_table_empty"


class SourceColumnError(ChurnError):
    """A source lacks a column that a view needs, or holds it with an unfit type."""

    error = "source_column_unfit"


def readable(source: DataSource) -> FileSource:
    """Return ``source`` if it consists of Parquet files on a disk.

    Raises
    ------
    SourceColumnError
        If it is of another type or format, or its path is a URL.
    """
    from feast.data_format import ParquetFormat
    from feast.infra.offline_stores.file_source import FileSource

    if not isinstance(source, FileSource):
        raise SourceColumnError(
            f"source {source.name} is a {type(source).__name__}", "this offline store reads Parquet FileSources"
        )
    if not isinstance(source.file_format, ParquetFormat | None):
        raise SourceColumnError(
            f"source {source.name} has the format {type(source.file_format).__name__}",
            "this offline store reads Parquet: convert it, or leave file_format out",
        )
    if "://" in source.path:
        raise SourceColumnError(
            f"the path of source {source.name} is a URL",
            "this offline store reads files: give a path below the home, or an absolute one",
        )
    return source


@dataclass(frozen=True)
class ParquetFragment:
    """One file.

    Rows per row group, schema, partition values of its folders (``date=2026-01-01``), and metadata with statistics.
    """

    path: str
    groups: tuple[int, ...]
    schema: pa.Schema
    partition: dict[str, str]
    metadata: pq.FileMetaData
    read_bounds: dict[str, tuple[tuple[int, int], ...] | None] = field(default_factory=dict, compare=False)
    """Cache of the statistics per column: reading the metadata is slow."""

    def bounds_us(self, column: str) -> tuple[int, int] | None:
        """Return the least and greatest instant of a timestamp column, None if a row group has no statistics."""
        bounds = self.group_bounds_us(column)
        return (min(least for least, _ in bounds), max(most for _, most in bounds)) if bounds else None

    def group_bounds_us(self, column: str) -> tuple[tuple[int, int], ...] | None:
        """Return the least and greatest instant per row group, None if one of them has no statistics."""
        if column not in self.read_bounds:
            self.read_bounds[column] = self._group_bounds_us(column)
        return self.read_bounds[column]

    def _group_bounds_us(self, column: str) -> tuple[tuple[int, int], ...] | None:
        index = self.schema.get_field_index(column)
        if index < 0 or not pa.types.is_timestamp(self.schema.field(index).type):
            return None
        # Leaves and columns differ where a column is nested: the leaf is found by its path.
        leaves = (self.metadata.schema.column(number).path for number in range(self.metadata.num_columns))
        leaf = next(number for number, path in enumerate(leaves) if path == column)
        bounds = []
        for group in range(self.metadata.num_row_groups):
            found = self.metadata.row_group(group).column(leaf).statistics
            if found is None or not found.has_min_max or not isinstance(found.min, datetime):
                return None
            bounds.append((micros(found.min), micros(found.max)))
        return tuple(bounds)


def micros(instant: datetime) -> int:
    """Return an instant in microseconds since 1970, UTC; one without a time zone is UTC."""
    # pandas keeps fractions finer than a microsecond, datetime does not: cut off, as everywhere here.
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True)
class ParquetDataset:
    """The files of a source at one moment, in the order of their names.

    A row's place is part * stride + row.
    """

    name: str
    fragments: tuple[ParquetFragment, ...]
    declared: pa.Schema | None = None
    """The columns of the whole table, where ``parts`` are only some of its files."""

    @staticmethod
    def open(home: Path, source: DataSource) -> ParquetDataset:
        """List the files of a Parquet FileSource: a file, a folder or a pattern.

        A relative path is below ``home``.

        Raises
        ------
        OfflineTableEmptyError
            If there is none.
        """
        path = readable(source).path
        files = _listed(home, path)
        if not files:
            raise OfflineTableEmptyError(
                f"feature source {source.name} has no rows below {home}",
                "run: churn ingest (churn ingest-events for behaviours), then churn build-features",
            )
        root = _root(home, path)
        return ParquetDataset(source.name, tuple(_part(file, root) for file in files))

    @cached_property
    def schema(self) -> pa.Schema:
        """The union of the files' columns; a column that some file lacks is null there."""
        if self.declared is not None:
            return self.declared
        plain = []
        for part in self.fragments:
            fields = [field.with_type(_plain(field.type)) for field in part.schema]
            names = {field.name for field in fields}
            fields += [pa.field(key, _hive_type(self.fragments, key)) for key in part.partition if key not in names]
            plain.append(pa.schema(fields))
        try:
            return pa.unify_schemas(plain, promote_options="permissive").remove_metadata()
        except (pa.ArrowInvalid, pa.ArrowTypeError) as clash:
            raise SourceColumnError(
                f"the files of {self.name} disagree about a column: {clash}", "rewrite the odd file"
            ) from clash

    @cached_property
    def uniform(self) -> bool:
        """Whether all files have the same columns in the same order and types."""
        return all(part.schema.equals(self.fragments[0].schema) for part in self.fragments)

    @property
    def stride(self) -> int:
        """More than the number of rows of any file."""
        return max((sum(part.groups) for part in self.fragments), default=0) + 1

    @property
    def rows(self) -> int:
        """The number of rows in all files."""
        return sum(sum(part.groups) for part in self.fragments)

    def within(self, event: str, from_us: int | None, until_us: int) -> ParquetDataset:
        """Return the files without those whose statistics exclude a row in the window of event times."""
        kept = []
        for part in self.fragments:
            bounds = part.bounds_us(event)
            outside = bounds and (bounds[0] > until_us or (from_us is not None and bounds[1] < from_us))
            if not outside:
                kept.append(part)
        return ParquetDataset(self.name, tuple(kept), self.schema)

    def bounds_us(self, column: str) -> tuple[int, int] | None:
        """Return the least and greatest instant of a column in all files, None if one has no statistics."""
        bounds = [each for part in self.fragments if (each := part.bounds_us(column))]
        if not bounds or len(bounds) < len(self.fragments):
            return None
        return min(least for least, _ in bounds), max(greatest for _, greatest in bounds)

    def between(self, event: str, from_us: int | None, until_us: int) -> Ints:
        """Return the places of all rows with an event in the window, ascending."""
        found = [np.zeros(0, dtype=np.int64)]
        for number, part in enumerate(self.fragments):
            first = number * self.stride
            bounds = part.bounds_us(event)
            every = np.arange(first, first + sum(part.groups), dtype=np.int64)
            if bounds and bounds[1] <= until_us and (from_us is None or bounds[0] >= from_us):
                column = part.schema.field(event)
                if not column.nullable:
                    found.append(every)
                    continue
            instants = pq.ParquetFile(part.path, metadata=part.metadata).read(columns=[event]).column(0)
            if not pa.types.is_timestamp(instants.type):
                instants = instants.cast(pa.timestamp("us"))
            micros = instants.cast(pa.timestamp("us", instants.type.tz), safe=False).cast(pa.int64())
            inside = pc.less_equal(micros, until_us)
            if from_us is not None:
                inside = pc.and_(inside, pc.greater_equal(micros, from_us))
            found.append(every[pc.fill_null(inside, pa.scalar(value=False)).to_numpy()])
        return np.concatenate(found)

    def take(self, places: Ints, columns: Sequence[str], threads: int = 1) -> pa.Table:
        """Return the rows at ``places`` in that order, all null where the place is -1."""
        schema = pa.schema([self.schema.field(name) for name in columns])
        distinct, where = np.unique(places, return_inverse=True)
        stored = distinct[distinct >= 0]

        def read(work: tuple[ParquetFragment, list[int], Ints]) -> pa.Table:
            part, groups, rows = work
            return self.read(part, groups, schema).take(pa.array(rows))

        if not columns:
            return schema.empty_table()
        work = [(part, *each) for part, wanted in self._by_part(stored) for each in _grouped(part, wanted)]
        with ThreadPoolExecutor(threads) as pool:
            tables = list(pool.map(read, work))
        table = pa.concat_tables(tables) if tables else schema.empty_table()
        shift = len(distinct) - len(stored)
        order = pa.array(where - shift, mask=places < 0)
        del tables
        arrays = []
        for name in columns:  # column by column, so that memory does not hold all twice
            arrays.append(table.column(0).combine_chunks().take(order))
            table = table.drop_columns([name])
        return pa.table(arrays, schema=schema)

    def batches(self, places: Ints, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows at ``places`` (ascending), a few pages at a time, so that memory does not grow."""
        schema = pa.schema([self.schema.field(name) for name in columns])
        for part, wanted in self._by_part(places) if columns else ():
            for groups, rows in _grouped(part, wanted):
                first = 0
                for table in self._streamed(part, groups, schema):
                    inside = rows[slice(*np.searchsorted(rows, (first, first + len(table))))] - first
                    first += len(table)
                    if len(inside):
                        yield from table.take(pa.array(inside)).combine_chunks().to_batches()

    def _by_part(self, places: Ints) -> Iterator[tuple[ParquetFragment, Ints]]:
        starts = np.arange(len(self.fragments) + 1, dtype=np.int64) * self.stride
        cuts = np.searchsorted(places, starts)
        for number, part in enumerate(self.fragments):
            wanted = places[cuts[number] : cuts[number + 1]] - starts[number]
            if len(wanted):
                yield part, wanted

    def read(self, part: ParquetFragment, groups: Sequence[int], schema: pa.Schema) -> pa.Table:
        """Return row groups of a part in the columns and types of ``schema``, null for a missing column."""
        file, inside = _opened(part, schema)
        # One thread: the caller reads several parts in parallel.
        found = file.read_row_groups(groups, columns=inside, use_threads=False)
        return _fitted(part, found, sum(part.groups[group] for group in groups), schema)

    def _streamed(self, part: ParquetFragment, groups: Sequence[int], schema: pa.Schema) -> Iterator[pa.Table]:
        file, inside = _opened(part, schema)
        if not inside:
            yield _fitted(part, pa.table({}), sum(part.groups[group] for group in groups), schema)
            return
        for batch in file.iter_batches(_ROWS_STREAMED, row_groups=groups, columns=inside, use_threads=False):
            yield _fitted(part, pa.Table.from_batches([batch]), len(batch), schema)


def _opened(part: ParquetFragment, schema: pa.Schema) -> tuple[pq.ParquetFile, list[str]]:
    inside = [name for name in schema.names if part.schema.get_field_index(name) >= 0]
    return pq.ParquetFile(part.path, metadata=part.metadata, pre_buffer=False), inside


def _fitted(part: ParquetFragment, found: pa.Table, rows: int, schema: pa.Schema) -> pa.Table:
    arrays = []
    for wanted in schema:
        if wanted.name in found.column_names:
            column = found.column(wanted.name)
            arrays.append(column if column.type == wanted.type else column.cast(wanted.type))
        else:
            one = pa.scalar(part.partition.get(wanted.name), pa.string()).cast(wanted.type)
            arrays.append(pa.repeat(one, rows))
    return pa.table(arrays, schema=schema)


def _grouped(part: ParquetFragment, rows: Ints) -> Iterator[tuple[list[int], Ints]]:
    """Yield row groups that hold wanted rows, several at once, with the positions of these rows in them."""
    ends = np.cumsum(part.groups)
    cuts = [0, *np.searchsorted(rows, ends).tolist()]
    groups: list[int] = []
    chosen: list[Ints] = []
    size = 0
    for group, count in enumerate(part.groups):
        wanted = rows[cuts[group] : cuts[group + 1]]
        if not len(wanted):
            continue
        groups.append(group)
        chosen.append(wanted - (ends[group] - count) + size)
        size += count
        if size >= _ROWS_AT_ONCE:
            yield groups, np.concatenate(chosen)
            groups, chosen, size = [], [], 0
    if groups:
        yield groups, np.concatenate(chosen)


def has_files(home: Path, source: DataSource) -> bool:
    """Return whether a source has any file; the files may still hold no rows."""
    return bool(_listed(home, readable(source).path))


def _listed(home: Path, pattern: str) -> list[str]:
    path = home / pattern
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = [file for file in path.rglob("*.parquet") if file.is_file()]
    else:
        root = _root(home, pattern)
        relative = str(path.relative_to(root))
        found = [root / file for file in glob.glob(relative, root_dir=root, recursive=True)]  # noqa: PTH207 - hidden ones too
    return sorted(str(file) for file in found if not file.name.startswith(TEMPORARY))


def _root(home: Path, pattern: str) -> Path:
    """Return the folder below which a source's folders are partitions; the folders above are not."""
    path = home / pattern
    return path.parent if path.is_file() else before_wildcard(home, path) or path


def _part(file: str, root: Path) -> ParquetFragment:
    # The file is closed at once: a table may have more parts than a process may have open files.
    with open_regular(Path(file)) as content, pq.ParquetFile(content) as opened:
        metadata, schema = opened.metadata, opened.schema_arrow
    groups = tuple(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
    folders = [_HIVE.match(folder) for folder in Path(file).relative_to(root).parts[:-1]]
    return ParquetFragment(file, groups, schema, {found[1]: found[2] for found in folders if found}, metadata)


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    return pa.string() if pa.types.is_large_string(kind) or kind == pa.string_view() else kind


def _hive_type(parts: Sequence[ParquetFragment], key: str) -> pa.DataType:
    """Return the type of a partition key that all its values fit: int64, a date, else string."""
    values = [part.partition[key] for part in parts if key in part.partition]
    readers: list[tuple[pa.DataType, Any]] = [(pa.int64(), int), (pa.date32(), date.fromisoformat)]
    for kind, read in readers:
        try:
            for value in values:
                read(value)
        except ValueError:
            continue
        return kind
    return pa.string()
