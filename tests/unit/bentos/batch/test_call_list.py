"""The list for people: words that a spreadsheet would run stay words."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bentos.batch.call_list import write_csv, write_excel
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
