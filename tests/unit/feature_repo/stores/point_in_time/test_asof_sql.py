"""The texts of the join: what is filtered, what is packed, and that no name can leave its quotes."""

from __future__ import annotations

from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.files.duckdb_session import quote_name, quote_text
from feature_repo.stores.point_in_time.asof_sql import BucketScan, latest_sql, pairs_sql
from feature_repo.stores.point_in_time.latest_known_rows import KnownRows, latest_known

SCAN = BucketScan(("f.parquet",), 10, (("k", "VARCHAR"),), "e", "tz", "c", "tz", 5, 100, 100, (0, 200), (0, 200))


def test_names_and_texts_stay_in_their_quotes():
    assert quote_name('a"b') == '"a""b"'
    assert quote_text("a'b") == "'a''b'"


def test_what_the_statistics_promise_is_not_asked_again():
    assert SCAN.sql().count("make_timestamptz") == 3
    inside = replace(SCAN, event_bounds_us=(5, 100), created_bounds_us=(5, 100))
    assert inside.sql().endswith("WHERE true")
    assert "make_timestamp(" in replace(SCAN, event_type="naive").sql()


@pytest.mark.parametrize(
    ("scan", "bits"),
    [
        (SCAN, (8, 4)),
        (replace(SCAN, created=None, created_bounds_us=None), (0, 4)),
        (replace(SCAN, event_bounds_us=None), None),
        (replace(SCAN, created_bounds_us=None), None),
        (replace(SCAN, event_bounds_us=(-(1 << 62), 1 << 62), created_bounds_us=(-(1 << 62), 1 << 62)), None),
    ],
)
def test_three_numbers_are_packed_where_they_fit(scan, bits):
    assert scan.packed() == bits


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("created", [True, False])
def test_all_queries_find_the_same_rows(tmp_path, packed, created):
    stamps = pa.timestamp("us", "UTC")
    rows = pa.table(
        {
            "k": ["a", "a", "a", "b", None],
            "e": pa.array([1, 2, 2, 9, 1], stamps),
            "c": pa.array([1, 5, 4, None, 1], stamps),
        }
    )
    pq.write_table(rows, tmp_path / "f.parquet")
    scan = replace(SCAN, files=(str(tmp_path / "f.parquet"),), event_from_us=None, created="c" if created else None)
    if not packed:
        scan = replace(scan, event_bounds_us=None, created_bounds_us=None)
    connection = duckdb.connect()
    probes = pa.table({"i": [0, 1, 2, 3], "k0": ["a", "a", "b", None], "o": [4, 9, 9, 9]})
    connection.register("probes", probes)
    expected = [(0, 2, 2), (1, 1, 2)] if created else [(0, 2, 2), (1, 2, 2), (2, 3, 9)]
    assert connection.execute(pairs_sql(scan) + " ORDER BY i").fetchall() == expected
    newest = connection.execute(latest_sql(replace(scan, known_by_us=None)) + " ORDER BY place").fetchall()
    assert [place for place, _ in newest] == ([1] if created else [2, 3])


def test_two_threads_find_what_one_finds():
    random = np.random.default_rng(3)
    count = 1 << 17
    known = KnownRows(*(random.integers(0, top, count) for top in (500, 1000, 1000)), np.arange(count))
    code, observed = random.integers(0, 600, 5000), random.integers(-5, 1100, 5000)
    assert (latest_known(known, code, observed, 2) == latest_known(known, code, observed, 1)).all()
