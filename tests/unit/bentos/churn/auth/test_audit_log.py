"""The audit of keys: what an entry says, what shows when it was changed, and many processes that add at once."""

import json
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from bentos.churn.auth import audit_log
from bentos.churn.auth.audit_log import (
    AuditRecord,
    KeyAuditBrokenError,
    Refusals,
    append_record,
    audit_path,
    read_entries,
)
from configs.settings import PROJECT_ROOT
from feature_repo.files.atomic_writes import StorageError
from tests.support.patience import PATIENCE_S

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
MADE = AuditRecord("created", "0a1b2c3d", "crm", "ann")
REFUSED = AuditRecord(
    "refused", None, None, "service", refusals=Refusals("missing", 7, NOW.isoformat(), NOW.isoformat())
)
PROGRAM = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from bentos.churn.auth.audit_log import AuditRecord, append_record

path, who, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(times):
    both = [AuditRecord("created", f"{number:08x}", f"{who}-{part}", who) for part in (1, 2)]
    append_record(path, both, datetime.now(UTC))
"""


@pytest.fixture(autouse=True)
def _home(settings):
    settings.home.mkdir()


@pytest.fixture
def path(settings):
    """Three entries."""
    path = audit_path(settings)
    append_record(path, [MADE], NOW)
    append_record(path, [REFUSED, AuditRecord("revoked", "0a1b2c3d", "crm", "bob")], NOW)
    return path


def head(path):
    return path.with_suffix(".head")


def test_an_entry_says_what_happened_and_no_more(path, settings):
    assert path == settings.home / "audit" / "keys.jsonl"
    made, refused, revoked = read_entries(path)
    assert (made.sequence, made.action, made.key_id, made.name, made.who) == (1, "created", "0a1b2c3d", "crm", "ann")
    assert (refused.key_id, refused.who, refused.refusals) == (None, "service", REFUSED.refusals)
    assert (revoked.action, revoked.at) == ("revoked", "2026-11-01T12:00:00+00:00")
    assert json.loads(path.read_bytes().splitlines()[1]).keys() == {
        *("sequence", "at", "action", "key_id", "name", "who", "grant", "refusals", "previous_hash", "hash")
    }
    with pytest.raises(ValueError, match="no time zone"):
        append_record(path, [MADE], NOW.replace(tzinfo=None))


def test_it_is_its_owner_s_alone(path):
    assert [each.stat().st_mode & 0o077 for each in (path, head(path), path.parent)] == [0, 0, 0]


def test_nothing_happened_yet(settings):
    assert list(read_entries(audit_path(settings))) == []
    assert not audit_path(settings).parent.exists()


@pytest.mark.slow
def test_any_change_of_any_byte_shows_and_so_does_a_tail_that_is_gone(path):
    whole = path.read_bytes()
    for place in range(len(whole)):
        for spoilt in (b"", bytes([whole[place] ^ 1]), b"\n"):
            changed = whole[:place] + spoilt + whole[place + 1 :]
            if changed != whole:
                path.write_bytes(changed)
                with pytest.raises(
                    KeyAuditBrokenError, match=r"line [1-3] of keys.jsonl|keys.jsonl ends after entry 2"
                ):
                    list(read_entries(path))
    for kept in (0, 1, 2):
        path.write_bytes(b"".join(whole.splitlines(keepends=True)[:kept]))
        with pytest.raises(KeyAuditBrokenError, match=f"ends after entry {kept}, and 3 were written") as broken:
            list(read_entries(path))
        assert "backup" in broken.value.hint


def test_an_audit_written_anew_is_not_the_one_of_the_head(path):
    known = head(path).read_bytes()
    path.unlink()
    head(path).unlink()
    append_record(path, [MADE, MADE, MADE], NOW)
    head(path).write_bytes(known)
    with pytest.raises(KeyAuditBrokenError, match=r"entry 3 of keys.jsonl is not the one that was written"):
        list(read_entries(path))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "ends after entry 2, and 3 were written"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9] + b"\n"), "the last line of keys.jsonl was changed"),
        (lambda path: path.write_bytes(b""), "ends after entry 0, and 3 were written"),
        (lambda path: path.unlink(), "ends after entry 0, and 3 were written"),
        (lambda path: head(path).write_bytes(b"x"), "keys.head was changed"),
        (lambda path: head(path).write_bytes(head(path).read_bytes().replace(b"3 ", b"9 ", 1)), "and 9 were written"),
    ],
)
def test_nothing_is_added_to_an_end_that_is_not_the_one_that_was_written(path, spoil, says):
    spoil(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(KeyAuditBrokenError, match=says):
        append_record(path, [MADE], NOW)
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_line_that_was_changed_further_up_switches_the_audit_off_for_nobody(path):
    path.write_bytes(path.read_bytes().replace(b"crm", b"csm", 1))
    append_record(path, [MADE], NOW)
    assert path.read_bytes().count(b"\n") == 4
    with pytest.raises(KeyAuditBrokenError, match=r"line 1 of keys.jsonl was changed"):
        list(read_entries(path))


def test_a_head_that_lags_is_the_mark_of_a_death_and_is_put_right(path):
    lagging = head(path).read_bytes()
    append_record(path, [MADE], NOW)
    head(path).write_bytes(lagging)
    assert len(list(read_entries(path))) == 4
    append_record(path, [MADE], NOW)
    assert [event.sequence for event in read_entries(path)] == [1, 2, 3, 4, 5]
    assert head(path).read_bytes().startswith(b"0" * 19 + b"5 ")
    # But one that knows another entry than the one that is there is no such mark.
    head(path).write_bytes(lagging.replace(lagging[21:30], b"0" * 9))
    with pytest.raises(KeyAuditBrokenError, match=r"entry 3 of keys.jsonl is not the one"):
        append_record(path, [MADE], NOW)


def test_an_unfinished_line_is_cut_off(path):
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"action":"created","at":"2026')
    assert len(list(read_entries(path))) == 3
    append_record(path, [MADE], NOW)
    assert path.read_bytes().startswith(whole)
    assert len(list(read_entries(path))) == 4


def test_set_aside_a_new_one_begins(path):
    shutil.move(path.parent, path.parent.with_name("audit-of-old"))
    append_record(path, [MADE], NOW)
    assert [event.sequence for event in read_entries(path)] == [1]


def test_a_disk_that_refuses_and_a_file_that_can_not_be_read_are_named(settings, path):
    shutil.rmtree(path.parent)
    path.parent.write_text("a file where the folder should be")
    assert list(read_entries(path)) == []
    with pytest.raises(StorageError):
        append_record(path, [MADE], NOW)
    path.parent.unlink()
    path.mkdir(parents=True)
    with pytest.raises(audit_log.KeyAuditUnreadableError, match="can't be read: Is a directory"):
        list(read_entries(path))


def started(path, who, times):
    """A process that waits to add twice ``times`` entries."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), who, str(times)],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def go(processes):
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


@pytest.mark.slow
def test_processes_that_add_at_once_lose_and_fork_nothing(settings):
    path = audit_path(settings)
    processes = [started(path, who, 40) for who in ("one", "two", "three")]
    go(processes)
    for process in processes:
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    found = list(read_entries(path))
    assert len(found) == 240
    for who in ("one", "two", "three"):
        # In its own order, and two that were written together stand together.
        mine = [(event.sequence, event.key_id, event.name) for event in found if event.who == who]
        assert [(key_id, name) for _, key_id, name in mine] == [
            (f"{number:08x}", f"{who}-{part}") for number in range(40) for part in (1, 2)
        ]
        assert all(second[0] == first[0] + 1 for first, second in zip(mine[::2], mine[1::2], strict=True))
    assert len({event.who for event in found[:120]}) == 3


@pytest.mark.slow
def test_processes_that_are_killed_leave_it_whole(settings):
    path = audit_path(settings)
    for death in range(6):
        processes = [started(path, f"{death}-{number}", 100_000) for number in range(2)]
        go(processes)
        time.sleep(0.05 + death * 0.03)
        for process in processes:
            process.kill()
            process.communicate(timeout=PATIENCE_S)
        before = len(list(read_entries(path)))
        append_record(path, [MADE], NOW)
        assert len(list(read_entries(path))) == before + 1
    assert before > 6
