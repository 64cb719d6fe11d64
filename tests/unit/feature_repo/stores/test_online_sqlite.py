"""Feast's SQLite tables are read by plan: in pieces, by any thread, in any time zone of the machine."""

from __future__ import annotations

import gc
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from feature_repo.stores import online_sqlite
from feature_repo.stores.feast_patches.faults import install_patches
from feature_repo.stores.online_read.response import PlannedResponse
from tests.support.patience import PATIENCE_S
from tests.support.read_plan_repository import NOW, opened, write


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = opened(tmp_path_factory.mktemp("sqlite-plans"))
    write(store, "calls", *({"customer_id": f"c{number}", "calls": number} for number in range(30)))
    return store


def calls(store, ids):
    answer = store.get_online_features(["calls:calls"], [{"customer_id": each} for each in ids])
    assert isinstance(answer, PlannedResponse)
    return answer.to_dict()["calls"]


def test_many_keys_are_read_in_pieces_and_in_order(store, monkeypatch):
    monkeypatch.setattr(online_sqlite, "_KEYS_AT_ONCE", 4)
    numbers = [*range(29, -1, -1), 3, 77, 3]
    expected = [number if number < 30 else None for number in numbers]
    assert calls(store, [f"c{number}" for number in numbers]) == expected


def test_more_keys_than_a_statement_may_bind(store):
    assert sum(value is not None for value in calls(store, [f"c{number}" for number in range(40_000)])) == 30


def test_threads_share_a_store(store):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: calls(store, [f"c{number}", f"c{number + 1}"]), range(28)))
    assert found == [[number, number + 1] for number in range(28)]


@pytest.mark.slow
def test_reads_that_fail_beside_a_push_lose_none_of_its_rows(tmp_path, monkeypatch):
    """The threads of a store share one connection; the table of a view that was never materialised is missing."""
    store = opened(tmp_path)
    with sqlite3.connect(tmp_path / "online.db") as connection:
        connection.execute("DROP TABLE plan_sites")
    connection.close()
    begun, ended = threading.Event(), threading.Event()
    statement = online_sqlite.upsert_sql

    def slowly(table, features):
        """Hold the push between its transaction's two statements: its rows have different features."""
        if begun.is_set():
            assert ended.wait(PATIENCE_S)
        begun.set()
        return statement(table, features)

    monkeypatch.setattr(online_sqlite, "upsert_sql", slowly)
    view = store.get_feature_view("bills")
    pushed = [
        (EntityKey(join_keys=["customer_id"], entity_values=[Value(string_val=key)]), values, NOW, None)
        for key, values in {"a": {"amount": Value(double_val=1)}, "b": {"paid_on": Value(unix_timestamp_val=2)}}.items()
    ]
    with ThreadPoolExecutor(1) as pool:
        push = pool.submit(
            store._get_provider().online_store.online_write_batch, store.config, view, pushed, progress=None
        )
        assert begun.wait(PATIENCE_S)
        try:
            for _ in range(2):
                with pytest.raises(sqlite3.OperationalError, match="no such table"):
                    store.get_online_features(["sites:visits"], [{"site_id": 1}])
        finally:
            ended.set()
        push.result()
    answer = store.get_online_features(["bills:amount", "bills:paid_on"], [{"customer_id": "a"}, {"customer_id": "b"}])
    found = answer.to_dict()
    assert (found["amount"], [each is None for each in found["paid_on"]]) == ([1.0, None], [True, False])


@pytest.mark.slow
def test_a_store_that_is_dropped_closes_its_connection(tmp_path):
    install_patches()  # as importing the offline store does, which this file needs for nothing else
    store = opened(tmp_path)
    write(store, "calls", {"customer_id": "a", "calls": 1})
    online = store._get_provider().online_store
    connection = online._get_conn(store.config)
    del store, online
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        connection.execute("SELECT 1")


@pytest.mark.slow
def test_a_file_that_is_restored_in_its_place_is_read_again(tmp_path):
    """``cp`` empties the file first: whoever reads then sees no tables, and SQLite would go on to see none."""
    store = opened(tmp_path)
    write(store, "calls", {"customer_id": "c1", "calls": 1})
    assert calls(store, ["c1"]) == [1]
    file = tmp_path / "online.db"
    whole = file.read_bytes()
    file.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            calls(store, ["c1"])
    assert file.read_bytes() == b"", "nothing is written to a copy that is on its way"
    file.write_bytes(whole)
    assert calls(store, ["c1"]) == [1]


@pytest.mark.slow
@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns"])
def test_an_event_timestamp_does_not_depend_on_the_machines_clock(tmp_path, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        store = opened(tmp_path)
        at = NOW - timedelta(days=3)
        write(store, "calls", {"customer_id": "a", "calls": 1}, at=at)
        answer = store.get_online_features(["calls:calls"], [{"customer_id": "a"}])
        assert answer.to_dict(include_event_timestamps=True)["calls__ts"] == [int(at.timestamp())]
    finally:
        monkeypatch.undo()
        time.tzset()
