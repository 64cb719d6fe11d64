"""The Telco CSV: read it right or refuse it, and turn its words into the contract's types.

pandas' own reader pads short rows, drops surplus cells and guesses types in silence, so a damaged file would
become a plausible frame. Here every row has exactly the header's cells or the file is refused by name and line.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import pandas as pd

from configs.errors import EXIT_GATE, ChurnError
from feature_repo.contract import CSV_KEY, CSV_LABEL, CUSTOMER, LABEL, STORED, Feature

COLUMNS: Final = (
    CSV_KEY,
    "gender",
    "SeniorCitizen",
    "Partner",
    "Dependents",
    "tenure",
    "PhoneService",
    "MultipleLines",
    "InternetService",
    "OnlineSecurity",
    "OnlineBackup",
    "DeviceProtection",
    "TechSupport",
    "StreamingTV",
    "StreamingMovies",
    "Contract",
    "PaperlessBilling",
    "PaymentMethod",
    "MonthlyCharges",
    "TotalCharges",
    CSV_LABEL,
)
"""The file's 21 columns in its order, which differs from the contract's; a test holds the two sets equal."""
YES_NO: Final = {"Yes": True, "No": False}
ZERO_ONE: Final = {"1": True, "0": False}
INTEGER: Final = r"^[0-9]{1,9}\Z"
DECIMAL: Final = r"^[0-9]{1,9}(?:\.[0-9]{1,6})?\Z"
DECIMAL_OR_BLANK: Final = r"^(?:\s*|[0-9]{1,9}(?:\.[0-9]{1,6})?)\Z"
"""TotalCharges is one blank before the first bill."""

_LISTED: Final = 5
_MAGIC: Final = {
    b"PK\x03\x04": "an Excel workbook or ZIP archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "a gzip archive",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Read as Latin-1, the bytes of damaged UTF-8 become pairs such as "Ã©", and Windows-1252's punctuation becomes
# control characters. Real Latin-1 holds neither, so both are refused rather than guessed at.
_NOT_LATIN_1: Final = re.compile(rb"[\x80-\x9f]|[\xc2-\xf4][\xa0-\xbf]")


class BadCsv(ChurnError):  # noqa: N818 - read as a sentence: refused, bad CSV
    """The file is not a readable Telco CSV. The message names file and line, never a customer id."""

    error = "csv_invalid"
    exit_code = EXIT_GATE
    http_status = 422


def domain(feature: Feature) -> tuple[str, ...]:
    """Return the words by which the CSV spells a stored feature's values; empty for a number."""
    if feature.dtype == "bool":
        return tuple(_truth(feature))
    return feature.categories


def check_size(path: Path, *, file_size_max_mb: int, shown_as: str = "") -> None:
    """Refuse a file that is missing, no file, or larger than ``file_size_max_mb`` (10^6 bytes) before it is read.

    Raises
    ------
    BadCsv
        Naming the file and the limit.
    """
    name = shown_as or path.name
    if not path.is_file():
        raise BadCsv(f"{name}: no such file", f"check the path: {path}")
    if not os.access(path, os.R_OK):
        raise BadCsv(f"{name}: no right to read it", f"check the rights of {path}")
    size_mb = path.stat().st_size / 1e6
    if size_mb > file_size_max_mb:
        raise BadCsv(
            f"{name}: {size_mb:.0f} MB is over the limit of {file_size_max_mb} MB",
            "split the file, or raise CHURN_DATA__FILE_SIZE_MAX_MB",
        )


def read_raw(
    path: Path,
    *,
    file_size_max_mb: int,
    cell_length_max_chars: int,
    extra_allowed: Collection[str] = (),
    shown_as: str = "",
) -> pd.DataFrame:
    """Read a Telco CSV without interpreting it.

    UTF-8 with or without BOM, Latin-1, LF or CRLF, ``,`` or ``;`` and quoted cells are read alike.

    Parameters
    ----------
    path
        The file.
    file_size_max_mb, cell_length_max_chars
        Limits from the settings: megabytes (10^6 bytes), and characters in one cell.
    extra_allowed
        Further columns to accept; the gate warns of them.
    shown_as
        The name that errors show; by default the file's own.

    Returns
    -------
    pd.DataFrame
        ``(customers, 21)``, all ``object`` of ``str`` exactly as written, in :data:`COLUMNS` order whatever the
        file's, allowed extra columns behind; no nulls; index 0..customers-1 is the data row's number.

    Raises
    ------
    BadCsv
        If the file is empty, holds no row, is cut off, is no text, or its columns, cells or lengths are wrong.
    """
    name = shown_as or path.name
    check_size(path, file_size_max_mb=file_size_max_mb, shown_as=name)
    text = _decode(path.read_bytes(), name)
    header, rows = _split(text, name, cell_length_max_chars, extra_allowed)
    frame = pd.DataFrame(rows, columns=header, dtype=object)
    return frame[[*COLUMNS, *(column for column in header if column not in COLUMNS)]]


def normalise(raw: pd.DataFrame) -> pd.DataFrame:
    """Turn the CSV's words into the contract's types.

    Parameters
    ----------
    raw
        Rows of :func:`read_raw` that the gate left in.

    Returns
    -------
    pd.DataFrame
        ``(customers, 1 + stored features + 1)``: customer_id (str), the contract's stored features in its order
        (bool, int64, float64, str), ``churned`` (bool). The one null is a blank total (NaN, before the first
        bill). The index is kept, so that a row can be found in the file.

    Raises
    ------
    BadCsv
        If a value has no meaning in the contract; names column and row, not the value.
    """
    columns = {CUSTOMER: raw[CSV_KEY].astype(object)}
    for feature in STORED:
        columns[feature.name] = _typed(raw[feature.column], feature)
    columns[LABEL] = _mapped(raw[CSV_LABEL], YES_NO).astype(bool)
    return pd.DataFrame(columns, index=raw.index)


def _typed(cells: pd.Series, feature: Feature) -> pd.Series:
    if feature.dtype == "bool":
        return _mapped(cells, _truth(feature)).astype(bool)
    if feature.dtype == "string":
        return _mapped(cells, {word: word for word in feature.categories}).astype(object)
    if feature.dtype == "int64":
        return _matching(cells, INTEGER).astype("int64")
    if not feature.nullable:
        return _matching(cells, DECIMAL).astype("float64")
    known = _matching(cells, DECIMAL_OR_BLANK)
    return known.where(known.str.strip() != "", "nan").astype("float64")


def _truth(feature: Feature) -> dict[str, bool]:
    return ZERO_ONE if feature.name == "senior_citizen" else YES_NO


def _mapped(cells: pd.Series, meaning: dict[str, bool] | dict[str, str]) -> pd.Series:
    _refuse_where(~cells.isin(list(meaning)), cells)
    return cells.map(meaning)


def _matching(cells: pd.Series, pattern: str) -> pd.Series:
    _refuse_where(~cells.str.fullmatch(pattern), cells)
    return cells


def _refuse_where(wrong: pd.Series, cells: pd.Series) -> None:
    if wrong.any():
        rows = [int(row) + 1 for row in cells.index[wrong]]
        raise BadCsv(
            f"column {cells.name}: {len(rows)} unknown values, the first in data row {rows[0]}",
            "run the gate first: it quarantines such rows",
        )


def _decode(data: bytes, name: str) -> str:
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            raise BadCsv(f"{name}: this is {what}, not a CSV", "save it as CSV (UTF-8)")
    if (found := _CONTROL.search(data)) is not None:
        kind = "a NUL byte" if found.group() == b"\0" else f"the control byte 0x{found.group()[0]:02x}"
        raise BadCsv(
            f"{name}, line {_line_at(data, found.start())}: holds {kind}, so it is no text",
            "a NUL byte means a damaged copy or UTF-16: export again as CSV (UTF-8)",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        foreign = _NOT_LATIN_1.search(data)
        if foreign is None:
            return data.decode("latin-1")
        raise BadCsv(
            f"{name}, line {_line_at(data, broken.start)}: neither UTF-8 nor Latin-1 text",
            "export again as CSV (UTF-8)",
        ) from None


def _line_at(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _split(
    text: str, name: str, cell_length_max_chars: int, extra_allowed: Collection[str]
) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows, each with exactly the header's number of cells."""
    if not text or text.isspace():
        raise BadCsv(f"{name}: the file is empty", "export it again")
    first = text.split("\n", 1)[0]
    # The header decides, not the data: its names hold neither sign.
    lines = _lines(text, max(",;", key=first.count), name, cell_length_max_chars)
    line, header = next(lines)
    _check_header(header, name, extra_allowed)
    rows = []
    for line, cells in lines:
        if len(cells) != len(header):
            raise BadCsv(
                f"{name}, line {line}: {len(cells)} cells where the header has {len(header)}",
                "the file is cut off or a separator is missing or unquoted there: export it again",
            )
        rows.append(cells)
    if not rows:
        raise BadCsv(f"{name}: holds a header and no rows", "export it again")
    # Without a line end nothing tells a whole last value from a cut one ("18" of "1889.5"), but for a label.
    if not text.endswith(("\n", "\r")) and not (header[-1] == CSV_LABEL and rows[-1][-1] in YES_NO):
        raise BadCsv(
            f"{name}, line {line}: the last line is cut off",
            "export it again; a whole file ends with a line end or with Yes or No",
        )
    return header, rows


def _lines(text: str, delimiter: str, name: str, cell_length_max_chars: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells); blank lines are allowed at the end alone."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    blank = 0
    try:
        for cells in reader:
            if not cells:
                blank = blank or reader.line_num
                continue
            if blank:
                raise BadCsv(f"{name}, line {blank}: the line is blank", "remove it, or export the file again")
            if len(max(cells, key=len)) > cell_length_max_chars:
                raise _cell_too_long(name, reader.line_num, cell_length_max_chars)
            yield reader.line_num, cells
    except csv.Error as broken:
        if "field limit" in str(broken):
            raise _cell_too_long(name, reader.line_num, cell_length_max_chars) from None
        raise BadCsv(
            f"{name}, line {reader.line_num}: broken quoting ({broken})",
            "a quote is not closed, or the file is cut off: export it again",
        ) from None


def _cell_too_long(name: str, line: int, limit: int) -> BadCsv:
    return BadCsv(
        f"{name}, line {line}: a cell is longer than {limit} characters",
        "mend the cell, or raise CHURN_DATA__CELL_LENGTH_MAX_CHARS",
    )


def _check_header(header: list[str], name: str, extra_allowed: Collection[str]) -> None:
    missing = [column for column in COLUMNS if column not in header]
    if len(missing) == len(COLUMNS):
        # Most likely a file without a header: its first line is a customer, which no message may show.
        raise BadCsv(
            f"{name}, line 1: no Telco header (none of the {len(COLUMNS)} column names, between , or ;)",
            f"the first line must read {','.join(COLUMNS)}",
        )
    twice = sorted({column for column in header if header.count(column) > 1})
    extra = [column for column in header if column not in COLUMNS and column not in extra_allowed]
    faults = [
        f"{what} {_listed(columns)}"
        for what, columns in (("missing column", missing), ("unknown column", extra), ("duplicate column", twice))
        if columns
    ]
    if faults:
        hint = "name the columns as the Telco schema does"
        if extra:
            hint += "; allow extra ones under extra_columns_allowed in configs/expectations/telco_raw.json"
        raise BadCsv(f"{name}, line 1: {'; '.join(faults)}", hint)


def _listed(columns: list[str]) -> str:
    shown = ", ".join(repr(column[:40]) for column in columns[:_LISTED])
    return shown if len(columns) <= _LISTED else f"{shown} and {len(columns) - _LISTED} more"
