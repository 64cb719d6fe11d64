"""Normalization of numbers that other programs write differently, and likely causes of invalid cells.

Pure. A spelling with one possible meaning is read, any other is left for the gate to refuse. docs/extracts.md states
the same rules; the gate's patterns match the output.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Final

import numpy as np
import pandas as pd

from feature_repo.contract import CSV_KEY, CUSTOMER_PATTERN, STORED, Feature
from feature_repo.raw.snapshots.telco_csv import DECIMAL, INTEGER, ZERO_ONE, domain

_DIGITS_MAX: Final = 9
_DECIMALS: Final = 6
_ID_CHARS_MAX: Final = 64
# Relative: the rounding error of some hundred additions of doubles, far below a significant seventh decimal.
_NOISE: Final = Decimal("1e-12")
# A spelling below has up to 139 decimals (40 and an exponent of -99), and nine digits before them.
_EXACT: Final = Context(prec=150)
_WHOLE: Final = re.compile(r"([0-9]{1,9})\.0+", re.ASCII)
_FRACTION: Final = re.compile(r"[0-9]{1,9}\.[0-9]{7,40}|[0-9](?:\.[0-9]{1,40})?[eE][+-]?[0-9]{1,2}")
_GROUPED: Final = re.compile(r"[0-9]{1,3}(?:([ '\u2019\u00a0\u2009\u202f])[0-9]{3})(?:\1[0-9]{3})?(?:\.[0-9]{1,40})?")
_COMMA_GROUPED: Final = re.compile(r"[0-9]{1,3}(?:,[0-9]{3}){1,2}(?:\.[0-9]{1,40})?")
_POINT_IS_DECIMAL: Final = r"\.(?:[0-9]{1,2}|[0-9]{4,})\Z"
_COMMA_IS_DECIMAL: Final = r"^[0-9.]*,(?:[0-9]{0,2}|[0-9]{4,})\Z"
_MISSING: Final = frozenset(
    {"", "nan", "null", "none", "na", "n/a", "#n/a", "<na>", "nat", "nil", "-", "--", "?", "\\n"}
)
_TRUTH: Final = frozenset({"true", "false", "t", "f", "y", "n", "yes", "no", "0", "1", "0.0", "1.0"})
_FEATURES: Final = {feature.column: feature for feature in STORED}
_NUMBER_FAULTS: Final = (
    (re.compile(r"[0-9]+,(?:[0-9]{1,2}|[0-9]{4,})"), "decimal comma?"),
    (re.compile(r"[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]*"), "decimal comma, with points between the thousands?"),
    (_COMMA_GROUPED, "thousands separators or a decimal comma? No other value of the column tells which"),
    (re.compile(r"[-\u2212]\s?[0-9.,]+|\([0-9.,]+\)"), "negative number"),
    (re.compile(r"\+\s?[0-9.,]+"), "a plus sign"),
    (re.compile(r"['\u2019\"][0-9.,]+['\u2019\"]?|=\"[0-9.,]+\""), "quotes of a spreadsheet around the number?"),
    (re.compile(r"[0-9.,]+\s?%"), "per cent?"),
    (re.compile(r"[0-9]{1,3}(?:_[0-9]{3})+(?:\.[0-9]*)?"), "underscores between the thousands?"),
    (
        re.compile(r"[^0-9A-Za-z\s.,-]\s?[0-9.,]+|[0-9.,]+\s?[^0-9A-Za-z\s.,-]|(?i:usd|eur)\s?[0-9.,]+"),
        "currency sign?",
    ),
    (re.compile(r"[0-9.,]+\s?[A-Za-z]+"), "a unit behind the number?"),
    (re.compile(r"[0-9]{10,}(?:\.[0-9]*)?"), "more than nine digits"),
    (re.compile(r"[0-9]+\.[0-9]{7,}"), "more than six decimals that are no rounding noise"),
)


@dataclass(frozen=True)
class Respelling:
    """Number of cells of a column that were read from another spelling than the Telco file's.

    Parameters
    ----------
    column
        Column of the CSV.
    spelling
        Description of the spelling.
    cells
        How many cells have it.
    """

    column: str
    spelling: str
    cells: int


def respell(raw: pd.DataFrame) -> tuple[pd.DataFrame, list[Respelling]]:
    """Rewrite numbers as in the Telco file, where the spelling has only one meaning.

    Parameters
    ----------
    raw
        Rows of :func:`feature_repo.raw.snapshots.telco_csv.read_raw`.

    Returns
    -------
    tuple of pd.DataFrame and list of Respelling
        The rows with all other cells unchanged, and what was rewritten. Unknown spellings are left for the gate.

    Examples
    --------
    >>> import pandas as pd
    >>> from feature_repo.raw.snapshots.normalization import respell
    >>> raw = pd.DataFrame({"tenure": ["12.0"], "MonthlyCharges": ["29.85"]})
    >>> rows, found = respell(raw)
    >>> rows["tenure"].tolist(), [(each.column, each.cells) for each in found]
    (['12'], [('tenure', 1)])
    """
    changed, told = {}, []
    for column, feature in _FEATURES.items():
        if column not in raw or not (number := _pattern(feature)):
            continue
        cells = raw[column]
        odd = cells[~cells.str.fullmatch(number).astype(bool)]
        if odd.empty:
            continue
        read = _reader(feature, cells)
        plain = odd.map({text: found for text in odd.unique() if (found := read(text)) is not None}).dropna()
        if len(plain):
            changed[column] = pd.concat([cells.drop(plain.index), plain.str[0]]).reindex(cells.index)
            told += [Respelling(column, str(kind), int(count)) for kind, count in plain.str[1].value_counts().items()]
    return raw.assign(**changed), told


def likely_cause(column: str, text: str) -> str:
    """Return the likely cause of an invalid cell, empty where unknown; never contains the cell's text."""
    if column == CSV_KEY:
        return id_fault(text)
    if text.strip().casefold() in _MISSING:
        return "a missing value, written as a word" if text.strip() else "empty"
    if text != text.strip():
        return "blanks around it"
    feature = _FEATURES.get(column)
    if words := domain(feature) if feature else ("Yes", "No"):
        return _word_fault(text, words)
    if feature is not None and feature.dtype == "int64" and re.fullmatch(r"[0-9]+\.[0-9]+", text):
        return "not a whole number"
    return next((fault for pattern, fault in _NUMBER_FAULTS if pattern.fullmatch(text)), "")


def id_fault(text: str) -> str:
    """Return how a customer id is malformed, without repeating it; empty for a valid id.

    Examples
    --------
    >>> from feature_repo.raw.snapshots.normalization import id_fault
    >>> id_fault("7590-VHVEG"), bool(id_fault(" 7590-VHVEG"))
    ('', True)
    """
    faults = {
        "": bool(re.fullmatch(CUSTOMER_PATTERN.removesuffix("$"), text)),
        "empty": not text.strip(),
        "blanks around it": text != text.strip(),
        f"longer than {_ID_CHARS_MAX} characters": len(text) > _ID_CHARS_MAX,
        "a blank inside": any(sign.isspace() for sign in text),
        "begins with neither a letter nor a digit": not re.match(r"\w", text),
        "a character that is no letter, digit, hyphen, point or underscore": True,
    }
    return next(fault for fault, found in faults.items() if found)


def _pattern(feature: Feature) -> str:
    """Return the pattern of the column's plain numbers (and of blanks that mean null); empty for words."""
    if domain(feature) == tuple(ZERO_ONE):
        return r"[01]"
    if domain(feature):
        return ""
    return INTEGER.removeprefix("^") if feature.dtype == "int64" else rf"\s*|{DECIMAL.removeprefix('^')}"


def _reader(feature: Feature, cells: pd.Series) -> Callable[[str], tuple[str, str] | None]:
    """Return a function from a cell of the column to (plain number, name of its spelling), or None."""
    # 1,936 alone is ambiguous. A comma separates thousands only where the column's other cells show a decimal point.
    commas = bool(cells.str.contains(_POINT_IS_DECIMAL).any()) and not cells.str.contains(_COMMA_IS_DECIMAL).any()

    def read(text: str) -> tuple[str, str] | None:
        whole = _WHOLE.fullmatch(text)
        if whole and feature.dtype != "float64":
            plain = whole[1].lstrip("0") or "0"
            return (plain, "integer with decimals (1.0)") if feature.dtype == "int64" or plain in ZERO_ONE else None
        if feature.dtype != "float64":
            return None
        if _GROUPED.fullmatch(text) or (commas and _COMMA_GROUPED.fullmatch(text)):
            number, spelling = re.sub(r"[^0-9.]", "", text), "thousands separators"
        elif re.fullmatch(r"\.[0-9]{1,6}|[0-9]{1,9}\.", text):
            number, spelling = f"0{text}" if text[0] == "." else text[:-1], "no digit next to the point (.5)"
        elif _FRACTION.fullmatch(text):
            number, spelling = text, "exponent" if "e" in text.casefold() else "float noise"
        else:
            return None
        rounded = _rounded(number)
        return None if rounded is None else (rounded, spelling)

    return read


def _rounded(text: str) -> str | None:
    """Return a number with at most six decimals, None if further decimals are not binary rounding noise."""
    value = Decimal(text)
    if value.adjusted() > _DIGITS_MAX - 1:
        return None
    near = value.quantize(Decimal(1).scaleb(-_DECIMALS))
    if abs(value - near) > _NOISE * max(value, Decimal(1)):
        # A float32 that was widened: 29.850000381469727 is the float32 nearest to 29.85, digit by digit.
        narrow = np.float32(text)
        near = Decimal(np.format_float_positional(narrow, unique=True, trim="-"))
        if Decimal(float(narrow)).quantize(value, context=_EXACT) != value:
            return None
    plain = format(near.normalize(), "f")
    return plain if re.fullmatch(DECIMAL, plain) else None


def _word_fault(text: str, words: tuple[str, ...]) -> str:
    if text.casefold() in {word.casefold() for word in words}:
        return "other letter case"
    if set(words) <= {"Yes", "No", "1", "0"} and text.casefold() in _TRUTH:
        return f"another spelling of {' or '.join(words)}"
    return ""
