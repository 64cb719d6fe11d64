"""Readers of event files: JSON lines, Parquet, or a folder of Parquet files.

Files are read in chunks: memory does not grow with the file's size. See docs/events.md and
docs/decisions/0038-parquet-in-a-child.md.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast

import pyarrow as pa

from configs.text import encoding_of
from feature_repo.events import LINE_BYTES_MAX, parse_lines
from feature_repo.files.compression_formats import compression_of
from feature_repo.files.regular_files import open_regular
from feature_repo.raw.events.parquet_events import EventFileError, read_parquet

Kind = Literal["parquet", "jsonl"]

_MAGIC: Final = b"PAR1"
_PART: Final = ".parquet"
_LINES: Final = (".jsonl", ".ndjson")
SUFFIXES: Final = (_PART, *_LINES)
"""Suffixes of event files, in any letter case."""

_PIECE_BYTES: Final = 16 << 20
_PIECE_LINES: Final = 1 << 17
"""Limit for short lines: a line of a byte or two takes fifty times as much memory while it is read."""
_HEAD_BYTES: Final = 1 << 16
# Names that Spark and Databricks write into a folder before it is complete.
_UNFINISHED: Final = ("_temporary", ".spark-staging", "_started_")
# The logs of Delta Lake, Hudi and Spark's streams, which list the valid files of their folder.
_TABLES: Final = ("_delta_log", ".hoodie", "_spark_metadata")
_ENCRYPTED: Final = b"PARE"


def kind_of(path: Path) -> Kind:
    r"""Return the kind of a file, by its first bytes, then by its name; a folder is Parquet.

    Raises
    ------
    EventFileError
        If it is of no known kind, empty, not a regular file, or a folder that :func:`parts_of` refuses.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from feature_repo.raw.events.event_files import kind_of
    >>> path = Path(tempfile.mkdtemp()) / "events.jsonl"
    >>> _ = path.write_text("{}\n")
    >>> kind_of(path)
    'jsonl'
    """
    if path.is_dir():
        parts_of(path)
        return "parquet"
    with _opened(path, path.name) as file:
        head = file.read(len(_MAGIC))
    if not head:
        raise EventFileError(f"{path.name} is empty", "give a file with events in it")
    if head == _MAGIC:
        return "parquet"
    if head == _ENCRYPTED:
        raise EventFileError(f"{path.name} is encrypted Parquet", "write it without encryption")
    if packed := compression_of(head):
        raise EventFileError(f"{path.name} is packed ({packed})", "unpack it first")
    if path.suffix.lower() in _LINES:
        return "jsonl"
    raise EventFileError(
        f"{path.name} is neither Parquet nor named as JSON lines",
        f"give a Parquet file, or JSON lines in a file that ends in {' or '.join(_LINES)}",
    )


def parts_of(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder, sorted by name, without names that begin with ``.`` or ``_``.

    Raises
    ------
    EventFileError
        If the folder is still being written, is a table with a log, holds other files, or no Parquet file.
    """
    names = {path.name: path for path in sorted(folder.iterdir())}
    committed = {name.removeprefix("_committed_") for name in names if name.startswith("_committed_")}
    for name in names:
        begun = next((mark for mark in _UNFINISHED if name.startswith(mark)), None)
        if begun and name.removeprefix("_started_") not in committed:
            raise EventFileError(f"{folder.name} is not whole: it holds {begun}", "wait until its writer has ended")
    if table := next((log for log in _TABLES if log in names), None):
        raise EventFileError(
            f"{folder.name} is a table whose log ({table}) says which of its files count",
            "export its rows as Parquet into a folder of their own",
        )
    seen = [path for name, path in names.items() if not name.startswith((".", "_"))]
    others = [path for path in seen if path.suffix != _PART or path.is_symlink() or not path.is_file()]
    if others:
        sub = sum(path.is_dir() for path in others)
        counts = {"sub-folder": sub, "file": len(others) - sub}
        held = " and ".join(f"{count} {what}{'s'[: count > 1]}" for what, count in counts.items() if count)
        raise EventFileError(
            f"{folder.name} holds {held} in addition to Parquet parts",
            f"give a folder of files that end in {_PART} alone, without partitions",
        )
    if not seen:
        raise EventFileError(f"{folder.name} holds no Parquet part", f"give a folder with files that end in {_PART}")
    return seen


def read_events(path: Path, kind: Kind, shown_as: str, memory_max_mb: int) -> Iterator[pa.Table]:
    r"""Yield the events of a file, or of a folder's files sorted by name, in file order.

    Parameters
    ----------
    path, kind
        The file or folder, and its :func:`kind_of`.
    shown_as
        Name of the file in messages: the stored copy that is read has another name than the user's file.
    memory_max_mb
        Limit on the memory for decoding Parquet, 10^6 bytes.

    Yields
    ------
    pyarrow.Table
        As :func:`feature_repo.events.parse_lines` returns it; ``row`` counts lines or rows from 1. For Parquet also
        ``fault`` (string): the column that could not be read, and why; null where there is none.

    Raises
    ------
    EventFileError
        If a Parquet file is damaged, has other columns than an event or takes too much memory, or if lines are not
        text.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from feature_repo.raw.events.event_files import read_events
    >>> path = Path(tempfile.mkdtemp()) / "events.jsonl"
    >>> _ = path.write_text('{"schema_version": 1, "event_id": "e-1", "type": "login"}\n')
    >>> (events,) = read_events(path, "jsonl", path.name, memory_max_mb=100)
    >>> events["event_id"].to_pylist(), events["row"].to_pylist()
    (['e-1'], [1])
    """
    return _read_lines(path, shown_as) if kind == "jsonl" else _read_parts(path, shown_as, memory_max_mb)


def _read_lines(path: Path, shown_as: str) -> Iterator[pa.Table]:
    limit, first, lines, size = LINE_BYTES_MAX + len(b"\r\n"), 1, [], 0
    with _opened(path, shown_as) as raw:
        file = _text(raw, shown_as)
        try:
            while line := file.readline(limit):
                rest = line
                # Only the beginning of an oversized line is kept: the line is refused, and may be the whole file.
                while len(rest) == limit and not rest.endswith(b"\n"):
                    rest = file.readline(limit)
                lines.append(line if line.endswith(b"\n") else line + b"\n")
                size += len(line)
                if size >= _PIECE_BYTES or len(lines) >= _PIECE_LINES:
                    yield parse_lines(b"".join(lines), first)
                    first, lines, size = first + len(lines), [], 0
        except UnicodeError:
            raise EventFileError(
                f"{shown_as} begins as UTF-16 or UTF-32 text and is none, or is cut off", "deliver it again as UTF-8"
            ) from None
    yield parse_lines(b"".join(lines), first)


def _text(raw: BinaryIO, shown_as: str) -> BinaryIO:
    """Return the file's content as UTF-8. Raises EventFileError for an unfinished copy or CR-only line ends."""
    head = raw.read(_HEAD_BYTES)
    raw.seek(0)
    if (wide := encoding_of(head[:4])) != "utf-8":
        return cast("BinaryIO", io.BufferedReader(_Recoded(raw, wide)))
    if b"\r" in head and b"\n" not in head:
        raise EventFileError(f"{shown_as} ends its lines with CR alone", "write LF, or CR LF, behind each event")
    raw.seek(-1, io.SEEK_END)
    if raw.read(1) == b"\0":
        raise EventFileError(
            f"{shown_as} ends with NUL bytes: its copy was not finished, or it is UTF-16 without its byte-order mark",
            "copy it again, or write it as UTF-8",
        )
    raw.seek(0)
    return raw


class _Recoded(io.RawIOBase):
    """Raw stream of a text file re-encoded as UTF-8. Raises UnicodeDecodeError on invalid text."""

    def __init__(self, raw: BinaryIO, encoding: str) -> None:
        self._raw, self._decoder, self._ready = raw, codecs.getincrementaldecoder(encoding)(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready:
            piece = self._raw.read(_HEAD_BYTES)
            self._ready = self._decoder.decode(piece, final=not piece).encode()
            if not piece:
                break
        given, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)


def _read_parts(path: Path, shown_as: str, memory_max_mb: int) -> Iterator[pa.Table]:
    first = 1
    parts = parts_of(path) if path.is_dir() else [path]
    for number, part in enumerate(parts, 1):
        name = shown_as if len(parts) == 1 else f"{shown_as}, part {number} of {len(parts)},"
        for rows in read_parquet(part, name, memory_max_mb, first - 1):
            events = rows.append_column("row", pa.array(range(first, first + len(rows)), pa.int64()))
            # Parquet has no line to keep: the fault of the row's value is stored instead.
            yield events.append_column("content", rows["fault"].cast(pa.binary()))
            first += len(rows)


def _opened(path: Path, shown_as: str) -> BinaryIO:
    try:
        return open_regular(path)
    except OSError as refused:
        raise EventFileError(
            f"{shown_as} cannot be read: {refused.strerror}", "check the file and its rights"
        ) from None
