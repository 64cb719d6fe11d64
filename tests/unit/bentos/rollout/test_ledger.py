"""The ledger shows whatever was done to it, and heals what a dying process left."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from bentos.rollout.ledger import LedgerBrokenError, append_entry, ledger_path, read_ledger, remove_last_entry
from bentos.rollout.pointer import Rollout, write_pointer
from feature_repo.files.atomic_writes import StorageError
from feature_repo.files.hash_chain import GENESIS

NOW = datetime(2026, 3, 1, 6, tzinfo=UTC)
A, B, C = (Rollout(letter * 64, f"v-{letter}") for letter in "abc")


def add(home, before, after, **more):
    made = append_entry(home, read_ledger(home), "promote", (before, after), who="Ann", why="better", now=NOW, **more)
    write_pointer(home, made.rollout())
    return made


@pytest.fixture
def home(tmp_path):
    """Three promotions."""
    for before, after in ((None, A), (A, B), (B, C)):
        add(tmp_path, before, after, details={"log_loss": 0.4})
    return tmp_path


def lines(home):
    return ledger_path(home).read_bytes().splitlines(keepends=True)


def test_nothing_was_promoted(tmp_path):
    assert read_ledger(tmp_path) == []


def test_it_says_who_did_what_when_and_why(home):
    first, second, third = read_ledger(home)
    assert (second.who, second.why, second.action, second.sequence) == ("Ann", "better", "promote", 2)
    assert second.at == "2026-03-01T06:00:00+00:00"
    assert (first.before, second.before["champion"], second.after["champion"]) == (None, A.champion, B.champion)
    assert (first.previous_hash, second.previous_hash, third.previous_hash) == (GENESIS, first.hash, second.hash)
    assert third.rollout() == Rollout(C.champion, C.model_version, sequence=3, hash=third.hash)
    assert third.details == {"log_loss": 0.4}


def test_instants_are_kept_in_utc_and_figures_that_are_none_as_null(tmp_path):
    details = {"figures": [float("nan"), 1.5, {"deep": float("inf")}], "none": None, "text": "ü\n"}
    there = NOW.astimezone(timezone(timedelta(hours=5)))
    append_entry(tmp_path, [], "promote", (None, A), who="Ann", why="a\nb", now=there, details=details)
    (found,) = read_ledger(tmp_path)
    assert found.at == "2026-03-01T06:00:00+00:00"
    assert found.details == {"figures": [None, 1.5, {"deep": None}], "none": None, "text": "ü\n"}
    assert len(lines(tmp_path)) == 1
    with pytest.raises(ValueError, match="no time zone"):
        append_entry(tmp_path, [], "promote", (None, A), who="Ann", why="", now=NOW.replace(tzinfo=None))


def _changed(number, change):
    def spoil(all_lines):
        content = json.loads(all_lines[number])
        change(content)
        all_lines[number] = json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        return all_lines

    return spoil


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_changed(1, lambda entry: entry.update(why="another")), "line 2 of ledger.jsonl was changed"),
        (_changed(0, lambda entry: entry["after"].update(champion="d" * 64)), "line 1 of ledger.jsonl was changed"),
        (_changed(2, lambda entry: entry.update(more=1)), "line 3 of ledger.jsonl was changed"),
        (_changed(2, lambda entry: entry.pop("who")), "line 3 of ledger.jsonl was changed"),
        (lambda lines: [lines[0], lines[1].replace(b":", b": ", 1), lines[2]], "line 2 of ledger.jsonl was changed"),
        (lambda lines: [lines[0], b"\n", lines[2]], "line 2 of ledger.jsonl was changed"),
        (lambda lines: [lines[0], b"\xff\n", lines[2]], "line 2 of ledger.jsonl was changed"),
        (lambda lines: [lines[0], b"[]\n", lines[2]], "line 2 of ledger.jsonl was changed"),
        (lambda lines: [lines[0], lines[2]], "line 2 of ledger.jsonl does not follow"),
        (lambda lines: [lines[0], lines[2], lines[1]], "line 2 of ledger.jsonl does not follow"),
        (lambda lines: [lines[0], lines[0], lines[1], lines[2]], "line 2 of ledger.jsonl does not follow"),
        (lambda lines: lines[1:], "line 1 of ledger.jsonl does not follow"),
        (lambda lines: lines[:2], "the ledger ends before entry 3"),
        (lambda lines: [*lines[:2], lines[2][:-1]], "the ledger ends before entry 3"),
        (lambda lines: [], "the ledger ends before entry 3"),
    ],
)
def test_a_change_is_found_and_its_line_is_named(home, spoil, says):
    ledger_path(home).write_bytes(b"".join(spoil(lines(home))))
    with pytest.raises(LedgerBrokenError, match=says) as broken:
        read_ledger(home)
    assert "backup" in broken.value.hint


def test_a_ledger_written_anew_is_found_by_the_pointer(home):
    ledger_path(home).unlink()
    again = append_entry(home, [], "promote", (None, A), who="Eve", why="", now=NOW)
    made = append_entry(home, [again], "promote", (A, B), who="Eve", why="", now=NOW)
    append_entry(home, [again, made], "promote", (B, C), who="Eve", why="", now=NOW)
    with pytest.raises(LedgerBrokenError, match="entry 3 is not the one that made the champion"):
        read_ledger(home)


def test_an_unfinished_line_is_passed_over_and_cut_off_by_the_next_one(home):
    whole = lines(home)
    for length in (1, len(whole[2]) // 2, len(whole[2]) - 1):
        ledger_path(home).write_bytes(b"".join([*whole, whole[2][:length]]))
        assert [entry.sequence for entry in read_ledger(home)] == [1, 2, 3]
    fourth = add(home, C, A)
    assert read_ledger(home)[3:] == [fourth]
    assert lines(home)[:3] == whole


def test_what_was_taken_back_was_never_there(home):
    before = lines(home)
    remove_last_entry(home, append_entry(home, read_ledger(home), "promote", (C, A), who="Ann", why="", now=NOW))
    assert lines(home) == before


def test_a_disk_that_refuses_is_named(tmp_path):
    (tmp_path / "ledger").write_text("a file where the folder should be")
    assert read_ledger(tmp_path) == []
    with pytest.raises(StorageError):
        append_entry(tmp_path, [], "promote", (None, A), who="Ann", why="", now=NOW)


def test_it_is_its_owner_s_alone(home):
    assert ledger_path(home).stat().st_mode & 0o077 == 0
