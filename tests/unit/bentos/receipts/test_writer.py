from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from contextlib import closing, contextmanager

import pytest

from bentos.receipts import ReceiptUnknownError, ReceiptWriter, find_receipt
from bentos.receipts.sqlite_sink import receipts_path
from configs.errors import SettingsError
from tests.support.patience import PATIENCE_S, until
from tests.support.receipts import a_receipt, keeping


@contextmanager
def locked(settings):
    """The database, held by another writer as long as this lasts."""
    receipts_path(settings.home).parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(receipts_path(settings.home), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@pytest.fixture
def impatient(monkeypatch):
    """SQLite waits less long for a lock: the same way, sooner."""
    monkeypatch.setattr("bentos.receipts.sqlite_sink.STATEMENT_TIMEOUT_S", 0.05)


@pytest.mark.slow
def test_what_was_offered_is_written_before_the_end(settings):
    receipts = [a_receipt() for _ in range(603)]
    told = Counter()
    writer = ReceiptWriter(settings, lambda what, number: told.update({what: number}))
    assert sum(writer.offer(receipts[start : start + 7]) for start in range(0, 603, 7)) == 603
    writer.close(30)
    assert [find_receipt(settings, each.prediction_id) for each in receipts] == receipts
    assert (writer.pending, writer.written, writer.dropped, writer.failed_writes) == (0, 603, 0, 0)
    assert told == {"written": 603}


def test_it_is_written_without_a_close(settings):
    writer, receipt = ReceiptWriter(settings), a_receipt()
    writer.offer([receipt])
    until(lambda: writer.written == 1)
    assert find_receipt(settings, receipt.prediction_id) == receipt
    writer.close(30)


def test_one_that_cannot_be_made_costs_the_others_nothing_and_is_counted(settings):
    writer, receipt = ReceiptWriter(settings), a_receipt()
    assert writer.offer([lambda: receipt, lambda: a_receipt(kind=1 / 0)]) == 1
    writer.close(30)
    assert find_receipt(settings, receipt.prediction_id) == receipt
    assert (writer.written, writer.dropped) == (1, 1)


@pytest.mark.slow
def test_a_held_lock_holds_up_no_offer_and_what_has_no_room_is_counted(settings, impatient, caplog):
    told = Counter()
    with locked(settings):
        writer = ReceiptWriter(keeping(settings, queue_max=10), lambda what, number: told.update({what: number}))
        receipts = [a_receipt() for _ in range(15)]
        # If an offer waited for the database, it would wait for this very thread.
        assert writer.offer(receipts[:8]) == 8
        until(lambda: writer.failed_writes > 1)
        assert writer.offer(receipts[8:]) == 2
        assert writer.offer([a_receipt()]) == 0
        assert (writer.pending, writer.written, writer.dropped) == (10, 0, 6)
    until(lambda: writer.written == 10)
    assert (writer.pending, writer.dropped) == (0, 6)
    writer.close(30)
    assert [find_receipt(settings, each.prediction_id) for each in receipts[:10]] == receipts[:10]
    for lost in receipts[10:]:
        with pytest.raises(ReceiptUnknownError):
            find_receipt(settings, lost.prediction_id)
    assert told == {"written": 10, "dropped": 6, "failed_writes": writer.failed_writes}
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "SQLITE_BUSY" in said[0]
    assert "again" in said[1]
    assert not any(receipt.customer_id in text for receipt in receipts for text in said)


def test_the_end_does_not_wait_for_ever_and_counts_what_is_lost(settings, impatient, caplog):
    with locked(settings):
        writer = ReceiptWriter(settings)
        writer.offer([a_receipt() for _ in range(3)])
        until(lambda: writer.failed_writes > 0)
        writer.close(0.2)
        writer.close(0.2)
        assert (writer.pending, writer.written, writer.dropped) == (0, 0, 3)
        assert writer.offer([a_receipt()]) == 0
        assert writer.dropped == 4
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1
    writer._thread.join(PATIENCE_S)
    assert not writer._thread.is_alive()


def test_one_that_cannot_be_spelt_costs_no_other(settings, caplog):
    good = [a_receipt() for _ in range(4)]
    bad = [a_receipt(probability=float("nan")), a_receipt(values=(object(),)), a_receipt(customer_id="a\0b")]
    writer = ReceiptWriter(settings)
    writer.offer([good[0], bad[0], good[1], bad[1], good[2], bad[2], good[3]])
    writer.close(30)
    assert (writer.written, writer.dropped, writer.pending) == (4, 3, 0)
    assert [find_receipt(settings, each.prediction_id) for each in good] == good
    assert caplog.text.count("a receipt can't be kept") == 3


def test_one_that_the_database_refuses_costs_no_other(settings):
    writer = ReceiptWriter(settings)
    writer.offer([a_receipt()])
    until(lambda: writer.written == 1)
    with closing(sqlite3.connect(receipts_path(settings.home))) as connection, connection:
        connection.execute(
            "CREATE TRIGGER no BEFORE INSERT ON churn_receipts WHEN new.customer_id = 'no' "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    good = [a_receipt() for _ in range(3)]
    writer.offer([*good, a_receipt(customer_id="no")])
    writer.close(30)
    assert (writer.written, writer.dropped, writer.pending) == (4, 1, 0)
    assert [find_receipt(settings, each.prediction_id) for each in good] == good


def test_the_thread_outlives_a_driver_that_raises_anything(settings, monkeypatch):
    writer = ReceiptWriter(settings)
    write = writer._sink.write
    raised = []

    def broken_once(rows):
        if not raised:
            raised.append(True)
            raise MemoryError
        write(rows)

    monkeypatch.setattr(writer._sink, "write", broken_once)
    writer.offer([a_receipt()])
    until(lambda: writer.written == 1)
    assert writer.failed_writes == 1
    writer.close(30)


def test_a_counter_that_fails_costs_no_receipt(settings, caplog):
    writer = ReceiptWriter(keeping(settings, queue_max=1), lambda _what, _number: 1 / 0)
    receipt = a_receipt()
    assert writer.offer([receipt, a_receipt()]) == 1
    writer.close(30)
    assert (writer.written, writer.dropped) == (1, 1)
    assert find_receipt(settings, receipt.prediction_id) == receipt
    assert caplog.text.count("counted nowhere else: ZeroDivisionError") == 2


def test_another_database_than_postgres_is_told_at_once(settings):
    with pytest.raises(SettingsError):
        ReceiptWriter(keeping(settings, database_url="mysql://host/db"))
