from __future__ import annotations

import sqlite3
import stat
from contextlib import closing

import pytest

from bentos.receipts import ReceiptStoreError
from bentos.receipts.signing import sign_receipt
from bentos.receipts.sink import RowsRefusedError
from bentos.receipts.sqlite_sink import SqliteSink, receipts_path
from tests.support.receipts import a_receipt

KEY = b"k" * 32


def rows(number):
    return [sign_receipt(a_receipt(), KEY) for _ in range(number)]


def count(home):
    with closing(sqlite3.connect(receipts_path(home))) as connection:
        return connection.execute("SELECT count(*) FROM churn_receipts").fetchone()[0]


@pytest.fixture
def sink(tmp_path):
    sink = SqliteSink(tmp_path)
    yield sink
    sink.close()


def test_what_was_written_is_found(sink, tmp_path):
    written = rows(500)
    sink.write(written)
    assert [SqliteSink(tmp_path).find(row.prediction_id) for row in written] == written
    assert sink.find("none of them") is None


def test_the_same_id_twice_has_one_effect(sink, tmp_path):
    (row,) = rows(1)
    sink.write([row])
    sink.write([row._replace(content="else"), *rows(1), row])
    assert count(tmp_path) == 2
    assert sink.find(row.prediction_id) == row


def test_looking_leaves_no_trace(sink, tmp_path):
    assert sink.find("anything") is None
    assert not list(tmp_path.iterdir())


def test_a_file_without_the_table_holds_no_receipt(sink, tmp_path):
    receipts_path(tmp_path).parent.mkdir()
    receipts_path(tmp_path).touch()
    assert sink.find("anything") is None


def test_the_files_are_for_their_owner_alone(sink, tmp_path):
    sink.write(rows(1))
    files = [receipts_path(tmp_path).parent, *receipts_path(tmp_path).parent.iterdir()]
    assert len(files) == 4
    assert not any(stat.S_IMODE(each.stat().st_mode) & 0o077 for each in files)


def test_it_is_looked_for_by_customer_without_reading_everything(sink, tmp_path):
    sink.write(rows(1))
    with closing(sqlite3.connect(receipts_path(tmp_path))) as connection:
        plan = connection.execute("EXPLAIN QUERY PLAN DELETE FROM churn_receipts WHERE customer_id = ?", ("x",))
        assert "USING INDEX churn_receipts_customer" in str(plan.fetchall())


def test_a_file_that_was_taken_away_is_made_anew(sink, tmp_path):
    sink.write(rows(1))
    receipts_path(tmp_path).rename(tmp_path / "away.db")
    written = rows(2)
    sink.write(written)
    assert count(tmp_path) == 2


def test_a_failed_batch_leaves_nothing_and_the_next_one_is_whole(sink, tmp_path):
    good, bad = rows(1), rows(1)[0]._replace(customer_id=None)
    with pytest.raises(RowsRefusedError):
        sink.write([*good, bad])
    assert count(tmp_path) == 0
    sink.write(good)
    assert count(tmp_path) == 1


def test_a_damaged_file_is_a_named_error(sink, tmp_path):
    receipts_path(tmp_path).parent.mkdir()
    receipts_path(tmp_path).write_bytes(b"this is no database at all" * 100)
    for use in (lambda: sink.write(rows(1)), lambda: sink.find("anything")):
        with pytest.raises(ReceiptStoreError, match="SQLITE_NOTADB") as refused:
            use()
        assert (refused.value.error, refused.value.http_status) == ("receipts_unavailable", 503)
        assert refused.value.transient


def test_a_folder_that_cannot_be_made_is_a_named_error(tmp_path):
    (tmp_path / "receipts").write_text("a file stands where the folder should")
    with pytest.raises(ReceiptStoreError, match="File exists"):
        SqliteSink(tmp_path).write(rows(1))


def test_bytes_that_are_no_text_are_handed_on(sink, tmp_path):
    (row,) = rows(1)
    sink.write([row])
    with closing(sqlite3.connect(receipts_path(tmp_path))) as connection, connection:
        connection.execute("UPDATE churn_receipts SET content = CAST(x'ff00fe' AS TEXT)")
    found = sink.find(row.prediction_id)
    assert found is not None
    assert found.content != row.content


def test_a_home_that_was_removed_is_not_made_again(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    sink = SqliteSink(home)
    home.rmdir()
    with pytest.raises(ReceiptStoreError, match="No such file"):
        sink.write(rows(1))
    assert not home.exists()
