"""Receipts against real databases: away, hanging, killed, written to by several at once; and replayed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from bentos.receipts import (
    ReceiptStoreError,
    ReceiptTamperedError,
    ReceiptUnknownError,
    ReceiptWriter,
    Replayer,
    find_receipt,
)
from bentos.receipts.postgres_sink import PostgresSink
from bentos.receipts.signing import ReceiptRow, sign_receipt, signing_key, verify_row
from bentos.receipts.sqlite_sink import SqliteSink, receipts_path
from configs.settings import PROJECT_ROOT
from tests.support.patience import PATIENCE_S, until
from tests.support.postgres_server import PostgresServer, postgres_server
from tests.support.receipts import RECEIPTS, a_receipt, keeping, receipts_of, replayable

KEY = b"k" * 32

WRITE = """
import sys
from pathlib import Path
from bentos.receipts import ReceiptWriter
from configs.settings import load_settings
from tests.support.receipts import a_receipt

settings, number = load_settings(home=Path(sys.argv[1])), int(sys.argv[2])
writer = ReceiptWriter(settings)
print("ready", flush=True)
sys.stdin.readline()
while number:
    wanted = min(number, 500)
    number -= writer.offer([a_receipt(customer_id=sys.argv[3]) for _ in range(wanted)])
    print(writer.written, flush=True)
writer.close(60)
print(writer.written, writer.dropped, flush=True)
"""


@pytest.fixture(scope="module")
def server():
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres(server, settings):
    """Settings whose receipts go to a PostgreSQL without any yet."""
    run(server, "DROP TABLE IF EXISTS churn_receipts")
    return keeping(settings, database_url=server.url)


def run(server, statement, *values):
    with psycopg.connect(make_url(server.url).set(drivername="postgresql").render_as_string(hide_password=False)) as c:
        done = c.execute(statement, values or None)
        return done.fetchall() if done.description else []


def put(server, receipt, key=KEY):
    with closing(PostgresSink(server.url)) as sink:
        sink.write([sign_receipt(receipt, key)])


def started(home, number, customer="7590-VHVEG"):
    command = [sys.executable, "-c", WRITE, str(home), str(number), customer]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT_ROOT, bufsize=1
    )
    assert process.stdout.readline() == "ready\n"
    return process


def stored(settings):
    with closing(sqlite3.connect(receipts_path(settings.home))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute(f"SELECT {', '.join(ReceiptRow._fields)} FROM churn_receipts").fetchall()  # noqa: S608
    key = signing_key(settings)
    return [verify_row(ReceiptRow(*row), row[0], key) for row in rows]


FEW = trying(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SOME = st.lists(RECEIPTS, min_size=1, max_size=8)


@FEW
@given(SOME)
def test_every_bit_survives_in_sqlite(tmp_path, receipts):
    survives(SqliteSink(tmp_path), receipts)


@FEW
@given(SOME)
def test_every_bit_survives_in_postgres(server, receipts):
    survives(PostgresSink(server.url), receipts)


def survives(sink, drawn):
    # Drawn ids repeat, and the first receipt of an id stays.
    receipts = [replace(each, prediction_id=str(uuid4())) for each in drawn]
    with closing(sink):
        sink.write([sign_receipt(each, KEY) for each in receipts])
        sink.write([sign_receipt(each, KEY) for each in receipts])
        for each in receipts:
            assert repr(verify_row(sink.find(each.prediction_id), each.prediction_id, KEY)) == repr(each)


@FEW
@given(RECEIPTS, RECEIPTS)
def test_what_is_stored_is_never_written_over_in_sqlite(tmp_path, first, second):
    stays(SqliteSink(tmp_path), SqliteSink(tmp_path), first, second)


@FEW
@given(RECEIPTS, RECEIPTS)
def test_what_is_stored_is_never_written_over_in_postgres(server, first, second):
    stays(PostgresSink(server.url), PostgresSink(server.url), first, second)


def stays(sink, other, first, second):
    """Whichever process writes an id again, alone or among new ones: the row stays, changed by others or not."""
    row = sign_receipt(replace(first, prediction_id=str(uuid4())), KEY)
    changed = sign_receipt(replace(first, prediction_id=str(uuid4())), KEY)._replace(content="changed by others")
    again = sign_receipt(replace(second, prediction_id=row.prediction_id), KEY)
    genuine = sign_receipt(replace(second, prediction_id=changed.prediction_id), KEY)
    new = sign_receipt(replace(second, prediction_id=str(uuid4())), KEY)
    with closing(sink), closing(other):
        sink.write([row, changed])
        for each in (sink, other):
            each.write([again])
            each.write([genuine, new, again])
        assert [sink.find(each.prediction_id) for each in (row, changed, new)] == [row, changed, new]


def test_two_processes_write_at_once(settings):
    number = 1500
    writers = [started(settings.home, number, customer) for customer in ("one", "two")]
    for each in writers:
        each.stdin.write("go\n")
    for each in writers:
        said, _ = each.communicate(timeout=PATIENCE_S)
        assert said.splitlines()[-1] == f"{number} 0"
    found = stored(settings)
    assert sorted(each.customer_id for each in found) == ["one"] * number + ["two"] * number


def test_a_killed_writer_leaves_whole_receipts_and_the_next_goes_on(settings):
    known = 0
    for _ in range(2):
        process = started(settings.home, 10**9)
        process.stdin.write("go\n")
        written = 0
        while written < 1000:
            written = int(process.stdout.readline())
        process.kill()
        process.communicate()
        found = stored(settings)
        # What had been told as written is there; each receipt that is there is whole.
        assert len(found) >= known + written
        known = len(found)
    writer, receipt = ReceiptWriter(settings), a_receipt()
    writer.offer([receipt])
    writer.close(30)
    assert find_receipt(settings, receipt.prediction_id) == receipt
    assert len(stored(settings)) == known + 1


def test_a_thousand_replays_agree(settings):
    receipts = receipts_of(replayable(settings.home), 1000)
    writer, replayer = ReceiptWriter(settings), Replayer(settings)
    assert sum(writer.offer([each]) for each in receipts) == 1000
    writer.close(60)
    again = [replayer.replay(find_receipt(settings, each.prediction_id)) for each in receipts]
    assert all(each.agrees for each in again)
    assert max(each.difference for each in again) <= 1e-9


def test_postgres_keeps_verifies_and_replays(postgres):
    receipts = receipts_of(replayable(postgres.home), 20)
    with pytest.raises(ReceiptUnknownError):
        find_receipt(postgres, receipts[0].prediction_id)
    writer = ReceiptWriter(postgres)
    writer.offer(receipts)
    writer.close(60)
    assert (writer.written, writer.failed_writes) == (20, 0)
    assert [find_receipt(postgres, each.prediction_id) for each in receipts] == receipts
    assert all(Replayer(postgres).replay(find_receipt(postgres, each.prediction_id)).agrees for each in receipts)
    with pytest.raises(ReceiptUnknownError):
        find_receipt(postgres, "nobody's")


@pytest.mark.parametrize(
    ("column", "other"),
    [
        ("answered_at", "answered_at + interval '1 microsecond'"),
        ("answered_at", "'infinity'"),
        ("customer_id", "'else'"),
        ("bundle_digest", "md5(bundle_digest)"),
        ("content", "replace(content, '0.73', '0.13')"),
        ("signature", "md5(signature)"),
    ],
)
def test_each_change_in_postgres_shows(server, postgres, column, other):
    receipt = a_receipt()
    put(server, receipt, signing_key(postgres))
    assert find_receipt(postgres, receipt.prediction_id) == receipt
    run(server, f"UPDATE churn_receipts SET {column} = {other}")  # noqa: S608 - from the list above
    with pytest.raises(ReceiptTamperedError):
        find_receipt(postgres, receipt.prediction_id)


def test_workers_that_start_at_once_make_the_table_once(server, postgres):
    together, failed = threading.Barrier(6), []

    def write():
        sink = PostgresSink(server.url)
        together.wait()
        try:
            sink.write([sign_receipt(a_receipt(), KEY)])
        except ReceiptStoreError as broken:
            failed.append(broken)
        sink.close()

    threads = [threading.Thread(target=write) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failed
    assert run(server, "SELECT count(*) FROM churn_receipts") == [(6,)]


def test_a_role_that_may_only_add_and_read_is_enough(server, postgres):
    put(server, a_receipt())
    run(
        server,
        "DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'adder') THEN "
        "CREATE ROLE adder LOGIN PASSWORD 'only-adds'; END IF; END $$; "
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT INSERT, SELECT ON churn_receipts TO adder",
    )
    url = make_url(server.url).set(username="adder", password="only-adds").render_as_string(hide_password=False)  # noqa: S106
    adder, row = PostgresSink(url), sign_receipt(a_receipt(), KEY)
    adder.write([row])
    adder.write([row])
    assert adder.find(row.prediction_id) == row
    adder.close()
    run(server, "DROP OWNED BY adder")


def test_a_batch_that_one_row_spoils_is_saved_but_for_that_row(server, postgres):
    writer = ReceiptWriter(postgres)
    writer.offer([a_receipt()])
    until(lambda: writer.written == 1)
    run(server, "ALTER TABLE churn_receipts ADD CONSTRAINT short CHECK (length(customer_id) < 20)")
    good = [a_receipt() for _ in range(3)]
    writer.offer([*good, a_receipt(customer_id="x" * 30)])
    writer.close(60)
    assert (writer.written, writer.dropped) == (4, 1)
    assert [find_receipt(postgres, each.prediction_id) for each in good] == good


def test_postgres_that_comes_later_and_goes_in_between_loses_nothing(settings, caplog):
    server = PostgresServer()
    try:
        later = keeping(settings, database_url=server.url)
        receipts = [a_receipt() for _ in range(40)]
        writer = ReceiptWriter(later)
        assert writer.offer(receipts[:20]) == 20
        until(lambda: writer.failed_writes > 0)
        with pytest.raises(ReceiptStoreError):
            find_receipt(later, receipts[0].prediction_id)
        server.start()
        until(lambda: writer.written == 20)
        server.stop()
        assert writer.offer(receipts[20:]) == 20
        failed = writer.failed_writes
        until(lambda: writer.failed_writes > failed)
        server.start()
        until(lambda: writer.written == 40)
        assert (writer.pending, writer.dropped) == (0, 0)
        writer.close(30)
        assert [find_receipt(later, each.prediction_id) for each in receipts] == receipts
    finally:
        server.remove()
    assert "127.0.0.1" not in caplog.text
    assert "pa55" not in caplog.text


def test_postgres_that_hangs_holds_up_nobody(server, postgres):
    writer = ReceiptWriter(keeping(postgres, queue_max=30))
    receipts = [a_receipt() for _ in range(40)]
    writer.offer(receipts[:5])
    until(lambda: writer.written == 5)
    lost = ReceiptWriter(postgres)
    lost.offer([a_receipt()])
    until(lambda: lost.written == 1)
    with server.hanging():
        # It is this thread that lets the server go on: whoever waited for it here would wait for ever.
        assert sum(writer.offer([each]) for each in receipts[5:]) == 30
        assert (writer.pending, writer.written, writer.dropped) == (30, 5, 5)
        with pytest.raises(ReceiptStoreError):
            find_receipt(postgres, receipts[0].prediction_id)
        assert lost.offer(receipts[:2]) == 2
        lost.close(0.1)
        assert (lost.pending, lost.written, lost.dropped) == (0, 1, 2)
    until(lambda: writer.written == 35)
    writer.close(30)
    assert [find_receipt(postgres, each.prediction_id) for each in receipts[:35]] == receipts[:35]


def test_a_table_that_was_taken_away_is_made_anew(server, postgres):
    writer = ReceiptWriter(postgres)
    writer.offer([a_receipt()])
    until(lambda: writer.written == 1)
    run(server, "DROP TABLE churn_receipts")
    receipt = a_receipt()
    writer.offer([receipt])
    until(lambda: writer.written == 2)
    writer.close(30)
    assert find_receipt(postgres, receipt.prediction_id) == receipt


def test_the_content_is_json_that_any_tool_reads(server, postgres):
    put(server, a_receipt())
    ((told,),) = run(server, "SELECT content::json -> 'reasons' -> 0 ->> 0 FROM churn_receipts")
    assert told == json.loads(sign_receipt(a_receipt(), KEY).content)["reasons"][0][0]
