"""Opens regular files only, for reading and as locks; a FIFO or a device would block or never end."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Final

_KINDS: Final = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: Path) -> BufferedReader:
    """Open ``path``, or the target of a link at it, for reading bytes; never blocks.

    Raises
    ------
    IsADirectoryError
        If it is a folder.
    OSError
        EINVAL, its ``strerror`` naming the kind, if it is neither a file nor a folder; else the operating system's.
    """
    return os.fdopen(_opened(path, os.O_RDONLY), "rb")


def read_regular(path: Path, bytes_max: int = -1) -> bytes:
    """Return the content of a regular file, at most ``bytes_max`` bytes (-1: all).

    Raises as :func:`open_regular`.
    """
    with open_regular(path) as file:
        return file.read(bytes_max)


def open_lock(path: Path) -> BufferedRandom:
    """Open a lock file for reading and writing; a missing one is created with mode 0600.

    Raises as :func:`open_regular`.
    """
    return os.fdopen(_opened(path, os.O_RDWR | os.O_CREAT), "r+b")


def identity(path: Path) -> tuple[int, int] | None:
    """Return (device, inode) of what is at ``path``, which changes when it is replaced; None if missing."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _opened(path: Path, flags: int) -> int:
    # Checked before opening, because opening a device may already act on it; and after, because it may be another file.
    try:
        _refuse(path, os.stat(path).st_mode)  # noqa: PTH116 - one call for a path and a descriptor
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o600)
    try:
        _refuse(path, os.fstat(handle).st_mode)
    except OSError:
        os.close(handle)
        raise
    return handle


def _refuse(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, no file", str(path))
