"""The list for people: words that a spreadsheet would run stay words."""

import csv
import errno
import json
import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bentos.batch import call_list
from bentos.batch.call_list import ListNotWrittenError, list_path, write_csv, write_excel
from bentos.batch.scores_table import SCHEMA
from tests.support.workbooks import sheet

ROW = {
    "customer_id": "00123",
    "probability": 0.25,
    "label": "churn",
    "threshold": 0.2,
    "reasons": ["CONTRACT"],
    "expected_profit_usd": 5.755,
    "model_version": "v1",
    "rank": 1,
    "reason_texts": ['=HYPERLINK("http://x")'],
    "score_quality": "partial",
    "missing": ["usage_trend"],
}


@pytest.fixture
def run(tmp_path):
    """A run of a few rows, whose texts a spreadsheet would take for formulas."""
    rows = [
        ROW,
        {**ROW, "customer_id": "1E5", "expected_profit_usd": -1.0, "label": "stay", "reason_texts": ["-1\r\n=2"]},
        {**ROW, "customer_id": "a", "reasons": None, "reason_texts": None, "stale": ["customer_billing"]},
    ]
    (tmp_path / "run" / "parts").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "run" / "parts" / "part-00000.parquet")
    manifest = {"observed_at": "2026-12-01T06:00:00+00:00", "files": {"parts/part-00000.parquet": ""}}
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path / "run"


def test_nothing_in_the_csv_is_a_formula_and_ids_are_as_they_are(settings, run, tmp_path):
    assert write_csv(settings, run, tmp_path / "list.csv") == 3
    with (tmp_path / "list.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["Customer id"] for row in rows] == ["00123", "a", "1E5"]
    assert [row["Call"] for row in rows] == ["yes", "yes", "no"]
    assert [row["Reason 1"] for row in rows] == ['\'=HYPERLINK("http://x")', "not available", "'-1\\r\\n=2"]
    assert [row["Expected profit of calling (USD)"] for row in rows] == ["5.75", "5.75", "-1.0"]
    assert rows[0]["Quality of the data"] == "partial: no value for usage trend"
    assert rows[1]["Quality of the data"] == "partial: old data about billing, no value for usage trend"
    assert {row["As of (UTC)"] for row in rows} == {"2026-12-01 06:00"}
    assert rows[0]["Offer"] == rows[0]["Risk with the offer (%)"] == ""


def test_in_the_workbook_they_are_text_cells(settings, run, tmp_path):
    write_excel(settings, run, tmp_path / "list.xlsx")
    rows = sheet(tmp_path / "list.xlsx")
    assert [row[1] for row in rows[1:]] == [("inlineStr", "00123"), ("inlineStr", "a"), ("inlineStr", "1E5")]
    assert rows[1][8] == ("inlineStr", '=HYPERLINK("http://x")')


def test_a_run_without_customers_is_a_header(settings, run, tmp_path):
    (run / "manifest.json").write_text(json.dumps({"observed_at": "2026-12-01T06:00:00+00:00", "files": {}}))
    assert write_csv(settings, run, tmp_path / "list.csv") == 0
    assert len((tmp_path / "list.csv").read_text("utf-8-sig").splitlines()) == 1


def test_a_link_stays_and_its_file_is_replaced(settings, run, tmp_path):
    (tmp_path / "shared").mkdir()
    link = tmp_path / "list.csv"
    link.symlink_to("shared/list.csv")
    for _ in ("new", "replaced"):
        assert write_csv(settings, run, link) == 3
        assert link.is_symlink()
        assert (tmp_path / "shared" / "list.csv").read_text("utf-8-sig").startswith("Rank,")


@pytest.mark.parametrize("write", [write_csv, write_excel])
def test_what_is_no_regular_file_is_refused_and_stays(settings, run, tmp_path, write):
    fifo, link, loop = tmp_path / "fifo", tmp_path / "link", tmp_path / "loop"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    loop.symlink_to(loop)
    before = {path: path.lstat() for path in (fifo, link, loop, Path("/dev/null"))}
    for target in (fifo, link, Path("/dev/null"), tmp_path):
        with pytest.raises(ListNotWrittenError, match=f"^{target} is no regular file$"):
            write(settings, run, target)
    with pytest.raises(ListNotWrittenError, match="can't be written: Too many levels"):
        write(settings, run, loop)
    with pytest.raises(ListNotWrittenError, match="standard output") as refused:
        write(settings, run, Path("-"))
    assert "list.csv" in refused.value.hint
    assert {path: path.lstat().st_ino for path in before} == {path: found.st_ino for path, found in before.items()}
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_the_standard_output_is_refused_where_it_is_a_file_too(tmp_path, monkeypatch):
    target = tmp_path / "list.csv"
    with target.open("wb") as file:
        found = os.fstat(file.fileno())
        monkeypatch.setattr(call_list, "_output_streams", lambda: iter([found]))
        with pytest.raises(ListNotWrittenError, match="is the standard output"):
            list_path(target)


def test_a_part_that_is_missing_or_truncated_is_named_with_the_fix(settings, run, tmp_path):
    part, target = run / "parts" / "part-00000.parquet", tmp_path / "list.csv"
    target.write_text("old")
    for damage in (lambda: os.truncate(part, 100), part.unlink):
        damage()
        with pytest.raises(ListNotWrittenError, match=r"^part-00000\.parquet of the run run can't be read") as refused:
            write_csv(settings, run, target)
        assert "churn score-base" in refused.value.hint
        assert isinstance(refused.value.__cause__, duckdb.Error)
    assert target.read_text() == "old"


def test_rows_that_can_t_be_read_later_are_the_run_s_error_too(settings, run, tmp_path):
    """The footer is whole, so that the view is made; the pages are not."""
    part = run / "parts" / "part-00000.parquet"
    content = bytearray(part.read_bytes())
    start = pq.ParquetFile(part).metadata.row_group(0).column(0).dictionary_page_offset
    content[start : start + 40] = b"\xff" * 40
    part.write_bytes(content)
    with pytest.raises(ListNotWrittenError, match="the run run can't be read"):
        write_csv(settings, run, tmp_path / "list.csv")
    assert not (tmp_path / "list.csv").exists()


def test_the_content_is_on_disk_before_the_file_is_replaced(settings, run, tmp_path, monkeypatch):
    target, synced = tmp_path / "list.csv", []
    fsync = os.fsync

    def observed(handle):
        synced.append((os.fstat(handle).st_ino, os.fstat(handle).st_size, target.exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", observed)
    write_csv(settings, run, target)
    assert (target.stat().st_ino, target.stat().st_size, False) in synced
    assert synced[-1][::2] == (tmp_path.stat().st_ino, True)


def test_a_full_disk_names_the_list(settings, run, tmp_path, monkeypatch):
    def full(_handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ListNotWrittenError, match=r"list\.csv can't be written: No space left on device"):
        write_csv(settings, run, tmp_path / "list.csv")
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_an_error_of_reading_does_not_name_the_list(settings, run, tmp_path, monkeypatch):
    def unreadable(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(call_list, "_view", unreadable)
    with pytest.raises(ListNotWrittenError, match=r"^the run run can't be read") as refused:
        write_csv(settings, run, tmp_path / "list.csv")
    assert "list.csv" not in str(refused.value)
