"""What a file's name says, and where a file goes when it was landed or refused."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from feature_repo.files.stable_reads import read_stable
from flows.steps.inbox import InboxNameError, LeftFile, WaitingFile, move_to_ingested, named, oldest, read_name, waiting

D = date(2026, 11, 1)


def put(home, *names):
    folder = home / "inbox"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(name)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("telco_2026-11-01.csv", (D, 0, "extract")),
        ("telco_2026-11-01.v2.csv", (D, 1, "extract")),
        ("telco_2026-11-01.v10.csv", (D, 9, "extract")),
        ("events_2026-11.parquet", (date.max, 0, "events")),
        ("events_a.b-c.jsonl", (date.max, 0, "events")),
        ("events_a.ndjson", (date.max, 0, "events")),
        ("events_a.JSONL", (date.max, 0, "events")),
        ("events_a.jsonl.gz", None),
        ("telco_2026-02-30.csv", None),
        ("telco_2026-11-01.csv.part", None),
        ("Telco_2026-11-01.csv", None),
        ("events.parquet", None),
        ("events_2026.csv", None),
        ("readme.txt", None),
    ],
)
def test_a_name_says_what_a_file_is(tmp_path, name, found):
    read = read_name(tmp_path / name)
    assert (None if read is None else (read.as_of, read.revision, read.kind)) == found


def test_extracts_come_first_oldest_first_then_events(tmp_path):
    put(
        tmp_path,
        "events_b.parquet",
        "events_a.jsonl",
        "telco_2026-11-01.v2.csv",
        "telco_2026-12-01.csv",
        "telco_2026-11-01.csv",
        "notes.txt",
        ".telco_2027-01-01.csv",
    )
    (tmp_path / "inbox" / "landed").mkdir()
    files, unknown = waiting(tmp_path)
    assert [each.path.name for each in files] == [
        "telco_2026-11-01.csv",
        "telco_2026-11-01.v2.csv",
        "telco_2026-12-01.csv",
        "events_a.jsonl",
        "events_b.parquet",
    ]
    assert unknown == [
        LeftFile(".telco_2027-01-01.csv", "hidden: a copy that is not finished"),
        LeftFile("notes.txt", "its name does not say what it is"),
    ]
    assert waiting(tmp_path / "nowhere") == ([], [])


def spark(folder, *more):
    folder.mkdir(parents=True)
    for name in ("part-0.parquet", ".part-0.parquet.crc", *more):
        (folder / name).write_text(name)


def test_a_folder_of_parquet_is_landed_once_it_is_whole(tmp_path):
    path = tmp_path / "inbox" / "events_a.parquet"
    spark(path)
    why = "no _SUCCESS in it: put an empty file of that name there once it is whole"
    assert waiting(tmp_path) == ([], [LeftFile("events_a.parquet", why)])
    (path / "_SUCCESS").touch()
    assert waiting(tmp_path) == ([WaitingFile(date.max, 0, path, "events")], [])
    (path / "_temporary").mkdir()
    assert waiting(tmp_path) == ([], [LeftFile("events_a.parquet", "is not whole: it holds _temporary")])
    (path / "_temporary").rmdir()
    assert move_to_ingested(tmp_path, path, read_stable(path)) == tmp_path / "inbox" / "landed" / "events_a.parquet"
    spark(path, "_SUCCESS")
    assert move_to_ingested(tmp_path, path, read_stable(path)) == tmp_path / "inbox" / "landed" / "events_a.2.parquet"
    assert waiting(tmp_path) == ([], [])


def test_everything_that_lies_in_the_inbox_and_is_not_landed_is_named_with_its_reason(tmp_path):
    put(tmp_path, "telco_2026-11-01.csv.part", ".events_a.parquet.x7", "telco_2026-02-30.csv", "a\nb")
    folder = tmp_path / "inbox"
    (folder / "telco_2026-11-02.csv").symlink_to(folder / "telco_2026-02-30.csv")
    (folder / "events_gone.parquet").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "events_pipe.jsonl")
    (folder / "2026").mkdir()
    spark(folder / "telco_2026-11-03.csv")
    spark(folder / "events_days.parquet", "_SUCCESS")
    (folder / "events_days.parquet" / "day=1").mkdir()
    files, left = waiting(tmp_path)
    assert files == []
    assert {each.name: each.why for each in left} == {
        "telco_2026-11-01.csv.part": "its name does not say what it is",
        ".events_a.parquet.x7": "hidden: a copy that is not finished",
        "telco_2026-02-30.csv": "its name does not say what it is",
        "a?b": "its name does not say what it is",
        "telco_2026-11-02.csv": "a link: move the file itself here",
        "events_gone.parquet": "a link: move the file itself here",
        "events_pipe.jsonl": "no regular file",
        "2026": "a folder: events_….parquet alone may be one",
        "telco_2026-11-03.csv": "a folder: events_….parquet alone may be one",
        "events_days.parquet": "holds 1 sub-folder in addition to Parquet parts",
    }


def test_a_file_that_may_not_be_read_is_named_and_holds_up_nothing():
    """As the user ``nobody``: root may read everything."""
    with tempfile.TemporaryDirectory() as home:
        put(Path(home), "telco_2026-11-01.csv", "telco_2026-11-02.csv")
        Path(home).chmod(0o755)
        (Path(home) / "inbox" / "telco_2026-11-01.csv").chmod(0)
        reader = os.geteuid() or 65534
        before = os.geteuid()
        os.seteuid(reader)
        try:
            files, left = waiting(Path(home))
        finally:
            os.seteuid(before)
    assert [each.path.name for each in files] == ["telco_2026-11-02.csv"]
    assert left == [LeftFile("telco_2026-11-01.csv", "no right to read it")]


def test_since_when_the_oldest_thing_lies_there(tmp_path):
    assert oldest(tmp_path) is None
    put(tmp_path, ".hidden")
    (tmp_path / "inbox" / "landed").mkdir()
    os.utime(tmp_path / "inbox" / ".hidden", (1, 1))
    first = oldest(tmp_path)
    assert first == datetime.fromtimestamp((tmp_path / "inbox" / ".hidden").stat().st_ctime, UTC)
    put(tmp_path, "telco_2026-11-01.csv")
    assert oldest(tmp_path) == first
    (tmp_path / "inbox" / ".hidden").unlink()
    assert oldest(tmp_path) >= first


def test_settled_files_are_kept_and_never_overwritten(tmp_path):
    for text in ("first", "second", "third"):
        put(tmp_path, "telco_2026-11-01.csv")
        path = tmp_path / "inbox" / "telco_2026-11-01.csv"
        path.write_text(text)
        move_to_ingested(tmp_path, path, read_stable(path))
    kept = sorted((tmp_path / "inbox" / "landed").iterdir())
    assert {path.name: path.read_text() for path in kept} == {
        "telco_2026-11-01.csv": "first",
        "telco_2026-11-01.2.csv": "second",
        "telco_2026-11-01.3.csv": "third",
    }
    assert waiting(tmp_path) == ([], [])


def test_a_file_given_by_hand(tmp_path):
    path = tmp_path / "extract.csv"
    assert named(path, D) == WaitingFile(D, 0, path, "extract")
    assert named(tmp_path / "telco_2026-11-01.v2.csv", None).revision == 1
    assert named(tmp_path / "anything.jsonl", None).kind == "events"
    with pytest.raises(InboxNameError, match=r"extract\.csv"):
        named(path, None)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".ndjson", ".NDJSON"])
def test_events_given_by_hand_are_known_by_every_suffix_that_the_inbox_takes(tmp_path, suffix):
    path = tmp_path / f"may{suffix}"
    assert named(path, None) == WaitingFile(date.max, 0, path, "events")


def test_what_was_written_again_after_it_was_read_stays_for_the_next_run(tmp_path):
    put(tmp_path, "events_a.jsonl")
    spark(tmp_path / "inbox" / "events_b.parquet", "_SUCCESS")
    found, left = waiting(tmp_path)
    read = [read_stable(each.path) for each in found]
    with found[0].path.open("a") as file:
        file.write("more")
    (found[1].path / "part-9.parquet").touch()
    assert [move_to_ingested(tmp_path, each.path, before) for each, before in zip(found, read, strict=True)] == [
        None,
        None,
    ]
    assert waiting(tmp_path) == (found, left)
