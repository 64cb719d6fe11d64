"""The job: run when it is asked, in one piece or in batches, saved whole."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

from feature_repo.files.parquet_tables import TableAppendOnlyError
from feature_repo.stores.point_in_time.retrieval_job import AsofRetrievalJob, one_table

TABLE = pa.table({"n": range(10)})


def job(home, asked):
    def run():
        asked.append(1)
        return TABLE

    return AsofRetrievalJob(home, lambda: TABLE.schema, one_table(run))


def test_nothing_runs_before_it_is_wanted_and_a_stream_is_cut(tmp_path):
    asked: list[int] = []
    made = job(tmp_path, asked)
    reader = made.to_reader(rows_per_batch=4)
    assert not asked
    assert [batch.num_rows for batch in reader] == [4, 4, 2]
    assert made.to_arrow().equals(TABLE)
    assert made.to_df()["n"].tolist() == list(range(10))
    assert (made.metadata, made.on_demand_feature_views, made.full_feature_names) == (None, [], False)


def test_a_saved_folder_holds_the_new_answer_alone(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "old.parquet").write_bytes(b"old")
    job(tmp_path, []).persist(SavedDatasetFileStorage(path="saved"), allow_overwrite=True)
    assert [file.name for file in folder.iterdir()] == ["part-0.parquet"]
    assert pq.read_table(folder).equals(TABLE)


def test_other_storages_are_refused_by_name(tmp_path):
    with pytest.raises(TableAppendOnlyError, match="object"):
        job(tmp_path, []).persist(object())
