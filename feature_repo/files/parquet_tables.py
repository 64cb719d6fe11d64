"""Offline tables: append-only Parquet files, each of which appears whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import ChurnError
from feature_repo.files.atomic_writes import storage_errors, sync_folder, temporary_file, write_file
from feature_repo.files.regular_files import open_regular
from feature_repo.files.table_paths import part_path, table_pattern

_ROWS_A_GROUP = 122_880
"""Rows per row group: few enough to read one in little memory, many enough to keep the statistics few."""
_WILD = re.compile(r"[*?\[]")


class TableAppendOnlyError(ChurnError):
    """A write would change a file that a reader may have open."""

    error = "offline_table_append_only"


class OfflineRowsError(ChurnError):
    """Rows for an offline table do not fit its columns."""

    error = "offline_rows_unfit"


def table_files(home: Path, table: str) -> list[str]:
    """Return the paths of a table's files.

    Raises OSError for a path that is no file: DuckDB would block at a FIFO.
    """
    found = sorted(home.glob(table_pattern(table)))
    for path in found:
        open_regular(path).close()
    return list(map(str, found))


def append_table(home: Path, table: str, part: str, rows: pd.DataFrame | pa.Table) -> Path:
    """Write ``rows`` atomically as the file ``<part>.parquet`` of a table; an existing part is kept.

    Parts are immutable: the same name means the same content, so a re-run after a kill changes nothing.
    """
    return append_part(part_path(home, table, part).parent, part, rows)


def append_part(folder: Path, part: str, rows: pd.DataFrame | pa.Table) -> Path:
    """Write ``rows`` as ``<part>.parquet`` in ``folder``; see :func:`append`."""
    target = folder / f"{part}.parquet"
    if not target.exists():
        content = io.BytesIO()
        if isinstance(rows, pd.DataFrame):
            rows = pa.Table.from_pandas(rows, preserve_index=False)
        pq.write_table(rows, content, coerce_timestamps="us", compression="zstd", row_group_size=_ROWS_A_GROUP)
        with storage_errors():
            write_file(target, content.getvalue())
    return target


def content_name(prefix: str, rows: pa.Table) -> str:
    """Return a part's name derived from its rows, so that the same rows give the same part."""
    stream = io.BytesIO()
    plain = rows.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(stream, plain.schema) as writer:
        writer.write_table(plain)
    return f"{prefix}-{hashlib.sha256(stream.getbuffer()).hexdigest()[:32]}"


def before_wildcard(home: Path, path: Path) -> Path | None:
    """Return the folder before a pattern's first wildcard, None without one; ``home`` is taken literally."""
    inside = path.is_relative_to(home)
    parts = path.relative_to(home).parts if inside else path.parts
    wild = next((place for place, part in enumerate(parts) if _WILD.search(part)), None)
    return None if wild is None else (home if inside else Path()).joinpath(*parts[:wild])


def folder_of(path: Path, home: Path = Path()) -> Path:
    """Return the folder that a source's path or pattern appends to: the part before its first wildcard.

    The part that the path shares with ``home`` is taken literally.

    Raises
    ------
    TableAppendOnlyError
        If the path is a single file: appending would rewrite it.
    """
    folder = before_wildcard(home, path)
    if folder is not None:
        return folder
    if path.suffix == ".parquet" or path.is_file():
        raise TableAppendOnlyError(
            f"{path.name} is one file, and files of the offline store never change",
            "let the source's path be a folder or a pattern such as offline/<table>/*.parquet",
        )
    return path


def cast_rows(rows: pa.Table, schema: pa.Schema, required: tuple[str, ...]) -> pa.Table:
    """Return ``rows`` in the columns and types of ``schema``; ``required`` columns may hold no null.

    Raises
    ------
    OfflineRowsError
        If a column is missing or unknown, a value does not fit its type, or a required one is null.
    """
    missing = sorted(set(schema.names) - set(rows.column_names))
    unknown = sorted(set(rows.column_names) - set(schema.names))
    if missing or unknown:
        raise OfflineRowsError(
            f"the rows don't have the table's columns: missing {missing}, unknown {unknown}",
            "give exactly the columns of the source",
        )
    arrays = []
    for field in schema:
        try:
            arrays.append(rows.column(field.name).cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as unfit:
            raise OfflineRowsError(
                f"{field.name} does not fit {field.type}", "give the source's type; nothing was written"
            ) from unfit
    empty = [name for name in required if arrays[schema.get_field_index(name)].null_count]
    if empty:
        raise OfflineRowsError(f"nulls in {', '.join(empty)}", "keys and timestamps must be given; nothing was written")
    return pa.table(arrays, schema=schema)


def has_part(home: Path, table: str, part: str) -> bool:
    """Return whether a table has a part."""
    return part_path(home, table, part).exists()


def append_tables(home: Path, table: str, part: str, schema: pa.Schema, pieces: Iterable[pa.Table]) -> Path:
    """Write ``pieces``, which share their columns, as one part, without holding all of them in memory.

    As with :func:`append_table` the same name means the same content: if the part exists, ``pieces`` is not read.
    """
    target = part_path(home, table, part)
    if not target.exists():
        with storage_errors():
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary_file(target.parent) as temporary:
                with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
                    for piece in pieces:
                        writer.write_table(piece)
                with temporary.open("rb") as written:
                    os.fsync(written.fileno())
                temporary.replace(target)
            sync_folder(target.parent)
    return target
