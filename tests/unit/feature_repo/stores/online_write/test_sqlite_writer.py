"""The upsert's rule, and what a reader sees meanwhile."""

import contextlib
import sqlite3
from datetime import timedelta

import pyarrow as pa
import pytest
from feast.value_type import ValueType

from feature_repo.stores.online_write.row_schema import OnlineRowSchema, SourceColumn
from feature_repo.stores.online_write.sqlite_writer import SqliteWriter
from tests.support.materialisation_store import NOON

HOUR = timedelta(hours=1)
SHAPE = OnlineRowSchema(
    {"id": SourceColumn("id", ValueType.STRING)},
    {"v": {"it's": SourceColumn("n", ValueType.INT64)}},
    "event",
    "created",
)
TABLE = """CREATE TABLE world_v (entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT, vector_value BLOB,
event_ts timestamp, created_ts timestamp, PRIMARY KEY(entity_key, feature_name))"""


@pytest.fixture
def path(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "online.db")) as connection:
        connection.execute(TABLE)
    return str(tmp_path / "online.db")


def batch(number, event=NOON, created=NOON):
    stamp = pa.timestamp("us", "UTC")
    columns = {"id": ["a"], "n": [number], "event": pa.array([event], stamp), "created": pa.array([created], stamp)}
    return pa.RecordBatch.from_pydict(columns)


def writer(path, **more):
    options = {"timeout_s": 0.2, "overwrite_newer": False} | more
    return contextlib.closing(SqliteWriter(path, project="world", shape=SHAPE, **options))


def stored(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT value_text FROM world_v").fetchall()


@pytest.mark.parametrize(
    ("event", "created", "lands"),
    [
        (NOON, NOON, True),
        (NOON + HOUR, NOON - HOUR, True),
        (NOON - HOUR, NOON + HOUR, False),
        (NOON, NOON - HOUR, False),
    ],
    ids=["a correction", "a newer one", "an older one", "what was corrected"],
)
def test_the_rule(path, event, created, lands):
    with writer(path) as ours:
        ours.write(ours.prepare(batch(1)))
        ours.write(ours.prepare(batch(2, event, created)))
    assert stored(path) == [("2" if lands else "1",)]


def test_overwriting_asks_nothing(path):
    with writer(path, overwrite_newer=True) as ours:
        ours.write(ours.prepare(batch(1)))
        ours.write(ours.prepare(batch(2, NOON - HOUR)))
    assert stored(path) == [("2",)]


def test_a_null_has_no_text_and_no_created_timestamp_is_none(path):
    with writer(path) as ours:
        ours.write(ours.prepare(batch(None, created=None)))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT value, value_text, created_ts FROM world_v").fetchall() == [(b"", None, None)]


@pytest.mark.parametrize(
    ("options", "after", "kept"),
    [
        ({}, timedelta(microseconds=250_001), 0.250001),
        ({}, timedelta(), 0),
        ({"whole_seconds": True}, timedelta(microseconds=250_001), 0),
    ],
    ids=["a fraction", "a whole second", "for Feast's text search"],
)
def test_created_timestamps_keep_microseconds_and_event_timestamps_do_not(path, options, after, kept):
    with writer(path, **options) as ours:
        ours.write(ours.prepare(batch(1, NOON + after, NOON + after)))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT event_ts, created_ts, typeof(created_ts) FROM world_v").fetchall()
    second = int(NOON.timestamp())
    assert rows == [(second, second + kept, "real" if kept else "integer")]


def test_of_a_row_stored_in_whole_seconds_a_later_creation_in_the_second_counts(path):
    with writer(path, whole_seconds=True) as before, writer(path) as ours:
        before.write(before.prepare(batch(1)))
        ours.write(ours.prepare(batch(2, NOON, NOON + HOUR / 36_000)))
        ours.write(ours.prepare(batch(3, NOON, NOON + HOUR / 72_000)))
    assert stored(path) == [("2",)]


def test_a_locked_file_is_an_error_and_nothing_is_stored(path):
    with writer(path) as ours, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            ours.write(ours.prepare(batch(1)))
        other.execute("ROLLBACK")
        assert stored(path) == []
        ours.write(ours.prepare(batch(1)))
    assert stored(path) == [("1",)]


def test_a_lost_table_is_an_error_and_the_transaction_ends(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE world_v")
    with writer(path) as ours:
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match="no such table"):
                ours.write(ours.prepare(batch(1)))
