"""How much is taken at a time, and what a source must have."""

from __future__ import annotations

from pathlib import Path

import pytest
from feast import FileSource

from feature_repo.files.duckdb_session import Limits, session
from feature_repo.stores.point_in_time.asof_join import Times, buckets, plan_scan
from feature_repo.stores.point_in_time.parquet_source import OfflineTableEmptyError, ParquetDataset, SourceColumnError
from tests.support.feast_repository import at, part


@pytest.mark.parametrize(("probes", "rows", "count"), [(1, 0, 1), (6_000_000, 0, 2), (0, 100_000_000, 9)])
def test_buckets_fit_a_quarter_of_the_memory(probes, rows, count):
    assert len(buckets(probes, rows, Limits(Path(), 4096, 2))) == count


def source(tmp_path):
    part(tmp_path, "t", "1", [("a", at(0), at(0))])
    part(tmp_path, "t", "2", [("a", at(10), at(10))])
    return ParquetDataset.open(tmp_path, FileSource(path="offline/t", timestamp_field="event_timestamp"))


def test_files_outside_the_window_are_not_read(tmp_path):
    hour_us = 3_600_000_000
    start_us = int(at(0).timestamp()) * 1_000_000
    kept, asked = plan_scan(source(tmp_path), Times("event_timestamp", None), [], (start_us, start_us + hour_us), None)
    assert [Path(file).stem for file in asked.files] == ["1"]
    assert plan_scan(kept, Times("event_timestamp", None), [], (None, 0), None)[1].files == ()


@pytest.mark.parametrize(
    ("times", "keys"),
    [(Times("nope", None), []), (Times("customer_id", None), []), (Times("event_timestamp", None), [("x", "VARCHAR")])],
)
def test_an_unfit_source_is_named(tmp_path, times, keys):
    with pytest.raises(SourceColumnError):
        plan_scan(source(tmp_path), times, keys, (None, 1), 1)


def test_nothing_there_is_named(tmp_path):
    with pytest.raises(OfflineTableEmptyError):
        ParquetDataset.open(tmp_path, FileSource(path="offline/t", timestamp_field="event_timestamp"))


@pytest.mark.slow
def test_what_spilled_is_gone_afterwards(tmp_path):
    with session(Limits(tmp_path, 128, 1)) as connection:
        connection.execute("CREATE TEMP TABLE t AS SELECT random() AS x, range AS y FROM range(8000000)")
        assert list(tmp_path.glob(".tmp-spill-*"))
    assert not list(tmp_path.glob(".tmp-*"))
