"""A file that only grows, each line sealed by the hash of the one before: how it is spelt, verified and added to.

What the lines say belongs to whoever keeps the file, and so does the lock under which it is added to.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from feature_repo.files.atomic_writes import storage, sync_folder
from feature_repo.files.regular_files import open_regular

GENESIS: Final = "0" * 64
"""What stands for the hash of the entry before the first one."""
_TAIL_BYTES: Final = 1 << 17
"""More than a whole line and an unfinished one behind it have, where :func:`end` is used."""

Known = TypeVar("Known")


class ChainBrokenError(ValueError):
    """A line was changed, or does not follow the one before it; the text says which."""


@dataclass(frozen=True)
class End:
    """Where a chain ends: after entry ``sequence`` with its ``hash``, and after so many bytes."""

    sequence: int = 0
    hash: str = GENESIS
    size_bytes: int = 0


def line(content: Mapping[str, Any]) -> bytes:
    """Return the one spelling of an entry. Raises ValueError for a figure that is not finite."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def seal(content: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of an entry without its own hash."""
    return hashlib.sha256(line({name: content[name] for name in content if name != "hash"})).hexdigest()


def sealed(after: End, content: Mapping[str, Any]) -> tuple[dict[str, Any], End]:
    """Return the entry that ``content`` makes after ``after``, and the end then."""
    entry = {**content, "sequence": after.sequence + 1, "previous_hash": after.hash}
    entry["hash"] = seal(entry)
    return entry, End(entry["sequence"], entry["hash"], after.size_bytes + len(line(entry)))


def walk(path: Path, accept: Callable[[dict[str, Any]], Known]) -> Iterator[Known]:
    """Yield what ``accept`` makes of each entry, oldest first, each verified; nothing where there is no file.

    A last line that a dying process left unfinished was never in force and is passed over. ``accept`` raises
    ValueError or TypeError for what is no entry.

    Raises
    ------
    ChainBrokenError
        At the first line that was changed, or does not follow.
    OSError
        If the file can't be read.
    """
    previous = GENESIS
    try:
        file = open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    with file:
        for number, found in enumerate(file, start=1):
            if not found.endswith(b"\n"):
                return
            content, known = _verified(found, accept, f"line {number} of {path.name}")
            if content.get("sequence") != number or content.get("previous_hash") != previous:
                raise ChainBrokenError(f"line {number} of {path.name} does not follow the line before it")
            previous = content["hash"]
            yield known


def end(path: Path) -> End:
    """Return where the chain ends, by its last whole line alone, however long it is.

    Raises
    ------
    ChainBrokenError
        If that line was changed, or there is none where one must be. What lies before is for :func:`walk` to judge.
    OSError
        If the file can't be read.
    """
    try:
        file = open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return End()
    with file:
        size = file.seek(0, os.SEEK_END)
        start = max(size - _TAIL_BYTES, 0)
        file.seek(start)
        tail = file.read()
    whole, newline, _ = tail.rpartition(b"\n")
    if not newline and not start:
        return End()
    _, before, last = whole.rpartition(b"\n")
    if not newline or (not before and start):
        raise ChainBrokenError(f"the end of {path.name} is no line")
    content, _ = _verified(last + b"\n", _numbered, f"the last line of {path.name}")
    return End(content["sequence"], content["hash"], start + len(whole) + 1)


def append(path: Path, after: End, contents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add entries durably and return them sealed; only under the lock of whoever keeps the file.

    What lies behind ``after`` is cut off: a dying process left it unfinished. The folder must not be lost with the
    file, so it is synced too.

    Raises
    ------
    StorageFailed
        If the disk refuses: the chain is as it was.
    """
    made = []
    at = after
    for content in contents:
        entry, at = sealed(at, content)
        made.append(entry)
    with storage():
        path.parent.mkdir(exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, after.size_bytes)
            try:
                _write(handle, b"".join(map(line, made)), after.size_bytes)
                os.fsync(handle)
                sync_folder(path.parent)
            except OSError:
                os.ftruncate(handle, after.size_bytes)
                raise
        finally:
            os.close(handle)
    return made


def withdraw(path: Path, entry: Mapping[str, Any]) -> None:
    """Take the last entry back, because what it says could not be done; under the same lock. Raises StorageFailed."""
    with storage(), path.open("r+b") as file:
        file.truncate(path.stat().st_size - len(line(entry)))
        os.fsync(file.fileno())


def _write(handle: int, content: bytes, at: int) -> None:
    # Without a buffer: what a full disk refused would be written again when that is closed, behind what was cut off.
    while content:
        written = os.pwrite(handle, content, at)
        content, at = content[written:], at + written


def _verified(found: bytes, accept: Callable[[dict[str, Any]], Known], where: str) -> tuple[dict[str, Any], Known]:
    try:
        content = json.loads(found)
        known = accept(content)
        # Sealed again from what was read: another value, another spelling and a field too many all show.
        genuine = line(content) == found and seal(content) == content["hash"]
    except (ValueError, TypeError, KeyError, RecursionError):
        genuine = False
    if not genuine:
        raise ChainBrokenError(f"{where} was changed")
    return content, known


def _numbered(content: dict[str, Any]) -> None:
    if not (isinstance(content["sequence"], int) and content["sequence"] > 0):
        raise ValueError("no number")
