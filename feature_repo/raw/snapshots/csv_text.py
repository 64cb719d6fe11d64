"""Parsing of CSV text: encoding, separator, and rows with exactly the header's number of cells.

Used by :mod:`feature_repo.raw.snapshots.telco_csv`. Takes time linear in the file's size, whatever it holds;
:func:`check_memory` refuses a file that would not fit into memory before it is read.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from configs.errors import EXIT_GATE, ChurnError
from configs.text import MARK, composed, encoding_of
from feature_repo.files.compression_formats import compression_of
from feature_repo.files.regular_files import open_regular

COLUMNS_MAX: Final = 1000
"""A file with more columns is not an extract; it is refused before its column names are checked."""

_MAGIC: Final = {
    b"PK\x03\x04": "an Excel workbook or ZIP archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF",
}
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Read as Latin-1, the bytes of damaged UTF-8 become pairs such as "Ã©", and Windows-1252's punctuation becomes
# control characters. Real Latin-1 holds neither, so both are refused rather than guessed at.
_NOT_LATIN_1: Final = re.compile(rb"[\x80-\x9f]|[\xc2-\xf4][\xa0-\xbf]")
_SEPARATORS: Final = ",;"
# Excel's optional first line, which names the separator and is not a row.
_NAMED_SEPARATOR: Final = re.compile(r'"?sep=([,;|\t])"?[,;]*\s*', re.IGNORECASE)


# Measured on 100,000 and on 715,000 customers: rows, the gate's copies and the snapshot at the same time.
_MEMORY_A_ROW_BYTES: Final = 1700
# A cell with one letter beyond the Basic Multilingual Plane takes four bytes per character, plus the file's own bytes.
_MEMORY_A_BYTE: Final = 5
_CHUNK_BYTES: Final = 1 << 20


class CsvError(ChurnError):
    """The file is not a readable Telco CSV. The message names file and line, never a customer id."""

    error = "csv_invalid"
    exit_code = EXIT_GATE
    http_status = 422


def check_memory(path: Path, *, memory_max_mb: int, shown_as: str) -> None:
    """Raise if reading and validating a file would take more than ``memory_max_mb`` (10^6 bytes).

    Bytes and line ends are counted in chunks; the file is never held in memory here.

    Raises
    ------
    CsvError
        Naming the file, the estimated memory and the limit.
    """
    size = rows = returns = 0
    with open_regular(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            size, rows, returns = size + len(chunk), rows + chunk.count(b"\n"), returns + chunk.count(b"\r")
    needed_mb = (size * _MEMORY_A_BYTE + max(rows, returns) * _MEMORY_A_ROW_BYTES) / 1e6
    if needed_mb > memory_max_mb:
        raise CsvError(
            f"{shown_as}: {size / 1e6:.0f} MB and {max(rows, returns)} lines would take about {needed_mb:.0f} MB of "
            f"memory, more than the {memory_max_mb} MB allowed",
            "raise CHURN_DATA__MEMORY_MAX_MB on a machine that has as much to spare",
        )


def text_of(data: bytes, name: str) -> tuple[bytes, str]:
    """Return a file's text as bytes and their encoding, ``utf-8`` or ``latin-1``.

    UTF-8 may have a byte-order mark, UTF-16 and UTF-32 must: without one they are refused. Raises CsvError for these
    and for anything else that is not text.
    """
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            raise CsvError(f"{name}: this is {what}, not a CSV", "save it as CSV (UTF-8)")
    if packed := compression_of(data[:4]):
        raise CsvError(f"{name} is packed ({packed})", "unpack it first")
    if (wide := encoding_of(data[:4])) != "utf-8":
        try:
            data = data.decode(wide).encode()
        except UnicodeError:
            raise CsvError(
                f"{name}: begins as {wide.upper()} text and is none, or is cut off", "export it again as CSV (UTF-8)"
            ) from None
    padding = len(data) - len(data.rstrip(b"\0"))
    if padding and b"\0" not in data[:-padding]:
        raise CsvError(
            f"{name}: ends with {padding} NUL bytes, so its copy was not finished", "copy or export the file again"
        )
    if (found := _CONTROL.search(data)) is not None:
        kind = "a NUL byte" if found.group() == b"\0" else f"the control byte 0x{found.group()[0]:02x}"
        raise CsvError(
            f"{name}, line {_line_at(data, found.start())}: holds {kind}, so it is no text",
            "a NUL byte means a damaged copy, or UTF-16 without its byte-order mark: export again as CSV (UTF-8)",
        )
    if (broken := _not_utf8(data)) is None:
        return data, "utf-8"
    if _NOT_LATIN_1.search(data) is None:
        return data, "latin-1"
    raise CsvError(
        f"{name}, line {_line_at(data, broken)}: neither UTF-8 nor Latin-1 text", "export again as CSV (UTF-8)"
    )


def _not_utf8(data: bytes) -> int | None:
    """Return the offset of the first byte that is not UTF-8, None if there is none; decodes in chunks."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", min(start + _CHUNK_BYTES, len(data) - 1)) + 1 or len(data)
        try:
            data[start:end].decode()
        except UnicodeDecodeError as broken:
            return start + broken.start
        start = end
    return None


def numbered_rows(data: bytes, encoding: str, name: str, cell_length_max_chars: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its last line, cells) per row, the header first; text in NFC.

    Parameters
    ----------
    data, encoding
        As :func:`text_of` returns them; lines end with LF, CRLF or CR.
    name
        Name of the file in errors.
    cell_length_max_chars
        The longest cell allowed.

    Raises
    ------
    CsvError
        If the file is empty or malformed: truncated rows, blank lines except at the end, cells that are too long or
        wrongly quoted, rows with another number of cells than the header, or more than :data:`COLUMNS_MAX` columns.
    """
    lines = _lines(io.TextIOWrapper(io.BytesIO(data), encoding=encoding, newline=""), name, cell_length_max_chars)
    first = next(lines, "").lstrip(MARK)
    skipped = 0
    if named := _NAMED_SEPARATOR.fullmatch(first):
        delimiter, first, skipped = named[1], next(lines, "").lstrip(MARK), 1
    else:
        # Chosen by the header, not by the data: its column names hold neither separator.
        delimiter = max(_SEPARATORS, key=first.count)
    # Checked before the header is split, and again after it, since a header may span several lines.
    wide = CsvError(
        f"{name}, line {skipped + 1}: more than {COLUMNS_MAX} columns",
        "an extract has one column a name; is the separator or the line end lost?",
    )
    if first.count(delimiter) >= COLUMNS_MAX:
        raise wide
    width = 0
    for line, cells in _rows(_chained(first, lines), delimiter, skipped, name, cell_length_max_chars):
        width = width or len(cells)
        if width > COLUMNS_MAX:
            raise wide
        if len(cells) != width:
            raise CsvError(
                f"{name}, line {line}: {len(cells)} cells where the header has {width}",
                "the file is cut off or a separator is missing or unquoted there: export it again",
            )
        yield line, cells
    if not width:
        raise CsvError(f"{name}: the file is empty", "export it again")


def _lines(file: io.TextIOWrapper, name: str, cell_length_max_chars: int) -> Iterator[str]:
    longest = cell_length_max_chars * COLUMNS_MAX
    for number, line in enumerate(iter(partial(file.readline, longest + 1), ""), 1):
        if len(line) > longest:
            raise _cell_too_long(name, number, cell_length_max_chars, f", or there are more than {COLUMNS_MAX} columns")
        yield composed(line)


def _chained(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _rows(
    lines: Iterator[str], delimiter: str, skipped: int, name: str, cell_length_max_chars: int
) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    blank = 0
    try:
        for cells in reader:
            line = reader.line_num + skipped
            # Spreadsheets write the empty rows below a table as separators alone.
            if not any(cell.strip() for cell in cells):
                blank = blank or line
                continue
            if blank:
                raise CsvError(f"{name}, line {blank}: the line is blank", "remove it, or export the file again")
            if len(max(cells, key=len)) > cell_length_max_chars:
                raise _cell_too_long(name, line, cell_length_max_chars)
            yield line, cells
    except csv.Error as broken:
        if "field limit" in str(broken):
            raise _cell_too_long(name, reader.line_num + skipped, cell_length_max_chars) from None
        raise CsvError(
            f"{name}, line {reader.line_num + skipped}: broken quoting ({broken})",
            "a quote is not closed, or the file is cut off: export it again",
        ) from None


def _cell_too_long(name: str, line: int, limit: int, otherwise: str = "") -> CsvError:
    return CsvError(
        f"{name}, line {line}: a cell is longer than {limit} characters{otherwise}",
        "correct the cell, or raise CHURN_DATA__CELL_LENGTH_MAX_CHARS",
    )


def _line_at(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1
