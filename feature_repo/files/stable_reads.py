"""Consistent reads of files from outside: a write during the read is an error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from configs.errors import ChurnError

Content = tuple[tuple[str, int, int, int, int], ...]
"""Name, device, inode, bytes and time of the last write (ns) of a file, or of each entry of a folder."""

_HINT: Final = (
    "wait until its writer has ended, then run again; "
    "copy a large file under a name that begins with a dot, and rename it when it is whole"
)


class SourceChangingError(ChurnError):
    """The file or folder changed while it was read: the content may be incomplete; nothing was published."""

    error = "still_written"
    http_status = 409
    transient = True


class SourceUnreadableError(ChurnError):
    """The operating system refused to list the folder or to stat the file. Nothing was published."""

    error = "source_unreadable"
    http_status = 422


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Let the caller read ``path``; a write in between is an error.

    A writer that pauses for the whole read is not noticed.

    Raises
    ------
    SourceChangingError
        If at the end it is another file, or has another size or time of writing; for a folder, also if files were
        added or removed.
    SourceUnreadableError
        If the operating system refuses to list the folder or to stat the file.
    """
    before = read_stable(path)
    yield
    after = read_stable(path)
    if after != before:
        sizes = [sum(size for _, _, _, size, _ in each) for each in (before, after)]
        what = "changed" if sizes[0] == sizes[1] else f"went from {sizes[0]} to {sizes[1]} bytes"
        raise SourceChangingError(f"{path.name} is still being written: it {what} while it was read", _HINT)


def read_stable(path: Path) -> Content:
    """Return a value that changes when the file, or an entry of the folder, is written or replaced.

    It is empty for a missing path; an entry that disappears during the listing is left out. For a dangling link it is
    the link's own status. Raises SourceUnreadableError.
    """
    try:
        things = sorted(path.iterdir()) if path.is_dir() else [path]
        found = [(each.name, at) for each in things if (at := _status(each)) is not None]
    except FileNotFoundError:
        return ()
    except OSError as refused:
        raise SourceUnreadableError(
            f"{path.name} can't be read: {refused.strerror}", "give this user the right to read it and its content"
        ) from refused
    return tuple((name, at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns) for name, at in found)


def _status(path: Path) -> os.stat_result | None:
    for follow_symlinks in (True, False):
        with suppress(FileNotFoundError):
            return path.stat(follow_symlinks=follow_symlinks)
    return None
