"""PostgreSQL sink of receipts: a batch is one statement of whole columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from bentos.receipts.signing import ReceiptRow
from bentos.receipts.sink import (
    CONNECT_TIMEOUT_S,
    RECEIPT_COLUMNS,
    STATEMENT_TIMEOUT_S,
    TABLE,
    ReceiptStoreError,
    RowsRefusedError,
)
from configs.errors import SettingsError
from feature_repo.stores.database_errors import postgres_cause

if TYPE_CHECKING:
    from psycopg import Connection

_SCHEMA: Final = f"""
CREATE TABLE {TABLE} (
  prediction_id text PRIMARY KEY,
  answered_at timestamptz NOT NULL,
  customer_id text NOT NULL,
  bundle_digest text NOT NULL,
  content text NOT NULL,
  signature text NOT NULL
);
CREATE INDEX {TABLE}_customer ON {TABLE} (customer_id);
"""
_LOCK: Final = 0x636875726E  # "churn"
_INSERT: Final = (
    f"INSERT INTO {TABLE} ({RECEIPT_COLUMNS}) "  # noqa: S608 - names of ours, bound values
    f"SELECT {RECEIPT_COLUMNS.replace('answered_at', 'answered_at::timestamptz')} "
    f"FROM unnest({', '.join(['%b::text[]'] * len(ReceiptRow._fields))}) AS given ({RECEIPT_COLUMNS}) "
    "ON CONFLICT DO NOTHING"
)
_SPELT: Final = """to_char(answered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""
_SELECT: Final = f"SELECT {RECEIPT_COLUMNS.replace('answered_at', _SPELT)} FROM {TABLE} WHERE prediction_id = %s"  # noqa: S608 - names of ours


class PostgresSink:
    """A :class:`~bentos.receipts.sink.Sink`. Raises SettingsError unless ``url`` is a PostgreSQL URL.

    ``url`` is a SQLAlchemy URL. The first process with the right to do so creates the table; if it exists, the rights
    to INSERT and SELECT suffice. Sessions keep no state, so that a connection pooler can be used.
    """

    def __init__(self, url: str) -> None:
        self._arguments = _arguments(url)
        self._connection: Connection[Any] | None = None

    def write(self, rows: Sequence[ReceiptRow]) -> None:
        """Store the rows in one transaction.

        Binary arrays cost a quarter of the interpreter's time of ``executemany``, and less than half of the wait.
        """
        with _refusals(), self._undone():
            if self._connection is None:
                self._connection = self._opened()
                self._prepare(self._connection)
            with self._limited(self._connection):
                self._connection.execute(_INSERT, [list(column) for column in zip(*rows, strict=True)])

    def find(self, prediction_id: str) -> ReceiptRow | None:
        """Return the row of an id as it is stored, unverified, over a connection of its own."""
        import psycopg

        with _refusals(), self._opened() as connection:
            try:
                with self._limited(connection):
                    found = connection.execute(_SELECT, (prediction_id,)).fetchone()
            except psycopg.errors.UndefinedTable:  # nothing was ever written
                return None
        return None if found is None else ReceiptRow(*found)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> Connection[Any]:
        import psycopg

        # Keep-alives: a server that is cut off without a reset is noticed, and the batch tried again elsewhere.
        defaults: dict[str, Any] = {
            "application_name": "churn-receipts",
            "client_encoding": "UTF8",
            "connect_timeout": CONNECT_TIMEOUT_S,
            "keepalives_idle": STATEMENT_TIMEOUT_S,
            "tcp_user_timeout": STATEMENT_TIMEOUT_S * 1000,
        }
        return psycopg.connect(**(defaults | self._arguments), autocommit=True, prepare_threshold=None)

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Close the connection after any failure: the next use opens a new one."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    @contextmanager
    def _limited(self, connection: Connection[Any]) -> Iterator[None]:
        """Run one transaction with a statement time-out, so that no lock is waited for without limit."""
        with connection.transaction():
            connection.execute(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT_S}s'")
            yield

    def _prepare(self, connection: Connection[Any]) -> None:
        """Create the table if it does not exist; workers that start at once wait for each other."""
        with self._limited(connection):
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            # Checked first: IF NOT EXISTS needs the right to create even if the table exists.
            there = connection.execute("SELECT to_regclass(%s)", (TABLE,)).fetchone()
            if there is not None and there[0] is None:
                connection.execute(_SCHEMA)


def _arguments(url: str) -> dict[str, Any]:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    hint = "set CHURN_RECEIPTS__DATABASE_URL to postgresql+psycopg://user:password@host/database, or leave it empty"
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):  # its text repeats the password
        raise SettingsError("receipts.database_url is no database URL", hint) from None
    if parts.get_backend_name() != "postgresql":
        raise SettingsError("receipts.database_url names another database than PostgreSQL", hint)
    parts = parts.set(drivername="postgresql+psycopg")
    return dict(parts.get_dialect()().create_connect_args(parts)[1])


@contextmanager
def _refusals() -> Iterator[None]:
    import psycopg

    try:
        yield
    except (psycopg.DataError, psycopg.IntegrityError) as refused:
        raise RowsRefusedError(type(refused).__name__) from refused
    except psycopg.Error as broken:
        cause = postgres_cause(broken, "CHURN_RECEIPTS__DATABASE_URL")
        raise ReceiptStoreError(
            f"the database of the receipts (PostgreSQL) can't be used: {cause.what}", cause.cure
        ) from broken
