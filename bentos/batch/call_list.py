"""List of a whole-base run for people: the customers in the order of their expected profit, as CSV or for Excel."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from bentos.batch.score_base import MANIFEST
from bentos.batch.workbook import write_workbook
from bentos.decisions.feature_words import spoken
from configs.errors import ChurnError
from configs.printable import printable
from configs.settings import Settings
from feature_repo.contract import CUSTOMER
from feature_repo.files.atomic_writes import sync_folder, temporary_file
from feature_repo.files.duckdb_session import offline_limits, quote_text, session
from feature_repo.files.regular_files import read_regular

if TYPE_CHECKING:
    import duckdb

_COLUMNS: Final = (
    CUSTOMER,
    "label",
    "probability",
    "expected_profit_usd",
    "lever_text",
    "lever_probability",
    "lever_accept_share",
    "reasons",
    "reason_texts",
    "score_quality",
    "stale",
    "missing",
    "model_version",
)
"""Columns that are read; those that a run of format 1 does not have are null."""
_BATCH: Final = 5000
_FORMULA: Final = frozenset("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - full-width signs begin a formula in some programs

Cell = str | float | int | None


class ListNotWrittenError(ChurnError):
    """A list of customers could not be written; a file of the same name is as it was."""

    error = "list_not_written"


def write_csv(settings: Settings, run: Path, target: Path) -> int:
    """Write the list of a finished run as CSV; return the number of its customers.

    UTF-8 with a byte-order mark, by which Excel recognises it; commas, and lines that end as RFC 4180 says. A text that
    a spreadsheet would take for a formula gets an apostrophe. Ids are written as they are: a spreadsheet that opens the
    file may read "00123" as a number, for which :func:`write_excel` is there.

    Parameters
    ----------
    settings
        For the memory limit of the sort.
    run
        Folder of the run, of format 1 or 2.
    target
        The file to write; replaced at once when the list is complete.

    Raises
    ------
    ListNotWrittenError
        If the file can't be written, or the run can't be read.
    """
    with _replaced(target) as file, _rows(settings, run) as (header, rows):
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        writer = csv.writer(text)
        writer.writerow(header)
        count = 0
        for row in rows:
            writer.writerow([_unformulated(cell) for cell in row])
            count += 1
        text.flush()
        text.detach()
    return count


def write_excel(settings: Settings, run: Path, target: Path) -> int:
    """Write the list of a finished run as an Excel workbook; parameters and errors as for :func:`write_csv`.

    Ids and all other words are text cells: no spreadsheet reads them as a number, a date or a formula.
    """
    with _replaced(target) as file, _rows(settings, run) as (header, rows):
        return write_workbook(file, header, rows)


@contextmanager
def _rows(settings: Settings, run: Path) -> Iterator[tuple[list[str], Iterator[list[Cell]]]]:
    """Open a run: the header and the rows, the greatest expected profit first; equal ones by id."""
    try:
        manifest = json.loads(read_regular(run / MANIFEST))
        parts = [run / name for name in sorted(manifest["files"])]
    except (OSError, ValueError, KeyError) as broken:
        raise ListNotWrittenError(
            f"the run {run.name} can't be read ({type(broken).__name__})", "run: churn score-base"
        ) from broken
    as_of = f"{manifest['observed_at'][:16].replace('T', ' ')}"
    with session(offline_limits(settings)) as connection:
        known = _view(connection, parts)
        reasons = (
            0 if not parts else connection.execute("SELECT coalesce(max(len(reasons)), 0) FROM scores").fetchall()[0][0]
        )
        header = _header(reasons)
        yield header, _listed(connection, known, reasons, as_of) if parts else iter(())


def _view(connection: duckdb.DuckDBPyConnection, parts: list[Path]) -> list[str]:
    """Make the view ``scores`` of a run's parts; return an expression for each of ``_COLUMNS``."""
    if not parts:
        return []
    paths = ", ".join(quote_text(str(part)) for part in parts)
    connection.execute(
        f"CREATE TEMP VIEW scores AS SELECT * FROM read_parquet([{paths}], hive_partitioning = false)"  # noqa: S608 - quoted
    )
    stored = {row[0] for row in connection.execute("DESCRIBE scores").fetchall()}
    return [name if name in stored else f"NULL AS {name}" for name in _COLUMNS]


def _listed(connection: duckdb.DuckDBPyConnection, known: list[str], reasons: int, as_of: str) -> Iterator[list[Cell]]:
    answer = connection.execute(
        f"SELECT {', '.join(known)} FROM scores ORDER BY expected_profit_usd DESC, {CUSTOMER}"  # noqa: S608 - names of ours
    )
    rank = 0
    while chunk := answer.fetchmany(_BATCH):
        for values in chunk:
            rank += 1
            yield _row(rank, dict(zip(_COLUMNS, values, strict=True)), reasons, as_of)


def _header(reasons: int) -> list[str]:
    return [
        "Rank",
        "Customer id",
        "Call",
        "Risk of leaving within 30 days (%)",
        "Expected profit of calling (USD)",
        "Offer",
        "Risk with the offer (%)",
        "Assumed to take the offer (%)",
        *(f"Reason {number}" for number in range(1, reasons + 1)),
        "Quality of the data",
        "Model",
        "As of (UTC)",
    ]


def _row(rank: int, found: dict[str, Any], reasons: int, as_of: str) -> list[Cell]:
    # A run of format 1 has the codes of the reasons, and no texts.
    texts = found["reason_texts"] if found["reason_texts"] is not None else found["reasons"]
    why = ["not available"] if texts is None else texts
    return [
        rank,
        found[CUSTOMER],
        "yes" if found["label"] == "churn" else "no",
        _percent(found["probability"]),
        round(found["expected_profit_usd"], 2),
        _text(found["lever_text"]),
        _percent(found["lever_probability"]),
        _percent(found["lever_accept_share"]),
        *(_text(why[place]) if place < len(why) else None for place in range(reasons)),
        _quality(found),
        _text(found["model_version"]),
        as_of,
    ]


def _quality(found: dict[str, Any]) -> str:
    gaps = [
        *(f"old data about {spoken(view)}" for view in found["stale"] or []),
        *(f"no value for {spoken(name)}" for name in found["missing"] or []),
    ]
    said = found["score_quality"] or "unknown"
    return f"{said}: {', '.join(gaps)}" if gaps else said


def _percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 1)


def _text(value: str | None) -> str | None:
    return None if value is None else printable(value)


def _unformulated(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in _FORMULA and cell else cell


@contextmanager
def _replaced(target: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file for writing that replaces ``target`` at the end, durably; nothing on an error."""
    try:
        with temporary_file(target.absolute().parent) as temporary:
            with temporary.open("wb") as file:
                yield file
            temporary.replace(target)
        sync_folder(target.absolute().parent)
    except OSError as refused:
        raise ListNotWrittenError(
            f"{target} can't be written: {refused.strerror or refused}", "name a file in a folder that can be written"
        ) from refused
