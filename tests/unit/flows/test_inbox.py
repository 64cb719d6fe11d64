"""What a file's name says, and where a file goes when it was landed or refused."""

from __future__ import annotations

from datetime import date

import pytest

from flows.inbox import InboxNameError, Waiting, named, read_name, settle, waiting

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
    assert unknown == ["notes.txt"]
    assert waiting(tmp_path / "nowhere") == ([], [])


def test_settled_files_are_kept_and_never_overwritten(tmp_path):
    for content in ("first", "second", "third"):
        put(tmp_path, "telco_2026-11-01.csv")
        path = tmp_path / "inbox" / "telco_2026-11-01.csv"
        path.write_text(content)
        settle(tmp_path, path)
    kept = sorted((tmp_path / "inbox" / "landed").iterdir())
    assert {path.name: path.read_text() for path in kept} == {
        "telco_2026-11-01.csv": "first",
        "telco_2026-11-01.2.csv": "second",
        "telco_2026-11-01.3.csv": "third",
    }
    assert waiting(tmp_path) == ([], [])


def test_a_file_given_by_hand(tmp_path):
    path = tmp_path / "extract.csv"
    assert named(path, D) == Waiting(D, 0, path, "extract")
    assert named(tmp_path / "telco_2026-11-01.v2.csv", None).revision == 1
    assert named(tmp_path / "anything.jsonl", None).kind == "events"
    with pytest.raises(InboxNameError, match=r"extract\.csv"):
        named(path, None)
