"""The chain shows whatever was done to it, ends where its last line does, and heals what a dying process left."""

import json
import resource
from contextlib import contextmanager

import pytest

from feature_repo.files import hash_chain
from feature_repo.files.atomic_writes import StorageError
from feature_repo.files.hash_chain import (
    GENESIS,
    ChainBrokenError,
    ChainHead,
    append_lines,
    iter_verified,
    line,
    read_head,
    remove_last,
    seal_next,
)

SAID = [{"say": "one", "n": 1.5}, {"say": "zwei ü\n", "n": None}, {"say": "", "n": {"deep": [1, 2]}}]


@pytest.fixture
def path(tmp_path):
    """Three entries, added one by one."""
    path = tmp_path / "folder" / "said.jsonl"
    for said in SAID:
        append_lines(path, read_head(path), [said])
    return path


def read(path):
    return list(iter_verified(path, dict))


def test_there_is_no_file(tmp_path):
    for path in (tmp_path / "none", tmp_path / "file" / "none"):
        (tmp_path / "file").write_text("in the way")
        assert read(path) == []
        assert read_head(path) == ChainHead(0, GENESIS, 0)


def test_what_was_said_comes_back_in_order_and_linked(path):
    first, second, third = read(path)
    assert [{name: entry[name] for name in ("say", "n")} for entry in (first, second, third)] == SAID
    assert [entry["sequence"] for entry in (first, second, third)] == [1, 2, 3]
    assert [entry["previous_hash"] for entry in (first, second, third)] == [GENESIS, first["hash"], second["hash"]]
    assert path.read_bytes() == b"".join(map(line, (first, second, third)))
    assert read_head(path) == ChainHead(3, third["hash"], path.stat().st_size)
    assert path.stat().st_mode & 0o077 == 0


def test_several_at_once_are_as_one_by_one(path, tmp_path):
    other = tmp_path / "other.jsonl"
    assert append_lines(other, ChainHead(), SAID) == read(path)
    assert other.read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_any_change_of_any_byte_shows(path):
    whole, entries = path.read_bytes(), read(path)
    for place in range(len(whole)):
        byte = whole[place]
        for spoilt in (b"", bytes([byte, byte]), bytes([byte ^ 1]), b"\n", b"\xff"):
            changed = whole[:place] + spoilt + whole[place + 1 :]
            if changed == whole:
                continue
            path.write_bytes(changed)
            try:
                found = read(path)
            except ChainBrokenError:
                continue
            # Only the very last line's end can go: it reads as one that was never finished.
            assert (place, found) == (len(whole) - 1, entries[:2])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda lines: lines[1:], "line 1 of said.jsonl does not follow"),
        (lambda lines: [lines[0], lines[2]], "line 2 of said.jsonl does not follow"),
        (lambda lines: [lines[1], lines[0], lines[2]], "line 1 of said.jsonl does not follow"),
        (lambda lines: [lines[0], lines[2], lines[1]], "line 2 of said.jsonl does not follow"),
        (lambda lines: [*lines, lines[2]], "line 4 of said.jsonl does not follow"),
        (lambda lines: [lines[0], b"[" * 100_000 + b"\n", lines[2]], "line 2 of said.jsonl was changed"),
        (lambda lines: [lines[0], b"[]\n", lines[2]], "line 2 of said.jsonl was changed"),
        (lambda lines: [lines[0], b"{}\n", lines[2]], "line 2 of said.jsonl was changed"),
        (lambda lines: [lines[0], b"\n", lines[2]], "line 2 of said.jsonl was changed"),
        (lambda lines: [lines[0], lines[1].replace(b"null", b"NaN"), lines[2]], "line 2 of said.jsonl was changed"),
        # Sealed as it should be, after another entry than the one that is there.
        (
            lambda lines: [lines[0], line(seal_next(ChainHead(1, "f" * 64, 0), SAID[1])[0]), lines[2]],
            "line 2 .* follow",
        ),
        (
            lambda lines: [lines[0], line(seal_next(ChainHead(2, json.loads(lines[0])["hash"]), SAID[1])[0])],
            "line 2 .* follow",
        ),
    ],
)
def test_lines_that_were_removed_swapped_or_forged_show(path, spoil, says):
    path.write_bytes(b"".join(spoil(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(ChainBrokenError, match=says):
        read(path)


def test_an_unfinished_line_of_any_length_is_passed_over_and_cut_off(path):
    whole, entries = path.read_bytes(), read(path)
    finished = read_head(path)
    fourth = line(seal_next(finished, {"say": "four", "n": 4})[0])
    for length in range(1, len(fourth)):
        path.write_bytes(whole + fourth[:length])
        assert read(path) == entries
        assert read_head(path) == finished
    append_lines(path, read_head(path), [{"say": "another", "n": 4}])
    assert [entry["say"] for entry in read(path)] == [*(said["say"] for said in SAID), "another"]
    assert path.read_bytes().startswith(whole)


def test_a_first_line_that_was_never_finished_is_none(path):
    path.write_bytes(path.read_bytes()[:20])
    assert read_head(path) == ChainHead()
    append_lines(path, read_head(path), SAID[:1])
    assert len(read(path)) == 1


def test_the_end_is_found_without_reading_the_rest(path):
    append_lines(path, read_head(path), [{"say": f"{number:0200d}", "n": number} for number in range(1000)])
    whole = path.read_bytes()
    newest = read(path)[-1]
    assert read_head(path) == ChainHead(1003, newest["hash"], len(whole))
    # A change far above is not its business, one of the last line is.
    path.write_bytes(whole.replace(b"one", b"two", 1))
    assert read_head(path).sequence == 1003
    with pytest.raises(ChainBrokenError, match="line 1 of"):
        read(path)
    for spoilt in (whole[:-3] + b"\n", whole + b"\n", whole + b"{}\n", whole + b"x" * (1 << 18)):
        path.write_bytes(spoilt)
        with pytest.raises(ChainBrokenError, match=r"the last line|the end of said.jsonl is no line"):
            read_head(path)
    path.write_bytes(b"x" * (1 << 18) + b"\n")
    with pytest.raises(ChainBrokenError, match="is no line"):
        read_head(path)


def test_what_was_taken_back_was_never_there(path):
    whole = path.read_bytes()
    (fourth,) = append_lines(path, read_head(path), SAID[:1])
    remove_last(path, fourth)
    assert path.read_bytes() == whole


@contextmanager
def no_file_beyond(size_bytes):
    """The kernel refuses this process what lies beyond, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room_bytes", [0, 1, 50])
def test_a_disk_that_refuses_half_a_line_leaves_the_chain_as_it_was(path, room_bytes):
    whole = path.read_bytes()
    with no_file_beyond(len(whole) + room_bytes), pytest.raises(StorageError):
        append_lines(path, read_head(path), [*SAID, *SAID])
    assert path.read_bytes() == whole
    append_lines(path, read_head(path), SAID)
    assert len(read(path)) == 6


def test_an_entry_that_is_none_to_its_keeper_shows(path):
    def refuse(content):
        if content["sequence"] == 2:
            raise ValueError("no such action")
        return content

    with pytest.raises(ChainBrokenError, match=r"line 2 of said.jsonl was changed"):
        list(iter_verified(path, refuse))
    assert hash_chain.seal(read(path)[0]) == read(path)[0]["hash"]
