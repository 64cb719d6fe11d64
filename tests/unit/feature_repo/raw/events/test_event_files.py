"""Which files are files of events, and what is said of the others."""

import base64
import os
import subprocess
import sys

import duckdb
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.parquet import encryption

from configs.settings import PROJECT_ROOT
from feature_repo.events import EVENT_SCHEMA, LINE_BYTES_MAX, RejectionReason
from feature_repo.raw.events.event_files import EventFileError, kind_of, parts_of, read_events
from tests.support.event_rows import event, line, table, write_parquet

MEMORY_MB = 512


def many_rows(path):
    """Write more rows than a pipe holds."""
    pq.write_table(table(event()).take(pa.array([0] * 200_000)), path)
    return path


def rows_of(path):
    return pa.concat_tables(read_events(path, kind_of(path), path.name, MEMORY_MB))


def test_parquet_is_known_by_its_bytes_and_lines_by_their_name(tmp_path):
    assert kind_of(write_parquet(tmp_path / "events.dat", event())) == "parquet"
    for name, content, fault in [
        ("a.jsonl", b"", "a.jsonl is empty"),
        ("a.csv", b"customer_id\n", "a.csv is neither Parquet nor named as JSON lines"),
        ("a.parquet", b"PK", "a.parquet is neither"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EventFileError, match=fault) as refused:
            kind_of(tmp_path / name)
        assert refused.value.exit_code == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda rows: rows.drop_columns(["ticket_id", "days_late"]), "lacks ticket_id, days_late"),
        (lambda rows: rows.append_column("colour", pa.array(["red"])), "has an unknown column: the 16th of its 16"),
        (lambda rows: rows.append_column("data_mb", rows["data_mb"]), "names twice: data_mb"),
        (
            lambda rows: rows.set_column(7, "data_mb", pa.array(["1"])),
            "has wrong types: data_mb is string, not a whole number",
        ),
        (
            lambda rows: rows.set_column(5, "occurred_at", rows["occurred_at"].cast(pa.timestamp("us"))),
            "has wrong types: occurred_at is an instant without a time zone, not an instant in UTC",
        ),
    ],
)
def test_parquet_with_other_columns_is_refused_by_name(tmp_path, change, fault):
    path = tmp_path / "a.parquet"
    pq.write_table(change(table(event())), path)
    with pytest.raises(EventFileError, match=rf"a\.parquet {fault}"):
        rows_of(path)


@pytest.mark.slow
def test_narrower_types_of_the_same_sort_will_do(tmp_path):
    path, rows = tmp_path / "a.parquet", [event("usage_day"), event("usage_day")]
    found = table(*rows)
    found = found.set_column(7, "data_mb", found["data_mb"].cast(pa.int16()))
    found = found.set_column(9, "ticket_id", pa.nulls(2))
    found = found.set_column(5, "occurred_at", found["occurred_at"].cast(pa.timestamp("ns", "UTC")))
    found = found.set_column(3, "type", found["type"].dictionary_encode())
    pq.write_table(found.select(EVENT_SCHEMA.names[::-1]), path)
    read = rows_of(path)
    assert read.select(EVENT_SCHEMA.names).to_pylist() == rows
    assert read["row"].to_pylist() == [1, 2]


@pytest.mark.slow
def test_a_parquet_file_that_is_cut_short_is_refused(tmp_path):
    whole = write_parquet(tmp_path / "a.parquet", event()).read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:-20])
    with pytest.raises(EventFileError, match=r"a\.parquet cannot be read as Parquet"):
        rows_of(tmp_path / "a.parquet")


def test_the_last_line_may_lack_its_end_and_one_may_be_enormous(tmp_path):
    path = tmp_path / "a.jsonl"
    huge = b'{"x":"' + b"y" * (40 * LINE_BYTES_MAX) + b'"}'
    path.write_bytes(line(event(event_id="a")) + huge + b"\n" + line(event(event_id="b")).rstrip())
    read = rows_of(path)
    assert read["row"].to_pylist() == [1, 2, 3]
    assert read["event_id"].to_pylist() == ["a", None, "b"]
    assert read["refusal"].to_pylist() == [None, RejectionReason.OVERSIZED_LINE, None]
    assert read["content"].to_pylist()[1] == huge[:LINE_BYTES_MAX]


def test_the_longest_line_allowed_is_no_oversized_one(tmp_path):
    path = tmp_path / "a.jsonl"
    for end in (b"\n", b"\r\n"):
        text = line(event()).rstrip()
        path.write_bytes(text[:-1] + b" " * (LINE_BYTES_MAX - len(text)) + b"}" + end)
        assert rows_of(path)["refusal"].to_pylist() == [None]


@pytest.mark.slow
def test_short_lines_are_read_in_as_many_pieces_as_long_ones(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n" * 300_000 + b"{}\n" * 200_000)
    pieces = list(read_events(path, "jsonl", path.name, 100))
    assert max(map(len, pieces)) < 150_000
    assert [len(pieces) > 3, sum(map(len, pieces)), pieces[-1]["row"][-1].as_py()] == [True, 200_000, 500_000]


# --- text as other systems write it -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_are_read_in_every_encoding_that_a_mark_announces(tmp_path, encoding, end):
    path = tmp_path / "a.jsonl"
    rows = [event(customer_id=f"M\u00fc-{number}") for number in range(3000)]
    text = b"".join(map(line, rows)).decode().replace("\n", end)
    path.write_bytes(text.removesuffix(end).encode(encoding))
    assert rows_of(path).select(EVENT_SCHEMA.names).to_pylist() == rows


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (line(event()) + b"\0" * 5000, "ends with NUL bytes: its copy was not finished"),
        (line(event()).decode().encode("utf-16-be"), "a.jsonl cannot"),
        (line(event()).decode().encode("utf-16")[:-1], "begins as UTF-16 or UTF-32 text and is none, or is cut off"),
        (b"\xff\xfe\x00\xd8\x00\xd8", "begins as UTF-16"),
        (line(event()).replace(b"\n", b"\r") * 3, "ends its lines with CR alone"),
        (b"\x1f\x8b\x08" + line(event()), r"a\.jsonl is packed \(gzip\)"),
        (b"\xfd7zXZ\x00" + line(event()), r"a\.jsonl is packed \(xz\)"),
        (b"PK\x03\x04" + line(event()), r"a\.jsonl is packed \(ZIP\)"),
    ],
)
def test_what_is_no_text_is_refused_by_what_it_is(tmp_path, content, fault):
    (tmp_path / "a.jsonl").write_bytes(content)
    if fault == "a.jsonl cannot":
        # UTF-16 without its mark: each line has NUL bytes, and says so.
        assert set(rows_of(tmp_path / "a.jsonl")["refusal"].to_pylist()) == {RejectionReason.MALFORMED_JSON}
        return
    with pytest.raises(EventFileError, match=fault):
        rows_of(tmp_path / "a.jsonl")


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(EventFileError, match=r"a\.jsonl cannot be read: it is a FIFO, no file"):
        kind_of(tmp_path / "a.jsonl")
    with pytest.raises(EventFileError, match="No such file"):
        kind_of(tmp_path / "b.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_words_that_are_encoded_by_their_differences_are_read(tmp_path, encoding):
    """As DuckDB, Spark and Arrow write them in version 2 of the format; dictionaries in the other columns stay."""
    path, rows = tmp_path / "a.parquet", [event(event_id=f"e-{number}") for number in range(50)]
    pq.write_table(
        table(*rows),
        path,
        use_dictionary=["type", "ticket_id"],
        column_encoding={"event_id": encoding, "customer_id": encoding},
        row_group_size=20,
    )
    assert rows_of(path).select(EVENT_SCHEMA.names).to_pylist() == rows


@pytest.mark.slow
def test_parquet_of_version_2_as_duckdb_writes_it_is_read(tmp_path):
    path, rows = tmp_path / "a.parquet", [event(event_id=f"e-{number}") for number in range(50)]
    with duckdb.connect() as connection:
        connection.register("events", table(*rows))
        connection.execute(f"COPY events TO '{path}' (FORMAT parquet, PARQUET_VERSION V2)")
    assert "DELTA_LENGTH_BYTE_ARRAY" in pq.read_metadata(path).row_group(0).column(0).encodings
    assert rows_of(path).select(EVENT_SCHEMA.names).to_pylist() == rows


class Keys(encryption.KmsClient):
    """Keys that lie in the file beside what they open."""

    def __init__(self, _):
        super().__init__()

    def wrap_key(self, key, _):
        return base64.b64encode(key)


@pytest.mark.slow
@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_encrypted_parquet_is_called_so(tmp_path, plaintext_footer):
    path = tmp_path / "a.parquet"
    properties = encryption.CryptoFactory(Keys).file_encryption_properties(
        encryption.KmsConnectionConfig(),
        encryption.EncryptionConfiguration("a", column_keys={"b": ["customer_id"]}, plaintext_footer=plaintext_footer),
    )
    with pq.ParquetWriter(path, EVENT_SCHEMA, encryption_properties=properties) as writer:
        writer.write_table(table(event()))
    with pytest.raises(EventFileError, match=r"a\.parquet is encrypted") as refused:
        rows_of(path)
    assert "without encryption" in refused.value.hint


# --- what Parquet may take ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_word_of_a_megabyte_in_each_of_many_rows_is_never_spread_out(tmp_path):
    """Its file has some kilobytes, its words together 60 GB."""
    rows, path = table(event()), tmp_path / "a.parquet"
    count = 60_000
    columns = [rows[name].take(pa.array([0] * count)) for name in EVENT_SCHEMA.names]
    columns[0] = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(["x" * 1_000_000]))
    pq.write_table(pa.table(columns, names=EVENT_SCHEMA.names), path, compression="zstd")
    assert path.stat().st_size < 20_000
    read = rows_of(path)
    assert len(read) == count
    assert set(read["event_id"].to_pylist()) == {"x" * 65}


@pytest.mark.slow
def test_what_would_take_more_memory_than_allowed_is_refused(tmp_path):
    """Pages that unpack to 150 MB, from a file of some hundred kilobytes."""
    path, rows = tmp_path / "a.parquet", table(event())
    columns = [rows[name].take(pa.array([0] * 150)) for name in EVENT_SCHEMA.names]
    columns[0] = pa.array([f"{number}{'x' * 1_000_000}" for number in range(150)])
    pq.write_table(pa.table(columns, EVENT_SCHEMA), path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(EventFileError, match=r"a\.parquet cannot be read as Parquet within 64 MB of memory") as refused:
        list(read_events(path, "parquet", path.name, memory_max_mb=64))
    assert "CHURN_DATA__MEMORY_MAX_MB" in refused.value.hint
    assert len(list(read_events(path, "parquet", path.name, memory_max_mb=1024))) == 1


@pytest.mark.slow
def test_the_number_of_rows_is_bounded_whatever_the_file_s_size(tmp_path):
    path = many_rows(tmp_path / "a.parquet")
    assert path.stat().st_size < 20_000
    assert len(rows_of(path)) == 200_000
    with pytest.raises(EventFileError) as refused:
        next(read_events(path, "parquet", path.name, memory_max_mb=23))
    assert refused.value.message == (
        "a.parquet holds 200000 rows, which would take about 24 MB of memory, more than the 23 MB allowed"
    )
    assert "CHURN_DATA__MEMORY_MAX_MB" in refused.value.hint


@pytest.mark.slow
def test_row_groups_of_a_row_each_are_read_together(tmp_path):
    path = tmp_path / "a.parquet"
    with pq.ParquetWriter(path, EVENT_SCHEMA) as writer:
        for number in range(300):
            writer.write_table(pa.Table.from_pylist([event(event_id=f"e{number}")], EVENT_SCHEMA))
    (piece,) = read_events(path, "parquet", "a", MEMORY_MB)
    assert piece["event_id"].to_pylist() == [f"e{number}" for number in range(300)]


@pytest.mark.slow
def test_twenty_thousand_columns_are_refused_by_their_number(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({f"7590-{number}": [1] for number in range(20_000)}), path)
    with pytest.raises(EventFileError, match=r"a\.parquet has 20000 columns, more than 1000"):
        rows_of(path)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["footer", "pages", "length of the footer"])
def test_damage_is_refused_whatever_the_reader_does_about_it(tmp_path, place):
    path = write_parquet(tmp_path / "a.parquet", *(event(event_id="e" * 30 + str(each)) for each in range(2000)))
    whole = path.read_bytes()
    at = {"footer": len(whole) - 600, "pages": 40, "length of the footer": len(whole) - 8}[place]
    for spoilt in (b"\xff" * 4, b"\x00" * 200 if place != "length of the footer" else b"\xff\xff\xff\x7f"):
        path.write_bytes(whole[:at] + spoilt + whole[at + len(spoilt) :])
        with pytest.raises(EventFileError, match=r"a\.parquet (cannot be read as Parquet|lacks|has)") as refused:
            rows_of(path)
        assert "eeee" not in refused.value.message


@pytest.mark.slow
def test_a_reader_that_stops_early_leaves_no_process_behind(tmp_path):
    path = many_rows(tmp_path / "a.parquet")
    before = psutil.Process().children()
    pieces = read_events(path, "parquet", "a", MEMORY_MB)
    next(pieces)
    assert len(psutil.Process().children()) == len(before) + 1
    pieces.close()
    assert psutil.Process().children() == before


READS_ONE_PIECE = """
import sys, time
from pathlib import Path
import psutil
from feature_repo.raw.events.event_files import read_events
pieces = read_events(Path(sys.argv[1]), "parquet", "a", 512)
next(pieces)
print(psutil.Process().children()[0].pid, flush=True)
time.sleep(3600)
"""


@pytest.mark.slow
def test_the_reader_ends_with_its_parent(tmp_path):
    path = many_rows(tmp_path / "a.parquet")
    command = [sys.executable, "-c", READS_ONE_PIECE, str(path)]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True) as parent:
        reader = psutil.Process(int(parent.stdout.readline()))
        assert "feature_repo.raw.events.parquet_child" in reader.cmdline()
        parent.kill()
    # It is asked for no more rows, and finds so at its next write.
    reader.wait(timeout=300)


@pytest.mark.slow
def test_sparks_int96_instants_are_utc(tmp_path):
    path, rows = tmp_path / "a.parquet", table(event(), event())
    naive = rows["occurred_at"].cast(pa.timestamp("us")), rows["arrived_at"].cast(pa.timestamp("us"))
    spark = rows.set_column(5, "occurred_at", naive[0]).set_column(6, "arrived_at", naive[1])
    for told, good in (({"org.apache.spark.version": "3.5.1"}, True), ({"writer": "another"}, False)):
        pq.write_table(spark.replace_schema_metadata(told), path, use_deprecated_int96_timestamps=True)
        if good:
            assert rows_of(path).select(EVENT_SCHEMA.names).cast(EVENT_SCHEMA).equals(rows)
        else:
            with pytest.raises(EventFileError, match="occurred_at is an instant without a time zone"):
                rows_of(path)


# --- folders ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A folder as Spark writes it: three parts, one without rows."""
    made = tmp_path / "events_a.parquet"
    made.mkdir()
    for number, rows in enumerate([[event(event_id="a"), event(event_id="b")], [], [event(event_id="c")]]):
        write_parquet(made / f"part-{number:05d}-c000.snappy.parquet", *rows)
        (made / f".part-{number:05d}-c000.snappy.parquet.crc").write_bytes(b"crc")
    (made / "_SUCCESS").touch()
    return made


@pytest.mark.slow
def test_a_folder_of_parts_is_read_in_the_order_of_their_names(folder):
    read = rows_of(folder)
    assert read["event_id"].to_pylist() == ["a", "b", "c"]
    assert read["row"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda folder: (folder / "_temporary").mkdir(), "is not whole: it holds _temporary"),
        (lambda folder: (folder / ".spark-staging-7").mkdir(), "is not whole: it holds .spark-staging"),
        (lambda folder: (folder / "_started_7").touch(), "is not whole: it holds _started_"),
        (
            lambda folder: (folder / "_delta_log").mkdir(),
            r"is a table whose log \(_delta_log\) says which of its files",
        ),
        (lambda folder: (folder / ".hoodie").mkdir(), r"is a table whose log \(\.hoodie\)"),
        (lambda folder: (folder / "_spark_metadata").mkdir(), r"is a table whose log \(_spark_metadata\)"),
        (lambda folder: (folder / "day=1").mkdir(), "holds 1 sub-folder in addition to Parquet parts"),
        (lambda folder: (folder / "a.csv").touch(), "holds 1 file in addition to Parquet parts"),
        (
            lambda folder: [(folder / name).mkdir() for name in ("a", "b")] + [(folder / "a.csv").touch()],
            "holds 2 sub-folders and 1 file in addition to Parquet parts",
        ),
        (lambda folder: os.mkfifo(folder / "a.parquet"), "holds 1 file in addition to Parquet parts"),
        (lambda folder: (folder / "a.parquet").symlink_to("/etc/passwd"), "holds 1 file in addition to Parquet parts"),
        (lambda folder: [part.unlink() for part in folder.glob("part-*")], "holds no Parquet part"),
    ],
)
def test_a_folder_that_is_not_whole_or_holds_more_is_refused(folder, spoil, fault):
    spoil(folder)
    with pytest.raises(EventFileError, match=f"{folder.name} {fault}"):
        kind_of(folder)


def test_a_folder_that_was_committed_is_whole(folder):
    (folder / "_started_7").touch()
    (folder / "_committed_7").touch()
    assert len(parts_of(folder)) == 3


@pytest.mark.slow
def test_a_damaged_part_is_named_by_its_place(folder):
    (folder / "part-00002-c000.snappy.parquet").write_bytes(b"PAR1 is cut")
    with pytest.raises(EventFileError, match=r"events_a\.parquet, part 3 of 3, cannot be read as Parquet"):
        rows_of(folder)


@pytest.mark.slow
def test_the_rows_of_a_folder_s_parts_are_bounded_together(tmp_path):
    folder = tmp_path / "events_b.parquet"
    folder.mkdir()
    for number in range(4):
        many_rows(folder / f"part-{number}.parquet")
    read = []
    with pytest.raises(
        EventFileError, match="part 4 of 4, holds 800000 rows with the parts before it, which"
    ) as refused:
        read.extend(map(len, read_events(folder, "parquet", folder.name, memory_max_mb=90)))
    assert sum(read) == 600_000
    assert "about 96 MB of memory, more than the 90 MB allowed" in refused.value.message


@pytest.mark.slow
def test_what_pandas_writes_of_a_filtered_frame_is_read(tmp_path):
    path, rows = tmp_path / "a.parquet", table(*(event(event_id=f"e{number}") for number in range(4)))
    frame = rows.to_pandas().astype({"ticket_id": object})
    frame[frame["event_id"] != "e1"].to_parquet(path)
    assert "__index_level_0__" in pq.read_schema(path).names
    assert rows_of(path)["event_id"].to_pylist() == ["e0", "e2", "e3"]


@pytest.mark.slow
def test_json_and_uuid_columns_of_a_file_are_told_apart(tmp_path):
    path, rows = tmp_path / "a.parquet", table(event())
    for column, fault in ((pa.array(["u1"], pa.json_()), ""), (pa.array([b"u" * 16], pa.uuid()), "event_id is a UUID")):
        pq.write_table(rows.set_column(0, "event_id", column), path)
        if fault:
            with pytest.raises(EventFileError, match=fault):
                rows_of(path)
        else:
            assert rows_of(path)["event_id"].to_pylist() == ["u1"]
