"""A workbook: what stands in it is text or a number, never a formula."""

import io
from zipfile import ZipFile

import pytest

from bentos.batch import workbook
from bentos.batch.workbook import WorkbookTooLongError, write_workbook
from tests.support.workbooks import sheet


@pytest.fixture
def written(tmp_path):
    def write(*rows):
        with (tmp_path / "list.xlsx").open("wb") as file:
            assert write_workbook(file, ["Id", "Number"], rows) == len(rows)
        return sheet(tmp_path / "list.xlsx")[1:]

    return write


@pytest.mark.parametrize(
    "text",
    ["00123", "1E5", "2026-01-02", "=1+1", "+1", "-1", "@SUM(A1)", "<b>&amp;", " spaced ", "é日本", '"', "TRUE"],
)
def test_text_stays_text(written, text):
    assert written([text, 1.5]) == [[("inlineStr", text), ("n", "1.5")]]


def test_what_excel_would_decode_is_written_so_that_it_stays(written):
    assert written(["a_x0041_", None]) == [[("inlineStr", "a_x005F_x0041_"), ("n", "")]]
    assert written(["\x00\x1b", 1]) == [[("inlineStr", "\N{REPLACEMENT CHARACTER}" * 2), ("n", "1")]]


def test_the_same_rows_are_the_same_bytes_and_the_header_stays_in_view():
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        write_workbook(file, ["Id"] * 28, [])
    assert files[0].getvalue() == files[1].getvalue()
    content = ZipFile(files[0]).read("xl/worksheets/sheet1.xml").decode()
    assert 'state="frozen"' in content
    assert 'r="AB1"' in content


def test_more_rows_than_a_sheet_holds_are_refused(monkeypatch):
    monkeypatch.setattr(workbook, "ROWS_MAX", 3)
    write_workbook(io.BytesIO(), ["Id"], [["a"], ["b"]])
    with pytest.raises(WorkbookTooLongError, match="holds 2 customers"):
        write_workbook(io.BytesIO(), ["Id"], [["a"], ["b"], ["c"]])
