"""The files of a source: which there are, what they hold, and single rows of them."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FileSource, PushSource

from feature_repo.stores.point_in_time import parquet_source as module
from feature_repo.stores.point_in_time.parquet_source import ParquetDataset, SourceColumnError
from tests.support.feast_repository import START, at, part

HOUR_US = 3_600_000_000
FIRST_US = int(START.timestamp()) * 1_000_000


def listed(home, path="offline/t/**/*.parquet"):
    return ParquetDataset.open(home, FileSource(name="t", path=path, timestamp_field="event_timestamp"))


@pytest.fixture
def three_files(tmp_path):
    """Rows 0 … 9 at hours 0 … 9; two months' folders; the last file has another column."""
    for name, hours in (("day=2026-01-01/a", range(4)), ("day=2026-01-02/b", range(4, 7))):
        folder, file = name.split("/")
        part(tmp_path, f"t/{folder}", file, [("k", at(h), at(h), {"n": h}) for h in hours], n=pa.int32())
    last = [("k", at(h), at(h), {"n": h, "m": f"m{h}"}) for h in range(7, 10)]
    part(tmp_path, "t/day=2026-01-02", "c", last, n=pa.int64(), m=pa.string())
    return tmp_path


def test_one_schema_of_unlike_files(three_files):
    parts = listed(three_files)
    assert (parts.rows, parts.uniform) == (10, False)
    assert [parts.schema.field(name).type for name in ("n", "m", "day")] == [pa.int64(), pa.string(), pa.date32()]


def test_rows_in_any_order_doubled_and_missing(three_files):
    parts = listed(three_files)
    places = np.array([2 * parts.stride + 2, -1, 0, parts.stride, 0])
    table = parts.take(places, ["n", "m", "day"], threads=2)
    assert table["n"].to_pylist() == [9, None, 0, 4, 0]
    assert table["m"].to_pylist() == ["m9", None, None, None, None]
    assert table["day"].to_pylist() == [date(2026, 1, 2), None, date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 1)]


@pytest.mark.parametrize(
    ("window", "files", "numbers"),
    [((None, 99), 3, range(10)), ((5, 7), 2, range(5, 8)), ((4, 6), 1, range(4, 7)), ((20, 30), 0, [])],
)
def test_files_and_rows_of_a_window(three_files, window, files, numbers):
    least, most = (None if hour is None else FIRST_US + hour * HOUR_US for hour in window)
    kept = listed(three_files).within("event_timestamp", least, most)
    assert len(kept.fragments) == files
    batches = kept.batches(kept.between("event_timestamp", least, most), ["n"])
    assert [number for batch in batches for number in batch["n"].to_pylist()] == list(numbers)


def test_a_stream_holds_a_few_rows_of_a_row_group_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ROWS_STREAMED", 10)
    folder = tmp_path / "offline" / "t"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"n": range(100), "word": ["w"] * 100}), folder / "one.parquet", row_group_size=60)
    wanted = np.array([0, 9, 10, 59, 60, 99])
    batches = list(listed(tmp_path).batches(wanted, ["n", "word"]))
    assert [batch["n"].to_pylist() for batch in batches] == [[0, 9], [10], [59], [60], [99]]
    assert not list(listed(tmp_path).batches(wanted, []))


def test_statistics_are_asked_once_and_may_be_missing(three_files):
    first = listed(three_files).fragments[0]
    assert first.bounds_us("event_timestamp") == (FIRST_US, FIRST_US + 3 * HOUR_US)
    assert first.group_bounds_us("event_timestamp") is first.group_bounds_us("event_timestamp")
    assert first.bounds_us("n") is None
    assert first.bounds_us("nowhere") is None
    bare = three_files / "bare.parquet"
    pq.write_table(pq.read_table(first.path), bare, write_statistics=False)
    assert listed(three_files, "bare.parquet").bounds_us("event_timestamp") is None


def test_files_that_disagree_and_other_sources_are_named(tmp_path):
    part(tmp_path, "t", "a", [("k", at(0), at(0), {"n": 1})], n=pa.int64())
    part(tmp_path, "t", "b", [("k", at(0), at(0), {"n": [1]})], n=pa.list_(pa.int64()))
    with pytest.raises(SourceColumnError, match="disagree"):
        _ = listed(tmp_path).schema
    push = PushSource(name="p", batch_source=FileSource(path="x", timestamp_field="t"))
    with pytest.raises(SourceColumnError, match="PushSource"):
        ParquetDataset.open(tmp_path, push)
