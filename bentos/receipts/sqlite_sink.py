"""SQLite sink of receipts, a file below the home; several processes may write at once."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from bentos.receipts.signing import ReceiptRow
from bentos.receipts.sink import (
    CONNECT_TIMEOUT_S,
    RECEIPT_COLUMNS,
    STATEMENT_TIMEOUT_S,
    TABLE,
    ReceiptStoreError,
    RowsRefusedError,
)
from feature_repo.files.regular_files import identity
from feature_repo.stores.database_errors import sqlite_cause

_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS {TABLE} (
  prediction_id TEXT NOT NULL PRIMARY KEY,
  answered_at TEXT NOT NULL,
  customer_id TEXT NOT NULL,
  bundle_digest TEXT NOT NULL,
  content TEXT NOT NULL,
  signature TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS {TABLE}_customer ON {TABLE} (customer_id);
COMMIT;
"""
_PLACES: Final = f"({', '.join('?' * len(ReceiptRow._fields))})"


def receipts_path(home: Path) -> Path:
    """Return the path of a home's receipts."""
    return home / "receipts" / "receipts.db"


class SqliteSink:
    """A :class:`~bentos.receipts.sink.Sink` in a file below the home.

    In WAL mode with ``synchronous=NORMAL`` a process that is killed loses nothing that was committed; a power cut may
    lose the last moments, and never half a batch.

    Parameters
    ----------
    home
        The home; the file is created on first use.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from bentos.receipts.signing import ReceiptRow
    >>> from bentos.receipts.sqlite_sink import SqliteSink
    >>> sink = SqliteSink(Path(tempfile.mkdtemp()))
    >>> row = ReceiptRow("01a2", "2026-01-31T00:00:00.000000+00:00", "7590-VHVEG", "ab" * 32, "{}", "00" * 32)
    >>> sink.write([row])
    >>> sink.find("01a2") == row
    True
    >>> sink.close()
    """

    def __init__(self, home: Path) -> None:
        self._path = receipts_path(home)
        self._homeless = not home.exists()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def write(self, rows: Sequence[ReceiptRow]) -> None:
        """Store the rows in one transaction, by one statement.

        ``executemany`` acquires and releases the interpreter's lock for each row; with busy threads each acquisition
        waits.
        """
        statement = (
            f"INSERT INTO {TABLE} ({RECEIPT_COLUMNS}) VALUES {', '.join([_PLACES] * len(rows))} ON CONFLICT DO NOTHING"  # noqa: S608 - names of ours, bound values
        )
        with _refusals(), self._undone():
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(statement, [cell for row in rows for cell in row])
            connection.execute("COMMIT")

    def find(self, prediction_id: str) -> ReceiptRow | None:
        """Return the row of an id as it is stored, unverified, over a connection of its own."""
        if not self._path.is_file():
            return None
        query = f"SELECT {RECEIPT_COLUMNS} FROM {TABLE} WHERE prediction_id = ?"  # noqa: S608 - names of ours
        # Never creates the file: a look-up in the wrong home leaves no trace in it.
        where = f"{self._path.absolute().as_uri()}?mode=rw"
        with _refusals(), closing(sqlite3.connect(where, timeout=CONNECT_TIMEOUT_S, uri=True)) as connection:
            # Bytes that are not text were not written by this code: the signature check reports it.
            connection.text_factory = lambda content: content.decode(errors="replace")
            there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (TABLE,)).fetchone()
            found = connection.execute(query, (prediction_id,)).fetchone() if there else None
        return None if found is None else ReceiptRow(*found)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        # SQLite goes on writing to a file that was moved away or deleted, where it would never be read.
        if self._connection is not None and identity(self._path) != self._file:
            self.close()
        if self._connection is None:
            # A home that was removed since is not created again.
            self._path.parent.mkdir(parents=self._homeless, exist_ok=True, mode=0o700)
            # Personal data: the file, and the two that SQLite keeps next to it, are readable by their owner only.
            # Only if it does not exist: closing any descriptor of a file drops the locks that SQLite holds on it.
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            connection = sqlite3.connect(
                self._path, timeout=STATEMENT_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.executescript(_SCHEMA)
            except BaseException:
                connection.close()
                raise
            self._connection, self._file = connection, identity(self._path)
        return self._connection

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Close the connection after any failure: that rolls back, and the next use opens a new one."""
        try:
            yield
        except BaseException:
            self.close()
            raise


@contextmanager
def _refusals() -> Iterator[None]:
    damaged = "restore receipts.db from a backup; or set receipts/ aside: a new file begins with the next answer"
    try:
        yield
    except (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError) as refused:
        raise RowsRefusedError(type(refused).__name__) from refused
    except sqlite3.Error as broken:
        cause = sqlite_cause(broken, damaged=damaged, otherwise=damaged)
        raise ReceiptStoreError(f"the file of the receipts can't be used: {cause.what}", cause.cure) from broken
    except OSError as broken:
        what = broken.strerror or type(broken).__name__
        hint = "free disk space, or correct the rights of receipts/ below CHURN_HOME"
        raise ReceiptStoreError(f"the file of the receipts can't be used: {what}", hint) from broken
