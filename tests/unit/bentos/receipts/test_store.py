from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from bentos.receipts import ReceiptTamperedError, ReceiptUnknownError, find_receipt
from bentos.receipts.signing import sign_receipt, signing_key
from bentos.receipts.sqlite_sink import receipts_path
from bentos.receipts.store import open_sink
from configs.errors import SettingsError
from tests.support.receipts import a_receipt, keeping


@pytest.fixture
def written(settings):
    receipts = [a_receipt(customer_id=f"customer-{number}") for number in range(3)]
    sink = open_sink(settings)
    sink.write([sign_receipt(each, signing_key(settings)) for each in receipts])
    sink.close()
    return receipts


def change(settings, statement, *values):
    with closing(sqlite3.connect(receipts_path(settings.home))) as connection, connection:
        assert connection.execute(statement, values).rowcount


def test_a_receipt_is_found_and_is_what_was_written(settings, written):
    assert [find_receipt(settings, each.prediction_id) for each in written] == written


@pytest.mark.parametrize("prediction_id", ["", "nobody", "a\0b", "\ud800", "'; DROP TABLE churn_receipts; --"])
def test_an_unknown_id_is_a_404_that_says_when_to_ask_again(settings, written, prediction_id):
    with pytest.raises(ReceiptUnknownError) as refused:
        find_receipt(settings, prediction_id)
    assert (refused.value.error, refused.value.http_status) == ("receipt_unknown", 404)
    assert "ask again" in refused.value.hint
    assert find_receipt(settings, written[0].prediction_id) == written[0]


@pytest.mark.parametrize("column", ["answered_at", "customer_id", "bundle_digest", "content", "signature"])
def test_each_column_that_was_changed_shows(settings, written, column):
    change(settings, f"UPDATE churn_receipts SET {column} = {column} || '0'")  # noqa: S608 - from the list above
    with pytest.raises(ReceiptTamperedError):
        find_receipt(settings, written[1].prediction_id)


def test_a_copied_row_shows(settings, written):
    columns = "answered_at, customer_id, bundle_digest, content, signature"
    change(settings, "DELETE FROM churn_receipts WHERE prediction_id = ?", written[0].prediction_id)
    change(
        settings,
        f"INSERT INTO churn_receipts SELECT ?, {columns} FROM churn_receipts WHERE prediction_id = ?",  # noqa: S608
        written[0].prediction_id,
        written[1].prediction_id,
    )
    with pytest.raises(ReceiptTamperedError):
        find_receipt(settings, written[0].prediction_id)
    assert find_receipt(settings, written[1].prediction_id) == written[1]


def test_cells_of_other_types_show(settings, written):
    change(settings, "UPDATE churn_receipts SET content = CAST(content AS BLOB)")
    with pytest.raises(ReceiptTamperedError):
        find_receipt(settings, written[0].prediction_id)


def test_another_key_reads_nothing(settings, written):
    with pytest.raises(ReceiptTamperedError):
        find_receipt(keeping(settings, signing_key="another"), written[0].prediction_id)


def test_another_database_than_postgres_is_refused(settings):
    with pytest.raises(SettingsError):
        open_sink(keeping(settings, database_url="mysql://host/db"))
