"""What is written while it is read is refused, and nothing of it is kept."""

from __future__ import annotations

import os
from datetime import date

import pytest

from feature_repo.files.atomic_writes import copy_file
from feature_repo.files.stable_reads import SourceChangingError, SourceUnreadableError, read_stable, unchanged
from feature_repo.raw.events import publication as delivering
from feature_repo.raw.events.publication import land_file
from feature_repo.raw.snapshots import publication
from feature_repo.raw.snapshots.publication import land_raw

KEPT = {
    "extract": (publication, lambda home, path: land_raw(home, path, date(2026, 11, 1))),
    "lines": (delivering, lambda home, path: land_file(home, path, "jsonl")),
    "folder": (delivering, lambda home, path: land_file(home, path, "parquet")),
}


def written(path, *names):
    """Write a file, or a folder of these."""
    if names:
        path.mkdir()
    for each in [path / name for name in names] or [path]:
        each.write_bytes(b"first")
    return path


def replaced(path):
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


CHANGES = {
    "grows": (lambda path: path.write_bytes(b"first second"), "went from 5 to 12 bytes"),
    "is cut": (lambda path: path.write_bytes(b""), "went from 5 to 0 bytes"),
    "is touched": (lambda path: os.utime(path, ns=(1, 1)), "changed"),
    "is replaced": (replaced, "changed"),
    "goes": (lambda path: path.unlink(), "went from 5 to 0 bytes"),
}


@pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES)
def test_a_file_that_changes_is_told_of(tmp_path, change, told):
    path = written(tmp_path / "a")
    with (
        pytest.raises(SourceChangingError, match=f"a is still being written: it {told} while it was read"),
        unchanged(path),
    ):
        change(path)


def test_a_file_that_is_read_and_nothing_more_is_not(tmp_path):
    path = written(tmp_path / "a")
    with unchanged(path):
        path.read_bytes()
    assert read_stable(tmp_path / "none") == ()


def test_a_folder_changes_with_what_lies_in_it(tmp_path):
    path = written(tmp_path / "a", "1.parquet", "2.parquet")
    with pytest.raises(SourceChangingError, match="from 10 to 12 bytes"), unchanged(path):
        (path / "3.parquet").write_bytes(b"33")
    with pytest.raises(SourceChangingError, match="from 12 to 13 bytes"), unchanged(path):
        (path / "1.parquet").write_bytes(b"second")


def test_a_link_that_leads_nowhere_hides_no_change_of_what_lies_beside_it(tmp_path):
    path = written(tmp_path / "a", "1.parquet")
    (path / ".left").symlink_to(path / "gone")
    with pytest.raises(SourceChangingError, match="bytes"), unchanged(path):
        (path / "1.parquet").write_bytes(b"second")


def test_what_the_operating_system_refuses_is_named(tmp_path):
    path = written(tmp_path / "a", "1.parquet")
    (path / "2.parquet").symlink_to(path / "2.parquet")
    with pytest.raises(SourceUnreadableError, match="a can't be read: Too many levels of symbolic links") as refused:
        read_stable(path)
    assert "right" in refused.value.hint


@pytest.mark.parametrize(("module", "keep"), KEPT.values(), ids=KEPT)
def test_nothing_is_kept_of_what_is_still_written(tmp_path, monkeypatch, module, keep):
    """The writer goes on while the copy is made."""
    source = tmp_path / "source"
    path = written(source, "1.parquet", "2.parquet") if keep is KEPT["folder"][1] else written(source)
    first = path / "1.parquet" if path.is_dir() else path

    def copy_while_written(part, target):
        found = copy_file(part, target)
        with first.open("ab") as file:
            file.write(b" second")
        return found

    home = tmp_path / "home"
    with monkeypatch.context() as patched:
        patched.setattr(module, "copy_file", copy_while_written)
        with pytest.raises(SourceChangingError):
            keep(home, path)
    assert [each for each in home.glob("raw/**/*") if each.is_file()] == []
    assert keep(home, path).path.exists()
