"""The receipt store of the settings: open it, and find a receipt by prediction id.

See docs/decisions/0026-receipts.md.
"""

from __future__ import annotations

from bentos.receipts.receipt import Receipt
from bentos.receipts.signing import signing_key, verify_row
from bentos.receipts.sink import Sink
from configs.errors import ChurnError
from configs.settings import Settings


class ReceiptUnknownError(ChurnError):
    """There is no receipt of this prediction id."""

    error = "receipt_unknown"
    http_status = 404


def open_sink(settings: Settings) -> Sink:
    """Return the database of the settings; it is opened on first use.

    Raises
    ------
    SettingsError
        If ``receipts.database_url`` is set and is not a PostgreSQL URL.
    """
    if url := settings.receipts.database_url.get_secret_value():
        from bentos.receipts.postgres_sink import PostgresSink

        return PostgresSink(url)
    from bentos.receipts.sqlite_sink import SqliteSink

    return SqliteSink(settings.home)


def find_receipt(settings: Settings, prediction_id: str) -> Receipt:
    """Return the receipt of a prediction, its signature verified.

    Waits a few seconds at most for a database that does not answer.

    Parameters
    ----------
    settings
        Sections ``receipts`` and ``home``.
    prediction_id
        As answered.

    Raises
    ------
    ReceiptUnknownError
        If there is none (yet).
    ReceiptTamperedError
        If it is not what was written.
    ReceiptStoreError
        If the database is unavailable.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from bentos.receipts.store import find_receipt
    >>> from configs.settings import load_settings
    >>> find_receipt(load_settings(home=Path(tempfile.mkdtemp())), "01a2")
    Traceback (most recent call last):
        ...
    bentos.receipts.store.ReceiptUnknownError: ...
    """
    # An id with other characters than ours is not looked up: a NUL would be an error of the database.
    row = open_sink(settings).find(prediction_id) if prediction_id.isprintable() else None
    if row is None:
        raise ReceiptUnknownError(
            "there is no receipt of this prediction",
            "check the id; a receipt is written a moment after its answer: ask again in a second",
        )
    return verify_row(row, prediction_id, signing_key(settings))
