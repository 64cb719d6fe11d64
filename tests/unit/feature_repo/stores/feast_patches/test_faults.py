"""What Feast opens in SQLite is closed with its owner, on every Python: only newer ones warn of it."""

import gc
import sqlite3

import pytest
from feast.infra.online_stores.sqlite import SqliteTable

import feature_repo.stores.offline  # noqa: F401 - puts the guards in place


def test_a_table_s_connection_is_closed_with_it(tmp_path):
    table = SqliteTable(str(tmp_path / "online.db"), "a_table")
    connection = table.conn
    connection.execute("SELECT 1")
    del table
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
