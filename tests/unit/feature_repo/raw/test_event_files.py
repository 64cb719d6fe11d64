"""Which files are files of events, and what is said of the others."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.events import LINE_BYTES_MAX, SCHEMA, Reason
from feature_repo.raw.event_files import BadEvents, kind_of, read_events
from tests.event_rows import event, line, table, write_parquet


def rows_of(path):
    return pa.concat_tables(read_events(path, kind_of(path), path.name))


def test_parquet_is_known_by_its_bytes_and_lines_by_their_name(tmp_path):
    assert kind_of(write_parquet(tmp_path / "events.dat", event())) == "parquet"
    for name, content, fault in [
        ("a.jsonl", b"", "a.jsonl is empty"),
        ("a.csv", b"customer_id\n", "a.csv is neither Parquet nor named as JSON lines"),
        ("a.parquet", b"PK", "a.parquet is neither"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadEvents, match=fault) as refused:
            kind_of(tmp_path / name)
        assert refused.value.exit_code == 3


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda rows: rows.drop_columns(["ticket_id", "days_late"]), "lacks ticket_id, days_late"),
        (lambda rows: rows.append_column("colour", pa.array(["red"])), "has unknown columns: 'colour'"),
        (lambda rows: rows.append_column("data_mb", rows["data_mb"]), "names twice: 'data_mb'"),
        (
            lambda rows: rows.set_column(7, "data_mb", pa.array([1.0])),
            "has wrong types: data_mb is double, not int64",
        ),
        (
            lambda rows: rows.set_column(5, "occurred_at", rows["occurred_at"].cast(pa.timestamp("us"))),
            r"has wrong types: occurred_at is timestamp\[us\], not timestamp\[us, tz=UTC\]",
        ),
    ],
)
def test_parquet_with_other_columns_is_refused_by_name(tmp_path, change, fault):
    path = tmp_path / "a.parquet"
    pq.write_table(change(table(event())), path)
    with pytest.raises(BadEvents, match=rf"a\.parquet {fault}"):
        rows_of(path)


def test_narrower_types_of_the_same_sort_will_do(tmp_path):
    path, rows = tmp_path / "a.parquet", [event("usage_day"), event("usage_day")]
    found = table(*rows)
    found = found.set_column(7, "data_mb", found["data_mb"].cast(pa.int16()))
    found = found.set_column(9, "ticket_id", pa.nulls(2))
    found = found.set_column(5, "occurred_at", found["occurred_at"].cast(pa.timestamp("ns", "UTC")))
    found = found.set_column(3, "type", found["type"].dictionary_encode())
    pq.write_table(found.select(SCHEMA.names[::-1]), path)
    read = rows_of(path)
    assert read.select(SCHEMA.names).to_pylist() == rows
    assert read["row"].to_pylist() == [1, 2]


def test_a_parquet_file_that_is_cut_short_is_refused(tmp_path):
    whole = write_parquet(tmp_path / "a.parquet", event()).read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:-20])
    with pytest.raises(BadEvents, match=r"a\.parquet cannot be read as Parquet"):
        rows_of(tmp_path / "a.parquet")


def test_the_last_line_may_lack_its_end_and_one_may_be_enormous(tmp_path):
    path = tmp_path / "a.jsonl"
    huge = b'{"x":"' + b"y" * (40 * LINE_BYTES_MAX) + b'"}'
    path.write_bytes(line(event(event_id="a")) + huge + b"\n" + line(event(event_id="b")).rstrip())
    read = rows_of(path)
    assert read["row"].to_pylist() == [1, 2, 3]
    assert read["event_id"].to_pylist() == ["a", None, "b"]
    assert read["refusal"].to_pylist() == [None, Reason.OVERSIZED_LINE, None]
    assert read["content"].to_pylist()[1] == huge[:LINE_BYTES_MAX]


def test_the_longest_line_allowed_is_no_oversized_one(tmp_path):
    path = tmp_path / "a.jsonl"
    for end in (b"\n", b"\r\n"):
        text = line(event()).rstrip()
        path.write_bytes(text[:-1] + b" " * (LINE_BYTES_MAX - len(text)) + b"}" + end)
        assert rows_of(path)["refusal"].to_pylist() == [None]
