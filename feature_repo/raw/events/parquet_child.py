"""Read a Parquet file of events within bounds, in a process of its own: ``python -m … PATH MEMORY_MB ROWS``.

What a Parquet file takes to read is not seen from outside: a few kilobytes may decode to gigabytes, or say millions of
rows, and damage may end the reader. Here either ends this process alone. ROWS is how many were read before from the
same folder. It writes the rows, read as events, to standard output as an Arrow stream; a refusal is one JSON line on
standard error, and exit code 3.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import EXIT_GATE, ChurnError
from feature_repo.events import SCHEMA
from feature_repo.raw.events.parquet_columns import read_columns, refused_columns

COLUMNS_MAX: Final = 1000
READ: Final = pa.schema([*SCHEMA, ("refusal", pa.string()), ("fault", pa.string())])
"""The columns of what is written."""

# Measured on logins and days of usage: 115 to 119.
_ROW_BYTES: Final = 120
_ROWS: Final = 1 << 16
_GATHERED_BYTES: Final = 16 << 20
_BUFFER_BYTES: Final = 1 << 20
_FOOTER_MAX_BYTES: Final = 32 << 20
# A page of such words is read with its dictionary apart; of any other encoding (DuckDB, Spark and Arrow write DELTA_…
# in version 2 of the format) Arrow 25 gives the rows alone.
_IN_DICTIONARIES: Final = frozenset({"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY"})
# How Arrow begins, or what it says, where a file is whole and holds what it can't read.
_NOT_READ: Final = ("not yet implemented", "not implemented", "unsupported", "not supported", "decrypt")
_STATM: Final = Path("/proc/self/statm")
_SPARK: Final = b"org.apache.spark.version"


class _Refused(ChurnError):  # noqa: N818 - read as a sentence
    exit_code = EXIT_GATE


def main(path: str, memory_max_mb: int, rows_before: int) -> int:
    """Read the file at ``path``, after so many rows of the same folder; returns the exit code."""
    # Threads would each keep memory of their own, and the parent waits for one batch at a time.
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    pa.set_memory_pool(pa.system_memory_pool())
    # What is loaded late is loaded now: it is no part of what the file takes.
    read_columns(SCHEMA.empty_table())
    _limit(memory_max_mb)
    try:
        with pa.ipc.new_stream(sys.stdout.buffer, READ) as stream:
            for rows in _rows(path, memory_max_mb, rows_before):
                stream.write_table(rows.cast(READ))
    except ChurnError as refused:
        return _tell(refused.message, refused.hint)
    except MemoryError:  # pyarrow's own derives from it
        return _tell("", "")
    except (pa.ArrowException, OSError) as broken:
        if any(word in str(broken).casefold() for word in _NOT_READ):
            return _tell(
                "is encrypted, or packed or encoded in a way that is not read here",
                "write it without encryption, as Parquet 1.0 or 2.6 with Snappy, gzip, Zstandard or no compression",
            )
        return _tell(
            f"cannot be read as Parquet ({type(broken).__name__})", "deliver it again: it may be cut short or damaged"
        )
    return 0


def _limit(memory_max_mb: int) -> None:
    """Bound what this process may map beyond what it has, by ``memory_max_mb`` (10^6 bytes)."""
    mapped = int(_STATM.read_text("ascii").split()[0]) * resource.getpagesize() if _STATM.exists() else 0
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = mapped + memory_max_mb * 10**6
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    # A reader that ends by a signal is told of by the parent; its memory, with customers in it, is not kept.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _rows(path: str, memory_max_mb: int, rows_before: int) -> Iterator[pa.Table]:
    _check_footer(Path(path))
    options: dict[str, Any] = {
        "buffer_size": _BUFFER_BYTES,
        "pre_buffer": False,
        "coerce_int96_timestamp_unit": "us",
    }
    with pq.ParquetFile(path, **options) as file:
        _check_rows(file.metadata, memory_max_mb, rows_before)
        columns = _checked_columns(file)
        # Arrow ends the process where an encrypted column is described; where one is read, it raises.
        next(file.iter_batches(1, columns=SCHEMA.names, use_threads=False), None)
        apart = _in_dictionaries(file.metadata)
    # Words stay apart from their rows until they are cut: the file may repeat a long one a million times.
    words = [
        each.path
        for place, each in enumerate(columns)
        if each.physical_type == "BYTE_ARRAY" and each.path in SCHEMA.names and place in apart
    ]
    with pq.ParquetFile(path, read_dictionary=words, **options) as file:
        for batches in _gathered(file.iter_batches(_ROWS, columns=SCHEMA.names, use_threads=False)):
            yield read_columns(pa.Table.from_batches(batches))


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Put small batches together: a file of a row in each row group would take a thousand times as long as its rows."""
    gathered: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        gathered.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= _ROWS or size >= _GATHERED_BYTES:
            yield gathered
            gathered, rows, size = [], 0, 0
    if gathered:
        yield gathered


def _checked_columns(file: pq.ParquetFile) -> list[pq.ColumnSchema]:
    """Return the columns of a file, which are an event's; refuses others."""
    found = file.schema
    wide = len(found.names)
    if wide > COLUMNS_MAX:
        raise _Refused(f"has {wide} columns, more than {COLUMNS_MAX}", "docs/events.md lists the columns")
    columns = [found.column(place) for place in range(wide)]
    spark = _SPARK in (file.metadata.metadata or {})
    utc = {each.path for each in columns if spark and each.physical_type == "INT96"}
    if fault := refused_columns(file.schema_arrow, utc):
        raise _Refused(fault, "docs/events.md lists the columns and their types")
    return columns


def _check_footer(path: Path) -> None:
    """Refuse a description of the file that is itself too large to be looked at."""
    with path.open("rb") as file:
        file.seek(-8, 2)
        size = int.from_bytes(file.read(4), "little")
    if size > _FOOTER_MAX_BYTES:
        raise _Refused(
            f"cannot be read as Parquet: its description would take {size} bytes, more than {_FOOTER_MAX_BYTES}",
            "deliver it again with larger row groups: it may also be cut short or damaged",
        )


def _check_rows(described: pq.FileMetaData, memory_max_mb: int, rows_before: int) -> None:
    """Refuse more rows than fit into ``memory_max_mb`` once decoded, whatever the file's size."""
    # The file's own sum may say less than its row groups, and these are what is read.
    grouped = sum(described.row_group(place).num_rows for place in range(described.num_row_groups))
    rows = rows_before + max(described.num_rows, grouped)
    if rows * _ROW_BYTES > memory_max_mb * 10**6:
        parts = " with the parts before it" if rows_before else ""
        raise _Refused(
            f"holds {rows} rows{parts}, which would take about {rows * _ROW_BYTES / 1e6:.0f} MB of memory, more than "
            f"the {memory_max_mb} MB allowed",
            "deliver them in several files, or raise CHURN_DATA__MEMORY_MAX_MB",
        )


def _in_dictionaries(described: pq.FileMetaData) -> frozenset[int]:
    """Return the places of the columns that can be read as dictionaries, in each of the file's row groups."""
    wide, apart = min(described.num_columns, COLUMNS_MAX), set(range(described.num_columns))
    for number in range(described.num_row_groups):
        group = described.row_group(number)
        apart -= {place for place in range(wide) if not _IN_DICTIONARIES.issuperset(group.column(place).encodings)}
    return frozenset(apart)


def _tell(message: str, hint: str) -> int:
    sys.stderr.write(json.dumps({"message": message, "hint": hint}) + "\n")
    return EXIT_GATE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
