"""Parts appear whole, once, and under a name that no reader mistakes."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from feature_repo.files.parquet_tables import append_table, table_files
from feature_repo.files.table_paths import table_pattern


def test_a_part_is_written_once(tmp_path):
    first = append_table(tmp_path, "t", "2026-01-01.v1", pd.DataFrame({"x": [1]}))
    again = append_table(tmp_path, "t", "2026-01-01.v1", pd.DataFrame({"x": [2]}))
    assert first == again
    assert pd.read_parquet(first)["x"].tolist() == [1]


def test_the_pattern_finds_parts_and_nothing_unfinished(tmp_path):
    part = append_table(tmp_path, "t", "2026-01-01.v1", pd.DataFrame({"x": [1]}))
    (part.parent / ".tmp-half").write_bytes(b"half")
    assert list(tmp_path.glob(table_pattern("t"))) == [part]


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo], ids=["a folder", "a FIFO"])
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path, put):
    part = append_table(tmp_path, "t", "one", pd.DataFrame({"x": [1]}))
    assert table_files(tmp_path, "t") == [str(part)]
    put(part.with_name("two.parquet"))
    with pytest.raises(OSError, match=r"two\.parquet"):
        table_files(tmp_path, "t")
