"""A part written piece by piece is there whole or not at all."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.files.parquet_tables import append_tables, has_part

SCHEMA = pa.schema([("n", pa.int64())])
PIECES = [pa.table({"n": [1, 2]}), pa.table({"n": [3]})]


def test_the_pieces_are_one_part_that_never_changes(tmp_path):
    assert not has_part(tmp_path, "t", "p")
    target = append_tables(tmp_path, "t", "p", SCHEMA, PIECES)
    append_tables(tmp_path, "t", "p", SCHEMA, [pa.table({"n": [9]})])
    assert has_part(tmp_path, "t", "p")
    assert pq.read_table(target)["n"].to_pylist() == [1, 2, 3]


def test_a_piece_that_fails_leaves_nothing(tmp_path):
    def pieces():
        yield PIECES[0]
        raise ValueError("the source broke")

    with pytest.raises(ValueError, match="the source broke"):
        append_tables(tmp_path, "t", "p", SCHEMA, pieces())
    assert list((tmp_path / "offline" / "t").iterdir()) == []
