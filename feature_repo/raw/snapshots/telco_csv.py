"""Reader of the Telco CSV: strict parsing, and conversion of its strings to the contract's types.

pandas' own reader pads short rows, drops surplus cells and guesses types without a message, so a damaged file would
become a plausible frame. Here every row has exactly the header's number of cells, else the file is refused with an
error that names the file and the line. See docs/extracts.md.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Final

import pandas as pd

from feature_repo.contract import CSV_KEY, CSV_LABEL, CUSTOMER, LABEL, STORED, Feature
from feature_repo.files.regular_files import open_regular, read_regular
from feature_repo.raw.snapshots.csv_text import CsvError, check_memory, numbered_rows, text_of

CSV_COLUMNS: Final = (
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
"""Pattern of TotalCharges, which is blank before the first bill."""

_LISTED: Final = 5
# Names that pandas, R and spreadsheets give a column of row numbers (floats after a merge) or an unnamed column.
_UNNAMED: Final = re.compile(r"|index|Unnamed: ?[0-9]+(?:\.[0-9]+)?")
_ROW_NUMBER: Final = re.compile(r"[0-9]{1,12}(?:\.0)?")
# Words repeat; ids and totals hardly do. One object per word takes a third of the memory.
_REPEATED: Final = frozenset(CSV_COLUMNS) - {CSV_KEY, "TotalCharges"}


def domain(feature: Feature) -> tuple[str, ...]:
    """Return the words that the CSV uses for a stored feature's values; empty for a number."""
    if feature.dtype == "bool":
        return tuple(_truth(feature))
    return feature.categories


def check_size(path: Path, *, file_size_max_mb: int, shown_as: str = "") -> None:
    """Raise if a path is missing, not a file, or larger than ``file_size_max_mb`` (10^6 bytes).

    Raises
    ------
    CsvError
        Naming the file and, if it is too large, the limit.
    """
    name = shown_as or path.name
    try:
        with open_regular(path) as file:
            size_mb = os.fstat(file.fileno()).st_size / 1e6
    except FileNotFoundError:
        raise CsvError(f"{name}: no such file", f"check the path: {path}") from None
    except OSError as refused:
        raise CsvError(f"{name} cannot be read: {refused.strerror}", f"check the file and its rights: {path}") from None
    if size_mb > file_size_max_mb:
        raise CsvError(
            f"{name}: {size_mb:.0f} MB is over the limit of {file_size_max_mb} MB",
            "split the file, or raise CHURN_DATA__FILE_SIZE_MAX_MB",
        )


def read_raw(
    path: Path,
    *,
    file_size_max_mb: int,
    cell_length_max_chars: int,
    memory_max_mb: int | None = None,
    extra_allowed: Collection[str] = (),
    shown_as: str = "",
) -> pd.DataFrame:
    r"""Read a Telco CSV without interpreting it.

    UTF-8 with or without BOM, UTF-16 with one, Latin-1, LF, CRLF or CR, ``,`` or ``;`` (another separator where the
    first line names it, as ``sep=``) and quoted cells are read alike. A column of row numbers and empty columns, both
    without a name, are left out.

    Parameters
    ----------
    path
        The file.
    file_size_max_mb, cell_length_max_chars
        Limits from the settings: megabytes (10^6 bytes), and characters in one cell.
    memory_max_mb
        Limit on the memory to read and validate the file, 10^6 bytes; None: not checked.
    extra_allowed
        Further columns to accept; the gate warns of them.
    shown_as
        Name of the file in errors; by default its own.

    Returns
    -------
    pd.DataFrame
        ``(customers, 21)``, all ``object`` of ``str`` as written (letters composed, NFC), in :data:`CSV_COLUMNS` order
        whatever the file's, allowed extra columns behind; no nulls; index 0..customers-1 is the data row's number.

    Raises
    ------
    CsvError
        If the file is empty, holds no row, is cut off, is not text, or its columns, cells or lengths are wrong.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from feature_repo.raw.snapshots.telco_csv import CSV_COLUMNS, normalise, read_raw
    >>> path = Path(tempfile.mkdtemp()) / "extract.csv"
    >>> cells = "7590-VHVEG,Female,0,Yes,No,1,No,No phone service,DSL,No,Yes,No,No,No,No,Month-to-month,Yes,"
    >>> _ = path.write_text(f"{','.join(CSV_COLUMNS)}\n{cells}Electronic check,29.85,29.85,No\n")
    >>> raw = read_raw(path, file_size_max_mb=1, cell_length_max_chars=100)
    >>> raw.shape, raw.loc[0, "tenure"]
    ((1, 21), '1')
    >>> rows = normalise(raw)
    >>> rows[["tenure_months", "contract_type", "churned"]].values.tolist()
    [[1, 'Month-to-month', False]]

    A file that is cut off is refused:

    >>> _ = path.write_text(f"{','.join(CSV_COLUMNS)}\n{cells}")
    >>> read_raw(path, file_size_max_mb=1, cell_length_max_chars=100)
    Traceback (most recent call last):
        ...
    feature_repo.raw.snapshots.csv_text.CsvError: ...
    """
    name = shown_as or path.name
    check_size(path, file_size_max_mb=file_size_max_mb, shown_as=name)
    if memory_max_mb is not None:
        check_memory(path, memory_max_mb=memory_max_mb, shown_as=name)
    header, rows = _table(read_regular(path), name, cell_length_max_chars, extra_allowed)
    frame = pd.DataFrame(rows, columns=header, dtype=object)
    return frame[[*CSV_COLUMNS, *(column for column in header if column in set(extra_allowed))]]


def normalise(raw: pd.DataFrame) -> pd.DataFrame:
    """Convert the CSV's strings to the contract's types.

    Parameters
    ----------
    raw
        Rows of :func:`read_raw` that the gate did not quarantine.

    Returns
    -------
    pd.DataFrame
        ``(customers, 1 + stored features + 1)``: customer_id (str), the contract's stored features in its order
        (bool, int64, float64, str), ``churned`` (bool). The one null is a blank total (NaN, before the first
        bill). The index is kept, so that a row can be found in the file.

    Raises
    ------
    CsvError
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
        raise CsvError(
            f"column {cells.name}: {len(rows)} unknown values, the first in data row {rows[0]}",
            "run the gate first: it quarantines such rows",
        )


def _table(
    data: bytes, name: str, cell_length_max_chars: int, extra_allowed: Collection[str]
) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows, each with exactly the header's number of cells."""
    data, encoding = text_of(data, name)
    lines = numbered_rows(data, encoding, name, cell_length_max_chars)
    line, header = next(lines)
    unnamed = _check_header(header, name, line, extra_allowed)
    repeated = [place for place, column in enumerate(header) if column in _REPEATED]
    seen: dict[str, str] = {}
    rows = []
    for line, cells in lines:  # noqa: B007 - the last line's number
        for place in repeated:
            cells[place] = seen.setdefault(cells[place], cells[place])
        rows.append(cells)
    if not rows:
        raise CsvError(f"{name}: holds a header and no rows", "export it again")
    # Without a line end a truncated last value ("18" of "1889.5") looks complete; only a label is unambiguous.
    if not data.endswith((b"\n", b"\r")) and not (header[-1] == CSV_LABEL and rows[-1][-1] in YES_NO):
        raise CsvError(
            f"{name}, line {line}: the last line is cut off",
            "export it again; a whole file ends with a line end or with Yes or No",
        )
    for place in unnamed:
        cells = [row[place].strip() for row in rows]
        numbers, leads = all(map(_ROW_NUMBER.fullmatch, cells)), place == unnamed.index(place)
        if any(cells) and not (numbers and leads):
            called = "is called like an index" if header[place].strip() else "has no name"
            fault = "stands behind others" if numbers else "holds more than row numbers"
            raise CsvError(
                f"{name}, line 1: column {place + 1} {called}, and {fault}",
                "name the columns as the Telco schema does",
            )
    return header, rows


def _check_header(header: list[str], name: str, line: int, extra_allowed: Collection[str]) -> list[int]:
    """Return the positions of the unnamed columns. Raises CsvError if the header is not the Telco schema's.

    Unknown column names are not repeated in errors: one may be a customer id.
    """
    count, known = Counter(header), frozenset(CSV_COLUMNS)
    missing = [column for column in CSV_COLUMNS if column not in count]
    meant = {_letters(column) for column in CSV_COLUMNS}
    if len(missing) == len(CSV_COLUMNS) and not any(_letters(column) in meant for column in header):
        raise CsvError(
            f"{name}, line {line}: no Telco header (none of the {len(CSV_COLUMNS)} column names, between , or ;)",
            f"the first line must read {','.join(CSV_COLUMNS)}",
        )
    twice = [repr(column) for column in CSV_COLUMNS if count[column] > 1]
    allowed = known | set(extra_allowed)
    unnamed = [place for place, column in enumerate(header) if _UNNAMED.fullmatch(column.strip())]
    extra = [
        _place(place, column, missing)
        for place, column in enumerate(header)
        if column not in allowed and not _UNNAMED.fullmatch(column.strip())
    ]
    faults = [
        f"{what} {_listed(columns)}"
        for what, columns in (
            ("missing column", [repr(column) for column in missing]),
            ("unknown column", extra),
            ("duplicate column", twice),
        )
        if columns
    ]
    if faults:
        hint = "name the columns as the Telco schema does"
        if extra:
            hint += "; allow extra ones under extra_columns_allowed in configs/expectations/telco_raw.json"
        raise CsvError(f"{name}, line {line}: {'; '.join(faults)}", hint)
    return unnamed


def _place(place: int, column: str, missing: list[str]) -> str:
    """Return an unknown column's number, and the missing one it equals but for case, blanks and signs."""
    meant = [known for known in missing if _letters(known) == _letters(column)]
    return f"{place + 1} ({meant[0]!r} in another spelling?)" if meant else str(place + 1)


def _letters(column: str) -> str:
    return "".join(sign for sign in column.casefold() if sign.isalnum())


def _listed(columns: list[str]) -> str:
    shown = ", ".join(columns[:_LISTED])
    return shown if len(columns) <= _LISTED else f"{shown} and {len(columns) - _LISTED} more"
