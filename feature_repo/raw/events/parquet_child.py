"""Child process that reads a Parquet event file in bounded memory.

Usage: ``python -m … PATH MEMORY_MB ROWS``.

The memory to decode a Parquet file is not known in advance: a few kilobytes may decode to gigabytes or claim millions
of rows, and damage may crash the reader. Both end only this process. ROWS is the number of rows read before from the
same folder. It writes the rows, read as events, to standard output as an Arrow stream; a refusal is one JSON line on
standard error, and exit code 3. Started by :mod:`feature_repo.raw.events.parquet_events`.
See docs/decisions/0038-parquet-in-a-child.md.
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
from feature_repo.events import EVENT_SCHEMA
from feature_repo.raw.events.parquet_columns import read_columns, refused_columns

COLUMNS_MAX: Final = 1000
READ: Final = pa.schema([*EVENT_SCHEMA, ("refusal", pa.string()), ("fault", pa.string())])
"""Schema of the Arrow stream."""

# Measured on logins and days of usage: 115 to 119.
_ROW_BYTES: Final = 120
_ROWS: Final = 1 << 16
_GATHERED_BYTES: Final = 16 << 20
_BUFFER_BYTES: Final = 1 << 20
_FOOTER_MAX_BYTES: Final = 32 << 20
# Words in these encodings can be read as dictionaries; for any other encoding (DuckDB, Spark and Arrow write DELTA_… in
# version 2 of the format) Arrow 25 returns plain rows only.
_IN_DICTIONARIES: Final = frozenset({"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY"})
# Parts of Arrow's messages for an intact file with a feature that it can't read.
_NOT_READ: Final = ("not yet implemented", "not implemented", "unsupported", "not supported", "decrypt")
_STATM: Final = Path("/proc/self/statm")
_SPARK: Final = b"org.apache.spark.version"


class _RefusedError(ChurnError):
    exit_code = EXIT_GATE


def main(path: str, memory_max_mb: int, rows_before: int) -> int:
    """Read the file at ``path``, after ``rows_before`` rows of the same folder; returns the exit code."""
    # Threads would each keep memory of their own, and the parent waits for one batch at a time.
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    pa.set_memory_pool(pa.system_memory_pool())
    # Load the lazy imports now, so that they do not count towards the memory limit of the file.
    read_columns(EVENT_SCHEMA.empty_table())
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
    """Limit the memory that this process may map in addition to now, to ``memory_max_mb`` (10^6 bytes)."""
    mapped = int(_STATM.read_text("ascii").split()[0]) * resource.getpagesize() if _STATM.exists() else 0
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = mapped + memory_max_mb * 10**6
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    # The parent reports a reader that ends by a signal; no core dump is written, since it would hold customer data.
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
        # Reading an encrypted column raises; describing it crashes the process. So one row is read first.
        next(file.iter_batches(1, columns=EVENT_SCHEMA.names, use_threads=False), None)
        apart = _in_dictionaries(file.metadata)
    # Words stay dictionary-encoded until they are truncated: the file may repeat a long one a million times.
    words = [
        each.path
        for place, each in enumerate(columns)
        if each.physical_type == "BYTE_ARRAY" and each.path in EVENT_SCHEMA.names and place in apart
    ]
    with pq.ParquetFile(path, read_dictionary=words, **options) as file:
        for batches in _gathered(file.iter_batches(_ROWS, columns=EVENT_SCHEMA.names, use_threads=False)):
            yield read_columns(pa.Table.from_batches(batches))


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Group small batches: else a file with one row per row group would take 1,000 times as long."""
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
    """Return the columns of a file; raises if they are not those of an event."""
    found = file.schema
    wide = len(found.names)
    if wide > COLUMNS_MAX:
        raise _RefusedError(f"has {wide} columns, more than {COLUMNS_MAX}", "docs/events.md lists the columns")
    columns = [found.column(place) for place in range(wide)]
    spark = _SPARK in (file.metadata.metadata or {})
    utc = {each.path for each in columns if spark and each.physical_type == "INT96"}
    if fault := refused_columns(file.schema_arrow, utc):
        raise _RefusedError(fault, "docs/events.md lists the columns and their types")
    return columns


def _check_footer(path: Path) -> None:
    """Raise if the footer is larger than ``_FOOTER_MAX_BYTES``; it is not parsed then."""
    with path.open("rb") as file:
        file.seek(-8, 2)
        size = int.from_bytes(file.read(4), "little")
    if size > _FOOTER_MAX_BYTES:
        raise _RefusedError(
            f"cannot be read as Parquet: its description would take {size} bytes, more than {_FOOTER_MAX_BYTES}",
            "deliver it again with larger row groups: it may also be cut short or damaged",
        )


def _check_rows(described: pq.FileMetaData, memory_max_mb: int, rows_before: int) -> None:
    """Raise if the rows would not fit into ``memory_max_mb`` once decoded, whatever the file's size."""
    # The file's stated total may be less than the sum of its row groups, which are what is read.
    grouped = sum(described.row_group(place).num_rows for place in range(described.num_row_groups))
    rows = rows_before + max(described.num_rows, grouped)
    if rows * _ROW_BYTES > memory_max_mb * 10**6:
        parts = " with the parts before it" if rows_before else ""
        raise _RefusedError(
            f"holds {rows} rows{parts}, which would take about {rows * _ROW_BYTES / 1e6:.0f} MB of memory, more than "
            f"the {memory_max_mb} MB allowed",
            "deliver them in several files, or raise CHURN_DATA__MEMORY_MAX_MB",
        )


def _in_dictionaries(described: pq.FileMetaData) -> frozenset[int]:
    """Return the indices of the columns that can be read as dictionaries in all row groups."""
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
