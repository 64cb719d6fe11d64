"""Files of events: JSON lines or Parquet, read in pieces, so that memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import EXIT_GATE, ChurnError
from feature_repo.events import LINE_BYTES_MAX, SCHEMA, parse_lines

Kind = Literal["parquet", "jsonl"]

_MAGIC: Final = b"PAR1"
_SUFFIXES: Final = (".jsonl", ".ndjson")
_PIECE_BYTES: Final = 16 << 20
_PIECE_ROWS: Final = 1 << 19
_SHOWN: Final = 5


class BadEvents(ChurnError):  # noqa: N818 - read as a sentence: refused, bad events
    """The file is no file of events. The message names the file and what is wrong, never a customer id."""

    error = "events_invalid"
    exit_code = EXIT_GATE
    http_status = 422


def kind_of(path: Path) -> Kind:
    """Return what a file is, by its first bytes, then by its name. Raises BadEvents if it is neither."""
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
    if not head:
        raise BadEvents(f"{path.name} is empty", "give a file with events in it")
    if head == _MAGIC:
        return "parquet"
    if path.suffix in _SUFFIXES:
        return "jsonl"
    raise BadEvents(
        f"{path.name} is neither Parquet nor named as JSON lines",
        f"give a Parquet file, or JSON lines in a file that ends in {' or '.join(_SUFFIXES)}",
    )


def read_events(path: Path, kind: Kind, shown_as: str) -> Iterator[pa.Table]:
    """Yield the events of a file in its order.

    Parameters
    ----------
    path, kind
        The file, and what :func:`kind_of` says that it is.
    shown_as
        What messages call the file: the copy that is read has another name than the one that the user knows.

    Yields
    ------
    pyarrow.Table
        As :func:`feature_repo.events.parse_lines` gives it; ``row`` counts lines or rows from 1.

    Raises
    ------
    BadEvents
        If a Parquet file is damaged or has other columns than an event.
    """
    return _read_lines(path) if kind == "jsonl" else _read_parquet(path, shown_as)


def _read_lines(path: Path) -> Iterator[pa.Table]:
    limit, first, lines, size = LINE_BYTES_MAX + len(b"\r\n"), 1, [], 0
    with path.open("rb") as file:
        while line := file.readline(limit):
            rest = line
            # Only the beginning of an oversized line is kept: it is refused, and one line may be the whole file.
            while len(rest) == limit and not rest.endswith(b"\n"):
                rest = file.readline(limit)
            lines.append(line if line.endswith(b"\n") else line + b"\n")
            size += len(line)
            if size >= _PIECE_BYTES:
                yield parse_lines(b"".join(lines), first)
                first, lines, size = first + len(lines), [], 0
    yield parse_lines(b"".join(lines), first)


def _read_parquet(path: Path, shown_as: str) -> Iterator[pa.Table]:
    first = 1
    try:
        with pq.ParquetFile(path) as file:
            _check(file.schema_arrow, shown_as)
            for batch in file.iter_batches(_PIECE_ROWS):
                events = pa.Table.from_batches([batch]).select(SCHEMA.names).cast(SCHEMA)
                rows = pa.array(range(first, first + len(events)), pa.int64())
                events = events.append_column("row", rows)
                events = events.append_column("refusal", pa.nulls(len(events), pa.string()))
                yield events.append_column("content", pa.nulls(len(events), pa.binary()))
                first += len(events)
    except (pa.ArrowException, OSError) as broken:
        raise BadEvents(
            f"{shown_as} cannot be read as Parquet ({type(broken).__name__})", "deliver it again: it may be cut short"
        ) from broken


def _check(found: pa.Schema, shown_as: str) -> None:
    """Raise BadEvents unless the columns are those of an event; a narrower type of the same sort will do."""
    faults = []
    if missing := [name for name in SCHEMA.names if name not in found.names]:
        faults.append(f"lacks {', '.join(missing)}")
    if extra := [name for name in found.names if name not in SCHEMA.names]:
        faults.append(f"has unknown columns: {', '.join(map(repr, extra[:_SHOWN]))}")
    if twice := sorted({name for name in found.names if found.names.count(name) > 1}):
        faults.append(f"names twice: {', '.join(map(repr, twice[:_SHOWN]))}")
    if not faults:
        wrong = [
            f"{field.name} is {found.field(field.name).type}, not {field.type}"
            for field in SCHEMA
            if not _fits(found.field(field.name).type, field.type)
        ]
        faults += [f"has wrong types: {', '.join(wrong)}"] if wrong else []
    if faults:
        raise BadEvents(f"{shown_as} {'; '.join(faults)}", "docs/events.md lists the columns and their types")


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    if found in {wanted, pa.null()}:
        return True
    if pa.types.is_string(wanted):
        return bool(pa.types.is_large_string(found)) or found == pa.string_view()
    if pa.types.is_timestamp(wanted):
        return bool(pa.types.is_timestamp(found)) and found.tz in {"UTC", "Etc/UTC", "+00:00"}
    return bool(pa.types.is_integer(wanted) and pa.types.is_integer(found))
