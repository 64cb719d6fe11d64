"""List of a whole-base run for people: the customers in the order of their expected profit, as CSV or for Excel."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

import duckdb

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

_NAME_A_FILE: Final = "name a regular file, new or to be replaced, such as list.csv or list.xlsx"

Cell = str | float | int | None


class ListNotWrittenError(ChurnError):
    """A list of customers could not be written; a file of the same name is as it was."""

    error = "list_not_written"


def list_path(target: Path) -> Path:
    """Return the absolute path of the regular file that a list for ``target`` is written to; links are followed.

    Raises
    ------
    ListNotWrittenError
        If ``target`` is ``-``, a standard stream, or something else than a regular file, all of which stay as they
        are; or if the operating system does not allow to look.

    Examples
    --------
    >>> from pathlib import Path
    >>> from bentos.batch.call_list import list_path
    >>> list_path(Path("/dev/null"))
    Traceback (most recent call last):
        ...
    bentos.batch.call_list.ListNotWrittenError: /dev/null is no regular file
    """
    if str(target) == "-":
        raise ListNotWrittenError("a list can't be written to the standard output", _NAME_A_FILE)
    try:
        found = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return target.resolve()  # a new file, or a folder that is missing, which creating the file reports
    except OSError as refused:
        raise _not_written(target, refused) from refused
    if not stat.S_ISREG(found.st_mode):
        raise ListNotWrittenError(f"{target} is no regular file", _NAME_A_FILE)
    if any(os.path.samestat(found, stream) for stream in _output_streams()):
        raise ListNotWrittenError(f"{target} is the standard output or the standard error", _NAME_A_FILE)
    return target.resolve()


def _output_streams() -> Iterator[os.stat_result]:
    """Yield what the open ones of the process's standard output and standard error are."""
    for descriptor in (1, 2):
        with suppress(OSError):  # closed
            yield os.fstat(descriptor)


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
        The file to write, or a link to it; replaced at once when the list is complete, durably.

    Raises
    ------
    ListNotWrittenError
        If :func:`list_path` refuses the target, the file can't be written, or the run can't be read.
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
        as_of = manifest["observed_at"][:16].replace("T", " ")
    except (OSError, ValueError, KeyError, TypeError) as broken:
        raise ListNotWrittenError(
            f"the run {run.name} can't be read ({type(broken).__name__})", "run: churn score-base"
        ) from broken
    with ExitStack() as ended:
        with _read_errors(run, parts):
            connection = ended.enter_context(session(offline_limits(settings)))
            known = _view(connection, parts)
            reasons = _reasons_max(connection) if parts else 0
        yield _header(reasons), _listed(connection, known, reasons, as_of, run, parts) if parts else iter(())


@contextmanager
def _read_errors(run: Path, parts: Sequence[Path]) -> Iterator[None]:
    """Turn an error of reading the parts into ListNotWrittenError, which names the part where DuckDB does."""
    try:
        yield
    except duckdb.OutOfMemoryException as short:
        raise ListNotWrittenError(
            f"sorting the run {run.name} needs more than feast.offline_memory_max_mb, or its overflow found no disk",
            "raise CHURN_FEAST__OFFLINE_MEMORY_MAX_MB or free disk space, then run again: churn score-base",
        ) from short
    except (duckdb.Error, OSError) as broken:
        named = next((f"{part.name} of " for part in parts if str(part) in str(broken)), "")
        raise ListNotWrittenError(
            f"{named}the run {run.name} can't be read ({type(broken).__name__})",
            "run: churn score-base, which writes a missing or damaged part of today's run again",
        ) from broken


def _reasons_max(connection: duckdb.DuckDBPyConnection) -> int:
    found: int = connection.execute("SELECT coalesce(max(len(reasons)), 0) FROM scores").fetchall()[0][0]
    return found


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


def _listed(
    connection: duckdb.DuckDBPyConnection, known: list[str], reasons: int, as_of: str, run: Path, parts: Sequence[Path]
) -> Iterator[list[Cell]]:
    sorted_rows = f"SELECT {', '.join(known)} FROM scores ORDER BY expected_profit_usd DESC, {CUSTOMER}"  # noqa: S608 - names of ours
    with _read_errors(run, parts):
        answer = connection.execute(sorted_rows)
    rank = 0
    while True:
        with _read_errors(run, parts):
            chunk = answer.fetchmany(_BATCH)
        if not chunk:
            return
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
    """Open a temporary file for writing that replaces the file of ``target`` at the end, durably; nothing on an error.

    An OSError of the body is one of writing this file: :func:`_rows` translates those of reading.
    """
    final = list_path(target)
    try:
        with temporary_file(final.parent) as temporary:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(final)
        sync_folder(final.parent)
    except OSError as refused:
        raise _not_written(target, refused) from refused


def _not_written(target: Path, refused: OSError) -> ListNotWrittenError:
    return ListNotWrittenError(
        f"{target} can't be written: {refused.strerror or refused}", "name a file in a folder that can be written"
    )
